//! One attempt of an unknown client, judged with what the session has gathered; and what is remembered of it.

use mailgate_model::{Client, SessionId};
use mailgate_store::greylist::{Credit, Identity, Next, Origin, Peer, PeerKind, Said, Tuple};

use super::decide::passed;
use super::letter::Letter;
use super::policy::{Judgement, Policy, Verdict, View};
use crate::accept::Edge;
use crate::config::{Behind, Decide};
use crate::identity;
use crate::learn::Wrote;
use crate::reason::Reason;
use crate::suspicion::{Facts, Gathered, Ourselves, Tables, Weighed, weigh};
use crate::trap::Excuses;
use crate::why::Because;

/// How long a foreign mail server's client that has only been judged stays passed, where it has to come again.
const JUDGED_FOR: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What the session has seen of the client's manners.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manners {
    pub(super) early_talk: bool,
    pub(super) early_pipelining: bool,
}

/// What is known of the client before any attempt.
pub(super) struct Contact<'a> {
    pub(super) edge: &'a Edge,
    pub(super) client: &'a Client,
    pub(super) session: SessionId,
    pub(super) gathered: Option<&'a Gathered>,
    pub(super) tables: &'a Tables,
    pub(super) manners: Manners,
}

/// An attempt as judged.
pub(super) struct Judged {
    pub(super) judgement: Judgement,
    pub(super) weighed: Weighed,
    /// Whether it would have been deferred, but everybody goes on for now.
    pub(super) spared: bool,
}

impl Contact<'_> {
    /// What is known, in the shape that is weighed.
    pub(super) fn facts<'a>(&'a self, said: &'a Said) -> Facts<'a> {
        let others = Facts {
            helo: &said.helo,
            reverse_path: &said.reverse_path,
            forward_path: &said.forward_path,
            early_talk: self.manners.early_talk,
            early_pipelining: self.manners.early_pipelining,
            score_tables: &self.tables.score,
            grey_table: self.tables.grey,
            ..Facts::of(self.client.ip())
        };
        self.gathered.map_or(others, |gathered| gathered.facts(others))
    }

    /// How suspicious the client is; in classic mode nobody asks.
    pub(super) fn weighed(&self, facts: &Facts<'_>) -> Weighed {
        if self.edge.policy.is_classic() {
            return Weighed::unknown(facts.ip);
        }
        let ourselves = Ourselves {
            hostname: self.edge.hostname.clone(),
            address: Some(self.client.local.ip().to_canonical()),
        };
        weigh(&self.edge.config.suspicion, &ourselves, facts)
    }

    /// What the traps need to know: whether the attempt is new, and what speaks for the client.
    pub(super) fn excuses(&self, said: &Said) -> (bool, Excuses) {
        let facts = self.facts(said);
        let weighed = self.weighed(&facts);
        let key = self.edge.key(&self.edge.policy, &weighed, &facts);
        let is_new = key.is_none_or(|key| self.edge.greylist.state(&key).is_none());
        let silence_at = self.edge.config.suspicion.silence_at;
        let suspicious = self.edge.policy.is_classic() || weighed.points >= silence_at;
        (is_new, Excuses { dnswl_high: weighed.vouched_high, suspicious, ..Excuses::default() })
    }

    /// Whether the content is to be read before an attempt is judged: it would have to wait, and is not so suspicious
    /// that nothing in its content counts. Remembers nothing.
    pub(super) fn is_undecided(&self, said: &Said) -> bool {
        let Edge { policy, greylist, clock, config, .. } = self.edge;
        if config.greylist.decide == Decide::Rcpt || config.greylist.dry_run {
            return false;
        }
        let facts = self.facts(said);
        let weighed = self.weighed(&facts);
        let reads = policy.is_classic() || !policy.is_strong(&weighed);
        if !reads || policy.at_once(&weighed, &facts, &self.edge.view(&weighed, &facts)).is_some() {
            return false;
        }
        let known = self.edge.key(policy, &weighed, &facts).and_then(|key| greylist.state(&key));
        let judgement = policy.by_waiting(&weighed, known, clock.now());
        tracing::debug!(
            target: "edge", s = %self.session, event = "rcpt", ip = %facts.ip, to = %said.forward_path,
            result = if judgement.is_accept() { "accepted" } else { "put-off" }, reason = judgement.reason.word()
        );
        !judgement.is_accept()
    }

    /// Judges one attempt, by its content too where that was read, and remembers what follows from it.
    pub(super) fn judge(&self, said: &Said, letter: Option<&Letter>) -> Judged {
        let edge = self.edge;
        let facts = self.facts(said);
        let weighed = self.weighed(&facts);
        let view = edge.view(&weighed, &facts);
        let at_once = edge.policy.at_once(&weighed, &facts, &view);
        let judgement = match at_once.or_else(|| self.answer(letter?)) {
            Some(judgement) => judgement,
            None => match letter.and_then(|letter| letter.tuple(&said.reverse_path, &said.forward_path)) {
                Some(message) => self.wait_for(&message, &weighed, &facts, said),
                None => self.wait(&weighed, &facts, said),
            },
        };
        let spared = edge.config.greylist.dry_run && !judgement.is_accept();
        self.remember(&judgement, &weighed, &facts);
        let message_id = letter.map(|letter| letter.message_id.as_str());
        let because = Because { judgement, weighed: &weighed, spared, message_id };
        edge.because(self.session, said, facts.ip, &because);
        Judged { judgement, weighed, spared }
    }

    /// Who answers a message of ours does not wait: nobody else knows its Message-ID.
    fn answer(&self, letter: &Letter) -> Option<Judgement> {
        let is_answer = letter.refers_to.iter().any(|id| self.edge.issued(id));
        (is_answer && !self.edge.policy.is_classic()).then(|| Judgement::accept(Reason::Answer))
    }

    /// An attempt is a retry when it is one of its client, or one of this message by anybody.
    fn wait_for(&self, message: &Tuple, weighed: &Weighed, facts: &Facts<'_>, said: &Said) -> Judgement {
        let Edge { policy, greylist, clock, .. } = self.edge;
        let now = clock.now();
        let (mut judged, mut first) = (None, None);
        greylist.attempt(message, said, |known| {
            first = known;
            match (judged.insert(policy.by_waiting(weighed, known, now)).verdict, known) {
                // One that passes is kept until its end: the server may still say "later", and the next attempt come from
                // a third address.
                (Verdict::Defer { grey, .. }, _) | (Verdict::Accept { .. }, Some(grey)) => Next::Defer(grey),
                (Verdict::Accept { .. }, None) => Next::Consume,
            }
        });
        let own = policy.keys(weighed, facts);
        let Some(Judgement { verdict: Verdict::Accept { waited }, .. }) = judged else {
            let judgement = self.wait(weighed, facts, said);
            return judged.into_iter().fold(judgement, sooner);
        };
        for key in own.iter().filter(|key| greylist.state(key).is_some()) {
            greylist.forget_tuple(key);
        }
        if let (true, Some(Identity::Network(network)), Some(grey)) =
            (policy.is_classic(), own.first().map(|key| &key.client), first)
        {
            greylist.learn(*network, passed(now, &grey, policy.timings(weighed)));
        }
        Judgement { verdict: Verdict::Accept { waited }, reason: Reason::SameMessage }
    }

    fn wait(&self, weighed: &Weighed, facts: &Facts<'_>, said: &Said) -> Judgement {
        let Edge { policy, greylist, clock, config, .. } = self.edge;
        let now = clock.now();
        let keys = policy.keys(weighed, facts);
        let key = keys.iter().find(|key| greylist.state(key).is_some()).or(keys.first());
        let Some(key) = key else { return policy.by_waiting(weighed, None, now) };
        if config.greylist.dry_run {
            return policy.by_waiting(weighed, greylist.state(key), now);
        }
        let mut judged = None;
        greylist.attempt(key, said, |known| {
            let judgement = judged.insert(policy.by_waiting(weighed, known, now));
            match (judgement.verdict, known) {
                (Verdict::Defer { grey, .. }, _) => Next::Defer(grey),
                (Verdict::Accept { .. }, Some(grey)) if policy.is_classic() => {
                    Next::Pass(passed(now, &grey, policy.timings(weighed)))
                }
                (Verdict::Accept { .. }, _) => Next::Consume,
            }
        });
        judged.unwrap_or_else(|| policy.by_waiting(weighed, None, now))
    }

    /// What an attempt earned that passes.
    fn remember(&self, judgement: &Judgement, weighed: &Weighed, facts: &Facts<'_>) {
        let edge = self.edge;
        let Verdict::Accept { waited } = judgement.verdict else { return };
        if edge.policy.is_classic() || judgement.reason == Reason::OptedOut {
            return;
        }
        let has_waited = waited.is_some();
        // A Message-ID may have been read in a public archive; that somebody here wrote to the very sender has not.
        let is_reply = judgement.reason == Reason::Answer
            && edge.wrote_to(facts.forward_path, facts.reverse_path) == Wrote::Address;
        if is_reply {
            let trusted = edge.policy.trusted_by(weighed, facts);
            edge.greylist.credit(&trusted, Credit::Reply, edge.policy.trusted_for());
        }
        if has_waited {
            let trusted = edge.policy.trusted_by(weighed, facts);
            edge.greylist.credit(&trusted, Credit::Retry, edge.policy.trusted_for());
        }
        // The kernel sends addresses to another program's port, not names.
        let must_come_again = !edge.handoff.takes_sessions();
        if edge.config.behind == Behind::Foreign && (has_waited || must_come_again) {
            let lasts = if has_waited { edge.policy.trusted_for() } else { JUDGED_FOR };
            edge.pass_host(facts.ip, lasts);
        }
    }
}

/// Of two judgements of one attempt the one by which it passes sooner.
fn sooner(one: Judgement, other: Judgement) -> Judgement {
    match (one.verdict, other.verdict) {
        (Verdict::Defer { wait, .. }, Verdict::Defer { wait: less, .. }) if less < wait => other,
        (Verdict::Defer { .. }, Verdict::Accept { .. }) => other,
        _ => one,
    }
}

impl Edge {
    /// What the memory knows of a client.
    pub(crate) fn view(&self, weighed: &Weighed, facts: &Facts<'_>) -> View {
        View {
            tuple: None,
            is_known: weighed.identities.iter().any(|identity| self.greylist.is_trusted(identity)),
            is_known_host: self.greylist.is_trusted(&identity::host(facts.ip)),
            correspondent: self.wrote_to(facts.forward_path, facts.reverse_path) != Wrote::Never,
        }
    }

    /// The key under which an attempt is remembered, or would be.
    pub(crate) fn key(&self, policy: &Policy, weighed: &Weighed, facts: &Facts<'_>) -> Option<Tuple> {
        let mut keys = policy.keys(weighed, facts);
        let known = keys.iter().position(|key| self.greylist.state(key).is_some()).unwrap_or(0);
        if keys.is_empty() { None } else { Some(keys.swap_remove(known)) }
    }

    /// Another host says that a client tried there, and nothing else about it.
    pub(crate) fn tried_elsewhere(&self, said: &Said) {
        let Some(ip) = said.ip else { return };
        let facts =
            Facts { reverse_path: &said.reverse_path, forward_path: &said.forward_path, ..Facts::of(ip) };
        let (weighed, now) = (Weighed::unknown(facts.ip), self.clock.now());
        let Some(key) = self.key(&self.policy, &weighed, &facts) else { return };
        let timings = self.policy.timings(&weighed);
        let mut has_passed = false;
        self.greylist.attempt(&key, said, |known| {
            match (self.policy.by_waiting(&weighed, known, now).verdict, known) {
                (Verdict::Defer { grey, .. }, _) => Next::Defer(grey),
                (Verdict::Accept { .. }, Some(grey)) if self.policy.is_classic() => {
                    Next::Pass(passed(now, &grey, timings))
                }
                (Verdict::Accept { .. }, _) => {
                    has_passed = true;
                    Next::Consume
                }
            }
        });
        if has_passed {
            let trusted = self.policy.trusted_by(&weighed, &facts);
            self.greylist.credit(&trusted, Credit::Retry, self.policy.trusted_for());
        }
    }

    fn pass_host(&self, ip: std::net::IpAddr, lasts: std::time::Duration) {
        let Identity::Network(network) = identity::host(ip) else { return };
        let now = self.clock.now();
        let peer = Peer {
            kind: PeerKind::Passed,
            origin: Origin::Learned,
            first: now,
            pass: now,
            expires: now.plus(lasts),
            blocked: 0,
            passed: 0,
        };
        self.greylist.learn(network, peer);
    }
}
