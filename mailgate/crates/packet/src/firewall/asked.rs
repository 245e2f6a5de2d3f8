//! A packet somebody asks about, and which rules it fits.

use std::fmt;
use std::net::IpAddr;

use mailgate_common::{Action, Facts};
use mailgate_lists::TableName;

use super::derive::{Effective, Origin};
use super::rule::Protocol;
use super::service;
use super::written;

/// A first packet from somewhere to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where it comes from.
    pub address: IpAddr,
    /// Where it goes, with TCP and UDP.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its type, with ICMP.
    pub icmp_type: u8,
    /// The interface it comes in by.
    pub interface: Option<String>,
}

/// Reads a protocol as people write it.
///
/// # Errors
/// What was found and what was expected.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    written::Protocol::read(text).map(super::meant::protocol)
}

/// What has become of a packet that a rule with this action decides about, as a participle.
#[must_use]
pub fn done(action: Action) -> &'static str {
    match action {
        Action::Pass => "passed",
        Action::Drop => "dropped",
        Action::Reject => "rejected",
        Action::Tarpit => "held by the tarpit",
        Action::Greylist => "judged by the edge",
        Action::Limit => "counted",
    }
}

/// Whether a rule of the administrator stops an address because one of these tables holds it.
#[must_use]
pub fn stops(one: &Effective, tables: &[TableName]) -> bool {
    let named = |negated: bool| {
        one.rule.tables.iter().any(|table| table.negated == negated && tables.contains(&table.name))
    };
    matches!(one.origin, Origin::Configured(_))
        && !matches!(one.rule.action, Action::Pass | Action::Limit)
        && named(false)
        && !named(true)
}

impl Asked {
    /// As the filter sees it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let interface = self.interface.as_deref().and_then(|name| nix::net::if_::if_nametoindex(name).ok());
        Facts {
            protocol: self.protocol.number(),
            port: self.port,
            kind: self.icmp_type,
            known: true,
            interface: interface.unwrap_or(0),
        }
    }

    /// Whether a rule concerns it; `tables` are those that hold the address. Who is protected cannot be told from that.
    #[must_use]
    pub fn fits(&self, one: &Effective, tables: &[TableName]) -> bool {
        if matches!(one.origin, Origin::Protected | Origin::Behaviour(_)) {
            return false;
        }
        let rule = &one.rule;
        let holds = |negated: bool| {
            rule.tables.iter().any(|table| table.negated == negated && tables.contains(&table.name))
        };
        let wants = rule.tables.iter().any(|table| !table.negated);
        // Ports without a protocol are those of TCP.
        let protocol = rule.protocol.or((!rule.ports.is_empty()).then_some(Protocol::Tcp));
        let here = |name: &String| self.interface.as_ref() == Some(name);
        (!wants || holds(false))
            && !holds(true)
            && protocol.is_none_or(|protocol| protocol == self.protocol)
            && (rule.ports.is_empty() || rule.ports.iter().any(|ports| ports.contains(&self.port)))
            && (rule.icmp_types.is_empty() || rule.icmp_types.contains(&self.icmp_type))
            && (rule.interfaces.is_empty() || rule.interfaces.iter().any(here))
    }

    /// Whether a rule counts it against a limit.
    #[must_use]
    pub fn counts(&self, one: &Effective, tables: &[TableName]) -> bool {
        one.rule.action == Action::Limit && self.fits(one, tables)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => {
                write!(f, " port {}", self.port)?;
                if let Some(name) = service::name(self.port) {
                    write!(f, " ({name})")?;
                }
            }
            Protocol::Icmp | Protocol::Icmp6 => write!(f, " type {}", self.icmp_type)?,
            Protocol::Other(_) => {}
        }
        match &self.interface {
            Some(name) => write!(f, " on {name}"),
            None => Ok(()),
        }
    }
}
