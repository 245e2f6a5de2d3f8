//! The answers to calls: each asks one station and changes nothing by itself.

use std::sync::Arc;

use mailgate_edge::Edge;
use mailgate_edge::foreign::Foreign;
use mailgate_lists::{Lists, TableName};
use mailgate_model::{Clock, QueueId, Timestamp};
use mailgate_packet::PacketFilter;
use mailgate_store::spool::{Selection, Trace};
use serde_json::json;

use super::call::{Answer, Call, Failure};
use super::firewall::Firewall;
use crate::cli::exit;
use crate::wire::{Mail, Ports};

/// Lines of `queue list`; a longer queue is looked at with `--json` and `jq`, page by page, later.
const QUEUE_LINES: u32 = 10_000;
/// What the control socket can reach.
pub struct Answers {
    /// First contact.
    pub edge: Arc<Edge>,
    /// Tables and their sources.
    pub lists: Lists,
    /// Queue and people, where mail is received here.
    pub mail: Option<Mail>,
    /// Other MXs that share what the edge learns, where there are any.
    pub sync: Option<mailgate_edge::Sync>,
    /// The mail server behind the edge, where it is another one.
    pub foreign: Option<Foreign>,
    /// Where the tables act.
    pub filter: Arc<dyn PacketFilter>,
    /// Rules and protected networks.
    pub firewall: Firewall,
    /// Where the services listen.
    pub ports: Ports,
    /// When the daemon started.
    pub started: Timestamp,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Answers {
    /// Answers one call.
    pub async fn answer(&self, call: Call) -> Answer {
        if call.is_about_records() {
            return match &self.mail {
                Some(mail) => super::records::answer(&mail.people, call).await,
                None => Answer::Failed(edge_only()),
            };
        }
        if call.is_about_firewall() {
            return self.firewall.answer(call).await.unwrap_or_else(Answer::Failed);
        }
        let answered = match call {
            Call::Status => self.status().await,
            Call::TableList
            | Call::TableShow { .. }
            | Call::TableAdd { .. }
            | Call::TableDelete { .. }
            | Call::TableReplace { .. }
            | Call::TableExpire { .. }
            | Call::TableFlush { .. }
            | Call::TableTest { .. }
            | Call::TableZero { .. } => self.tables(call).await,
            Call::ListsShow
            | Call::ListsDiff { .. }
            | Call::ListsExplain { .. }
            | Call::ListsReload { .. }
            | Call::ListsThaw { .. } => self.lists(call).await,
            Call::BgpSummary | Call::BgpNeighbor { .. } | Call::BgpRib { .. } | Call::BgpClear { .. } => {
                super::bgp::answer(&self.lists, call).await
            }
            Call::Why { .. }
            | Call::GreyIdentities { .. }
            | Call::GreySimulate { .. }
            | Call::GreyList { .. }
            | Call::GreyAdd { .. }
            | Call::GreyDelete { .. }
            | Call::GreyCalled { .. }
            | Call::GreyImport { .. }
            | Call::GreyStatistics => super::grey::answer(&self.edge, call).await,
            Call::SyncStatus => self.sync(),
            other => self.queue(other).await,
        };
        answered.unwrap_or_else(Answer::Failed)
    }

    async fn status(&self) -> Result<Answer> {
        let queue = match &self.mail {
            Some(mail) => Some(mail.queue.totals().await.map_err(temporary)?),
            None => None,
        };
        Ok(Answer::done(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "process": std::process::id(),
            "started": self.started.to_string(),
            "ports": self.ports,
            "filter": self.filter.status(),
            "edge": self.edge.statistics(),
            "queue": queue,
            "sync": self.sync.as_ref().map(mailgate_edge::Sync::status),
            "foreign": self.foreign.as_ref().map(Foreign::status),
        })))
    }

    async fn lists(&self, call: Call) -> Result<Answer> {
        let lists = &self.lists;
        Ok(match call {
            Call::ListsShow => Answer::done(lists.sources().await.map_err(data)?),
            Call::ListsDiff { source } => Answer::done(lists.diff(&source).await.map_err(data)?),
            Call::ListsReload { source } => {
                Answer::done(lists.reload(source.as_deref()).await.map_err(data)?)
            }
            Call::ListsExplain { address } => {
                let explained = lists.explain(address).await.map_err(data)?;
                let verdict = self.filter.verdict(address);
                let shown = self.edge.grey_show(address).await.map_err(data)?;
                Answer::done(json!({
                    "address": explained.address,
                    "action": explained.action,
                    "why": explained.why,
                    "rule": verdict.rule,
                    "rule_does": verdict.done.map(mailgate_common::Action::name),
                    "standing": shown.standing,
                    "on_port_25": shown.route,
                    "named": explained.named,
                }))
            }
            Call::ListsThaw { source } => {
                let entries = lists.thaw(&source).await.map_err(data)?;
                Answer::done(format!("{source} is believed: {} taken", counted(entries, "entry", "entries")))
            }
            _ => Answer::done(lists.sources().await.map_err(data)?),
        })
    }

    fn sync(&self) -> Result<Answer> {
        match &self.sync {
            Some(sync) => Ok(Answer::done(sync.status())),
            None => Err(Failure {
                message: "nothing is shared with other hosts; [edge.sync] names none (docs/sync.md)"
                    .to_owned(),
                exit: exit::DATA,
            }),
        }
    }

    fn mail(&self) -> Result<&Mail> {
        self.mail.as_ref().ok_or_else(edge_only)
    }

    async fn queue(&self, call: Call) -> Result<Answer> {
        let queue = &self.mail()?.queue;
        let recipients = |count: usize, what: &str| {
            Answer::done(format!("{} {what}", counted(count, "recipient", "recipients")))
        };
        Ok(match call {
            Call::QueueList => Answer::done(queue.list(QUEUE_LINES, None).await.map_err(temporary)?),
            Call::QueueShow { id } => match queue.show(id).await.map_err(temporary)? {
                Trace::Unknown => return Err(unknown_message(id)),
                known => Answer::done(known),
            },
            Call::QueueFlush { id } => {
                let which = self.selected(id).await?;
                recipients(queue.flush(which).await.map_err(temporary)?, "tried now")
            }
            Call::QueueHold { id } => {
                recipients(queue.hold(self.selected(Some(id)).await?).await.map_err(temporary)?, "on hold")
            }
            Call::QueueRelease { id } => recipients(
                queue.release(self.selected(Some(id)).await?).await.map_err(temporary)?,
                "released",
            ),
            Call::QueueDelete { id } => match queue.delete(id).await.map_err(data)? {
                true => Answer::done(format!("{id} deleted, without a DSN")),
                false => return Err(unknown_message(id)),
            },
            other => {
                return Err(Failure { message: format!("nobody answers {other:?}"), exit: exit::SOFTWARE });
            }
        })
    }

    /// What an order is for; an id that is not in the queue is a mistake, not nothing to do.
    async fn selected(&self, id: Option<QueueId>) -> Result<Selection> {
        let Some(id) = id else { return Ok(Selection::All) };
        match self.mail()?.queue.show(id).await.map_err(temporary)? {
            Trace::Queued(_) => Ok(Selection::Message(id)),
            Trace::Finished(_) | Trace::Unknown => Err(unknown_message(id)),
        }
    }
}

/// The daemon has neither queue nor accounts.
pub(super) fn edge_only() -> Failure {
    Failure {
        message: "this is the edge alone ([edge] behind = \"foreign\"); messages, domains and accounts are with the mail \
                  server behind it"
            .to_owned(),
        exit: exit::DATA,
    }
}

fn unknown_message(id: QueueId) -> Failure {
    Failure { message: format!("no message {id} in the queue"), exit: exit::DATA }
}

pub(super) fn data(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::DATA }
}

pub(super) fn temporary(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::TEMPORARY }
}

pub(super) fn name(text: &str) -> Result<TableName> {
    TableName::parse(text).map_err(|message| Failure { message, exit: exit::DATA })
}

pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
