//! The session comes and goes: what becomes of its routes.

use mailgate_model::Timestamp;
use mailgate_proto::bgp::{Families, Family, Loss, Session};

use super::{Peer, SETTLE};
use crate::config::StaleBy;

impl Peer {
    pub(super) fn up(&mut self, session: Session, now: Timestamp) {
        tracing::info!(target: "lists", event = "up", peer = %self.config.peer, asn = self.config.peer_as);
        self.rib.begin(Families::ALL);
        if self.config.stale_by == StaleBy::Peer {
            // RFC 4724 §4.2: of families in which the peer has not forwarded on, nothing stays.
            let preserved = session.restart.map(|restart| restart.preserved).unwrap_or_default();
            self.purge(|family| !preserved.contains(family));
        }
        // A peer that knows graceful restart says when its routes are complete; until `stale_until` it may take.
        self.settled_at = session.restart.is_none().then(|| now.plus(SETTLE));
        if !self.rib.is_empty() {
            self.stale_until.get_or_insert(now.plus(self.config.stale.duration()));
        }
        self.is_up = true;
        self.is_complete = false;
        self.withdrawn = 0;
        self.since = now;
        self.error = None;
        self.warned = false;
        self.has_ended = false;
        self.refreshing.clear();
        self.told.begin();
        self.announce();
    }

    pub(super) fn down(&mut self, loss: &Loss, now: Timestamp) {
        if std::mem::take(&mut self.is_up) {
            self.since = now;
        }
        self.settled_at = None;
        if self.error.as_ref() != Some(&loss.why) {
            tracing::warn!(
                target: "lists", event = "down", peer = %self.config.peer, reason = loss.why,
                damped = self.machine.is_damped()
            );
        }
        self.error = Some(loss.why.clone());
        self.rib.begin(Families::ALL);
        let stale = self.config.stale.duration();
        if self.config.stale_by == StaleBy::Peer
            && let Some(session) = loss.session
        {
            let restart = session.restart.filter(|_| loss.is_graceful).unwrap_or_default();
            self.purge(|family| !restart.families.contains(family));
            self.stale_until = (!self.rib.is_empty()).then(|| now.plus(stale.min(restart.time)));
        } else if !self.rib.is_empty() {
            self.stale_until.get_or_insert(now.plus(stale));
        }
    }

    fn purge(&mut self, chosen: impl Fn(Family) -> bool) {
        for family in Family::ALL.into_iter().filter(|family| chosen(*family)) {
            if self.rib.is_stale(family) {
                self.rib.end(family, &mut self.steps);
            }
        }
    }
}
