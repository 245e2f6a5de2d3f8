//! A batch of reports: list the sources, then end their connections, then tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use ipnet::IpNet;
use mailgate_common::limit::{Excess, Overrun, SourceKey, UNIT};
use mailgate_lists::TableName;
use tokio::task::JoinSet;

use super::offenders::{self, Sentence};
use super::source::{address, network};
use super::{Accounting, Ends, Limited, Overload, Policy};

/// What is done about a batch.
#[derive(Default)]
struct Plan {
    /// Sources that come into a table, with why.
    listed: Vec<Listed>,
    /// Networks whose connections all end.
    flushed: HashSet<IpNet>,
    /// Connections that end.
    ended: Vec<Ends>,
}

struct Listed {
    network: IpNet,
    table: Option<(TableName, Sentence)>,
    limit: Limited,
    overrun: Overrun,
}

impl Listed {
    /// Why it came over the limit, for logs.
    fn why(&self) -> &'static str {
        if self.overrun.excess == Excess::Rate as u32 { "rate" } else { "connections" }
    }

    fn rate(&self) -> f64 {
        f64::from(self.overrun.rate) / f64::from(UNIT)
    }

    /// What the table says of it.
    fn note(&self, sentence: &Sentence) -> String {
        let (rule, level) = (&self.limit.rule, sentence.level);
        match self.why() {
            "rate" => {
                let seconds = f64::from(self.limit.spec.window_ms) / 1000.0;
                format!("{:.0} connections in {seconds} s ({rule}), offence {level}", self.rate())
            }
            _ => format!("{} connections at once ({rule}), offence {level}", self.overrun.connections),
        }
    }
}

impl Overload {
    /// Does what a batch of reports asks for.
    pub(super) async fn sweep(&self, overruns: Vec<Overrun>) {
        let plan = self.plan(&overruns);
        self.list(&plan.listed).await;
        let Plan { listed, flushed, ended } = plan;
        let (accounting, policy) = (Arc::clone(&self.accounting), Arc::clone(&self.policy));
        let end = move || end(&*accounting, &*policy, &flushed, &ended);
        let ended = match tokio::task::spawn_blocking(end).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                tracing::error!(target: "edge", event = "overload", %error, "connections over a limit go on");
                BTreeMap::new()
            }
            Err(_) => return,
        };
        for listed in &listed {
            tell(listed, ended.get(&listed.network).copied().unwrap_or(0));
        }
        if listed.iter().any(|listed| listed.table.is_some()) {
            self.remember().await;
        }
    }

    /// Puts them into their tables, all at the same time: each waits for the disk.
    async fn list(&self, listed: &[Listed]) {
        let mut running = JoinSet::new();
        for listed in listed {
            let Some((table, sentence)) = listed.table.clone() else { continue };
            let (policy, network, note) = (Arc::clone(&self.policy), listed.network, listed.note(&sentence));
            running.spawn(async move {
                if let Err(error) = policy.list(&table, network, sentence.until, &note).await {
                    tracing::error!(target: "edge", event = "overload", source = %network, %table, %error,
                        "not listed");
                }
            });
        }
        while running.join_next().await.is_some() {}
    }

    fn plan(&self, overruns: &[Overrun]) -> Plan {
        let now = self.clock.now();
        let (mut plan, mut limits) = (Plan::default(), HashMap::new());
        let mut offenders = self.offenders.lock().unwrap_or_else(PoisonError::into_inner);
        for overrun in overruns {
            let (source, local) =
                (address(overrun.high, overrun.low), address(overrun.local_high, overrun.local_low));
            let limit = limits.entry(overrun.limit).or_insert_with(|| self.policy.limit(overrun.limit));
            let Some(limit) = limit.clone() else { continue };
            if self.policy.is_protected(source) {
                continue;
            }
            let bits = limit.spec.bits(overrun.high, overrun.low);
            let network = network(&SourceKey::new(overrun.high, overrun.low, overrun.limit, bits));
            plan.ended.push(Ends {
                source,
                source_port: overrun.source_port,
                local,
                local_port: overrun.local_port,
                cookie: overrun.cookie,
            });
            if limit.table.is_some() && limit.spec.flush {
                plan.flushed.insert(network);
            }
            let table = (limit.table.clone())
                .and_then(|table| offenders.offend(&table, network, now).map(|sentence| (table, sentence)));
            // Within a stay, and without a table, once in a while is enough.
            if table.is_some() || overrun.first == 1 {
                plan.listed.push(Listed { network, table, limit, overrun: *overrun });
            }
        }
        plan
    }

    /// Writes down who is remembered.
    async fn remember(&self) {
        let text = self.offenders.lock().unwrap_or_else(PoisonError::into_inner).write();
        let path = self.file.clone();
        let saved = tokio::task::spawn_blocking(move || offenders::save(&path, &text)).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(target: "edge", event = "save", path = %self.file.display(), %error,
                "a restart will not know who was over a limit");
        }
    }
}

/// Ends what the plan says, with one walk over the sockets; how many connections of each network.
fn end(
    accounting: &dyn Accounting,
    policy: &dyn Policy,
    flushed: &HashSet<IpNet>,
    ended: &[Ends],
) -> io::Result<BTreeMap<IpNet, usize>> {
    let lengths: HashSet<u8> = flushed.iter().map(IpNet::prefix_len).collect();
    let flushed_by = |source: IpAddr| {
        let mut networks = lengths.iter().filter_map(|bits| IpNet::new(source, *bits).ok());
        networks.find_map(|network| flushed.get(&network.trunc()).copied())
    };
    let mut done: BTreeMap<IpNet, usize> = BTreeMap::new();
    if !flushed.is_empty() {
        accounting.end(&mut |ends| match flushed_by(ends.source) {
            // Of an offending network, some addresses may be protected.
            Some(network) if !policy.is_protected(ends.source) => {
                *done.entry(network).or_default() += 1;
                true
            }
            _ => false,
        })?;
    }
    for ends in ended {
        if flushed_by(ends.source).is_none() {
            accounting.end_one(ends)?;
        }
    }
    Ok(done)
}

/// One line for one event.
fn tell(listed: &Listed, ended: usize) {
    let Listed { network, table, limit, overrun } = listed;
    let (connections, rate, why) = (overrun.connections, listed.rate(), listed.why());
    match table {
        Some((table, sentence)) => tracing::warn!(target: "edge", event = "overload",
            source = %network, rule = %limit.rule, why, connections, rate, %table, ended,
            seconds = sentence.span.as_secs(), offence = sentence.level),
        None => tracing::warn!(target: "edge", event = "limit",
            source = %network, rule = %limit.rule, why, connections, rate, ended),
    }
}
