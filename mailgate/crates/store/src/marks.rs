//! Stamps of records that are shared with other hosts: what has to be known again after a restart so that nothing that
//! was deleted comes back.

use std::path::Path;

use mailgate_proto::edgesync::{Key, Kind, Mark, Stamp};
use rusqlite::params;

use crate::{Database, Durability, Error};

/// Formats by `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE mark (
        kind INTEGER NOT NULL, text TEXT NOT NULL, stamp INTEGER NOT NULL, until INTEGER NOT NULL,
        PRIMARY KEY (kind, text)
    ) STRICT, WITHOUT ROWID;
"];
/// Marks written in one go of the writer.
const BATCH: usize = 1000;

/// The stamps; clones share them.
#[derive(Debug, Clone)]
pub struct Marks(Database);

impl Marks {
    /// Opens or creates the database; its folder must exist.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        // The last moments may be lost: peers know what they were told, and say it again.
        Database::open(path, Durability::Normal, MIGRATIONS).map(Self)
    }

    /// Marks that end with the process, for tests.
    ///
    /// # Errors
    /// None in practice; what SQLite says to an empty database.
    pub fn memory() -> Result<Self, Error> {
        Database::memory(MIGRATIONS).map(Self)
    }

    /// Every mark.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn all(&self) -> Result<Vec<Mark>, Error> {
        let read = |connection: &rusqlite::Connection| {
            let mut statement = connection.prepare("SELECT kind, text, stamp, until FROM mark")?;
            let rows = statement.query_map([], |row| {
                let (kind, text, stamp): (u8, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let key = Key { kind: Kind(kind), text: text.into() };
                Ok(Mark { key, stamp: Stamp(stamp.cast_unsigned()), until: row.get(3)? })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        };
        self.0.read(read).await
    }

    /// Keeps these marks in place of earlier ones of their keys, and forgets those that are not needed any more.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn keep(&self, marks: Vec<Mark>) -> Result<(), Error> {
        let mut marks = marks.into_iter().peekable();
        while marks.peek().is_some() {
            let batch: Vec<Mark> = marks.by_ref().take(BATCH).collect();
            let write = move |transaction: &rusqlite::Transaction<'_>| {
                for Mark { key, stamp, until } in &batch {
                    if *until == 0 {
                        transaction
                            .prepare_cached("DELETE FROM mark WHERE kind = ?1 AND text = ?2")?
                            .execute(params![key.kind.0, &*key.text])?;
                    } else {
                        transaction
                            .prepare_cached("INSERT OR REPLACE INTO mark VALUES (?1, ?2, ?3, ?4)")?
                            .execute(params![key.kind.0, &*key.text, stamp.0.cast_signed(), until])?;
                    }
                }
                Ok(())
            };
            self.0.write(write).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_are_kept_replaced_and_forgotten() {
        let marks = Marks::memory().unwrap();
        let mark = |name: &str, stamp, until| Mark {
            key: Key::of(Kind::TUPLE, &[name, "x"]),
            stamp: Stamp(stamp),
            until,
        };
        let many: Vec<Mark> = (0..2500).map(|number| mark(&number.to_string(), number, 5)).collect();
        marks.keep(many).await.unwrap();
        assert_eq!(marks.all().await.unwrap().len(), 2500);
        marks.keep((0..2499).map(|number| mark(&number.to_string(), 0, 0)).collect()).await.unwrap();
        marks.keep(vec![mark("2499", u64::MAX >> 2, 9)]).await.unwrap();
        assert_eq!(marks.all().await.unwrap(), [mark("2499", u64::MAX >> 2, 9)]);
    }
}
