//! The SQL of the greylist, and the rows that people see.

use ipnet::IpNet;
use mailgate_model::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::identity::Identities;
use super::index::Index;
use super::past::Times;
use super::tuples::{Key, SECRET, Tuples};
use super::writer::Change;
use super::{Grey, Identity, Kind, Known, Origin, Peer, PeerKind, Said, Tuple, decisions};
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

/// What was said is kept only where it differs from the key.
const TUPLE_COLUMNS: &str = "client, reverse_path, forward_path, helo, ifnull(said_reverse, reverse_path), \
                             ifnull(said_forward, forward_path), first, pass, expires, blocked, passed, ip";
const PEER_COLUMNS: &str = "network, kind, origin, first, pass, expires, blocked, passed";

pub(super) fn apply(connection: &Connection, change: &Change) -> Result<(), Error> {
    match change {
        Change::Grey(key, tuple, said, grey) => put(connection, *key, tuple, said, grey)?,
        Change::Shared(key, tuple, grey) => {
            let said = Said {
                ip: None,
                helo: String::new(),
                reverse_path: tuple.reverse_path.clone(),
                forward_path: tuple.forward_path.clone(),
            };
            let known = connection
                .prepare_cached(
                    "UPDATE tuple SET first = ?2, pass = ?3, expires = ?4, blocked = ?5, passed = ?6 WHERE key = ?1",
                )?
                .execute(params![
                    key.row(),
                    grey.first.millis(),
                    grey.pass.millis(),
                    grey.expires.millis(),
                    grey.blocked,
                    grey.passed,
                ])?;
            if known == 0 { put(connection, *key, tuple, &said, grey)? } else { known }
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

/// Writes a tuple, new or known.
fn put(connection: &Connection, key: Key, tuple: &Tuple, said: &Said, grey: &Grey) -> Result<usize, Error> {
    let differs = |said: &'_ str, key: &str| (said != key).then(|| said.to_owned());
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO tuple VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    Ok(statement.execute(params![
        key.row(),
        grey.first.millis(),
        grey.pass.millis(),
        grey.expires.millis(),
        grey.blocked,
        grey.passed,
        tuple.client.to_string(),
        tuple.reverse_path,
        tuple.forward_path,
        said.helo,
        differs(&said.reverse_path, &tuple.reverse_path),
        differs(&said.forward_path, &tuple.forward_path),
        // A client that is one address needs no second text of it.
        said.ip.filter(|ip| tuple.client != Identity::from(*ip)).map(|ip| ip.to_string()),
    ])?)
}

/// The secret of this database.
pub(super) fn secret(connection: &Connection) -> Result<[u8; SECRET], Error> {
    let bytes: Vec<u8> = connection.query_row("SELECT value FROM secret", [], |row| row.get(0))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| Error::Corrupt(format!("a secret of {length} octets in the greylist")))
}

/// Gives the rows of the format before, which had no keys, their place; once.
pub(super) fn convert(connection: &Connection) -> Result<(), Error> {
    let tuples = Tuples::new(secret(connection)?, None);
    let old =
        "SELECT client, reverse_path, forward_path, helo, said_reverse, said_forward, first, pass, expires,
               blocked, passed, NULL FROM tuple_1";
    each(connection, old, |row| {
        let (tuple, said, grey) = tuple_row(row)?;
        put(connection, tuples.key(&tuple), &tuple, &said, &grey)?;
        Ok(true)
    })?;
    connection.execute("DELETE FROM tuple_1", [])?;
    Ok(())
}

const STATE_COLUMNS: &str = "key, first, pass, expires, blocked, passed";

/// One tuple's state.
pub(super) fn tuple_at(connection: &Connection, key: Key) -> Result<Option<Grey>, Error> {
    let sql = format!("SELECT {STATE_COLUMNS} FROM tuple WHERE key = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement
        .query_row([key.row()], |row| Ok(state_row(row)))
        .optional()?
        .transpose()?
        .map(|(_, grey)| grey))
}

/// Visits some rows in the order of their keys; says the last of them, or `None` when there are no more behind.
pub(super) fn tuples_after(
    connection: &Connection,
    from: Option<Key>,
    count: usize,
    mut visit: impl FnMut(Key, Grey),
) -> Result<Option<Key>, Error> {
    let sql = format!("SELECT {STATE_COLUMNS} FROM tuple WHERE key > ?1 ORDER BY key LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    // The first of all keys is left out only when it was read already.
    let sql_first = format!("SELECT {STATE_COLUMNS} FROM tuple ORDER BY key LIMIT ?1");
    let mut whole = connection.prepare_cached(&sql_first)?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let mut rows = match from {
        Some(from) => statement.query(params![from.row(), limit])?,
        None => whole.query([limit])?,
    };
    let (mut seen, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        let (key, grey) = state_row(row)?;
        visit(key, grey);
        (seen, last) = (seen + 1, Some(key));
    }
    Ok(last.filter(|_| seen == count))
}

/// Deletes tuples behind `from` and up to `to` that ended at `until` or before.
pub(super) fn sweep_range(
    connection: &Connection,
    from: Option<Key>,
    to: Option<Key>,
    until: Timestamp,
) -> Result<(), Error> {
    connection.execute(
        "DELETE FROM tuple WHERE key BETWEEN ?1 AND ?2 AND expires <= ?3",
        params![from.map_or(i64::MIN, Key::row), to.map_or(i64::MAX, Key::row), until.millis()],
    )?;
    Ok(())
}

/// Deletes these tuples, unless they began anew after `until`.
pub(super) fn sweep_tuples(connection: &Connection, keys: &[Key], until: Timestamp) -> Result<(), Error> {
    let mut statement = connection.prepare_cached("DELETE FROM tuple WHERE key = ?1 AND expires <= ?2")?;
    for key in keys {
        statement.execute(params![key.row(), until.millis()])?;
    }
    Ok(())
}

fn state_row(row: &SqlRow<'_>) -> Result<(Key, Grey), Error> {
    let grey = Grey {
        first: time(row, 1)?,
        pass: time(row, 2)?,
        expires: time(row, 3)?,
        blocked: row.get(4)?,
        passed: row.get(5)?,
    };
    Ok((Key::of_row(row.get(0)?), grey))
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
            // An identity that is a name is found by the address that it came from.
            let network = match &tuple.client {
                Identity::Network(network) => Some(*network),
                Identity::Rdns(_) | Identity::Spf(_) => said.ip.map(IpNet::from),
            };
            if rows.len() < limit && network.map_or(filter.network.is_none(), holds) {
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

fn tuple_row(row: &SqlRow<'_>) -> Result<(Tuple, Said, Grey), Error> {
    let tuple = Tuple { client: identity(row, 0)?, reverse_path: row.get(1)?, forward_path: row.get(2)? };
    let ip: Option<String> = row.get(11)?;
    let ip = match (ip, &tuple.client) {
        (Some(ip), _) => ip.parse().ok(),
        (None, Identity::Network(one)) if one.prefix_len() == one.max_prefix_len() => Some(one.addr()),
        (None, _) => None,
    };
    let said = Said { ip, helo: row.get(3)?, reverse_path: row.get(4)?, forward_path: row.get(5)? };
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
