//! Brings the rows of tuples into memory: some at once, the others while the daemon works already.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mailgate_model::Timestamp;

use super::tuples::{Key, Tuples};
use super::{Inner, rows};
use crate::{Database, Error};

/// Rows read before the opening returns: a tenth of a second.
const AT_ONCE: usize = 100_000;
/// Rows read in one go afterwards: some 20 ms, in which a listing may have to wait for its turn.
const BITE: usize = 20_000;
/// Between two attempts when the database cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// Reads the first rows; says up to where, `None` when these were all.
pub(super) async fn begin(
    database: &Database,
    tuples: &Arc<Tuples>,
    until: Timestamp,
) -> Result<Option<Key>, Error> {
    bite(database, tuples, None, AT_ONCE, until).await
}

/// Reads all others, in a task of its own, until the greylist is gone.
pub(super) async fn go_on(inner: Weak<Inner>, mut reached: Option<Key>, until: Timestamp) {
    while let Some(from) = reached {
        let Some(inner) = inner.upgrade() else { return };
        match bite(inner.writer.database(), &inner.tuples, Some(from), BITE, until).await {
            Ok(further) => reached = further,
            Err(error) => {
                tracing::warn!(target: "store", event = "greylist", result = "not read", reason = %error);
                let retry = inner.clock.sleep(RETRY);
                drop(inner);
                retry.await;
            }
        }
    }
    if let Some(inner) = inner.upgrade() {
        tracing::info!(target: "store", event = "greylist", result = "read", tuples = inner.tuples.len());
    }
}

async fn bite(
    database: &Database,
    tuples: &Arc<Tuples>,
    from: Option<Key>,
    count: usize,
    until: Timestamp,
) -> Result<Option<Key>, Error> {
    let read = database.read({
        let tuples = Arc::clone(tuples);
        move |connection| {
            let mut ended = false;
            let reached = rows::tuples_after(connection, from, count, |key, grey| {
                if grey.expires <= until {
                    ended = true;
                } else {
                    tuples.take_in(key, &grey);
                }
            })?;
            Ok((reached, ended))
        }
    });
    let (reached, ended) = read.await?;
    if ended {
        // What memory never sees, no later sweep would find.
        database.write(move |connection| rows::sweep_range(connection, from, reached, until)).await?;
    }
    tuples.taken_in(reached);
    Ok(reached)
}
