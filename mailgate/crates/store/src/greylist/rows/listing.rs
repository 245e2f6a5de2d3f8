//! The rows that people see.

use ipnet::IpNet;
use mailgate_model::Timestamp;
use rusqlite::Connection;

use super::super::{Grey, Identity, Kind, Peer, PeerKind, Said, Tuple};
use super::tuple::{TUPLE_COLUMNS, tuple_row};
use super::{PEER_COLUMNS, each, peer_row, time};
use crate::Error;

/// Which entries a listing holds; the default is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only entries inside this network or holding it; trap addresses are then left out.
    pub network: Option<IpNet>,
    /// At most so many rows.
    pub limit: Option<usize>,
}

/// One entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A tuple that was deferred.
    Grey {
        /// Its key.
        tuple: Tuple,
        /// What the client said when it was last seen.
        said: Said,
        /// Its state.
        grey: Grey,
    },
    /// The standing of a network.
    Peer {
        /// The network.
        network: IpNet,
        /// Its standing.
        peer: Peer,
    },
    /// A trap.
    TrapAddress {
        /// In lower case.
        address: String,
        /// Since when.
        added: Timestamp,
    },
}

impl Filter {
    fn wants(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Whether a row about `network` is wanted; `None` is a row about no network.
    fn holds(&self, network: Option<IpNet>) -> bool {
        let Some(wanted) = self.network else { return true };
        network.is_some_and(|network| wanted.contains(&network) || network.contains(&wanted))
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }
}

/// What the filter selects of the entries that end after `now`.
pub(in super::super) fn list(
    connection: &Connection,
    filter: &Filter,
    now: Timestamp,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    if filter.wants(Kind::Grey) {
        list_tuples(connection, filter, now, &mut rows)?;
    }
    if filter.wants(Kind::Passed) || filter.wants(Kind::Trapped) {
        list_peers(connection, filter, now, &mut rows)?;
    }
    if filter.wants(Kind::TrapAddress) && filter.network.is_none() {
        each(connection, "SELECT address, added FROM trap_address ORDER BY 1", |row| {
            if rows.len() < filter.limit() {
                rows.push(Row::TrapAddress { address: row.get(0)?, added: time(row, 1)? });
            }
            Ok(rows.len() < filter.limit())
        })?;
    }
    Ok(rows)
}

fn list_tuples(
    connection: &Connection,
    filter: &Filter,
    now: Timestamp,
    rows: &mut Vec<Row>,
) -> Result<(), Error> {
    let sql = format!("SELECT {TUPLE_COLUMNS} FROM tuple WHERE expires > {} ORDER BY 1, 2, 3", now.millis());
    each(connection, &sql, |row| {
        let (tuple, said, grey) = tuple_row(row)?;
        // An identity that is a name is found by the address that it came from.
        let network = match &tuple.client {
            Identity::Network(network) => Some(*network),
            Identity::Message(_) | Identity::Rdns(_) | Identity::Spf(_) => said.ip.map(IpNet::from),
        };
        if rows.len() < filter.limit() && filter.holds(network) {
            rows.push(Row::Grey { tuple, said, grey });
        }
        Ok(rows.len() < filter.limit())
    })
}

fn list_peers(
    connection: &Connection,
    filter: &Filter,
    now: Timestamp,
    rows: &mut Vec<Row>,
) -> Result<(), Error> {
    let sql = format!("SELECT {PEER_COLUMNS} FROM peer WHERE expires > {} ORDER BY 2, 1", now.millis());
    each(connection, &sql, |row| {
        let (network, peer) = peer_row(row)?;
        let kind = match peer.kind {
            PeerKind::Passed => Kind::Passed,
            PeerKind::Trapped => Kind::Trapped,
        };
        if rows.len() < filter.limit() && filter.wants(kind) && filter.holds(Some(network)) {
            rows.push(Row::Peer { network, peer });
        }
        Ok(rows.len() < filter.limit())
    })
}
