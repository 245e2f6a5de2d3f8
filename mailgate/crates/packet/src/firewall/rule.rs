//! A rule and a set of rules, as meant.

use std::ops::RangeInclusive;
use std::time::Duration;

use mailgate_common::Action;
use mailgate_lists::TableName;

/// One rule: all its conditions must hold; a condition that is empty always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What listings call it.
    pub name: String,
    /// The source is in one of those that are not negated, if there are such, and in none of the negated ones.
    pub tables: Vec<TableMatch>,
    /// Destination ports; they imply TCP unless `protocol` is UDP.
    pub ports: Vec<Ports>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// Types of ICMP messages; only with an ICMP protocol.
    pub icmp_types: Vec<u8>,
    /// Interfaces by which the packet may have come in.
    pub interfaces: Vec<String>,
    /// What is done.
    pub action: Action,
    /// The limit, when the action is that.
    pub limit: Option<Limit>,
    /// Whether its packets are logged.
    pub log: bool,
}

impl Rule {
    /// A rule without conditions.
    #[must_use]
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self {
            name: name.into(),
            tables: Vec::new(),
            ports: Vec::new(),
            protocol: None,
            icmp_types: Vec::new(),
            interfaces: Vec::new(),
            action,
            limit: None,
            log: false,
        }
    }
}

/// A table that a rule wants the source to be in, or not to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMatch {
    /// The table.
    pub name: TableName,
    /// Whether the source must not be in it.
    pub negated: bool,
}

/// Ports from, to.
pub type Ports = RangeInclusive<u16>;

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMP of IPv6.
    Icmp6,
    /// Any other (IANA protocol numbers).
    Other(u8),
}

impl Protocol {
    /// Its number (IANA protocol numbers).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp6 => 58,
            Self::Other(number) => number,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Icmp => f.write_str("icmp"),
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp6 => f.write_str("icmp6"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

/// How many connections a source may have (pf.conf(5) `max-src-conn`, `max-src-conn-rate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// At the same time.
    pub connections: Option<u32>,
    /// In a time.
    pub rate: Option<Rate>,
    /// Bits of an IPv4 address that make a source: 1 to 32.
    pub prefix4: u8,
    /// Bits of an IPv6 address that make a source: 1 to 128.
    pub prefix6: u8,
    /// The table that a source gets into which goes over.
    pub overload: Option<TableName>,
    /// Whether its live connections end then.
    pub flush: bool,
}

/// So many connections in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Connections.
    pub count: u32,
    /// Time; whole milliseconds count.
    pub per: Duration,
}

/// What happens to packets that no rule concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, core::default::Default)]
pub enum Default {
    /// They pass.
    #[default]
    Pass,
    /// They are dropped, unless they belong to a live connection: the host mode.
    Drop,
}

/// Whether sources are held against the routes (RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, core::default::Default)]
pub enum ReversePath {
    /// No.
    #[default]
    Off,
    /// There must be some route.
    Loose,
    /// It must lead out by the same interface.
    Strict,
}

/// What the filter does besides rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Drop what no honest peer sends.
    pub scrub: bool,
    /// Drop sources that cannot come in.
    pub martians: bool,
    /// Hold sources against the routes.
    pub reverse_path: ReversePath,
    /// Drop our own addresses as sources.
    pub own_source: bool,
    /// Hold listed sources of tarpit rules in the kernel.
    pub kernel_tarpit: bool,
    /// Refuse unknown sources at reception while the edge is down, instead of leaving them to whoever is bound.
    pub down_drops: bool,
}

impl core::default::Default for Options {
    fn default() -> Self {
        Self {
            scrub: true,
            martians: true,
            reverse_path: ReversePath::Off,
            own_source: false,
            kernel_tarpit: false,
            down_drops: false,
        }
    }
}

/// All that the administrator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// In their order.
    pub rules: Vec<Rule>,
    /// For packets that no rule concerns.
    pub default: Default,
    /// Ports where mail is received.
    pub reception_ports: Vec<u16>,
    /// What is done besides.
    pub options: Options,
    /// Ports whose connections are opened with SYN cookies, at most four.
    pub cookie_ports: Vec<u16>,
    /// Tables that count per entry.
    pub counted: Vec<TableName>,
    /// What host mode lets in besides: the last rules, behind that of reception.
    pub built_in: Vec<Rule>,
}

impl core::default::Default for RuleSet {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            default: Default::Pass,
            reception_ports: vec![25],
            options: Options::default(),
            cookie_ports: Vec::new(),
            counted: Vec::new(),
            built_in: Vec::new(),
        }
    }
}
