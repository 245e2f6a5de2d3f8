//! The rows of tuples: written, read by their keys, swept.

use mailgate_model::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::super::tuples::{Key, Tuples};
use super::super::{Grey, Identity, Said, Tuple};
use super::{each, identity, secret, time};
use crate::Error;

/// What was said is kept only where it differs from the key.
pub(super) const TUPLE_COLUMNS: &str = "client, reverse_path, forward_path, helo, ifnull(said_reverse, reverse_path), \
                             ifnull(said_forward, forward_path), first, pass, expires, blocked, passed, ip";
const STATE_COLUMNS: &str = "key, first, pass, expires, blocked, passed";

/// What becomes of a row that is there already.
#[derive(Clone, Copy)]
pub(super) enum Clash {
    /// It is replaced.
    Replaces,
    /// Its state is replaced; what the client said to this host stays.
    KeepsSaid,
}

/// Writes a tuple, new or known.
pub(super) fn put(
    connection: &Connection,
    key: Key,
    tuple: &Tuple,
    said: &Said,
    grey: &Grey,
    clash: Clash,
) -> Result<usize, Error> {
    let differs = |said: &'_ str, key: &str| (said != key).then(|| said.to_owned());
    let mut statement = connection.prepare_cached(match clash {
        Clash::Replaces => {
            "INSERT OR REPLACE INTO tuple VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        }
        Clash::KeepsSaid => {
            "INSERT INTO tuple VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (key) DO UPDATE SET first = excluded.first, pass = excluded.pass,
                 expires = excluded.expires, blocked = excluded.blocked, passed = excluded.passed"
        }
    })?;
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

/// Gives the rows of the format before, which had no keys, their place; once.
pub(in super::super) fn convert(connection: &Connection) -> Result<(), Error> {
    let tuples = Tuples::new(secret(connection)?, None);
    let old =
        "SELECT client, reverse_path, forward_path, helo, said_reverse, said_forward, first, pass, expires,
               blocked, passed, NULL FROM tuple_1";
    each(connection, old, |row| {
        let (tuple, said, grey) = tuple_row(row)?;
        put(connection, tuples.key(&tuple), &tuple, &said, &grey, Clash::Replaces)?;
        Ok(true)
    })?;
    connection.execute("DELETE FROM tuple_1", [])?;
    Ok(())
}

/// One tuple's state.
pub(in super::super) fn tuple_at(connection: &Connection, key: Key) -> Result<Option<Grey>, Error> {
    let sql = format!("SELECT {STATE_COLUMNS} FROM tuple WHERE key = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement
        .query_row([key.row()], |row| Ok(state_row(row)))
        .optional()?
        .transpose()?
        .map(|(_, grey)| grey))
}

/// Visits some rows in the order of their keys; says the last of them, or `None` when there are no more behind.
pub(in super::super) fn tuples_after(
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
pub(in super::super) fn sweep_range(
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
pub(in super::super) fn sweep_tuples(
    connection: &Connection,
    keys: &[Key],
    until: Timestamp,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached("DELETE FROM tuple WHERE key = ?1 AND expires <= ?2")?;
    for key in keys {
        statement.execute(params![key.row(), until.millis()])?;
    }
    Ok(())
}

fn state_row(row: &SqlRow<'_>) -> Result<(Key, Grey), Error> {
    Ok((Key::of_row(row.get(0)?), grey_at(row, 1)?))
}

/// A row of [`TUPLE_COLUMNS`].
pub(super) fn tuple_row(row: &SqlRow<'_>) -> Result<(Tuple, Said, Grey), Error> {
    let tuple = Tuple { client: identity(row, 0)?, reverse_path: row.get(1)?, forward_path: row.get(2)? };
    let ip: Option<String> = row.get(11)?;
    let ip = match (ip, &tuple.client) {
        (Some(ip), _) => ip.parse().ok(),
        (None, Identity::Network(one)) if one.prefix_len() == one.max_prefix_len() => Some(one.addr()),
        (None, _) => None,
    };
    let said = Said { ip, helo: row.get(3)?, reverse_path: row.get(4)?, forward_path: row.get(5)? };
    Ok((tuple, said, grey_at(row, 6)?))
}

/// The five columns of a state, from this one on.
fn grey_at(row: &SqlRow<'_>, column: usize) -> Result<Grey, Error> {
    Ok(Grey {
        first: time(row, column)?,
        pass: time(row, column + 1)?,
        expires: time(row, column + 2)?,
        blocked: row.get(column + 3)?,
        passed: row.get(column + 4)?,
    })
}
