//! What would happen: the judgement of an attempt that nobody makes, with today's DNS and memory. Changes nothing.

use std::net::IpAddr;

use mailgate_lists::TableName;
use mailgate_model::Timestamp;
use mailgate_store::greylist::Identity;
use serde::{Deserialize, Serialize};

use crate::accept::Edge;
use crate::classify::Route;
use crate::greylist::policy::{Verdict, View};
use crate::identity;
use crate::reason::Reason;
use crate::suspicion::{Facts, Finding, Gathering, Ourselves, Weighed, weigh};

/// An attempt that is supposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supposed {
    /// The client's address.
    pub ip: IpAddr,
    /// What it says at HELO; empty for not yet.
    pub helo: String,
    /// Reverse-path, with or without angle brackets; empty for the null path.
    pub from: String,
    /// Forward-path, with or without angle brackets.
    pub to: String,
}

/// What would happen.
#[derive(Debug, Clone, Serialize)]
pub struct Simulated {
    /// `reception`, `refuse`, `tarpit`, or of the unknown `accepted`, `deferred`, `trapped`.
    pub result: &'static str,
    /// The reason that decides.
    pub reason: Reason,
    /// The tables that list the address.
    pub tables: Vec<TableName>,
    /// Who it is taken for.
    pub identity: Identity,
    /// Points of suspicion, of which `grey_at` are needed to be greylisted.
    pub points: i32,
    /// Points from which on it is greylisted.
    pub grey_at: i32,
    /// What was found.
    pub findings: Vec<Finding>,
    /// When a retry would pass; `null` where it need not wait or cannot pass.
    pub passes: Option<Timestamp>,
    /// Seconds until then.
    pub wait: Option<u64>,
    /// Whether greylisting only reports (`dry_run`), so that it would go on all the same.
    pub dry_run: bool,
}

impl Edge {
    /// What would happen to an attempt now. Asks the DNS, waits no longer than a session would, changes nothing.
    pub async fn simulate(&self, supposed: &Supposed) -> Simulated {
        let ip = supposed.ip.to_canonical();
        let bare = |path: &str| path.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        let (from, to) = (bare(&supposed.from), bare(&supposed.to));
        let (route, tables) = self.route(ip);
        let held = self.tables(ip);
        let gathered = match &self.around {
            Some(around) if !self.policy.is_classic() => {
                let mut gathering = Gathering::begin(around, ip);
                gathering.said_helo(&supposed.helo);
                gathering.said_mail(&supposed.helo, &from);
                Some(gathering.settle().await)
            }
            _ => None,
        };
        let others = Facts {
            helo: &supposed.helo,
            reverse_path: &from,
            forward_path: &to,
            score_tables: &held.score,
            grey_table: held.grey,
            ..Facts::of(ip)
        };
        let facts = gathered.as_ref().map_or(others, |gathered| gathered.facts(others));
        let ourselves = Ourselves { hostname: self.hostname.clone(), address: None };
        let weighed = if self.policy.is_classic() {
            Weighed::unknown(ip)
        } else {
            weigh(&self.config.suspicion, &ourselves, &facts)
        };
        let (result, reason, wait) = self.supposed(route, &facts, &weighed);
        let now = self.clock.now();
        Simulated {
            result,
            reason,
            tables,
            identity: weighed.identity().clone(),
            points: weighed.points,
            grey_at: self.config.suspicion.grey_at,
            findings: weighed.findings,
            passes: wait.map(|wait| now.plus(wait)),
            wait: wait.map(|wait| wait.as_secs()),
            dry_run: self.config.greylist.dry_run,
        }
    }

    fn supposed(
        &self,
        route: Route,
        facts: &Facts<'_>,
        weighed: &Weighed,
    ) -> (&'static str, Reason, Option<std::time::Duration>) {
        match route {
            Route::Reception(reason) => return ("reception", reason, None),
            Route::Refuse(refusal) => return ("refuse", refusal.reason(), None),
            Route::Tarpit(reason) => return ("tarpit", reason, None),
            Route::Greylist => {}
        }
        if self.greylist.is_trap(facts.forward_path) {
            return ("trapped", Reason::Trapped, None);
        }
        let tuple = self.key(&self.policy, weighed, facts).and_then(|key| self.greylist.state(&key));
        let view = View {
            tuple,
            is_known_host: self.greylist.is_trusted(&identity::host(facts.ip)),
            ..self.view(weighed, facts)
        };
        let judgement = self.policy.judge(weighed, facts, &view, self.clock.now());
        match judgement.verdict {
            Verdict::Accept { .. } => ("accepted", judgement.reason, None),
            Verdict::Defer { wait, .. } => ("deferred", judgement.reason, Some(wait)),
        }
    }
}
