//! What is wrong with `[firewall]`, all at once, and what is only odd.

use std::collections::BTreeSet;

use ipnet::IpNet;
use mailgate_lists::{Action as Meaning, TableName};
use mailgate_model::Span;

use super::config::{Action, Config, Otherwise, RuleConfig};
use super::derive::{Origin, RULES, effective};
use super::meant::Surroundings;
use super::rule::{Protocol, Rule};
use super::written::{self, CONNECTION_LIMIT};

/// Longest name of a rule.
const NAME_LIMIT: usize = 40;
/// Ports answered with SYN cookies, at most: the room for them in the ruleset.
const COOKIE_PORTS: u32 = 4;
/// Longest name of an interface (`IFNAMSIZ` without its zero).
const INTERFACE_LIMIT: usize = 15;

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
            let derived = rules.iter().filter(|one| matches!(one.origin, Origin::Tables(_))).count();
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
                Origin::Tables(tables) if writer.rule().action != later.rule.action => {
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
                Origin::Tables(_)
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

fn check_interfaces(key: &'static str, names: &[String], around: &Surroundings, found: &mut Findings) {
    for name in names {
        let fits = !name.is_empty()
            && name.len() <= INTERFACE_LIMIT
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !fits {
            found.error(key, format!("found interface {name:?}, expected a name of 1 to {INTERFACE_LIMIT} characters such as \"eth0\""));
        } else if !around.interfaces.contains(name) {
            let known = match around.interfaces.as_slice() {
                [] => "none".to_owned(),
                names => names.join(", "),
            };
            found
                .warn(key, format!("interface {name:?} is not filtered: edge.packet.interfaces has {known}"));
        }
    }
}

impl RuleConfig {
    fn check(&self, around: &Surroundings, found: &mut Findings) {
        let name = &self.name;
        if name.is_empty() || name.chars().count() > NAME_LIMIT || name.chars().any(char::is_control) {
            found.error(
                "name",
                format!("found name {name:?}, expected 1 to {NAME_LIMIT} printable characters"),
            );
        }
        self.check_sources(around, found);
        check_interfaces("interfaces", &self.interfaces, around, found);
        self.check_protocol(found);
        self.check_limit(around, found);
        self.check_edge(around, found);
    }

    fn check_sources(&self, around: &Surroundings, found: &mut Findings) {
        for source in &self.from {
            known_table(&source.name, "from", around, found);
            let twice = self.from.iter().filter(|other| other.name == source.name).count() > 1;
            if twice && source.negated {
                found.error(
                    "from",
                    format!(
                        "found table {:?} with and without !, or twice, expected once",
                        source.name.as_str()
                    ),
                );
            }
        }
    }

    fn check_protocol(&self, found: &mut Findings) {
        use written::Protocol as P;
        if !self.ports.is_empty() && !matches!(self.protocol, None | Some(P::Tcp | P::Udp)) {
            let protocol = self.protocol.map(|protocol| protocol.to_string()).unwrap_or_default();
            found.error(
                "ports",
                format!(
                    "found ports with protocol {protocol}, expected protocol \"tcp\" or \"udp\", or no ports"
                ),
            );
        }
        match self.protocol {
            Some(protocol @ (P::Icmp | P::Icmp6)) => {
                for kind in self.icmp_types.iter().filter(|kind| kind.of(protocol).is_none()) {
                    found.error(
                        "icmp_types",
                        format!("found type {kind} with protocol {protocol}, which has no such type"),
                    );
                }
            }
            _ if !self.icmp_types.is_empty() => {
                found.error(
                    "icmp_types",
                    "found icmp_types without protocol = \"icmp\" or \"icmp6\", expected one of them",
                );
            }
            _ => {}
        }
        let tcp_only = !matches!(self.action, Action::Pass | Action::Drop);
        if tcp_only && let Some(protocol) = self.protocol.filter(|protocol| *protocol != P::Tcp) {
            found.error("protocol", format!("found protocol {protocol}, which this action does not know, expected \"tcp\" (or action = \"drop\")"));
        }
    }

    fn check_limit(&self, around: &Surroundings, found: &mut Findings) {
        if self.action != Action::Limit {
            for (key, is_there) in [
                ("connections", self.connections.is_some()),
                ("rate", self.rate.is_some()),
                ("per", self.per.is_some()),
                ("overload", self.overload.is_some()),
                ("flush", self.flush),
            ] {
                if is_there {
                    found.error(key, format!("found {key}, which belongs to action = \"limit\"; expected a rule of its own for it"));
                }
            }
            return;
        }
        if !self.interfaces.is_empty() {
            // It is counted where the handshake ends, and there nobody knows any more how the packets came.
            found.error("interfaces", "found interfaces with action = \"limit\", which counts connections by whichever interface; expected none");
        }
        if self.connections.is_none() && self.rate.is_none() {
            found.error("action", "found neither connections nor rate, expected one of them, for example connections = 50 or rate = \"50/5s\"");
        }
        if let Some(count) = self.connections.filter(|count| !(1..=CONNECTION_LIMIT).contains(count)) {
            found.error(
                "connections",
                format!("found {count} connections, expected 1 to {CONNECTION_LIMIT}, for example 50"),
            );
        }
        match &self.overload {
            None if self.flush => {
                found.error(
                    "flush",
                    "found flush without overload, expected overload = \"bruteforce\" or no flush",
                );
            }
            None => {}
            Some(table) => {
                known_table(table, "overload", around, found);
                if around.tables.iter().any(|(name, meaning)| name == table && *meaning == Meaning::Bypass) {
                    found.error("overload", format!("found table {:?}, which lets its sources in, expected one that keeps them out such as \"bruteforce\"", table.as_str()));
                }
            }
        }
    }

    /// Rules that give connections to the edge, which speaks SMTP and nothing else.
    fn check_edge(&self, around: &Surroundings, found: &mut Findings) {
        if !matches!(self.action, Action::Tarpit | Action::Greylist) {
            return;
        }
        if self.ports.is_empty() {
            found.error("ports", "found no ports, expected those where mail is received, for example ports = [\"smtp\"]: the edge speaks SMTP only");
        }
        let elsewhere = self
            .ports
            .iter()
            .find(|range| !around.reception.iter().any(|port| range.first == *port && range.last == *port));
        if let Some(range) = elsewhere {
            found.warn("ports", format!("port {range} is not among edge.packet.reception_ports: people who submit or read mail would meet the edge instead of their server"));
        }
    }
}

fn known_table(table: &TableName, key: &'static str, around: &Surroundings, found: &mut Findings) {
    if !around.tables.iter().any(|(name, _)| name == table) {
        let known: Vec<&str> = around.tables.iter().map(|(name, _)| name.as_str()).collect();
        found.error(key, format!("found table {:?}, expected one of {}", table.as_str(), known.join(", ")));
    }
}

/// Whether every packet that `inner` fits also fits `outer`.
fn covers(outer: &Rule, inner: &Rule) -> bool {
    covers_sources(outer, inner)
        && covers_protocol(outer, inner)
        && (outer.interfaces.is_empty()
            || !inner.interfaces.is_empty()
                && inner.interfaces.iter().all(|name| outer.interfaces.contains(name)))
}

fn covers_sources(outer: &Rule, inner: &Rule) -> bool {
    let names = |rule: &Rule, negated: bool| -> BTreeSet<TableName> {
        rule.tables.iter().filter(|table| table.negated == negated).map(|table| table.name.clone()).collect()
    };
    let (any, inner_any) = (names(outer, false), names(inner, false));
    let inside = any.is_empty() || !inner_any.is_empty() && inner_any.is_subset(&any);
    inside && names(outer, true).is_subset(&names(inner, true))
}

fn covers_protocol(outer: &Rule, inner: &Rule) -> bool {
    // Ports without a protocol are those of TCP.
    let of = |rule: &Rule| rule.protocol.or((!rule.ports.is_empty()).then_some(Protocol::Tcp));
    let protocol = of(outer).is_none() || of(outer) == of(inner);
    let ports = outer.ports.is_empty()
        || !inner.ports.is_empty()
            && inner.ports.iter().all(|one| {
                outer.ports.iter().any(|range| range.start() <= one.start() && one.end() <= range.end())
            });
    let types = outer.icmp_types.is_empty()
        || !inner.icmp_types.is_empty()
            && inner.icmp_types.iter().all(|kind| outer.icmp_types.contains(kind));
    protocol && ports && types
}
