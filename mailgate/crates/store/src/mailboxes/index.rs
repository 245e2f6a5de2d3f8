//! The index of one account: a copy of what the files say, so that a mailbox opens without reading them.
//!
//! Nothing here is the only copy, except ModSeqs, which clients may forget. So a damaged index is deleted, and a
//! failing one is done without.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::flags::Flags;
use super::uidlist::Stamp;
use crate::Error;

const FILE: &str = "mailgate-index.sqlite";
/// Raised with every change of the tables; an index of another version is deleted and built again.
const VERSION: i64 = 1;
const TABLES: &str = "
    CREATE TABLE folder (
        name TEXT PRIMARY KEY, validity INTEGER NOT NULL, next INTEGER NOT NULL, extra TEXT NOT NULL,
        modseq INTEGER NOT NULL, new_mtime INTEGER NOT NULL, cur_mtime INTEGER NOT NULL,
        list_mtime INTEGER NOT NULL, list_size INTEGER NOT NULL, list_inode INTEGER NOT NULL,
        stale INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE message (
        folder TEXT NOT NULL, uid INTEGER NOT NULL, base TEXT NOT NULL, info TEXT NOT NULL, place INTEGER NOT NULL,
        flags INTEGER NOT NULL, modseq INTEGER NOT NULL, size INTEGER, date INTEGER, extra TEXT NOT NULL,
        PRIMARY KEY (folder, uid)) STRICT, WITHOUT ROWID;";

/// Which directory a message is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Cur,
    New,
}

impl Place {
    pub(super) const fn dir(self) -> &'static str {
        match self {
            Self::Cur => "cur",
            Self::New => "new",
        }
    }
}

/// What is known of one message.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) uid: u32,
    pub(super) base: Box<str>,
    /// The rest of the directory entry, exactly as it is.
    pub(super) info: Box<str>,
    pub(super) place: Place,
    pub(super) flags: Flags,
    pub(super) modseq: u64,
    /// Octets on the wire, once somebody asked.
    pub(super) size: Option<u64>,
    /// Milliseconds since the epoch, once somebody asked.
    pub(super) date: Option<i64>,
    /// Fields of the UID list that we keep and do not use.
    pub(super) extra: Box<str>,
}

/// What is known of one mailbox.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    pub(super) validity: u32,
    pub(super) next: u32,
    pub(super) extra: String,
    pub(super) modseq: u64,
    pub(super) new_mtime: i64,
    pub(super) cur_mtime: i64,
    pub(super) list: Stamp,
    pub(super) stale: u32,
}

/// The index of one account; opened when first asked.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Index {
    pub(super) fn new(maildir: &Path) -> Self {
        Self { path: maildir.join(FILE), connection: None }
    }

    fn open(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            let connection = connect(&self.path).or_else(|error| {
                tracing::warn!(target: "access", event = "index-rebuilt", path = %self.path.display(), %error);
                for suffix in ["", "-wal", "-shm"] {
                    let mut path = self.path.clone().into_os_string();
                    path.push(suffix);
                    // What does not exist need not be removed; what cannot be removed fails again below.
                    let _ = fs::remove_file(path);
                }
                connect(&self.path)
            })?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(Error::Closed)
    }

    /// What is known of a mailbox; nothing when the index cannot be read.
    pub(super) fn load(&mut self, folder: &str) -> Option<(Header, Vec<Record>)> {
        self.guarded("index-unread", |connection| load(connection, folder)).flatten()
    }

    /// Records a state: header, changed records, gone UIDs.
    pub(super) fn save(&mut self, folder: &str, header: &Header, changed: &[&Record], gone: &[u32]) {
        self.guarded("index-unwritten", |connection| save(connection, folder, header, changed, gone));
    }

    /// Forgets a mailbox.
    pub(super) fn forget(&mut self, folder: &str) {
        self.guarded("index-unwritten", |connection| {
            connection.execute("DELETE FROM message WHERE folder = ?1", [folder])?;
            connection.execute("DELETE FROM folder WHERE name = ?1", [folder])?;
            Ok(())
        });
    }

    fn guarded<T>(
        &mut self,
        event: &str,
        work: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Option<T> {
        match self.open().and_then(work) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(target: "access", event, path = %self.path.display(), %error);
                self.connection = None;
                None
            }
        }
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        VERSION => {}
        0 => {
            connection.execute_batch(TABLES)?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        other => return Err(Error::Corrupt(format!("index of version {other}"))),
    }
    Ok(connection)
}

fn load(connection: &mut Connection, folder: &str) -> Result<Option<(Header, Vec<Record>)>, Error> {
    let header = connection
        .prepare_cached("SELECT * FROM folder WHERE name = ?1")?
        .query_row([folder], |row| {
            Ok(Header {
                validity: row.get("validity")?,
                next: row.get("next")?,
                extra: row.get("extra")?,
                modseq: row.get::<_, i64>("modseq")?.cast_unsigned(),
                new_mtime: row.get("new_mtime")?,
                cur_mtime: row.get("cur_mtime")?,
                list: Stamp {
                    mtime: row.get("list_mtime")?,
                    size: row.get("list_size")?,
                    inode: row.get("list_inode")?,
                },
                stale: row.get("stale")?,
            })
        })
        .optional()?;
    let Some(header) = header else { return Ok(None) };
    let mut statement = connection.prepare_cached(
        "SELECT uid, base, info, place, flags, modseq, size, date, extra FROM message WHERE folder = ?1 ORDER BY uid",
    )?;
    let records = statement.query_map([folder], |row| {
        Ok(Record {
            uid: row.get(0)?,
            base: row.get(1)?,
            info: row.get(2)?,
            place: if row.get::<_, i64>(3)? == 0 { Place::Cur } else { Place::New },
            flags: Flags::from_bits(row.get(4)?),
            modseq: row.get::<_, i64>(5)?.cast_unsigned(),
            size: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
            date: row.get(7)?,
            extra: row.get(8)?,
        })
    })?;
    Ok(Some((header, records.collect::<Result<_, _>>()?)))
}

fn save(
    connection: &mut Connection,
    folder: &str,
    header: &Header,
    changed: &[&Record],
    gone: &[u32],
) -> Result<(), Error> {
    let transaction = connection.transaction()?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO folder VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            folder,
            header.validity,
            header.next,
            header.extra,
            header.modseq.cast_signed(),
            header.new_mtime,
            header.cur_mtime,
            header.list.mtime,
            header.list.size,
            header.list.inode,
            header.stale
        ])?;
    for uid in gone {
        transaction
            .prepare_cached("DELETE FROM message WHERE folder = ?1 AND uid = ?2")?
            .execute(params![folder, uid])?;
    }
    let mut insert = transaction
        .prepare_cached("INSERT OR REPLACE INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for record in changed {
        insert.execute(params![
            folder,
            record.uid,
            record.base,
            record.info,
            i64::from(record.place == Place::New),
            record.flags.bits(),
            record.modseq.cast_signed(),
            record.size.map(u64::cast_signed),
            record.date,
            record.extra
        ])?;
    }
    drop(insert);
    transaction.commit()?;
    Ok(())
}
