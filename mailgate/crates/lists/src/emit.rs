//! Tells the edge what changed, and ends what has expired.

use std::sync::Arc;

use mailgate_model::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::shared::{Shared, State};
use crate::table::Change;

/// Batches on the way to the edge. Few: while the edge is busy, differences gather in the tables, where a prefix
/// that flaps counts once, instead of in the channel.
pub(crate) const BATCHES: usize = 4;

/// Runs until `shutdown`, or until nobody listens.
pub(crate) async fn run(shared: Arc<Shared>, sender: mpsc::Sender<Vec<Change>>, shutdown: CancellationToken) {
    loop {
        let now = shared.clock.now();
        let expire = move |state: &mut State| {
            let next = state.merged.expire(now);
            let waits = state.rush.until(now);
            let is_ready = state.merged.is_pending() && !state.is_loading() && waits.is_none();
            (next.into_iter().chain(waits).min(), is_ready)
        };
        let Ok((next, pending)) = shared.quietly(expire).await else { return };
        if pending {
            let permit = tokio::select! {
                () = shutdown.cancelled() => return,
                permit = sender.reserve() => permit,
            };
            let Ok(permit) = permit else { return };
            let take = |state: &mut State| {
                state.rush.told();
                let changes = state.merged.take_changes();
                if changes.is_some() {
                    state.sent.push_back(state.merged.revision());
                }
                changes
            };
            match shared.quietly(take).await {
                Ok(Some(changes)) => permit.send(changes),
                Ok(None) => {}
                Err(_) => return,
            }
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = shared.changed.notified() => {}
            () = until(&shared, next) => {}
        }
    }
}

async fn until(shared: &Shared, at: Option<Timestamp>) {
    match at {
        Some(at) => shared.clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
