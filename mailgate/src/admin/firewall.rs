//! The answers to calls about the firewall.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mailgate_common::{Kind, Reason};
use mailgate_edge::Edge;
use mailgate_lists::{Addition, By, How, Lists, TableName};
use mailgate_model::{Clock, Span};
use mailgate_packet::firewall::{
    self, Applied, Asked, Consent, Control, Effective, Origin, Otherwise, Protocol,
};
use mailgate_packet::overload::SourceRow;
use mailgate_packet::{RuleRow, Where};
use serde_json::{Value, json};

use super::call::{Answer, Call, Failure};
use crate::cli::exit;
use crate::config;

/// The table of the administrator's exceptions.
const BYPASS: &str = "bypass";

/// Lines of `firewall limits`: those with most connections.
const LIMITED_LINES: usize = 1000;

/// What calls about the firewall can reach.
#[derive(Clone)]
pub struct Firewall {
    /// Rules and protected networks.
    pub control: Arc<Control>,
    /// Tables.
    pub lists: Lists,
    /// First contact.
    pub edge: Arc<Edge>,
    /// The configuration file; none runs on the embedded default.
    pub file: Option<PathBuf>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

type Result<T> = std::result::Result<T, Failure>;

impl Firewall {
    /// Answers one call.
    ///
    /// # Errors
    /// Why it did not happen.
    pub async fn answer(&self, call: Call) -> Result<Answer> {
        let firewall = self.clone();
        match call {
            Call::FirewallTest { address, port, protocol, icmp_type, interface } => {
                let protocol = firewall::protocol(&protocol).map_err(data)?;
                self.test(&Asked { address: address.to_canonical(), port, protocol, icmp_type, interface })
                    .await
            }
            Call::FirewallUnblock { address, expires } => self.unblock(address, expires).await,
            // These wait for the kernel.
            other => tokio::task::spawn_blocking(move || firewall.at_once(other))
                .await
                .unwrap_or_else(|error| Err(failure(exit::SOFTWARE, error.to_string()))),
        }
    }

    fn at_once(&self, call: Call) -> Result<Answer> {
        Ok(match call {
            Call::FirewallShow => Answer::done(self.show()),
            Call::FirewallStatus => Answer::done(self.status()),
            Call::FirewallLimits => self.limits()?,
            Call::FirewallApply { asks, within, yes, dry_run } => self.apply(asks, within, yes, dry_run)?,
            Call::FirewallConfirm => Answer::done(match self.control.confirm().map_err(system)? {
                true => "the rules stay",
                false => {
                    "no rules wait for a confirmation; those in force are shown by `mailgate firewall show`"
                }
            }),
            Call::FirewallRollback => Answer::done(match self.control.roll_back().map_err(system)? {
                true => "the rules of before are in force again",
                false => "no rules wait for a confirmation, so there is nothing to take back",
            }),
            Call::FirewallDetach { dry_run } => self.detach(dry_run)?,
            other => return Err(failure(exit::SOFTWARE, format!("nobody answers {other:?}"))),
        })
    }

    fn file(&self) -> String {
        self.file.as_ref().map_or("built-in default".to_owned(), |file| file.display().to_string())
    }

    /// The lines of configured rules.
    fn lines(&self) -> Vec<usize> {
        self.control.config().rule.iter().map(|rule| rule.line).collect()
    }

    fn row(&self, one: &Effective, number: usize, packets: u64, bytes: u64) -> Value {
        json!({
            "number": number,
            "name": one.rule.name,
            "action": one.rule.action.name(),
            "kind": match one.origin {
                Origin::Protected => "protected",
                Origin::Configured(_) => "configured",
                Origin::Feeds(_) | Origin::Tables(_) => "table",
                Origin::Behaviour(_) => "greylist",
                Origin::Reception | Origin::BuiltIn => "built-in",
            },
            "origin": one.origin.words(&self.file(), &self.lines()),
            "words": one.words(),
            "packets": packets,
            "bytes": bytes,
        })
    }

    fn show(&self) -> Value {
        let filter = self.control.filter();
        let row = |row: &RuleRow| self.row(&row.effective, row.number as usize, row.packets, row.bytes);
        let rules: Vec<Value> = filter.rules().iter().map(row).collect();
        let status = filter.status();
        let counted = |kind: Kind| -> Vec<Value> {
            let of_kind = Reason::ALL.iter().filter(|reason| reason.kind() == kind);
            let found =
                of_kind.filter_map(|reason| status.counters.iter().find(|one| one.name == reason.name()));
            found.map(|one| json!({"reason": one.name, "packets": one.count, "bytes": one.bytes})).collect()
        };
        let drops = self.control.config().default == Otherwise::Drop;
        let default = if drops { Reason::DefaultDropped } else { Reason::Unruled };
        let default = status.counters.iter().find(|one| one.name == default.name());
        json!({
            "acts": status.acts,
            "default": if drops { "drop" } else { "pass" },
            "default_packets": default.map_or(0, |one| one.count),
            "default_bytes": default.map_or(0, |one| one.bytes),
            "rules": rules,
            "dropped": counted(Kind::Dropped),
            "passed": counted(Kind::Passed),
            "steered": counted(Kind::Steered),
            "noted": counted(Kind::Noted),
            "protected": self.control.protected(),
            "unconfirmed_until": filter.unconfirmed().map(|until| until.to_string()),
            "notes": self.notes(),
        })
    }

    /// What people should know besides.
    fn notes(&self) -> Vec<String> {
        let filter = self.control.filter();
        let status = filter.status();
        let mut notes = Vec::new();
        if status.acts == Where::Memory {
            let reason = status.reason.unwrap_or_default();
            notes.push(format!(
                "the filter is not in the kernel ({reason}): rules act at accept, on reception ports only"
            ));
        }
        if let Some(until) = filter.unconfirmed() {
            notes.push(format!(
                "these rules are taken back at {until} unless `mailgate firewall confirm` comes before"
            ));
        }
        if self.control.waits() {
            notes.push(
                "host mode of the file was never confirmed: `mailgate firewall apply --confirm-within`"
                    .to_owned(),
            );
        }
        notes
    }

    async fn test(&self, asked: &Asked) -> Result<Answer> {
        let filter = self.control.filter();
        let verdict = filter.explain(asked.address, &asked.facts());
        let tested = self.lists.test(asked.address).await.map_err(data)?;
        let rules = filter.rules();
        let decides = verdict.number.and_then(|number| rules.iter().find(|row| row.number == number));
        let protected = self.control.protected();
        let protected = protected.iter().filter(|one| one.network.contains(&asked.address));
        let limits: Vec<String> = rules
            .iter()
            // Behind the rule that decides nothing is counted.
            .filter(|row| verdict.number.is_none_or(|number| row.number < number))
            .filter(|row| asked.counts(&row.effective, &verdict.tables))
            .map(|row| format!("{} ({})", row.effective.words(), row.effective.rule.name))
            .collect();
        let drops = self.control.config().default == Otherwise::Drop;
        let result = match decides {
            Some(row) => firewall::done(row.effective.rule.action).to_owned(),
            None if drops => "dropped, unless it belongs to a connection of this host".to_owned(),
            None => "passed".to_owned(),
        };
        let mut shown = json!({
            "address": asked.address,
            "to": asked.to_string(),
            "result": result,
            "rule": decides.map_or("default: no rule concerns it".to_owned(), |row| row.effective.words()),
            "name": decides.map(|row| row.effective.rule.name.clone()),
            "number": decides.map(|row| row.number),
            "origin": decides.map(|row| row.effective.origin.words(&self.file(), &self.lines())),
            "tables": tested.matches,
            "protected": protected.map(|one| json!(one)).collect::<Vec<_>>(),
            "limits": limits,
        });
        let is_mail =
            self.control.around().reception.contains(&asked.port) && asked.protocol == Protocol::Tcp;
        if is_mail && let Some(fields) = shown.as_object_mut() {
            let edge = self.edge.grey_show(asked.address).await.map_err(data)?;
            fields.insert("standing".to_owned(), json!(edge.standing));
            fields.insert("on_port_25".to_owned(), json!(edge.route));
        }
        Ok(Answer::done(shown))
    }

    /// Who comes near a limit.
    fn limits(&self) -> Result<Answer> {
        let Some(rows) = self.control.limited(LIMITED_LINES).map_err(system)? else {
            return Err(failure(
                exit::UNAVAILABLE,
                "nothing counts connections here: that needs the filter in the kernel (`mailgate firewall status`)",
            ));
        };
        let of = |limit: Option<u32>| limit.map_or(String::new(), |limit| format!(" of {limit}"));
        let row = |row: &SourceRow| {
            json!({
                "source": row.network,
                "rule": row.rule,
                "connections": row.connections,
                "connections_allowed": row.connections_allowed,
                "rate": row.rate,
                "rate_allowed": row.rate_allowed,
                "window": row.window,
                "total": row.total,
                "at_once": format!("{}{}", row.connections, of(row.connections_allowed)),
                "in_time": match row.rate_allowed {
                    Some(_) => format!("{:.1}{} in {:.0}s", row.rate, of(row.rate_allowed), row.window),
                    None => String::new(),
                },
            })
        };
        Ok(Answer::done(rows.iter().map(row).collect::<Vec<_>>()))
    }

    fn status(&self) -> Value {
        let status = self.control.filter().status();
        let config = self.control.config();
        json!({
            "filter": status,
            "default": config.default,
            "urpf": config.urpf,
            "scrub": config.scrub,
            "martians": config.martians,
            "kernel_tarpit": config.kernel_tarpit,
            "on_daemon_down": config.on_daemon_down,
            "rules": self.control.filter().rules().len(),
            "protected": self.control.protected().len(),
            "syn_cookies": firewall::SynCookies::read(),
            "notes": self.notes(),
        })
    }

    fn apply(&self, asks: bool, within: Option<Span>, yes: bool, dry_run: bool) -> Result<Answer> {
        let config = self.read_again()?;
        let unchanged = config == self.control.config();
        if dry_run {
            let denies = firewall::denies(&self.control.config(), &config);
            return Ok(Answer::done(match (unchanged, denies.as_slice()) {
                (true, _) => "nothing would change".to_owned(),
                (false, []) => "the rules would change, and keep out nothing that comes in now".to_owned(),
                (false, denies) => format!("the rules would change:\n  {}", denies.join("\n  ")),
            }));
        }
        let consent = match (asks, yes) {
            (true, _) => Consent::Within(within.unwrap_or(config.confirm_within).duration()),
            (false, true) => Consent::Yes,
            (false, false) => Consent::Harmless,
        };
        match self.control.apply(config, consent).map_err(system)? {
            Applied::InForce if unchanged => Ok(Answer::done("the rules are in force; nothing has changed")),
            Applied::InForce => Ok(Answer::done("the rules are in force")),
            Applied::Until(until) => Ok(Answer::done(format!(
                "the rules are in force until {until}; if this session still answers, keep them with \
                 `mailgate firewall confirm`"
            ))),
            Applied::Asks(denies) => Err(failure(
                exit::DATA,
                format!(
                    "nothing was changed, because this would keep out what comes in now:\n  {}\nsay \
                     --confirm-within 60s to have it taken back unless you confirm, or --yes",
                    denies.join("\n  ")
                ),
            )),
        }
    }

    /// The section as it stands in the file now.
    fn read_again(&self) -> Result<firewall::Config> {
        let Some(file) = &self.file else {
            return Err(failure(
                exit::CONFIG,
                "the daemon runs on the built-in default, which has no rules; give it a file with --config",
            ));
        };
        let place = config::Place { file: Some(file.clone()), ..config::Place::default() };
        place.load().map(|config| config.firewall)
    }

    fn detach(&self, dry_run: bool) -> Result<Answer> {
        let filter = self.control.filter();
        let status = filter.status();
        if status.acts == Where::Memory {
            return Ok(Answer::done("the filter is not in the kernel; nothing to take out"));
        }
        let interfaces: Vec<&str> = status.interfaces.iter().map(|one| one.name.as_str()).collect();
        let what = format!(
            "the filter of {} and its pins in {}",
            interfaces.join(", "),
            status.pins.unwrap_or_default()
        );
        if dry_run {
            return Ok(Answer::done(format!("{what} would go")));
        }
        filter.detach().map_err(system)?;
        Ok(Answer::done(format!("{what} are gone; the daemon's next start brings them back")))
    }

    async fn unblock(&self, address: IpAddr, expires: Span) -> Result<Answer> {
        let address = address.to_canonical();
        let table = TableName::parse(BYPASS).map_err(data)?;
        let until = self.clock.now().plus(expires.duration());
        let entry = Addition::listed(address.into(), Some(until), "mailgate firewall unblock");
        let how = How { wait: true, ..How::default() };
        self.lists.add(&table, By::Hand, vec![entry], how).await.map_err(data)?;
        // Bypass beats what tables mean by themselves, not what the administrator wrote about a table.
        let rules = self.control.filter().rules();
        let tables = self.control.filter().verdict(address).tables;
        let still: Vec<String> = rules
            .iter()
            .filter(|row| firewall::stops(&row.effective, &tables))
            .map(|row| {
                format!(
                    "\nbut rule {:?} of the file stands: {}",
                    row.effective.rule.name,
                    row.effective.words()
                )
            })
            .collect();
        let but = still.concat();
        Ok(Answer::done(format!("{address} is in table {BYPASS} until {until}{but}")))
    }
}

fn failure(exit: u8, message: impl Into<String>) -> Failure {
    Failure { message: message.into(), exit }
}

fn data(error: impl std::fmt::Display) -> Failure {
    failure(exit::DATA, error.to_string())
}

fn system(error: impl std::fmt::Display) -> Failure {
    failure(exit::SYSTEM, error.to_string())
}
