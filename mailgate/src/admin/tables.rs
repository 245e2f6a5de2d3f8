//! Calls about tables.

use std::net::IpAddr;
use std::sync::Arc;

use mailgate_lists::rows::Done;
use mailgate_lists::{Addition, Age, By, Entry, How, TableName, parse_list};
use mailgate_model::Span;
use serde_json::json;

use super::answers::{Answers, Result, data, name};
use super::call::{Answer, Call, Failure};
use crate::cli::exit;
use crate::wire;

/// Most entries in one answer; who wants more asks again from the last one.
pub const PAGE: usize = 10_000;

impl Answers {
    /// Answers a call about tables.
    pub(super) async fn tables(&self, call: Call) -> Result<Answer> {
        let lists = &self.lists;
        Ok(match call {
            Call::TableList => {
                self.count().await?;
                Answer::done(lists.tables().await.map_err(data)?)
            }
            Call::TableShow { table, after, limit } => {
                if after.is_none() {
                    self.count().await?;
                }
                Answer::done(lists.show(&name(&table)?, after, limit.min(PAGE)).await.map_err(data)?)
            }
            Call::TableAdd { table, entries, expires, how } => {
                let expires = expires.map(|span| self.clock.now().plus(span.duration()));
                let addition = |entry| Addition::from(Entry { expires, ..entry });
                let entries = read(&entries)?.into_iter().map(addition).collect();
                told(lists.add(&name(&table)?, By::Hand, entries, how).await)?
            }
            Call::TableDelete { table, entries, how } => {
                told(lists.delete(&name(&table)?, read(&entries)?, how).await)?
            }
            Call::TableReplace { table, entries, how } => {
                told(lists.replace(&name(&table)?, read(&entries)?, how).await)?
            }
            Call::TableFlush { table, how } => told(lists.flush(&name(&table)?, how).await)?,
            Call::TableExpire { table, older, idle, how } => {
                self.count().await?;
                told(lists.expire(&name(&table)?, age(older, idle)?, how).await)?
            }
            Call::TableZero { table, entries, how } => {
                self.count().await?;
                let entries = entries.map(|text| read(&text)).transpose()?;
                told(lists.zero(&name(&table)?, entries, how).await)?
            }
            Call::TableTest { addresses, table } => {
                let table = table.as_deref().map(name).transpose()?;
                if let Some(table) = &table {
                    // An unknown one is an error, not a table that holds nothing.
                    lists.show(table, None, 0).await.map_err(data)?;
                }
                let mut rows = Vec::new();
                for address in addresses {
                    rows.push(self.test(address, table.as_ref()).await?);
                }
                Answer::done(rows)
            }
            other => {
                return Err(Failure { message: format!("nobody answers {other:?}"), exit: exit::SOFTWARE });
            }
        })
    }

    /// Brings the counts of the tables up to date with those of the kernel.
    async fn count(&self) -> Result<()> {
        let filter = Arc::clone(&self.filter);
        let read = tokio::task::spawn_blocking(move || wire::hits(&*filter));
        let hits = read.await.map_err(|_| data("the daemon is stopping"))?;
        self.lists.count(hits).await.map_err(data)
    }

    /// What the tables, or one of them, say of an address.
    async fn test(&self, address: IpAddr, only: Option<&TableName>) -> Result<serde_json::Value> {
        let mut tested = self.lists.test(address).await.map_err(data)?;
        tested.matches.retain(|found| only.is_none_or(|table| found.table == *table));
        let matched = tested.matches.iter().any(|found| !found.entry.negated);
        let shown = self.edge.grey_show(address).await.map_err(data)?;
        let verdict = self.filter.verdict(address);
        Ok(json!({
            "address": tested.address,
            "matched": matched,
            "action": tested.action,
            "tables": tested.matches,
            "rule": verdict.rule,
            "rule_does": verdict.done.map(mailgate_common::Action::name),
            "standing": shown.standing,
            "on_port_25": shown.route,
        }))
    }
}

fn told(done: std::result::Result<Done, mailgate_lists::Error>) -> Result<Answer> {
    done.map(Answer::done).map_err(data)
}

fn age(older: Option<Span>, idle: Option<Span>) -> Result<Age> {
    match (older, idle) {
        (Some(span), None) => Ok(Age::Older(span.duration())),
        (None, Some(span)) => Ok(Age::Idle(span.duration())),
        _ => Err(Failure { message: "expected either --older or --idle".to_owned(), exit: exit::USAGE }),
    }
}

/// Entries of a command: either all can be read, or nothing is done.
fn read(text: &str) -> Result<Vec<Entry>> {
    let list = parse_list("line", text.as_bytes());
    if list.refused == 0 {
        return Ok(list.entries);
    }
    let mut message = list.problems.join("\n");
    if list.refused > list.problems.len() {
        message.push_str(&format!("\nand {} more such lines", list.refused - list.problems.len()));
    }
    message.push_str("\nnothing was changed");
    Err(Failure { message, exit: exit::DATA })
}

/// How a command that changes tables is carried out.
#[must_use]
pub fn how(dry_run: bool, verbose: bool) -> How {
    How { dry_run, verbose, wait: true }
}
