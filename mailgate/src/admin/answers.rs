//! The answers to calls: each asks one station and changes nothing by itself.

use std::str::FromStr as _;
use std::sync::Arc;

use mailgate_accounts::Secret;
use mailgate_edge::config::Behind;
use mailgate_edge::foreign::Foreign;
use mailgate_edge::{Asked, Edge, Given, Query};
use mailgate_lists::{Lists, TableName};
use mailgate_model::{Clock, Domain, QueueId, Timestamp};
use mailgate_msgauth::Algorithm;
use mailgate_net::SystemClock;
use mailgate_packet::PacketFilter;
use mailgate_store::greylist::Kind;
use mailgate_store::spool::{Selection, Trace};
use serde::Serialize;
use serde_json::json;

use super::call::{Answer, Call, Failure, GreyKind};
use super::firewall::Firewall;
use crate::cli::exit;
use crate::config::Place;
use crate::wire::{Mail, Ports, Records};

/// Lines of `queue list`; a longer queue is looked at with `--json` and `jq`, page by page, later.
const QUEUE_LINES: u32 = 10_000;
/// Lines of `grey identities` and of searches in `grey list`.
const GREY_LINES: usize = 10_000;

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
                Some(mail) => records(&mail.people, call).await,
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
            | Call::GreyImport { .. }
            | Call::GreyStatistics => self.grey(call).await,
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

    async fn grey(&self, call: Call) -> Result<Answer> {
        let edge = &self.edge;
        Ok(match call {
            Call::Why { about } => Answer::done(edge.why(&about).await.map_err(data)?),
            Call::GreyIdentities { part } => Answer::done(edge.identities(part.as_deref(), GREY_LINES)),
            Call::GreySimulate { supposed } => Answer::done(edge.simulate(&supposed).await),
            Call::GreyList { kind, address, from, to, limit, spamdb } => {
                // What is asked for by its text is sought among all.
                let whole = from.is_none() && to.is_none();
                let query =
                    Query { kind: kind.map(kind_of), network: address, limit: limit.filter(|_| whole) };
                if !whole {
                    let all = edge.grey_list(query).await.map_err(data)?;
                    let holds = |text: &Option<String>, part: &Option<String>| {
                        part.as_ref().is_none_or(|part| {
                            text.as_ref()
                                .is_some_and(|text| text.to_lowercase().contains(&part.to_lowercase()))
                        })
                    };
                    let found = all
                        .into_iter()
                        .filter(|one| holds(&one.reverse_path, &from) && holds(&one.forward_path, &to));
                    Answer::done(found.take(limit.unwrap_or(GREY_LINES)).collect::<Vec<_>>())
                } else if spamdb {
                    let dump = edge.grey_dump(query).await.map_err(data)?;
                    Answer::done(dump.lines().collect::<Vec<_>>())
                } else {
                    Answer::done(edge.grey_list(query).await.map_err(data)?)
                }
            }
            Call::GreyAdd { kind, key } => {
                edge.grey_add(given(kind, &key)?).await.map_err(data)?;
                Answer::done(format!("{key} is {}", said(kind)))
            }
            Call::GreyDelete { kind, key } => {
                let asked = Asked { kind: kind.map(kind_of), what: key.clone() };
                match edge.grey_delete(&asked).await.map_err(data)? {
                    0 => {
                        return Err(Failure {
                            message: format!("nothing of the greylist concerns {key}"),
                            exit: exit::DATA,
                        });
                    }
                    count => Answer::done(format!("{} deleted", counted(count, "entry", "entries"))),
                }
            }
            Call::GreyImport { rows } => {
                Answer::done(edge.grey_import(&rows.join("\n")).await.map_err(data)?)
            }
            _ => {
                let delays = edge.delays().await.map_err(data)?;
                let mut statistics = serde_json::to_value(edge.statistics()).unwrap_or_default();
                if let Some(fields) = statistics.as_object_mut() {
                    fields.insert("delays".to_owned(), json!(delays));
                }
                Answer::done(statistics)
            }
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
fn edge_only() -> Failure {
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

/// Answers a call about records while no daemon runs.
pub async fn answer_records(place: &Place, call: Call) -> Answer {
    let opened = place.load().and_then(|config| {
        if config.edge.behind == Behind::Foreign {
            return Err(edge_only());
        }
        let records = config.state_dir.join("records.db");
        // Looking must not make a state folder where somebody mistyped its name.
        if !records.exists() && !matches!(call, Call::DomainAdd { .. }) {
            return Err(Failure {
                message: format!(
                    "nothing is kept in {} yet; name another folder with --state-dir, or begin with \
                     `mailgate domain add example.org`",
                    config.state_dir.display()
                ),
                exit: exit::DATA,
            });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Records::open(&config, &clock)
    });
    match opened {
        Ok(people) => records(&people, call).await,
        Err(failure) => Answer::Failed(failure),
    }
}

async fn records(people: &Records, call: Call) -> Answer {
    let accounts = &people.accounts;
    let answered = match call {
        Call::DomainList => rows(accounts.domains().await),
        Call::DomainAdd { domain } => {
            told(accounts.add_domain(&domain).await, || format!("mail for {domain} is received here"))
        }
        Call::DomainDelete { domain } => told(accounts.delete_domain(&domain).await, || {
            format!("mail for {domain} is no longer received here")
        }),
        Call::AccountList => rows(accounts.list().await),
        Call::AccountAdd { address, password, hash, maildir } => match secret(password, hash) {
            Ok(secret) => told(accounts.add_account(&address, secret, maildir).await, || {
                format!("account {address} made")
            }),
            Err(failure) => Err(failure),
        },
        Call::AccountPassword { address, password, hash } => match secret(password, hash) {
            Ok(secret) => told(accounts.set_password(&address, secret).await, || {
                format!("{address} has a new password")
            }),
            Err(failure) => Err(failure),
        },
        Call::AccountDelete { address } => told(accounts.delete_account(&address).await, || {
            format!("account {address} deleted; its mail stays on disk")
        }),
        Call::AccountImport { passwd } => rows(accounts.import_passwd(&passwd).await),
        Call::AliasList => rows(accounts.aliases().await),
        Call::AliasAdd { source, targets } => told(accounts.add_alias(&source, &targets).await, || {
            let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
            format!("{source} leads to {}", targets.join(", "))
        }),
        Call::AliasDelete { source } => {
            told(accounts.delete_alias(&source).await, || format!("alias {source} deleted"))
        }
        Call::DkimList => rows(people.signer.keys(None).await),
        Call::DkimCreate { domain, selector, algorithm } => {
            dkim_create(people, &domain, &selector, &algorithm).await
        }
        Call::DnsRecords { domain } => dns_records(people, &domain).await,
        other => Err(Failure { message: format!("nobody answers {other:?}"), exit: exit::SOFTWARE }),
    };
    answered.unwrap_or_else(Answer::Failed)
}

async fn dkim_create(people: &Records, domain: &Domain, selector: &str, algorithm: &str) -> Result<Answer> {
    let algorithm = Algorithm::of(algorithm).ok_or_else(|| Failure {
        message: format!("found algorithm {algorithm:?}, expected rsa or ed25519"),
        exit: exit::DATA,
    })?;
    expect_local(people, domain).await?;
    let key = people.signer.create_key(domain, selector, algorithm).await.map_err(data)?;
    Ok(Answer::done([zone_line(&key.name, &key.record)]))
}

async fn expect_local(people: &Records, domain: &Domain) -> Result<()> {
    if people.accounts.is_local(domain).await.map_err(data)? {
        return Ok(());
    }
    Err(Failure {
        message: format!("{domain} is not local; add it with `mailgate domain add {domain}`"),
        exit: exit::DATA,
    })
}

/// What a domain should publish: MX, SPF, DKIM, DMARC.
async fn dns_records(people: &Records, domain: &Domain) -> Result<Answer> {
    expect_local(people, domain).await?;
    let hostname = people.hostname.as_ref().unwrap_or(domain);
    let mut lines =
        vec![format!("{domain}.\tIN MX 10 {hostname}."), zone_line(domain.as_str(), "v=spf1 mx -all")];
    for key in people.signer.keys(Some(domain)).await.map_err(data)? {
        lines.push(zone_line(&key.name, &key.record));
    }
    lines.push(zone_line(
        &format!("_dmarc.{domain}"),
        &format!("v=DMARC1; p=none; rua=mailto:postmaster@{domain}"),
    ));
    Ok(Answer::done(lines))
}

/// A TXT record; strings of one have at most 255 octets (RFC 1035 §3.3).
fn zone_line(owner: &str, text: &str) -> String {
    let parts: Vec<String> =
        text.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
    format!("{owner}.\tIN TXT ( {} )", parts.join(" "))
}

fn secret(password: Option<String>, hash: Option<String>) -> Result<Secret> {
    match (password, hash) {
        (Some(password), None) => Ok(Secret::Password(password)),
        (None, Some(hash)) => Ok(Secret::Hash(hash)),
        _ => Err(Failure { message: "expected either a password or a hash".to_owned(), exit: exit::USAGE }),
    }
}

fn rows<T: Serialize, E: std::fmt::Display>(found: std::result::Result<T, E>) -> Result<Answer> {
    found.map(Answer::done).map_err(data)
}

fn told<E: std::fmt::Display>(
    done: std::result::Result<(), E>,
    sentence: impl FnOnce() -> String,
) -> Result<Answer> {
    done.map(|()| Answer::done(sentence())).map_err(data)
}

pub(super) fn data(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::DATA }
}

fn temporary(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::TEMPORARY }
}

pub(super) fn name(text: &str) -> Result<TableName> {
    TableName::parse(text).map_err(|message| Failure { message, exit: exit::DATA })
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn kind_of(kind: GreyKind) -> Kind {
    match kind {
        GreyKind::Grey => Kind::Grey,
        GreyKind::Passed => Kind::Passed,
        GreyKind::Trapped => Kind::Trapped,
        GreyKind::TrapAddress => Kind::TrapAddress,
    }
}

fn said(kind: GreyKind) -> &'static str {
    match kind {
        GreyKind::Grey => "grey",
        GreyKind::Passed => "passed",
        GreyKind::Trapped => "trapped",
        GreyKind::TrapAddress => "a trap address",
    }
}

fn given(kind: GreyKind, key: &str) -> Result<Given> {
    let network = || {
        ipnet::IpNet::from_str(key)
            .or_else(|_| std::net::IpAddr::from_str(key).map(ipnet::IpNet::from))
            .map_err(|_| Failure {
                message: format!("found {key:?}, expected an address or a prefix"),
                exit: exit::DATA,
            })
    };
    match kind {
        GreyKind::Passed => Ok(Given::Passed { network: network()?, lasts: None }),
        GreyKind::Trapped => Ok(Given::Trapped { network: network()?, lasts: None }),
        GreyKind::TrapAddress => Ok(Given::TrapAddress { address: key.to_owned() }),
        GreyKind::Grey => Err(Failure {
            message:
                "a grey tuple comes into being by an attempt; add --kind passed, trapped or trap-address"
                    .to_owned(),
            exit: exit::USAGE,
        }),
    }
}
