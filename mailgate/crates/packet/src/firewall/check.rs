//! What is wrong with `[firewall]`, all at once, and what is only odd. Each rule by itself is in `rule.rs`.

mod rule;

use std::collections::BTreeSet;

use ipnet::IpNet;
use mailgate_lists::TableName;
use mailgate_model::Span;

use super::config::{Action, Config, Otherwise, RuleConfig};
use super::covers::covers;
use super::derive::{Origin, RULES, effective};
use super::meant::Surroundings;
use super::written;

/// Ports answered with SYN cookies, at most: the room for them in the ruleset.
const COOKIE_PORTS: u32 = 4;

/// Whether the daemon starts with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does not.
    Error,
    /// It does, but somebody probably meant something else.
    Warning,
}

/// One thing that is wrong or odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Number of the rule, from 0; `None` for a key of `[firewall]`.
    pub rule: Option<usize>,
    /// The key.
    pub key: &'static str,
    /// What was found and what was expected.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

/// Collects findings of one rule, or of the section.
struct Findings {
    rule: Option<usize>,
    /// How messages begin.
    who: String,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, severity: Severity, key: &'static str, message: impl std::fmt::Display) {
        let message = format!("{}{message}", self.who);
        self.all.push(Finding { rule: self.rule, key, message, severity });
    }

    fn error(&mut self, key: &'static str, message: impl std::fmt::Display) {
        self.add(Severity::Error, key, message);
    }

    fn warn(&mut self, key: &'static str, message: impl std::fmt::Display) {
        self.add(Severity::Warning, key, message);
    }

    fn turn_to(&mut self, number: usize, rule: &RuleConfig) {
        self.rule = Some(number);
        self.who = format!("rule {:?}: ", rule.name);
    }
}

impl Config {
    /// Everything that is wrong or odd, in the order of keys and rules.
    #[must_use]
    pub fn findings(&self, around: &Surroundings) -> Vec<Finding> {
        let mut found = Findings { rule: None, who: "firewall: ".to_owned(), all: Vec::new() };
        self.check_section(around, &mut found);
        let mut names = BTreeSet::new();
        for (number, rule) in self.rule.iter().enumerate() {
            found.turn_to(number, rule);
            if !names.insert(rule.name.as_str()) {
                found.error("name", format!("found name {:?} twice, expected different names", rule.name));
            }
            rule.check(around, &mut found);
            self.check_lock_out(rule, &mut found);
        }
        self.check_count(around, &mut found);
        // Whether a rule can be reached is a question for rules that are right.
        if !found.all.iter().any(|finding| finding.severity == Severity::Error) {
            self.check_shadows(around, &mut found);
        }
        found.all
    }

    fn check_section(&self, around: &Surroundings, found: &mut Findings) {
        let within = self.confirm_within;
        if !(Span::from_secs(1)..=Span::from_secs(3600)).contains(&within) {
            found.error(
                "confirm_within",
                format!("found confirm_within {within}, expected 1s to 1h, for example \"60s\""),
            );
        }
        for network in self.admin.iter().filter(|network| network.prefix_len() == 0) {
            found.error(
                "admin",
                format!("found admin network {network}, expected where administrators sit, for example {}: nothing would be filtered", example(network)),
            );
        }
        let cookies: u32 = self.syn_cookies.iter().map(|range| u32::from(range.last - range.first) + 1).sum();
        if cookies > COOKIE_PORTS {
            found.error("syn_cookies", format!("found {cookies} ports, expected at most {COOKIE_PORTS}, for example [\"smtp\", \"submission\", \"imaps\"]"));
        }
        if self.default == Otherwise::Drop {
            if self.admin.is_empty() && self.admin_ports.is_empty() {
                found.error("admin_ports", "found default \"drop\" without admin and admin_ports, expected one of them, for example admin_ports = [\"ssh\"]: nobody could log in");
            } else if self.admin.is_empty() {
                found.warn(
                    "default",
                    "default \"drop\" without admin networks: the admin ports stay open to everybody",
                );
            }
        }
        let in_use = self.default == Otherwise::Drop || !self.rule.is_empty();
        if in_use && around.interfaces.is_empty() {
            found.warn(
                "default",
                "edge.packet.interfaces names no interface: rules act at accept on reception ports only",
            );
        }
    }

    /// A rule that closes the ports of administration to everybody else.
    fn check_lock_out(&self, rule: &RuleConfig, found: &mut Findings) {
        let stops = matches!(rule.action, Action::Drop | Action::Reject);
        let is_tcp = matches!(rule.protocol, None | Some(written::Protocol::Tcp));
        if !stops || !is_tcp || rule.from.iter().any(|source| !source.negated) {
            return;
        }
        let closed = |port: u16| rule.ports.is_empty() || rule.ports.iter().any(|range| range.holds(port));
        if let Some(range) = self.admin_ports.iter().find(|range| closed(range.first)) {
            found.warn(
                "action",
                format!(
                    "it closes admin port {} to everybody but admin networks and who is connected there now",
                    range.first
                ),
            );
        }
    }

    fn check_count(&self, around: &Surroundings, found: &mut Findings) {
        let rules = effective(&self.rule_set(around), &around.tables);
        let all = rules.len();
        if all > RULES {
            let own = self.rule.len();
            let derived =
                rules.iter().filter(|one| matches!(one.origin, Origin::Tables(_) | Origin::Feeds(_))).count();
            (found.rule, found.who) = (None, "firewall: ".to_owned());
            found.error(
                "rule",
                format!("found {all} rules ({own} in the file, {derived} derived from tables, {} built in), expected at most {RULES}: join rules that differ in tables or ports only", all - own - derived),
            );
        }
    }

    /// Rules behind one that takes all of their packets.
    fn check_shadows(&self, around: &Surroundings, found: &mut Findings) {
        let rules = effective(&self.rule_set(around), &around.tables);
        for (number, later) in rules.iter().enumerate() {
            let shadow = rules.iter().take(number).find_map(|earlier| match earlier.origin {
                Origin::Configured(by)
                    if earlier.rule.action != mailgate_common::Action::Limit
                        && covers(&earlier.rule, &later.rule) =>
                {
                    self.rule.get(by).map(|writer| (by, writer))
                }
                _ => None,
            });
            let Some((by, writer)) = shadow else { continue };
            match &later.origin {
                Origin::Configured(own) => {
                    if let Some(rule) = self.rule.get(*own) {
                        found.turn_to(*own, rule);
                    }
                    found.warn(
                        "name",
                        format!("never reached: rule {:?} before it takes all of its packets", writer.name),
                    );
                }
                // The same done earlier, perhaps with a log, is what somebody wanted.
                Origin::Feeds(tables) | Origin::Tables(tables)
                    if writer.rule().action != later.rule.action =>
                {
                    found.turn_to(by, writer);
                    let names: Vec<&str> = tables.iter().map(TableName::as_str).collect();
                    found.warn(
                        "name",
                        format!(
                            "it comes before the action of table {}, which is never reached",
                            names.join(", ")
                        ),
                    );
                }
                Origin::Feeds(_)
                | Origin::Tables(_)
                | Origin::Protected
                | Origin::Behaviour(_)
                | Origin::Reception
                | Origin::BuiltIn => {}
            }
        }
    }
}

fn example(network: &IpNet) -> &'static str {
    match network {
        IpNet::V4(_) => "\"192.0.2.0/24\"",
        IpNet::V6(_) => "\"2001:db8:1::/48\"",
    }
}
