//! Delivery to other MTAs.
//!
//! An attempt asks for the hosts of its destination and goes through them until every recipient has an outcome. A host
//! that cannot be reached, does not want to talk or breaks off before the end of the content is followed by the next;
//! a reply to MAIL, RCPT or the content decides. What is left when no host is left is deferred, unless every host
//! refused for good.

mod hosts;
mod names;
mod outcome;
mod session;
mod transaction;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mailgate_model::{Clock, Domain, Host, Outcome, Permanence, Status};
use mailgate_net::Source;
use mailgate_queue::{Agent, Attempt, Attempted};

pub use self::names::{Encrypt, Names};

use self::outcome::{deferred, failed};
use self::session::{Setting, Unusable, hand_over};
use self::transaction::{Message, Needs, Pending};
use crate::Config;

/// A message with more Received fields than this goes round in circles (RFC 5321 §6.3 wants at least 100).
const HOP_LIMIT: usize = 100;

/// Relays to the MTAs that the DNS or static routes name.
#[derive(Clone)]
pub struct RemoteAgent(Arc<Inner>);

struct Inner {
    config: Config,
    hostname: Domain,
    names: Arc<dyn Names>,
    encrypt: Arc<dyn Encrypt>,
    clock: Arc<dyn Clock>,
}

impl RemoteAgent {
    /// `hostname` is the name by which MX records would mean us, and the EHLO name unless configured.
    #[must_use]
    pub fn new(
        config: Config,
        hostname: Domain,
        names: Arc<dyn Names>,
        encrypt: Arc<dyn Encrypt>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Inner { config, hostname, names, encrypt, clock }))
    }
}

impl Agent for RemoteAgent {
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
        Box::pin(async move { self.0.attempt(attempt).await })
    }
}

impl Inner {
    async fn attempt(&self, attempt: Attempt) -> Vec<Attempted> {
        let mut decided = Vec::with_capacity(attempt.indices.len());
        let recipients = attempt.envelope.recipients.iter().cloned();
        let mut rest: Vec<Pending> = attempt.indices.iter().copied().zip(recipients).collect();
        if hops(&attempt.content) > HOP_LIMIT {
            let outcome = failed(Status::new(5, 4, 6), None, "too many Received fields: mail loops");
            return rest.into_iter().map(|(index, _)| Attempted::new(index, outcome.clone())).collect();
        }
        // The queue groups by destination; a smart host brings several domains here, which all find the same hosts.
        while let Some((_, first)) = rest.first() {
            let host = first.address.host().clone();
            let same = |other: &Host| self.shares_hop(&host, other);
            let (mut pending, others): (Vec<Pending>, Vec<Pending>) =
                rest.into_iter().partition(|(_, recipient)| same(recipient.address.host()));
            rest = others;
            let left = self.deliver(&attempt, &host, &mut pending, &mut decided).await;
            decided.extend(pending.into_iter().map(|(index, _)| Attempted::new(index, left.clone())));
        }
        decided
    }

    /// Whether recipients at both hosts go the same way.
    fn shares_hop(&self, one: &Host, other: &Host) -> bool {
        let route = |host: &Host| match host {
            Host::Domain(domain) => self.config.route.iter().position(|route| route.domain.fits(domain)),
            Host::Literal(_) => None,
        };
        one == other || route(one).is_some_and(|route_one| route(other) == Some(route_one))
    }

    /// Goes through the hosts; gives the outcome for those that stay pending.
    async fn deliver(
        &self,
        attempt: &Attempt,
        host: &Host,
        pending: &mut Vec<Pending>,
        decided: &mut Vec<Attempted>,
    ) -> Outcome {
        let config = &self.config;
        let hop = match hosts::find(self.names.as_ref(), config, &self.hostname, host, attempt.id).await {
            Ok(hop) => hop,
            Err(outcome) => return outcome,
        };
        let setting = Setting {
            clock: Arc::clone(&self.clock),
            encrypt: Arc::clone(&self.encrypt),
            helo: config.helo.as_ref().unwrap_or(&self.hostname).to_string(),
            connect_timeout: config.connect_timeout.duration(),
            source: Source { v4: config.source_v4, v6: config.source_v6 },
            tls: config.tls,
            own_address: hop.own_address,
        };
        let needs = Needs::of(&attempt.envelope, &attempt.content);
        let message = Message { envelope: &attempt.envelope, content: &attempt.content, needs };
        let mut worst: Option<Outcome> = None;
        for host in &hop.hosts {
            let peers = match hosts::addresses(self.names.as_ref(), config, hop.own_address, host).await {
                Ok(peers) => peers,
                Err(outcome) => {
                    keep_transient(&mut worst, outcome);
                    continue;
                }
            };
            for peer in peers {
                match hand_over(&setting, &host.name, peer, &message, pending, decided).await {
                    Ok(()) => {}
                    Err(Unusable(outcome)) => {
                        tracing::debug!(target: "delivery", q = %attempt.id, event = "host", host = %host.name,
                            peer = %peer, result = "unusable", ?outcome);
                        keep_transient(&mut worst, outcome);
                    }
                }
                if pending.is_empty() {
                    break;
                }
            }
            if pending.is_empty() {
                break;
            }
        }
        worst.unwrap_or_else(|| deferred(Status::new(4, 4, 0), None, "no host took the message"))
    }
}

/// Of what several hosts said, the last transient word counts; only if all refused for good, the refusal does.
fn keep_transient(worst: &mut Option<Outcome>, outcome: Outcome) {
    let transient = |outcome: &Outcome| outcome.permanence() != Some(Permanence::Permanent);
    if transient(&outcome) || !worst.as_ref().is_some_and(transient) {
        *worst = Some(outcome);
    }
}

/// Received fields in the header section.
fn hops(content: &[u8]) -> usize {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(content.len());
    let header = content.get(..end).unwrap_or(content);
    let name = b"received:";
    header
        .split(|byte| *byte == b'\n')
        .filter(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
        .count()
}

#[cfg(test)]
pub(crate) mod tests;
