//! One peer: which of its connections stays, and how it goes with it; `connection.rs` is what is said on one.

mod connection;

use std::sync::{Mutex, MutexGuard, PoisonError};

use mailgate_model::Timestamp;
use mailgate_proto::edgesync::Progress;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::config::PeerConfig;
use super::time;

/// How it goes with one peer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `connected` or `waiting`.
    pub state: &'static str,
    /// Since when.
    pub since: Option<String>,
    /// What it calls itself.
    pub host: String,
    /// How far its clock is ahead of ours, in milliseconds; delay on the way included.
    pub ahead_ms: i64,
    /// Our changes that it has not yet confirmed; none while it is away and has everything.
    pub behind: u64,
    /// Records sent.
    pub sent: u64,
    /// Records received.
    pub received: u64,
    /// Of these, records that changed something.
    pub taken: u64,
    /// Records refused: from the future, not its to tell, no room.
    pub refused: u64,
    /// Octets sent, before encryption.
    pub bytes_sent: u64,
    /// Octets received, after decryption.
    pub bytes_received: u64,
    /// Comparisons finished.
    pub compared: u64,
    /// When the last one was.
    pub compared_at: Option<String>,
    /// Why the last connection ended, or none came about.
    pub error: String,
}

/// What is known of one peer.
pub(super) struct Peer {
    pub(super) config: PeerConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    connections: u64,
    since: Option<Timestamp>,
    /// Of connections that ended.
    before: Tally,
    now: Progress,
    bytes: (u64, u64),
    error: String,
}

/// Sums over connections.
#[derive(Default)]
struct Tally {
    sent: u64,
    received: u64,
    taken: u64,
    refused: u64,
    compared: u64,
}

struct Current {
    number: u64,
    is_preferred: bool,
    end: CancellationToken,
}

impl Peer {
    pub(super) fn new(config: PeerConfig) -> Self {
        Self { config, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_connected(&self) -> bool {
        self.state().current.is_some()
    }

    fn note(&self, error: String) {
        let mut state = self.state();
        if state.error != error {
            tracing::warn!(target: "edge", event = "sync", peer = %self.config.name, %error);
            state.error = error;
        }
    }

    /// Takes the place for a new connection; `None` when the one there is stays. Of two that were begun from both sides
    /// at once both sides keep the same one.
    fn take_place(
        &self,
        is_preferred: bool,
        now: Timestamp,
        end: &CancellationToken,
    ) -> Option<(u64, (u64, u64))> {
        let mut state = self.state();
        if let Some(current) = &state.current {
            if current.is_preferred && !is_preferred {
                return None;
            }
            current.end.cancel();
        }
        state.connections += 1;
        let number = state.connections;
        state.current = Some(Current { number, is_preferred, end: end.clone() });
        state.since = Some(now);
        Some((number, state.now.knows))
    }

    fn leave_place(&self, number: u64, now: Timestamp) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|current| current.number == number) {
            state.current = None;
            state.since = Some(now);
        }
    }

    /// Carries the counts of a connection that begins anew over.
    fn fold(&self) {
        let mut state = self.state();
        let now = std::mem::take(&mut state.now);
        state.before.sent += now.sent;
        state.before.received += now.received;
        state.before.taken += now.taken;
        state.before.refused += now.early + now.untrusted + now.full;
        state.before.compared += now.compared;
        state.now = Progress {
            knows: now.knows,
            name: now.name,
            acknowledged: now.acknowledged,
            compared_at: now.compared_at,
            ..Progress::default()
        };
    }

    pub(super) fn status(&self, log: u64) -> PeerStatus {
        let state = self.state();
        let (now, before) = (&state.now, &state.before);
        let is_connected = state.current.is_some();
        PeerStatus {
            name: self.config.name.clone(),
            state: if is_connected { "connected" } else { "waiting" },
            since: state.since.map(|at| at.to_string()),
            host: now.name.clone(),
            ahead_ms: now.ahead,
            behind: if now.acknowledged == 0 { log - 1 } else { log.saturating_sub(now.acknowledged) },
            sent: before.sent + now.sent,
            received: before.received + now.received,
            taken: before.taken + now.taken,
            refused: before.refused + now.early + now.untrusted + now.full,
            bytes_sent: state.bytes.0,
            bytes_received: state.bytes.1,
            compared: before.compared + now.compared,
            compared_at: time(now.compared_at).map(|at| at.to_string()),
            error: state.error.clone(),
        }
    }
}
