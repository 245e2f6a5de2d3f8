//! Tables and rules in the language of nft(8).
//!
//! ```text
//! early   (raw)     what may be dropped before the kernel tracks connections: SYNs and everything that is not TCP
//! judge             the rules: accept, drop, reject
//! late    (mangle)  live connections go on, the rest is judged; in host mode what nobody accepted is dropped
//! steer   (dstnat)  the rules again: connections for the edge are redirected to its port
//! ```

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mailgate_common::Action;
use mailgate_lists::TableName;

use super::hits;
use super::ranges::Range;
use crate::firewall::{Default as Otherwise, Effective, Origin, Ports, Protocol, Rule, RuleSet};

/// Addresses side by side from which on they are a range.
const HOSTS: u128 = 16;
/// Elements in one command.
const ELEMENTS: usize = 4096;
/// How long connections are redirected after the last sign of life.
pub(super) const ALIVE_SECONDS: u32 = 30;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn number(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::V4 => "ip saddr",
            Self::V6 => "ip6 saddr",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }
}

/// Ports on which the edge, and reception, listen for redirected connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stations {
    pub(super) edge: [Option<u16>; 2],
    pub(super) reception: [Option<u16>; 2],
}

/// What rules are written from.
pub(super) struct Words<'a> {
    /// `inet NAME`.
    pub(super) table: &'a str,
    pub(super) interfaces: &'a [String],
    pub(super) effective: &'a [Effective],
    pub(super) rules: &'a RuleSet,
    pub(super) stations: Stations,
}

/// The table's name: no hyphen may be in it.
pub(super) fn table(instance: &str) -> String {
    format!("inet mailgate.{}", instance.replace('-', "."))
}

/// Name of the set of a table's addresses.
pub(super) fn set(table: Option<&TableName>, family: Family) -> String {
    let name = table.map_or_else(
        || "protected".to_owned(),
        |name| format!("table.{}", name.to_string().replace('-', ".")),
    );
    format!("{name}.v{}", family.number())
}

/// Asks what was counted since the last time.
pub(super) fn counts(table: &str) -> String {
    let (family, name) = table.split_once(' ').unwrap_or(("inet", table));
    format!("reset counters table {family} {name}\n")
}

/// Lets an address pass before any other rule says something.
pub(super) fn exception(table: &str, address: IpAddr) -> String {
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let source = family.source();
    ["judge", "choose"]
        .map(|chain| format!("insert rule {table} {chain} {source} {address} accept\n"))
        .concat()
}

/// Removes the table, whether it is there or not.
pub(super) fn removal(table: &str) -> String {
    format!("add table {table}\ndelete table {table}\n")
}

/// The sign of life: while it is young, connections are redirected.
pub(super) fn alive(table: &str, ports: &[u16]) -> String {
    let mut text = format!("flush set {table} alive\n");
    for port in ports {
        let _ = writeln!(text, "add element {table} alive {{ {port} timeout {ALIVE_SECONDS}s }}");
    }
    text
}

/// Makes the two sets of a table: ranges, and single addresses beside them. For every change nft reads a set of ranges as
/// a whole, in time that grows with the square of its size; a set of addresses it does not read.
pub(super) fn sets_made(table: &str, name: &str, family: Family) -> String {
    let kind = family.kind();
    format!(
        "add set {table} {name} {{ type {kind}; flags interval; }}\nflush set {table} {name}\n\
         add set {table} {name}.hosts {{ type {kind}; }}\nflush set {table} {name}.hosts\n"
    )
}

/// Removes the two sets of a table.
pub(super) fn sets_gone(table: &str, name: &str) -> String {
    format!("delete set {table} {name}\ndelete set {table} {name}.hosts\n")
}

/// Rules of every kind that may come, to find out whether nft and the kernel take them.
pub(super) fn samples(table: &str) -> String {
    let rules = [
        "guard ct state established,related counter accept",
        "judge tcp flags & (fin|syn|rst|ack) == syn reject with tcp reset",
        "judge meta l4proto != tcp reject with icmpx type admin-prohibited",
        "choose tcp dport @alive meta nfproto ipv4 redirect to :1",
    ];
    rules.map(|rule| format!("add rule {table} {rule}\n")).concat()
}

/// Adds or deletes (`verb`) ranges of a table; short ones as single addresses.
pub(super) fn elements(
    text: &mut String,
    verb: &str,
    table: &str,
    name: &str,
    family: Family,
    ranges: &[Range],
) {
    let address = |address: u128| match family {
        Family::V4 => IpAddr::from(Ipv4Addr::from(address as u32)),
        Family::V6 => IpAddr::from(Ipv6Addr::from(address)),
    };
    let is_short = |(first, last): &&Range| last - first < HOSTS;
    let hosts: Vec<u128> = ranges.iter().filter(is_short).flat_map(|(first, last)| *first..=*last).collect();
    for part in hosts.chunks(ELEMENTS) {
        let each: Vec<String> = part.iter().map(|host| address(*host).to_string()).collect();
        let _ = writeln!(text, "{verb} element {table} {name}.hosts {{ {} }}", each.join(", "));
    }
    let long: Vec<&Range> = ranges.iter().filter(|range| !is_short(range)).collect();
    for part in long.chunks(ELEMENTS) {
        let range = |range: &&Range| format!("{}-{}", address(range.0), address(range.1));
        let each: Vec<String> = part.iter().map(range).collect();
        let _ = writeln!(text, "{verb} element {table} {name} {{ {} }}", each.join(", "));
    }
}

/// The table and its chains, empty: nothing refers to a set.
pub(super) fn chains(table: &str) -> String {
    let mut text =
        format!("add table {table}\nadd set {table} alive {{ type inet_service; flags timeout; }}\n");
    for (name, hook) in [
        ("early", "{ type filter hook prerouting priority -300; policy accept; }"),
        ("judge", ""),
        ("late", "{ type filter hook prerouting priority -150; policy accept; }"),
        ("guard", ""),
        ("steer", "{ type nat hook prerouting priority -100; policy accept; }"),
        ("choose", ""),
    ] {
        let _ = writeln!(text, "add chain {table} {name} {hook}");
        let _ = writeln!(text, "flush chain {table} {name}");
    }
    text
}

impl Words<'_> {
    /// All rules; those of before are gone in the same moment.
    pub(super) fn rules(&self) -> String {
        let mut text = String::new();
        for chain in ["early", "judge", "late", "guard", "steer", "choose"] {
            let _ = writeln!(text, "flush chain {} {chain}", self.table);
        }
        let counters = (0..self.effective.len()).map(hits::name).chain([hits::DEFAULT.to_owned()]);
        for counter in counters {
            let _ = writeln!(text, "add counter {} {counter}", self.table);
        }
        for interface in self.interfaces {
            let interface = format!("iifname \"{interface}\"");
            // Nobody gets to the edge's port but by way of a port of reception.
            if let Some(ports) = port_list(&self.closed_ports()) {
                self.rule(&mut text, "early", &format!("{interface} tcp dport {ports} drop"));
            }
            self.rule(
                &mut text,
                "early",
                &format!("{interface} tcp flags & (fin|syn|rst|ack) == syn jump judge"),
            );
            self.rule(&mut text, "early", &format!("{interface} meta l4proto != tcp jump judge"));
            self.rule(&mut text, "late", &format!("{interface} jump guard"));
            self.rule(&mut text, "steer", &format!("{interface} jump choose"));
        }
        self.rule(&mut text, "guard", "ct state established,related accept");
        self.rule(&mut text, "guard", "jump judge");
        for (number, effective) in self.effective.iter().enumerate() {
            let protected = effective.origin == Origin::Protected;
            let counter = format!("counter name \"{}\"", hits::name(number));
            for words in matches(&effective.rule, protected) {
                let judged = self.judged(&effective.rule);
                if judged.last().is_some_and(|done| done == "accept") {
                    // What passes is judged twice; only the second time the kernel says that it is new.
                    self.rule(&mut text, "judge", &format!("{words}ct state new {counter}"));
                }
                for done in judged {
                    let counter = if done == "accept" { String::new() } else { format!("{counter} ") };
                    let (more, verdict) = split_verdict(&done);
                    self.rule(&mut text, "judge", &format!("{words}{more}{counter}{verdict}"));
                }
                for done in self.chosen(effective.rule.action) {
                    self.rule(&mut text, "choose", &format!("{words}{done}"));
                }
            }
        }
        if self.rules.default == Otherwise::Drop {
            // Without these no host can be reached at all: errors, echo, neighbours, addresses (RFC 4890).
            self.rule(&mut text, "guard", "meta l4proto { icmp, ipv6-icmp } accept");
            self.rule(&mut text, "guard", "udp dport { 68, 546 } accept");
            self.rule(&mut text, "guard", &format!("counter name \"{}\" drop", hits::DEFAULT));
        }
        text
    }

    fn rule(&self, text: &mut String, chain: &str, words: &str) {
        let _ = writeln!(text, "add rule {} {chain} {words}", self.table);
    }

    /// Ports of our listeners that are no ports of reception.
    fn closed_ports(&self) -> Vec<Ports> {
        let all = self.stations.edge.into_iter().chain(self.stations.reception).flatten();
        all.filter(|port| !self.rules.reception_ports.contains(port)).map(|port| port..=port).collect()
    }

    /// What becomes of a packet, in the words of `judge`.
    fn judged(&self, rule: &Rule) -> Vec<String> {
        let words: &[&str] = match rule.action {
            Action::Pass => &["accept"],
            Action::Drop => &["drop"],
            Action::Reject if rule.protocol == Some(Protocol::Tcp) => &["reject with tcp reset"],
            Action::Reject => {
                &["meta l4proto tcp reject with tcp reset", "reject with icmpx type admin-prohibited"]
            }
            // Listed sources reach nobody else when the edge is gone, unknown ones if that is wanted.
            Action::Tarpit => return self.only_while_alive(),
            Action::Greylist if self.rules.options.down_drops => return self.only_while_alive(),
            Action::Greylist => &["accept"],
            Action::Limit => &[],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Ports of reception are open while the edge is there to take connections.
    fn only_while_alive(&self) -> Vec<String> {
        let reception: Vec<Ports> = self.rules.reception_ports.iter().map(|port| *port..=*port).collect();
        let closed = port_list(&reception).map(|ports| format!("tcp dport {ports} tcp dport != @alive drop"));
        closed.into_iter().chain(["accept".to_owned()]).collect()
    }

    /// Where a new connection goes, in the words of `choose`.
    fn chosen(&self, action: Action) -> Vec<String> {
        let stations = match action {
            Action::Pass => self.stations.reception,
            Action::Tarpit | Action::Greylist => self.stations.edge,
            Action::Drop | Action::Reject | Action::Limit => return Vec::new(),
        };
        let redirects = ["ipv4", "ipv6"].into_iter().zip(stations).filter_map(|(family, port)| {
            port.map(|port| format!("tcp dport @alive meta nfproto {family} redirect to :{port}"))
        });
        redirects.chain(["accept".to_owned()]).collect()
    }
}

/// The further conditions of what is done, with a blank behind, and the verdict: the last words, `drop` or `reject with ...`.
fn split_verdict(done: &str) -> (&str, &str) {
    let verdict =
        ["reject", "drop", "accept"].into_iter().find_map(|verdict| done.find(verdict)).unwrap_or(0);
    done.split_at(verdict)
}

/// The conditions of a rule, each alternative once, with a blank behind.
fn matches(rule: &Rule, protected: bool) -> Vec<String> {
    let mut all = sources(rule, protected);
    let transport = transport(rule);
    all.iter_mut().for_each(|words| words.push_str(&transport));
    if rule.interfaces.is_empty() {
        return all;
    }
    let mut each = Vec::new();
    for interface in &rule.interfaces {
        each.extend(all.iter().map(|words| format!("iifname \"{interface}\" {words}")));
    }
    each
}

/// In one of the tables that are not negated, and in none of the others.
fn sources(rule: &Rule, protected: bool) -> Vec<String> {
    if rule.tables.is_empty() && !protected {
        return vec![String::new()];
    }
    let named = |negated: bool| {
        rule.tables.iter().filter(move |table| table.negated == negated).map(|table| &table.name)
    };
    let mut all = Vec::new();
    for family in Family::ALL {
        let source = family.source();
        let sets = |name: Option<&TableName>| {
            let name = set(name, family);
            [format!("{name}.hosts"), name]
        };
        let excluded: String =
            named(true).flat_map(|name| sets(Some(name))).map(|set| format!("{source} != @{set} ")).collect();
        let wanted = named(false).map(Some).chain(protected.then_some(None));
        let within: Vec<String> =
            wanted.flat_map(sets).map(|set| format!("{source} @{set} {excluded}")).collect();
        all.extend(if within.is_empty() { vec![excluded] } else { within });
    }
    all
}

fn transport(rule: &Rule) -> String {
    let ports = |protocol: &str| match port_list(&rule.ports) {
        Some(ports) => format!("{protocol} dport {ports} "),
        None => format!("meta l4proto {protocol} "),
    };
    let types = |protocol: &str, name: &str| {
        let types: Vec<String> = rule.icmp_types.iter().map(u8::to_string).collect();
        if types.is_empty() {
            format!("meta l4proto {protocol} ")
        } else {
            format!("{name} type {{ {} }} ", types.join(", "))
        }
    };
    match rule.protocol {
        Some(Protocol::Tcp) => ports("tcp"),
        Some(Protocol::Udp) => ports("udp"),
        Some(Protocol::Icmp) => types("icmp", "icmp"),
        Some(Protocol::Icmp6) => types("ipv6-icmp", "icmpv6"),
        Some(Protocol::Other(number)) => format!("meta l4proto {number} "),
        None if rule.ports.is_empty() => String::new(),
        None => ports("tcp"),
    }
}

/// As a set of nft, which takes no ranges that overlap.
fn port_list(ports: &[Ports]) -> Option<String> {
    let mut sorted: Vec<(u16, u16)> = ports.iter().map(|range| (*range.start(), *range.end())).collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    let each: Vec<String> = joined
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    (!each.is_empty()).then(|| format!("{{ {} }}", each.join(", ")))
}
