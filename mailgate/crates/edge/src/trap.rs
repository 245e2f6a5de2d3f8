//! Traps: what an unknown client does only when it works through a list of addresses nobody ever gave away.
//!
//! Four of them: an address that exists for nothing else; a recipient outside our domains; a host of ours that takes
//! mail only when all others are down, asked first; and recipients most of which do not exist. Only unknown clients
//! can step into one: who is passed or bypassed never comes here. What the judgement knows in a client's favour
//! ([`Excuses`]) outweighs all four.
//!
//! Who is trapped goes to the tarpit for `trapped_for`, twice as long each further time, at most `trapped_at_most`;
//! 30 days without a trap, accepted mail, or the administrator make it forgotten.

mod allowed;
mod unknown;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::{Client, Clock, ForwardPath, Timestamp};
use mailgate_store::Greylist;
use mailgate_store::greylist::Terms;

use self::allowed::Allowed;
use self::unknown::Strangers;
use crate::Answer;
use crate::config::TrapsConfig;

/// After the start nobody is trapped for asking the low-priority MX: the others may have been away with us (spamd(8)).
const GRACE: Duration = Duration::from_secs(60);

/// Whether a recipient exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It does not.
    No,
    /// It cannot be said: another server knows, or the records cannot be read.
    Unsure,
    /// It does.
    Yes,
}

/// Tells which recipients exist. Joined to the accounts in `wire.rs`.
pub trait Recipients: Send + Sync + 'static {
    /// Whether mail for `path` has somewhere to go. May wait for a database, not for the network.
    fn is_known<'a>(&'a self, path: &'a ForwardPath) -> Answer<'a, Known>;
}

/// What speaks for a client and against trapping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excuses {
    /// It belongs to the protected: own networks, admin bypass.
    pub protected: bool,
    /// A list of good senders vouches for it with its highest grade.
    pub dnswl_high: bool,
    /// It forwards mail of others and cannot know their traps.
    pub forwarder: bool,
    /// Something is suspicious about it; without that a trap only refuses the recipient.
    pub suspicious: bool,
}

impl Default for Excuses {
    /// What spamd(8) knows: nothing, and that is suspicious.
    fn default() -> Self {
        Self { protected: false, dnswl_high: false, forwarder: false, suspicious: true }
    }
}

impl Excuses {
    /// Whether the client can be trapped.
    #[must_use]
    pub fn allow(&self) -> bool {
        self.suspicious && !self.protected && !self.dnswl_high && !self.forwarder
    }
}

/// One RCPT of an unknown client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Who says it, and to which of our addresses.
    pub(crate) client: &'a Client,
    /// The recipient.
    pub(crate) recipient: &'a ForwardPath,
    /// The greylist has not seen this attempt before.
    pub(crate) is_new: bool,
    /// What speaks for the client.
    pub(crate) excuses: Excuses,
}

/// Which trap it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrapReason {
    Address,
    Domain,
    LowPriority,
    UnknownRecipients,
}

impl TrapReason {
    /// The word for logs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Address => "trap address",
            Self::Domain => "domain not ours",
            Self::LowPriority => "low-priority MX",
            Self::UnknownRecipients => "unknown recipients",
        }
    }
}

/// The traps that are set.
pub(crate) struct Traps {
    config: TrapsConfig,
    allowed: Arc<Allowed>,
    recipients: Option<Arc<dyn Recipients>>,
    strangers: Strangers,
    clock: Arc<dyn Clock>,
    started: Timestamp,
}

impl Traps {
    pub(crate) fn new(
        config: TrapsConfig,
        recipients: Option<Arc<dyn Recipients>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let allowed = Arc::new(Allowed::new(&config));
        let started = clock.now();
        let strangers = Strangers::new(config.unknown_recipients);
        Self { config, allowed, recipients, strangers, clock, started }
    }

    /// Follows the file of allowed domains until the future is dropped.
    pub(crate) fn follow(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.allowed).follow(Arc::clone(&self.clock))
    }

    /// The network that is trapped for `ip`.
    pub(crate) fn network(&self, ip: IpAddr) -> ipnet::IpNet {
        crate::greylist::network(ip, 32, self.config.ipv6_prefix)
    }

    /// For how long.
    pub(crate) fn terms(&self) -> Terms {
        Terms { first: self.config.trapped_for.duration(), longest: self.config.trapped_at_most.duration() }
    }

    /// Which trap this step leads into, if any.
    pub(crate) async fn look(&self, greylist: &Greylist, step: &Step<'_>) -> Option<TrapReason> {
        if !step.excuses.allow() {
            return None;
        }
        if greylist.is_trap(&step.recipient.to_string()) {
            return Some(TrapReason::Address);
        }
        if self.allowed.is_outside(step.recipient) {
            return Some(TrapReason::Domain);
        }
        let now = self.clock.now();
        let asked = step.client.local.ip().to_canonical();
        if step.is_new && now.since(self.started) >= GRACE && self.config.low_priority.contains(&asked) {
            return Some(TrapReason::LowPriority);
        }
        self.asks_for_strangers(step, now).await.then_some(TrapReason::UnknownRecipients)
    }

    async fn asks_for_strangers(&self, step: &Step<'_>, now: Timestamp) -> bool {
        let Some(recipients) = self.recipients.as_ref().filter(|_| self.strangers.are_counted()) else {
            return false;
        };
        let known = recipients.is_known(step.recipient).await;
        self.strangers.count(
            self.network(step.client.ip()),
            &step.recipient.to_string().to_lowercase(),
            known,
            now,
        )
    }
}

#[cfg(test)]
mod tests;
