//! `[firewall]` and `[[firewall.rule]]` as written.

use ipnet::IpNet;
use mailgate_lists::TableName;
use mailgate_model::Span;
use serde::{Deserialize, Serialize};

use super::written::{Icmp, Per, PortRange, Protocol, RateLimit, Source};
use crate::network::networks;

/// What becomes of packets that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// They go on to the host.
    #[default]
    Pass,
    /// They vanish, except replies to what this host began: host mode.
    Drop,
}

/// Reverse path check of sources, as `urpf-failed` in pf.conf(5) and RFC 3704.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Urpf {
    /// None: the safe choice for hosts with several uplinks.
    #[default]
    Off,
    /// There must be a route to the source by any interface (RFC 3704 §2.4).
    Loose,
    /// The route to the source must lead out of the interface by which the packet came (RFC 3704 §2.2).
    Strict,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To the service; on reception ports straight to the MTA.
    Pass,
    /// The packet vanishes.
    Drop,
    /// The connection is refused with a reset.
    Reject,
    /// To the edge, which holds it.
    Tarpit,
    /// To the edge, which judges it.
    Greylist,
    /// Counts new connections and lets later rules decide.
    Limit,
}

/// `[firewall]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What becomes of packets that no rule names: `"pass"`, or `"drop"` (host mode: everything closed but what rules
    /// open, replies to what this host began, ICMP, neighbour discovery, DHCP and the services of mailgate itself).
    /// Default `"pass"`.
    pub default: Otherwise,
    /// Networks that no table and no rule ever keeps out: where the administrators sit. Addresses or CIDR. Default none.
    /// Example: `["192.0.2.0/24", "2001:db8:1::/48"]`.
    #[serde(deserialize_with = "networks")]
    pub admin: Vec<IpNet>,
    /// Ports of administration: who is connected there keeps every access while the connection lives, and in host mode
    /// they stay open (to `admin` only, where that names networks). Default `["ssh"]`. Example: `["ssh", 2222]`.
    pub admin_ports: Vec<PortRange>,
    /// What becomes of new connections to reception ports while no daemon runs and no other MTA listens: `"pass"` leaves
    /// them to whoever is bound, `"drop"` makes senders come again later. Default `"pass"`.
    pub on_daemon_down: Otherwise,
    /// Drop what no honest host sends: impossible TCP flags, LAND, tiny or overlapping fragments. Default `true`.
    pub scrub: bool,
    /// Drop sources that can come from nowhere: loopback, multicast, reserved (RFC 6890). Private networks are none: many
    /// hosts sit behind address translation. Default `true`.
    pub martians: bool,
    /// Reverse path check (RFC 3704): `"loose"` drops sources without a route, `"strict"` those whose route leads out by
    /// another interface; both drop our own addresses as sources. A new route counts within a second. Default `"off"`.
    /// Example: `"strict"` on a host with one uplink.
    pub urpf: Urpf,
    /// Answer connections of tarpit tables in the kernel, without a socket. Only for tables with action `tarpit`.
    /// Default `false`.
    pub kernel_tarpit: bool,
    /// Ports whose SYNs are answered with a cookie by the filter before the stack sees them (RFC 4987 §3.6); at most 4.
    /// Default none: the kernel's own cookies. Example: `["smtp", "submission", "imaps"]`.
    pub syn_cookies: Vec<PortRange>,
    /// How long `firewall apply` waits for `firewall confirm` before the rules of before are in force again, when it is
    /// not told otherwise; 1 s to 1 h. Default `"60s"`.
    pub confirm_within: Span,
    /// `[[firewall.rule]]`, in order; the first that fits decides.
    pub rule: Vec<RuleConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default: Otherwise::Pass,
            admin: Vec::new(),
            admin_ports: vec![PortRange::one(22)],
            on_daemon_down: Otherwise::Pass,
            scrub: true,
            martians: true,
            urpf: Urpf::Off,
            kernel_tarpit: false,
            syn_cookies: Vec::new(),
            confirm_within: Span::from_secs(60),
            rule: Vec::new(),
        }
    }
}

/// `[[firewall.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// What listings call it. Example: `"imap and pop"`.
    pub name: String,
    /// Tables the source must be in (any of them) and, with `!`, must not be in. Default: any source.
    /// Example: `["nospamd", "!bruteforce"]`.
    #[serde(default)]
    pub from: Vec<Source>,
    /// Ports of this host: numbers, ranges, names. Default: all. Example: `[25, "1000-2000", "imaps"]`.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// `"tcp"`, `"udp"`, `"icmp"`, `"icmp6"` or a number of IANA's list. Default: all, or TCP when ports are named.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Types of ICMP messages, with protocol `icmp` or `icmp6`: numbers or names. Default: all. Example: `["echo", 3]`.
    #[serde(default)]
    pub icmp_types: Vec<Icmp>,
    /// Interfaces by which the packet comes. Default: all that are filtered. Example: `["eth0"]`.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// `"pass"`, `"drop"`, `"reject"`, `"tarpit"`, `"greylist"`, or `"limit"`, which lets later rules decide.
    pub action: Action,
    /// With `limit`: connections of one source at once, 1 to 65535, as `max-src-conn`. Example: `50`.
    #[serde(default)]
    pub connections: Option<u32>,
    /// With `limit`: new connections of one source in a time, as `max-src-conn-rate`. Example: `"50/5s"`.
    #[serde(default)]
    pub rate: Option<RateLimit>,
    /// With `limit`: what counts as one source, IPv4 and IPv6 prefix length. Default `"/32,/64"`.
    #[serde(default)]
    pub per: Option<Per>,
    /// With `limit`: the table that who exceeds it is put into; without it the connection is dropped and that is all.
    /// Example: `"bruteforce"`.
    #[serde(default)]
    pub overload: Option<TableName>,
    /// With `overload`: end the connections that source has, as `flush global`. Default `false`.
    #[serde(default)]
    pub flush: bool,
    /// Tell each packet (a limit: each excess) to `mailgate trace`. Default `false`.
    #[serde(default)]
    pub log: bool,
    /// Line of the rule in its file; not a key.
    #[serde(skip)]
    pub line: usize,
}
