//! Why something happened: decisions are kept with their reasons and shown to who asks.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use mailgate_lists::TableName;
use mailgate_model::{Client, SessionId};
use mailgate_store::greylist::{Credit, Decision, Identity, Said, Wanted};
use serde::Serialize;

use crate::accept::Edge;
use crate::admin::Shown;
use crate::error::Error;
use crate::greylist::policy::{Judgement, Verdict};
use crate::reason::Reason;
use crate::suspicion::Weighed;

/// Decisions shown at once, the newest.
const SHOWN: usize = 50;

/// A judgement with everything that led to it.
#[derive(Debug)]
pub struct Because<'a> {
    /// What was decided.
    pub judgement: Judgement,
    /// What was found.
    pub weighed: &'a Weighed,
    /// It would have been deferred, but greylisting only reports now (`dry_run`).
    pub spared: bool,
    /// The Message-ID, which may be empty, where it was decided after the content.
    pub message_id: Option<&'a str>,
}

impl Because<'_> {
    fn result(&self) -> &'static str {
        match self.judgement.verdict {
            Verdict::Accept { .. } => "accepted",
            Verdict::Defer { .. } if self.spared => "spared",
            Verdict::Defer { .. } => "deferred",
        }
    }

    /// The reason and the findings, as they stand in a trace header.
    pub(crate) fn words(&self) -> String {
        let (reason, findings) = (self.judgement.reason.word(), self.weighed.words());
        if findings.is_empty() { reason.to_owned() } else { format!("{reason}; {findings}") }
    }
}

/// What is known about an address, a session or a message.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// What was asked for.
    pub about: String,
    /// How the address stands now, and where a connection would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Shown>,
    /// The last decisions, the newest first.
    pub decisions: Vec<Decision>,
}

impl Edge {
    /// Logs, counts and keeps a decision about an attempt.
    pub(crate) fn because(&self, session: SessionId, said: &Said, ip: IpAddr, because: &Because<'_>) {
        let Because { judgement, weighed, message_id, .. } = because;
        let event = if message_id.is_some() { "content" } else { "rcpt" };
        self.statistics.reason(judgement.reason);
        weighed.findings.iter().for_each(|finding| self.statistics.reason(finding.reason));
        let (result, identity) = (because.result(), weighed.identity());
        let waited = match judgement.verdict {
            Verdict::Accept { waited } => waited,
            Verdict::Defer { wait, .. } => Some(wait),
        };
        match judgement.verdict {
            Verdict::Accept { waited: None } => self.statistics.at_once(),
            Verdict::Accept { waited: Some(_) } => self.statistics.passed(),
            Verdict::Defer { .. } if because.spared => self.statistics.spared(),
            Verdict::Defer { .. } => self.statistics.deferred(),
        }
        tracing::info!(
            target: "edge", s = %session, event, ip = %ip, from = %said.reverse_path, to = %said.forward_path,
            result, reason = judgement.reason.word(), points = weighed.points, findings = weighed.words(),
            identity = %identity, wait = waited.map(|waited| waited.as_secs()), message_id
        );
        let seconds = waited.map(|waited| u32::try_from(waited.as_secs()).unwrap_or(u32::MAX));
        self.greylist.decided(Decision {
            at: self.clock.now(),
            session: session.to_string(),
            ip,
            identity: identity.to_string(),
            helo: said.helo.clone(),
            reverse_path: said.reverse_path.clone(),
            forward_path: said.forward_path.clone(),
            result: result.to_owned(),
            reason: judgement.reason.word().to_owned(),
            findings: serde_json::to_string(&weighed.findings).unwrap_or_default(),
            points: weighed.points,
            waited: seconds,
            queue_id: String::new(),
            message_id: message_id.unwrap_or_default().to_owned(),
        });
    }

    /// Keeps that a connection went straight to reception.
    pub(crate) fn went_straight(&self, session: SessionId, ip: IpAddr, reason: Reason) {
        self.statistics.reason(reason);
        if reason == Reason::Local {
            return;
        }
        self.greylist.decided(Decision {
            at: self.clock.now(),
            session: session.to_string(),
            ip,
            identity: String::new(),
            helo: String::new(),
            reverse_path: String::new(),
            forward_path: String::new(),
            result: "accepted".to_owned(),
            reason: reason.word().to_owned(),
            findings: "[]".to_owned(),
            points: 0,
            waited: None,
            queue_id: String::new(),
            message_id: String::new(),
        });
    }

    /// A message of a client was accepted and was no spam: a client that passed stays passed, and who it is earns trust.
    /// To be called by whoever gave the 250 after content; a connection alone teaches nothing.
    pub fn accepted(&self, client: &Client, session: SessionId, queue_id: &str, message_id: &str) {
        let passed_for = self.config.greylist.passed_for.duration();
        self.greylist.accepted(client.ip(), passed_for);
        let identity = client.contact.as_ref().and_then(|contact| contact.identity.parse::<Identity>().ok());
        if let Some(identity) = identity.filter(|_| !self.policy.is_classic()) {
            self.greylist.credit(&identity, Credit::Message, self.policy.trusted_for());
        }
        self.greylist.led_to(&session.to_string(), queue_id, message_id.trim_matches(['<', '>', ' ']));
    }

    /// Why: of an address how it stands and what was decided; of a session, a queue id or a Message-ID what was decided.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn why(&self, about: &str) -> Result<Why, Error> {
        let about = about.trim();
        let (now, wanted) = match about.parse::<IpAddr>() {
            Ok(ip) => (Some(self.grey_show(ip).await?), Wanted::Address(ip)),
            Err(_) => (None, Wanted::Id(about.to_owned())),
        };
        let decisions = self.greylist.decisions(wanted, SHOWN).await?;
        Ok(Why { about: about.to_owned(), now, decisions })
    }

    /// The tables that others fill, whose bypass counts less than what was seen here.
    pub(crate) fn feeds(&self) -> &[TableName] {
        &self.feeds
    }

    /// How often a reason was found since the start.
    #[must_use]
    pub fn found(&self, reason: Reason) -> u64 {
        self.statistics.reasons().get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}
