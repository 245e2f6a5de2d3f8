//! What is wrong with one rule.

use mailgate_lists::{Action as Meaning, TableName};

use super::super::config::{Action, RuleConfig};
use super::super::meant::Surroundings;
use super::super::written::{self, CONNECTION_LIMIT};
use super::Findings;

/// Longest name of a rule.
const NAME_LIMIT: usize = 40;
/// Longest name of an interface (`IFNAMSIZ` without its zero).
const INTERFACE_LIMIT: usize = 15;

impl RuleConfig {
    pub(super) fn check(&self, around: &Surroundings, found: &mut Findings) {
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
        let known: Vec<&str> = around
            .tables
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !name.is_own())
            .map(TableName::as_str)
            .collect();
        found.error(key, format!("found table {:?}, expected one of {}", table.as_str(), known.join(", ")));
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
