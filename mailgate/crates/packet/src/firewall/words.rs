//! Rules in words.

use std::fmt;
use std::time::Duration;

use mailgate_common::{Action, hidden};

use mailgate_model::Span;

use super::derive::{Effective, Origin};
use super::rule::{Limit, Ports, Protocol, Rule, TableMatch};
use super::service;

/// `a, b or c`.
fn listed(items: &[String], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// What a rule does, as a verb.
fn verb(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Reject => "reject",
        Action::Tarpit => "hold (tarpit)",
        Action::Greylist => "to the edge (greylist)",
        Action::Limit => "limit",
    }
}

fn protocol(rule: &Rule) -> String {
    let name = match rule.protocol {
        None if rule.ports.is_empty() => return "everything".to_owned(),
        None => "tcp".to_owned(),
        Some(Protocol::Tcp) => "tcp".to_owned(),
        Some(Protocol::Udp) => "udp".to_owned(),
        Some(Protocol::Icmp) => "icmp".to_owned(),
        Some(Protocol::Icmp6) => "icmp6".to_owned(),
        Some(Protocol::Other(number)) => format!("protocol {number}"),
    };
    match rule.icmp_types.as_slice() {
        [] => name,
        types => {
            let types: Vec<String> = types.iter().map(u8::to_string).collect();
            format!("{name} {} {}", if types.len() == 1 { "type" } else { "types" }, types.join(","))
        }
    }
}

fn tables(tables: &[TableMatch]) -> String {
    let named = |negated: bool| -> Vec<String> {
        tables
            .iter()
            .filter(|table| table.negated == negated)
            .map(|table| format!("<{}>", table.name))
            .collect()
    };
    let (inside, outside) = (listed(&named(false), "or"), listed(&named(true), "or"));
    match (inside.is_empty(), outside.is_empty()) {
        (true, true) => "anywhere".to_owned(),
        (false, true) => inside,
        (true, false) => format!("anywhere but {outside}"),
        (false, false) => format!("{inside} but not {outside}"),
    }
}

fn port(ports: &Ports) -> String {
    let (first, last) = (*ports.start(), *ports.end());
    match service::name(first) {
        _ if first != last => format!("{first}-{last}"),
        Some(name) => format!("{first} ({name})"),
        None => first.to_string(),
    }
}

fn span(time: Duration) -> Span {
    Span::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections.map(|count| format!("{count} connections"));
        let rate = self.rate.map(|rate| format!("{} new ones in {}", rate.count, span(rate.per)));
        let both: Vec<String> = connections.into_iter().chain(rate).collect();
        write!(f, "at most {} per /{} (IPv6 /{})", both.join(" and "), self.prefix4, self.prefix6)?;
        if let Some(table) = &self.overload {
            write!(f, "; who exceeds that goes into <{table}>")?;
        }
        if self.flush {
            f.write_str(" and loses its connections")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", verb(self.action), protocol(self), tables(&self.tables))?;
        if !self.ports.is_empty() {
            let many = self.ports.len() > 1 || self.ports.iter().any(|ports| ports.start() != ports.end());
            let ports: Vec<String> = self.ports.iter().map(port).collect();
            write!(f, " to {} {}", if many { "ports" } else { "port" }, ports.join(", "))?;
        }
        if !self.interfaces.is_empty() {
            write!(f, " on {}", listed(&self.interfaces, "or"))?;
        }
        if let Some(limit) = &self.limit {
            write!(f, ": {limit}")?;
        }
        if self.log { f.write_str(", logged") } else { Ok(()) }
    }
}

impl Effective {
    /// The rule in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self.origin {
            Origin::Protected => "pass everything from protected networks".to_owned(),
            // Their tables have no names.
            Origin::Behaviour(bit) => {
                let of = match bit {
                    hidden::ADMITTED => "networks that the administrator let pass",
                    hidden::TRAPPED => "sources that stepped into a trap",
                    _ => "sources that passed the greylist",
                };
                self.rule.to_string().replacen("anywhere", of, 1)
            }
            _ => self.rule.to_string(),
        }
    }
}

impl Origin {
    /// In words; `lines` has the line of each configured rule, 0 where it is not known, in `file`.
    #[must_use]
    pub fn words(&self, file: &str, lines: &[usize]) -> String {
        match self {
            Self::Protected => "protected".to_owned(),
            Self::Configured(n) => match lines.get(*n) {
                None | Some(0) => file.to_owned(),
                Some(line) => format!("{file}:{line}"),
            },
            Self::Feeds(names) | Self::Tables(names) => {
                let said: Vec<&str> = names.iter().map(mailgate_lists::TableName::as_str).collect();
                format!("{} {}", if names.len() == 1 { "table" } else { "tables" }, said.join(" "))
            }
            Self::Behaviour(_) => "greylist".to_owned(),
            Self::Reception | Self::BuiltIn => "built-in".to_owned(),
        }
    }
}
