//! What can be asked of a source while it runs.

use tokio::sync::oneshot;

use super::Turn;
use crate::rows::Diff;

/// One order, with where its answer goes.
pub(crate) enum Order {
    /// Say what a fetch now would change.
    Diff(oneshot::Sender<Result<Diff, String>>),
    /// Fetch now.
    Reload(oneshot::Sender<Turn>),
}
