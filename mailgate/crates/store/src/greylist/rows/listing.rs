//! The rows that people see.

use ipnet::IpNet;
use mailgate_model::Timestamp;
use rusqlite::Connection;

use super::super::{Grey, Identity, Kind, Peer, PeerKind, Said, Tuple};
use super::tuple::{TUPLE_COLUMNS, tuple_row};
use super::{PEER_COLUMNS, each, peer_row, time};
use crate::Error;

/// Which entries a listing holds; the default is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only entries inside this network or holding it; trap addresses are then left out.
    pub network: Option<IpNet>,
    /// Only deferred attempts whose reverse-path, as said, holds this text, in any case of letters.
    pub from: Option<String>,
    /// Only deferred attempts whose forward-path, as said, and trap addresses that hold this text, in any case of letters.
    pub to: Option<String>,
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

    /// With the texts in lower case.
    fn lowered(self) -> Self {
        let lower = |text: Option<String>| text.map(|text| text.to_lowercase());
        Self { from: lower(self.from), to: lower(self.to), ..self }
    }

    /// Whether a row with these paths is wanted; `None` is a row that has none. To be asked of a filter that is lowered.
    fn speaks_of(&self, from: Option<&str>, to: Option<&str>) -> bool {
        let holds = |part: &Option<String>, text: Option<&str>| {
            part.as_ref().is_none_or(|part| text.is_some_and(|text| text.to_lowercase().contains(part)))
        };
        holds(&self.from, from) && holds(&self.to, to)
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
    let filter = &filter.clone().lowered();
    if filter.wants(Kind::Grey) {
        list_tuples(connection, filter, now, &mut rows)?;
    }
    if (filter.wants(Kind::Passed) || filter.wants(Kind::Trapped)) && filter.speaks_of(None, None) {
        list_peers(connection, filter, now, &mut rows)?;
    }
    if filter.wants(Kind::TrapAddress) && filter.network.is_none() {
        each(connection, "SELECT address, added FROM trap_address ORDER BY 1", |row| {
            let address: String = row.get(0)?;
            if rows.len() < filter.limit() && filter.speaks_of(None, Some(&address)) {
                rows.push(Row::TrapAddress { address, added: time(row, 1)? });
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
        let (from, to) = (&said.reverse_path, &said.forward_path);
        if rows.len() < filter.limit() && filter.holds(network) && filter.speaks_of(Some(from), Some(to)) {
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
