//! The SQL of the greylist, and the rows that people see.

use ipnet::IpNet;
use mailgate_model::Timestamp;
use rusqlite::{Connection, Row as SqlRow, params};

use super::index::{Index, Tuples};
use super::writer::Change;
use super::{Grey, Kind, Origin, Peer, PeerKind, Said, Tuple};
use crate::Error;

/// Rows deleted in one transaction of a sweep.
const SWEEP_BITE: i64 = 5_000;

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

const TUPLE_COLUMNS: &str = "client, reverse_path, forward_path, helo, said_reverse, said_forward, first, pass, \
                             expires, blocked, passed";
const PEER_COLUMNS: &str = "network, kind, origin, first, pass, expires, blocked, passed";

pub(super) fn apply(connection: &Connection, change: &Change) -> Result<(), Error> {
    match change {
        Change::Grey(tuple, said, grey) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO tuple VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                tuple.client.to_string(),
                tuple.reverse_path,
                tuple.forward_path,
                said.helo,
                said.reverse_path,
                said.forward_path,
                grey.first.millis(),
                grey.pass.millis(),
                grey.expires.millis(),
                grey.blocked,
                grey.passed,
            ])?,
        Change::ForgetGrey(tuple) => connection
            .prepare_cached(
                "DELETE FROM tuple WHERE client = ?1 AND reverse_path = ?2 AND forward_path = ?3",
            )?
            .execute(params![tuple.client.to_string(), tuple.reverse_path, tuple.forward_path])?,
        Change::Peer(network, peer) => connection
            .prepare_cached("INSERT OR REPLACE INTO peer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                network.to_string(),
                kind_word(peer.kind),
                origin_word(peer.origin),
                peer.first.millis(),
                peer.pass.millis(),
                peer.expires.millis(),
                peer.blocked,
                peer.passed,
            ])?,
        Change::ForgetPeer(network) => connection
            .prepare_cached("DELETE FROM peer WHERE network = ?1")?
            .execute([network.to_string()])?,
        Change::TrapAddress(address, added) => connection
            .prepare_cached("INSERT OR REPLACE INTO trap_address VALUES (?1, ?2)")?
            .execute(params![address, added.millis()])?,
        Change::ForgetTrapAddress(address) => {
            connection.prepare_cached("DELETE FROM trap_address WHERE address = ?1")?.execute([address])?
        }
    };
    Ok(())
}

/// Reads everything into memory.
pub(super) fn load(connection: &Connection) -> Result<(Tuples, Index), Error> {
    let tuples = Tuples::new();
    let index = Index::default();
    each(connection, &format!("SELECT {TUPLE_COLUMNS} FROM tuple"), |row| {
        let (tuple, _, grey) = tuple_row(row)?;
        tuples.change(&tuple, |state| *state = Some(grey));
        Ok(true)
    })?;
    each(connection, &format!("SELECT {PEER_COLUMNS} FROM peer"), |row| {
        let (network, peer) = peer_row(row)?;
        index.change(network, |state| *state = Some(peer));
        Ok(true)
    })?;
    each(connection, "SELECT address FROM trap_address", |row| {
        let address: String = row.get(0)?;
        index.change_traps(|traps| traps.insert(address));
        Ok(true)
    })?;
    Ok((tuples, index))
}

pub(super) fn list(connection: &Connection, filter: &Filter, now: Timestamp) -> Result<Vec<Row>, Error> {
    let limit = filter.limit.unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    let wants = |kind| filter.kind.is_none_or(|wanted| wanted == kind);
    let holds = |network: IpNet| {
        filter.network.is_none_or(|wanted| wanted.contains(&network) || network.contains(&wanted))
    };
    if wants(Kind::Grey) {
        let sql =
            format!("SELECT {TUPLE_COLUMNS} FROM tuple WHERE expires > {} ORDER BY 1, 2, 3", now.millis());
        each(connection, &sql, |row| {
            let (tuple, said, grey) = tuple_row(row)?;
            if rows.len() < limit && holds(tuple.client) {
                rows.push(Row::Grey { tuple, said, grey });
            }
            Ok(rows.len() < limit)
        })?;
    }
    if wants(Kind::Passed) || wants(Kind::Trapped) {
        let sql = format!("SELECT {PEER_COLUMNS} FROM peer WHERE expires > {} ORDER BY 2, 1", now.millis());
        each(connection, &sql, |row| {
            let (network, peer) = peer_row(row)?;
            let kind = match peer.kind {
                PeerKind::Passed => Kind::Passed,
                PeerKind::Trapped => Kind::Trapped,
            };
            if rows.len() < limit && wants(kind) && holds(network) {
                rows.push(Row::Peer { network, peer });
            }
            Ok(rows.len() < limit)
        })?;
    }
    if wants(Kind::TrapAddress) && filter.network.is_none() {
        each(connection, "SELECT address, added FROM trap_address ORDER BY 1", |row| {
            if rows.len() < limit {
                rows.push(Row::TrapAddress { address: row.get(0)?, added: time(row, 1)? });
            }
            Ok(rows.len() < limit)
        })?;
    }
    Ok(rows)
}

/// Deletes some of what ended at `until` or before and says how many.
pub(super) fn sweep(connection: &Connection, until: Timestamp) -> Result<usize, Error> {
    let tuples = connection.execute(
        "DELETE FROM tuple WHERE (client, reverse_path, forward_path) IN
         (SELECT client, reverse_path, forward_path FROM tuple WHERE expires <= ?1 LIMIT ?2)",
        params![until.millis(), SWEEP_BITE],
    )?;
    let peers = connection.execute(
        "DELETE FROM peer WHERE network IN (SELECT network FROM peer WHERE expires <= ?1 LIMIT ?2)",
        params![until.millis(), SWEEP_BITE],
    )?;
    Ok(tuples + peers)
}

/// Calls `visit` with each row until it says `false`.
fn each(
    connection: &Connection,
    sql: &str,
    mut visit: impl FnMut(&SqlRow<'_>) -> Result<bool, Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !visit(row)? {
            break;
        }
    }
    Ok(())
}

fn tuple_row(row: &SqlRow<'_>) -> Result<(Tuple, Said, Grey), Error> {
    let tuple = Tuple { client: network(row, 0)?, reverse_path: row.get(1)?, forward_path: row.get(2)? };
    let said = Said { helo: row.get(3)?, reverse_path: row.get(4)?, forward_path: row.get(5)? };
    let grey = Grey {
        first: time(row, 6)?,
        pass: time(row, 7)?,
        expires: time(row, 8)?,
        blocked: row.get(9)?,
        passed: row.get(10)?,
    };
    Ok((tuple, said, grey))
}

fn peer_row(row: &SqlRow<'_>) -> Result<(IpNet, Peer), Error> {
    let kind: String = row.get(1)?;
    let origin: String = row.get(2)?;
    let peer = Peer {
        kind: match kind.as_str() {
            "passed" => PeerKind::Passed,
            "trapped" => PeerKind::Trapped,
            _ => return Err(Error::Corrupt(format!("a network of kind {kind:?}"))),
        },
        origin: match origin.as_str() {
            "admin" => Origin::Admin,
            "learned" => Origin::Learned,
            _ => return Err(Error::Corrupt(format!("a network by {origin:?}"))),
        },
        first: time(row, 3)?,
        pass: time(row, 4)?,
        expires: time(row, 5)?,
        blocked: row.get(6)?,
        passed: row.get(7)?,
    };
    Ok((network(row, 0)?, peer))
}

fn network(row: &SqlRow<'_>, column: usize) -> Result<IpNet, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| Error::Corrupt(format!("a network {text:?} in the greylist")))
}

fn time(row: &SqlRow<'_>, column: usize) -> Result<Timestamp, Error> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

fn kind_word(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::Passed => "passed",
        PeerKind::Trapped => "trapped",
    }
}

fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Admin => "admin",
        Origin::Learned => "learned",
    }
}
