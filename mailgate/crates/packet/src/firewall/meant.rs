//! From what is written to what is meant: rules for the filter, and what host mode adds.

use mailgate_common::Action;
use mailgate_lists::{Action as Meaning, TableName};

use super::config::{Action as Written, Config, Otherwise, RuleConfig, Urpf};
use super::rule::{self, Limit, Options, Ports, Protocol, Rate, ReversePath, Rule, RuleSet, TableMatch};
use super::written::{self, PortRange};

/// ICMP types that host mode lets in: echo and its reply, unreachable, source quench, time exceeded and traceroute as
/// in the pf.conf this follows, and parameter problem (RFC 1122 §3.2.2.5 wants it heard).
const ICMP_TYPES: [u8; 7] = [0, 3, 4, 8, 11, 12, 30];
/// Where DHCP answers arrive (RFC 2131 §4.1, RFC 8415 §7.2).
const DHCP_PORTS: [u16; 2] = [68, 546];

/// What the rules stand in: the tables with their meaning, and the services of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// All tables, in the order of configuration.
    pub tables: Vec<(TableName, Meaning)>,
    /// Interfaces that are filtered.
    pub interfaces: Vec<String>,
    /// Ports where mail is received.
    pub reception: Vec<u16>,
    /// Other TCP ports that mailgate itself serves for others than loopback.
    pub services: Vec<u16>,
    /// Tables that count per entry.
    pub counted: Vec<TableName>,
}

impl Config {
    /// All that the filter has to know.
    #[must_use]
    pub fn rule_set(&self, around: &Surroundings) -> RuleSet {
        RuleSet {
            rules: self.rule.iter().map(RuleConfig::rule).collect(),
            default: match self.default {
                Otherwise::Pass => rule::Default::Pass,
                Otherwise::Drop => rule::Default::Drop,
            },
            reception_ports: around.reception.clone(),
            options: Options {
                scrub: self.scrub,
                martians: self.martians,
                reverse_path: match self.urpf {
                    Urpf::Off => ReversePath::Off,
                    Urpf::Loose => ReversePath::Loose,
                    Urpf::Strict => ReversePath::Strict,
                },
                // It needs the routes, like the way back; without it the stack refuses such sources itself.
                own_source: self.urpf != Urpf::Off,
                kernel_tarpit: self.kernel_tarpit,
                down_drops: self.on_daemon_down == Otherwise::Drop,
            },
            cookie_ports: self.syn_cookies.iter().flat_map(|range| range.first..=range.last).collect(),
            counted: around.counted.clone(),
            built_in: if self.default == Otherwise::Drop { self.host_rules(around) } else { Vec::new() },
        }
    }

    /// What a host needs to live, and its own services.
    fn host_rules(&self, around: &Surroundings) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut pass = |name: &str, protocol: Protocol, ports: Vec<Ports>, icmp_types: &[u8]| {
            let mut rule = Rule::new(name, Action::Pass);
            (rule.protocol, rule.ports, rule.icmp_types) = (Some(protocol), ports, icmp_types.to_vec());
            rules.push(rule);
        };
        pass("icmp", Protocol::Icmp, Vec::new(), &ICMP_TYPES);
        // Neighbour discovery is part of it; without it IPv6 ends (RFC 4890 §4.4).
        pass("icmp6", Protocol::Icmp6, Vec::new(), &[]);
        pass("dhcp", Protocol::Udp, DHCP_PORTS.iter().map(single).collect(), &[]);
        if !around.services.is_empty() {
            pass("services", Protocol::Tcp, around.services.iter().map(single).collect(), &[]);
        }
        // Where `admin` names networks those are protected, and nobody else needs these ports.
        if self.admin.is_empty() && !self.admin_ports.is_empty() {
            pass("admin", Protocol::Tcp, self.admin_ports.iter().map(ports).collect(), &[]);
        }
        rules
    }
}

impl RuleConfig {
    /// The rule as the filter takes it.
    #[must_use]
    pub fn rule(&self) -> Rule {
        let action = match self.action {
            Written::Pass => Action::Pass,
            Written::Drop => Action::Drop,
            Written::Reject => Action::Reject,
            Written::Tarpit => Action::Tarpit,
            Written::Greylist => Action::Greylist,
            Written::Limit => Action::Limit,
        };
        // A reset, a listener, a connection to be counted: those exist in TCP only.
        let is_tcp = !self.ports.is_empty() || !matches!(self.action, Written::Pass | Written::Drop);
        let protocol = self.protocol.or(is_tcp.then_some(written::Protocol::Tcp));
        let tables = self.from.iter();
        Rule {
            tables: tables
                .map(|from| TableMatch { name: from.name.clone(), negated: from.negated })
                .collect(),
            ports: self.ports.iter().map(ports).collect(),
            protocol: protocol.map(self::protocol),
            icmp_types: protocol
                .map(|protocol| self.icmp_types.iter().filter_map(|kind| kind.of(protocol)).collect())
                .unwrap_or_default(),
            interfaces: self.interfaces.clone(),
            limit: (action == Action::Limit).then(|| self.limit()),
            log: self.log,
            ..Rule::new(&*self.name, action)
        }
    }

    fn limit(&self) -> Limit {
        let per = self.per.unwrap_or_default();
        Limit {
            connections: self.connections,
            rate: self.rate.map(|rate| Rate { count: rate.count, per: rate.per }),
            prefix4: per.v4,
            prefix6: per.v6,
            overload: self.overload.clone(),
            flush: self.flush,
        }
    }
}

/// The protocol as the filter takes it.
pub(super) fn protocol(written: written::Protocol) -> Protocol {
    match written {
        written::Protocol::Tcp => Protocol::Tcp,
        written::Protocol::Udp => Protocol::Udp,
        written::Protocol::Icmp => Protocol::Icmp,
        written::Protocol::Icmp6 => Protocol::Icmp6,
        written::Protocol::Other(number) => Protocol::Other(number),
    }
}

fn ports(range: &PortRange) -> Ports {
    range.first..=range.last
}

fn single(port: &u16) -> Ports {
    *port..=*port
}
