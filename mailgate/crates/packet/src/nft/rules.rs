//! The rules in the language of nft(8): each in `judge`, and where its connections go in `choose`.

use std::fmt::Write as _;

use mailgate_common::Action;

use super::hits;
use super::script::{FOLLOWED, Family, HOOKED, Of, Stations, TRIAL, set};
use crate::firewall::{Default as Otherwise, Effective, Origin, Ports, Protocol, Rule, RuleSet};

/// What rules are written from.
pub(super) struct Words<'a> {
    /// `inet NAME`.
    pub(super) table: &'a str,
    pub(super) interfaces: &'a [String],
    pub(super) effective: &'a [Effective],
    pub(super) rules: &'a RuleSet,
    pub(super) stations: Stations,
}

impl Words<'_> {
    /// All rules, and those `on_trial`; what was before is gone in the same moment.
    pub(super) fn rules(&self, on_trial: Option<&Self>) -> String {
        let mut text = String::new();
        let trial_chains = FOLLOWED.map(|name| format!("{TRIAL}{name}"));
        let chains = HOOKED.iter().chain(&FOLLOWED).map(|name| (*name).to_owned());
        for chain in chains.chain(trial_chains) {
            let _ = writeln!(text, "flush chain {} {chain}", self.table);
        }
        let count = self.effective.len().max(on_trial.map_or(0, |words| words.effective.len()));
        for counter in (0..count).map(hits::name).chain([hits::DEFAULT.to_owned()]) {
            let _ = writeln!(text, "add counter {} {counter}", self.table);
        }
        for interface in self.interfaces {
            // Whom these take does not come to the next ones.
            if let Some(words) = on_trial {
                words.way_in(&mut text, interface, &format!("meta nfproto @trial goto {TRIAL}"));
            }
            self.way_in(&mut text, interface, "jump ");
        }
        self.judgement(&mut text, "");
        if let Some(words) = on_trial {
            words.judgement(&mut text, TRIAL);
        }
        text
    }

    /// The way from the hooks to the rules; `jump` is what leads to the chain that is named behind it.
    fn way_in(&self, text: &mut String, interface: &str, jump: &str) {
        let interface = format!("iifname \"{interface}\"");
        // Nobody gets to the edge's port but by way of a port of reception.
        if let Some(ports) = port_list(&self.closed_ports()) {
            self.rule(text, "early", &format!("{interface} tcp dport {ports} drop"));
        }
        let opens = format!("{interface} tcp flags & (fin|syn|rst|ack) == syn {jump}judge");
        self.rule(text, "early", &opens);
        self.rule(text, "early", &format!("{interface} meta l4proto != tcp {jump}judge"));
        self.rule(text, "late", &format!("{interface} {jump}guard"));
        self.rule(text, "steer", &format!("{interface} {jump}choose"));
    }

    /// The rules themselves, in chains whose names begin so.
    fn judgement(&self, text: &mut String, chains: &str) {
        let [judge, guard, choose] = FOLLOWED.map(|name| format!("{chains}{name}"));
        self.rule(text, &guard, "ct state established,related accept");
        self.rule(text, &guard, &format!("jump {judge}"));
        for (number, effective) in self.effective.iter().enumerate() {
            let counter = format!("counter name \"{}\"", hits::name(number));
            for words in matches(&effective.rule, &effective.origin) {
                let judged = self.judged(&effective.rule);
                if judged.last().is_some_and(|done| done == "accept") {
                    // What passes is judged twice; only the second time the kernel says that it is new.
                    self.rule(text, &judge, &format!("{words}ct state new {counter}"));
                }
                for done in judged {
                    let counter = if done == "accept" { String::new() } else { format!("{counter} ") };
                    let (more, verdict) = split_verdict(&done);
                    self.rule(text, &judge, &format!("{words}{more}{counter}{verdict}"));
                }
                for done in self.chosen(effective.rule.action) {
                    self.rule(text, &choose, &format!("{words}{done}"));
                }
            }
        }
        if self.rules.default == Otherwise::Drop {
            // Without these no host can be reached at all: errors, echo, neighbours, addresses (RFC 4890).
            self.rule(text, &guard, "meta l4proto { icmp, ipv6-icmp } accept");
            self.rule(text, &guard, "udp dport { 68, 546 } accept");
            self.rule(text, &guard, &format!("counter name \"{}\" drop", hits::DEFAULT));
        }
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
fn matches(rule: &Rule, origin: &Origin) -> Vec<String> {
    let mut all = sources(rule, origin);
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

/// In one of the tables that are not negated, and in none of the others; rules of some origins mean a set without a name.
fn sources(rule: &Rule, origin: &Origin) -> Vec<String> {
    let nameless = match origin {
        Origin::Protected => Some(Of::Protected),
        Origin::Behaviour(bit) => Some(Of::Behaviour(*bit)),
        Origin::Configured(_)
        | Origin::Feeds(_)
        | Origin::Tables(_)
        | Origin::Reception
        | Origin::BuiltIn => None,
    };
    if rule.tables.is_empty() && nameless.is_none() {
        return vec![String::new()];
    }
    let named = |negated: bool| {
        rule.tables.iter().filter(move |table| table.negated == negated).map(|table| Of::Table(&table.name))
    };
    let mut all = Vec::new();
    for family in Family::ALL {
        let source = family.source();
        let sets = |of: Of<'_>| {
            let name = set(of, family);
            [format!("{name}.hosts"), name]
        };
        let excluded: String = named(true).flat_map(sets).map(|set| format!("{source} != @{set} ")).collect();
        let within: Vec<String> = named(false)
            .chain(nameless)
            .flat_map(sets)
            .map(|set| format!("{source} @{set} {excluded}"))
            .collect();
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
