//! Who works on which recipient now. In memory: a lease must not outlive the process that holds it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailgate_model::QueueId;

/// The recipients under work, of one spool.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashSet<(QueueId, u32)>>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashSet<(QueueId, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them or none.
    pub(super) fn take(&self, id: QueueId, indices: Vec<u32>) -> Option<Lease> {
        let mut taken = self.lock();
        if indices.is_empty() || indices.iter().any(|index| taken.contains(&(id, *index))) {
            return None;
        }
        taken.extend(indices.iter().map(|index| (id, *index)));
        drop(taken);
        Some(Lease(Arc::new(Held { id, indices, leases: self.clone() })))
    }

    /// All that are held at this moment.
    pub(super) fn held(&self) -> HashSet<(QueueId, u32)> {
        self.lock().clone()
    }

    pub(super) fn holds_any_of(&self, id: QueueId) -> bool {
        self.lock().iter().any(|(leased, _)| *leased == id)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// The sole right to work on some recipients of one message; ends when dropped (also by a panic or a crash), and the
/// recipients whose outcome was not recorded are due again. A record that is on its way keeps it too.
#[derive(Debug)]
pub struct Lease(Arc<Held>);

#[derive(Debug)]
pub(super) struct Held {
    id: QueueId,
    indices: Vec<u32>,
    leases: Leases,
}

impl Lease {
    /// The message.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.0.id
    }

    /// Indices of the recipients in the accepted envelope.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.0.indices
    }

    /// For a change on its way to the writer: keeps the lease until that is done.
    pub(super) fn kept(&self) -> Arc<Held> {
        Arc::clone(&self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.leases.lock();
        for index in &self.indices {
            taken.remove(&(self.id, *index));
        }
    }
}
