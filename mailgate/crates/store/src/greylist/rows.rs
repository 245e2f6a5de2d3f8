//! The SQL of the greylist: how a change becomes rows, and rows become what stands in memory.

mod listing;
mod tuple;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use rusqlite::{Connection, Row as SqlRow, params};

use self::tuple::{Clash, put};
use super::identity::Identities;
use super::index::Index;
use super::past::Times;
use super::tuples::SECRET;
use super::writer::Change;
use super::{Identity, Known, Origin, Peer, PeerKind, Said, decisions};
use crate::Error;

pub(super) use self::listing::list;
pub use self::listing::{Filter, Row};
pub(super) use self::tuple::{convert, sweep_range, sweep_tuples, tuple_at, tuples_after};

/// Rows deleted in one transaction of a sweep.
const SWEEP_BITE: i64 = 5_000;

const PEER_COLUMNS: &str = "network, kind, origin, first, pass, expires, blocked, passed";

pub(super) fn apply(connection: &Connection, change: &Change) -> Result<(), Error> {
    match change {
        Change::Grey(key, tuple, said, grey) => put(connection, *key, tuple, said, grey, Clash::Replaces)?,
        Change::Shared(key, tuple, grey) => {
            let said = Said {
                ip: None,
                helo: String::new(),
                reverse_path: tuple.reverse_path.clone(),
                forward_path: tuple.forward_path.clone(),
            };
            put(connection, *key, tuple, &said, grey, Clash::KeepsSaid)?
        }
        Change::ForgetGrey(key, _) => {
            connection.prepare_cached("DELETE FROM tuple WHERE key = ?1")?.execute([key.row()])?
        }
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
        Change::Identity(identity, known) => connection
            .prepare_cached("INSERT OR REPLACE INTO identity VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                identity.to_string(),
                known.first.millis(),
                known.last.millis(),
                known.expires.millis(),
                known.messages,
                known.retries,
            ])?,
        Change::ForgetIdentity(identity) => connection
            .prepare_cached("DELETE FROM identity WHERE name = ?1")?
            .execute([identity.to_string()])?,
        Change::Decision(decision) => decisions::insert(connection, decision)?,
        Change::Message { session, queue_id, message_id } => {
            decisions::led_to(connection, session, queue_id, message_id)?
        }
        Change::ForgetTrapAddress(address) => {
            connection.prepare_cached("DELETE FROM trap_address WHERE address = ?1")?.execute([address])?
        }
        Change::Past(network, Some(times)) => connection
            .prepare_cached("INSERT OR REPLACE INTO trap_history VALUES (?1, ?2, ?3)")?
            .execute(params![network.to_string(), times.count, times.last.millis()])?,
        Change::Past(network, None) => connection
            .prepare_cached("DELETE FROM trap_history WHERE network = ?1")?
            .execute([network.to_string()])?,
    };
    Ok(())
}

/// The secret of this database.
pub(super) fn secret(connection: &Connection) -> Result<[u8; SECRET], Error> {
    let bytes: Vec<u8> = connection.query_row("SELECT value FROM secret", [], |row| row.get(0))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| Error::Corrupt(format!("a secret of {length} octets in the greylist")))
}

/// Reads into memory what is needed from the first connection on: everything but the tuples.
pub(super) fn load(connection: &Connection) -> Result<(Index, Identities), Error> {
    let index = Index::default();
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
    each(connection, "SELECT network, times, last FROM trap_history", |row| {
        index.past().put(network(row, 0)?, Times { count: row.get(1)?, last: time(row, 2)? });
        Ok(true)
    })?;
    let identities = Identities::default();
    each(connection, "SELECT name, first, last, expires, messages, retries FROM identity", |row| {
        let known = Known {
            first: time(row, 1)?,
            last: time(row, 2)?,
            expires: time(row, 3)?,
            messages: row.get(4)?,
            retries: row.get(5)?,
        };
        identities.put(identity(row, 0)?, known);
        Ok(true)
    })?;
    Ok((index, identities))
}

/// Deletes some of the standings that ended at `until` or before, and what is forgiven of traps before `forgiven`; says
/// how many.
pub(super) fn sweep(connection: &Connection, until: Timestamp, forgiven: Timestamp) -> Result<usize, Error> {
    let peers = connection.execute(
        "DELETE FROM peer WHERE network IN (SELECT network FROM peer WHERE expires <= ?1 LIMIT ?2)",
        params![until.millis(), SWEEP_BITE],
    )?;
    let past = connection.execute(
        "DELETE FROM trap_history WHERE network IN (SELECT network FROM trap_history WHERE last <= ?1 LIMIT ?2)",
        params![forgiven.millis(), SWEEP_BITE],
    )?;
    let identities = connection.execute(
        "DELETE FROM identity WHERE name IN (SELECT name FROM identity WHERE expires <= ?1 LIMIT ?2)",
        params![until.millis(), SWEEP_BITE],
    )?;
    Ok(peers + past + identities)
}

/// Calls `visit` with each row until it says `false`.
pub(super) fn each(
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

fn identity(row: &SqlRow<'_>, column: usize) -> Result<Identity, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| Error::Corrupt(format!("a client {text:?} in the greylist")))
}

fn network(row: &SqlRow<'_>, column: usize) -> Result<IpNet, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| Error::Corrupt(format!("a network {text:?} in the greylist")))
}

pub(super) fn time(row: &SqlRow<'_>, column: usize) -> Result<Timestamp, Error> {
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
