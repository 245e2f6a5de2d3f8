//! The judgement of the edge as a pure function of configuration, facts, memory and time: no socket, no clock, no store.
//!
//! [`weigh`](crate::suspicion::weigh) says how suspicious a client is and who it is; [`Policy::judge`] says what becomes of
//! its attempt. Sessions, `mailgate grey simulate` and measurements ask this same code. [`Remembered`] is a memory for
//! those that have no store.

use std::collections::HashMap;
use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_store::greylist::{Credit, Grey, Identity, Known, Tuple};
use serde::Serialize;

use super::decide::{Keep, Timings, Waited, wait_or_pass};
use super::tuple::{network, normalised_recipient, normalised_sender};
use crate::config::{Config, Mode};
use crate::identity;
use crate::reason::Reason;
use crate::suspicion::{Facts, Weighed};

/// How unknown clients are judged.
#[derive(Debug, Clone)]
pub struct Policy {
    mode: Mode,
    grey_at: i32,
    strong_at: i32,
    classic: Timings,
    aligned: Timings,
    usual: Timings,
    strong: Timings,
    prefixes: (u8, u8),
    opt_out: Vec<String>,
}

/// What the memory knows about an attempt.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// The tuple, under the key of [`Policy::keys`] that has one.
    pub tuple: Option<Grey>,
    /// Whether one of its identities is trusted ([`Known::is_trusted`]).
    pub is_known: bool,
    /// Whether its own address is trusted.
    pub is_known_host: bool,
    /// Whether somebody here wrote to this sender lately.
    pub correspondent: bool,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The client may speak to the server, now and on this connection.
    Accept {
        /// From the first attempt until now; `None` when it did not have to wait.
        #[serde(skip)]
        waited: Option<Duration>,
    },
    /// Come again after `wait`.
    Defer {
        /// What is to be remembered.
        #[serde(skip)]
        grey: Grey,
        /// From now until an attempt passes; more than zero.
        #[serde(skip)]
        wait: Duration,
    },
}

/// A verdict and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What becomes of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The reason that decided.
    pub reason: Reason,
}

impl Judgement {
    pub(super) const fn accept(reason: Reason) -> Self {
        Self { verdict: Verdict::Accept { waited: None }, reason }
    }

    /// Whether the client goes on to the server.
    #[must_use]
    pub const fn is_accept(&self) -> bool {
        matches!(self.verdict, Verdict::Accept { .. })
    }
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        let (grey, selective) = (&config.greylist, &config.greylist.selective);
        let after = |pass_after: mailgate_model::Span| Timings {
            pass_after: pass_after.duration(),
            keep: Keep::FromLast(selective.keep_for.duration(), selective.keep_at_most.duration()),
            passed_for: selective.trusted_for.duration(),
        };
        Self {
            mode: config.mode,
            grey_at: config.suspicion.grey_at,
            strong_at: config.suspicion.strong_at,
            classic: Timings::from(grey),
            aligned: after(selective.aligned_pass_after),
            usual: after(selective.pass_after),
            strong: after(selective.strong_pass_after),
            prefixes: (grey.ipv4_prefix, grey.ipv6_prefix),
            opt_out: grey.opt_out.iter().map(|one| one.to_lowercase()).collect(),
        }
    }
}

impl Policy {
    /// Whether everybody unknown has to wait.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.mode == Mode::Classic
    }

    /// Whether points alone are worth 25 minutes.
    #[must_use]
    pub fn is_strong(&self, weighed: &Weighed) -> bool {
        weighed.points >= self.strong_at
    }

    /// The keys under which an attempt may be remembered, the one to remember it under first: a retry may be proved worse
    /// or better than the attempt before, when the DNS did not answer one of them.
    #[must_use]
    pub fn keys(&self, weighed: &Weighed, facts: &Facts<'_>) -> Vec<Tuple> {
        let reverse_path = normalised_sender(facts.reverse_path);
        let recipient = normalised_recipient(facts.forward_path);
        if self.is_classic() {
            let client = Identity::Network(network(facts.ip, self.prefixes.0, self.prefixes.1));
            return vec![Tuple { client, reverse_path, forward_path: recipient }];
        }
        let domain = recipient.rsplit_once('@').map_or(recipient.as_str(), |(_, domain)| domain);
        let key = |client: &Identity| Tuple {
            client: client.clone(),
            reverse_path: reverse_path.clone(),
            forward_path: domain.to_owned(),
        };
        weighed.identities.iter().map(key).collect()
    }

    /// What is judged without looking for a retry; `None` when the greylist decides.
    #[must_use]
    pub fn at_once(&self, weighed: &Weighed, facts: &Facts<'_>, view: &View) -> Option<Judgement> {
        let accept = |reason| Some(Judgement::accept(reason));
        if self.is_opted_out(facts.forward_path) {
            return accept(Reason::OptedOut);
        }
        if self.is_classic() {
            return None;
        }
        // Who is strongly suspicious is trusted by nothing but its own address: a bot gains nothing by the good mail of
        // others that have the same domain or network.
        if view.is_known_host || view.is_known && !self.is_strong(weighed) {
            return accept(Reason::KnownIdentity);
        }
        if weighed.grey_table {
            return None;
        }
        if view.correspondent && weighed.aligned {
            return accept(Reason::Correspondent);
        }
        if weighed.vouched {
            return accept(Reason::Dnswl);
        }
        (weighed.points < self.grey_at).then_some(Judgement::accept(Reason::LowSuspicion))
    }

    /// What the greylist makes of an attempt whose tuple is in this state.
    #[must_use]
    pub fn by_waiting(&self, weighed: &Weighed, tuple: Option<Grey>, now: Timestamp) -> Judgement {
        match wait_or_pass(now, tuple, self.timings(weighed)) {
            Waited::Pass(waited) => {
                Judgement { verdict: Verdict::Accept { waited: Some(waited) }, reason: Reason::Retried }
            }
            Waited::Defer { grey, wait } => {
                let is_first = tuple.is_none_or(|known| known.first != grey.first);
                let reason = if is_first { Reason::FirstAttempt } else { Reason::TooEarly };
                Judgement { verdict: Verdict::Defer { grey, wait }, reason }
            }
        }
    }

    /// The judgement of one attempt.
    #[must_use]
    pub fn judge(&self, weighed: &Weighed, facts: &Facts<'_>, view: &View, now: Timestamp) -> Judgement {
        self.at_once(weighed, facts, view).unwrap_or_else(|| self.by_waiting(weighed, view.tuple, now))
    }

    /// The timings of an attempt.
    #[must_use]
    pub fn timings(&self, weighed: &Weighed) -> &Timings {
        match () {
            () if self.is_classic() => &self.classic,
            () if self.is_strong(weighed) => &self.strong,
            () if weighed.aligned => &self.aligned,
            () => &self.usual,
        }
    }

    /// Who is trusted when an attempt passes by waiting: who proved a name; the network of a host with a name of its own;
    /// else the host alone, because its neighbours are no relatives.
    #[must_use]
    pub fn trusted_by(&self, weighed: &Weighed, facts: &Facts<'_>) -> Identity {
        if self.is_strong(weighed) {
            return identity::host(facts.ip);
        }
        match weighed.identity() {
            Identity::Network(_) if weighed.among_strangers => identity::host(facts.ip),
            best => best.clone(),
        }
    }

    /// How long trust lasts from the last good mail.
    #[must_use]
    pub fn trusted_for(&self) -> Duration {
        if self.is_classic() { self.classic.passed_for } else { self.usual.passed_for }
    }

    fn is_opted_out(&self, forward_path: &str) -> bool {
        if self.opt_out.is_empty() {
            return false;
        }
        let recipient = normalised_recipient(forward_path);
        let (local, domain) = recipient.rsplit_once('@').unwrap_or((&recipient, ""));
        let base = local.split_once('+').map_or(local, |(base, _)| base);
        self.opt_out.iter().any(|one| match one.split_once('@') {
            Some((wanted, "")) => wanted == base,
            Some((wanted, of)) => wanted == base && of == domain,
            None => {
                one == domain || domain.strip_suffix(one.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        })
    }
}

/// A memory without a store, for tests and measurements: the same rules as [`mailgate_store::Greylist`].
#[derive(Debug, Default)]
pub struct Remembered {
    tuples: HashMap<Tuple, Grey>,
    known: HashMap<Identity, Known>,
}

impl Remembered {
    /// One attempt: judged, and remembered.
    pub fn attempt(
        &mut self,
        policy: &Policy,
        weighed: &Weighed,
        facts: &Facts<'_>,
        now: Timestamp,
    ) -> Judgement {
        let keys = policy.keys(weighed, facts);
        let is_trusted = |identity: &Identity| {
            self.known.get(identity).is_some_and(|known| known.expires > now && known.is_trusted())
        };
        let classic = keys.first().filter(|_| policy.is_classic()).map(|key| &key.client);
        let view = View {
            tuple: None,
            is_known: weighed.identities.iter().any(is_trusted),
            is_known_host: is_trusted(&identity::host(facts.ip)),
            correspondent: false,
        };
        if classic.is_some_and(is_trusted) {
            return Judgement::accept(Reason::Passed);
        }
        if let Some(judgement) = policy.at_once(weighed, facts, &view) {
            return judgement;
        }
        let Some(key) = keys.iter().find(|key| self.tuples.contains_key(*key)).or(keys.first()) else {
            return Judgement::accept(Reason::Unknown);
        };
        let judgement = policy.by_waiting(weighed, self.tuples.get(key).copied(), now);
        match judgement.verdict {
            Verdict::Defer { grey, .. } => drop(self.tuples.insert(key.clone(), grey)),
            Verdict::Accept { .. } => {
                self.tuples.remove(key);
                let trusted = match classic {
                    Some(client) => client.clone(),
                    None => policy.trusted_by(weighed, facts),
                };
                self.credit(trusted, Credit::Retry, policy.trusted_for(), now);
            }
        }
        judgement
    }

    /// The same where the content is read before who would have to wait is judged: an attempt with this message, whose
    /// tuple says nothing of the client, may be a retry too.
    pub fn attempt_with(
        &mut self,
        policy: &Policy,
        weighed: &Weighed,
        facts: &Facts<'_>,
        message: &Tuple,
        now: Timestamp,
    ) -> Judgement {
        let judgement = self.attempt(policy, weighed, facts, now);
        if judgement.is_accept() || policy.is_strong(weighed) && !policy.is_classic() {
            return judgement;
        }
        match policy.by_waiting(weighed, self.tuples.get(message).copied(), now).verdict {
            Verdict::Defer { grey, .. } => {
                self.tuples.insert(message.clone(), grey);
                judgement
            }
            verdict @ Verdict::Accept { .. } => {
                let own = policy.keys(weighed, facts);
                for key in &own {
                    self.tuples.remove(key);
                }
                let trusted = match own.into_iter().next().filter(|_| policy.is_classic()) {
                    Some(key) => key.client,
                    None => policy.trusted_by(weighed, facts),
                };
                self.credit(trusted, Credit::Retry, policy.trusted_for(), now);
                Judgement { verdict, reason: Reason::SameMessage }
            }
        }
    }

    /// A message of this identity was accepted and was no spam.
    pub fn accepted(&mut self, policy: &Policy, identity: &Identity, now: Timestamp) {
        if policy.is_classic() && !self.known.contains_key(identity) {
            return;
        }
        self.credit(identity.clone(), Credit::Message, policy.trusted_for(), now);
    }

    /// Forgets what has expired; how many entries are left.
    pub fn sweep(&mut self, now: Timestamp) -> usize {
        self.tuples.retain(|_, grey| grey.expires > now);
        self.known.retain(|_, known| known.expires > now);
        self.tuples.len() + self.known.len()
    }

    fn credit(&mut self, identity: Identity, credit: Credit, span: Duration, now: Timestamp) {
        let known = self.known.get(&identity).copied();
        self.known.insert(identity, Known::credited(known, credit, span, now));
    }
}

#[cfg(test)]
mod tests;
