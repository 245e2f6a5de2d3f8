//! The table in the language of nft(8): its chains, its sets and what is in them. The rules are in `rules.rs`.
//!
//! ```text
//! early   (raw)     what may be dropped before the kernel tracks connections: SYNs and everything that is not TCP
//! judge             the rules: accept, drop, reject
//! late    (mangle)  live connections go on, the rest is judged; in host mode what nobody accepted is dropped
//! steer   (dstnat)  the rules again: connections for the edge are redirected to its port
//! ```
//!
//! Rules that wait for a confirmation stand in chains of their own beside those of before. A set whose elements expire
//! sends packets to them: when time is up the kernel goes back by itself, whether a daemon runs or not.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mailgate_lists::TableName;

use super::ranges::Range;

/// Addresses side by side from which on they are a range.
const HOSTS: u128 = 16;
/// Elements in one command.
const ELEMENTS: usize = 4096;
/// How long connections are redirected after the last sign of life.
pub(super) const ALIVE_SECONDS: u32 = 30;

/// Chains that the kernel calls.
pub(super) const HOOKED: [&str; 3] = ["early", "late", "steer"];
/// Chains with the rules.
pub(super) const FOLLOWED: [&str; 3] = ["judge", "guard", "choose"];
/// What the names of the chains begin with whose rules wait for a confirmation.
pub(super) const TRIAL: &str = "trial.";

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

    pub(super) const fn source(self) -> &'static str {
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

/// The table's name: no hyphen may be in it.
pub(super) fn table(instance: &str) -> String {
    format!("inet mailgate.{}", instance.replace('-', "."))
}

/// Whose addresses a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of<'a> {
    /// What behaviour says; see `mailgate_common::hidden`.
    Behaviour(u8),
    Protected,
    Table(&'a TableName),
}

/// Name of a set of addresses.
pub(super) fn set(of: Of<'_>, family: Family) -> String {
    let name = match of {
        Of::Behaviour(bit) => format!("behaviour.{bit}"),
        Of::Protected => "protected".to_owned(),
        Of::Table(name) => format!("table.{}", name.to_string().replace('-', ".")),
    };
    format!("{name}.v{}", family.number())
}

/// For so many seconds packets meet the rules that wait for a confirmation.
pub(super) fn trial(table: &str, seconds: Option<u64>) -> String {
    let begins = seconds.map(|seconds| {
        format!("add element {table} trial {{ ipv4 timeout {seconds}s, ipv6 timeout {seconds}s }}\n")
    });
    format!("flush set {table} trial\n{}", begins.unwrap_or_default())
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
        "late meta nfproto @trial goto guard",
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
    let mut text = format!(
        "add table {table}\nadd set {table} alive {{ type inet_service; flags timeout; }}\n\
         add set {table} trial {{ type nf_proto; flags timeout; }}\n"
    );
    let on_trial = FOLLOWED.map(|name| (format!("{TRIAL}{name}"), ""));
    let chains = [
        ("early", "{ type filter hook prerouting priority -300; policy accept; }"),
        ("judge", ""),
        ("late", "{ type filter hook prerouting priority -150; policy accept; }"),
        ("guard", ""),
        ("steer", "{ type nat hook prerouting priority -100; policy accept; }"),
        ("choose", ""),
    ];
    for (name, hook) in chains.map(|(name, hook)| (name.to_owned(), hook)).into_iter().chain(on_trial) {
        let _ = writeln!(text, "add chain {table} {name} {hook}");
        let _ = writeln!(text, "flush chain {table} {name}");
    }
    text
}
