//! `[edge]` of the configuration: first contact on port 25.

use mailgate_common::ruleset::RECEPTION_PORTS;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use mailgate_model::{Domain, Span};
use serde::Deserialize;

use crate::suspicion::SuspicionConfig;

/// What becomes of clients that no table and no history knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every unknown client is greylisted, as spamd(8) does.
    Classic,
    /// Unknown clients go straight to reception. Tables and traps act all the same.
    Off,
    /// Unknown clients are judged, and only suspicious ones are greylisted.
    #[default]
    Selective,
}

/// Who takes the mail of clients that may speak to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behind {
    /// Our own reception, which listens on port 25.
    #[default]
    Own,
    /// The mail server that listens on port 25 of this host, whatever it is, and stays as it is. Nothing but the edge runs
    /// then.
    Foreign,
}

/// `[edge]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What becomes of unknown clients: `"selective"` (only suspicious ones are greylisted), `"classic"` (all, as spamd) or
    /// `"off"`. Default `"selective"`.
    pub mode: Mode,
    /// Who takes the mail: `"own"`, or `"foreign"` for the mail server that has port 25 of this host. Default `"own"`.
    pub behind: Behind,
    /// Networks that always go straight to reception, whatever tables or traps say: own hosts, relays, backup MXs.
    /// Addresses or CIDR. Default loopback; example `["127.0.0.0/8", "::1", "192.0.2.0/24"]`.
    #[serde(deserialize_with = "mailgate_packet::networks")]
    pub local: Vec<IpNet>,
    /// `[edge.foreign]`: the mail server behind, where `behind = "foreign"`.
    pub foreign: crate::foreign::config::ForeignConfig,
    /// `[edge.suspicion]`: what makes a client suspicious.
    pub suspicion: SuspicionConfig,
    /// `[edge.greylist]`.
    pub greylist: GreylistConfig,
    /// `[edge.traps]`.
    pub traps: TrapsConfig,
    /// `[edge.tarpit]`.
    pub tarpit: TarpitConfig,
    /// `[edge.limits]`.
    pub limits: LimitsConfig,
    /// `[edge.overload]`: how long sources stay in the table that a limit put them into.
    pub overload: mailgate_packet::overload::Config,
    /// `[edge.learn]`: what is learned of outgoing mail.
    pub learn: crate::learn::LearnConfig,
    /// `[edge.sync]`: other MXs that share what this one learns.
    pub sync: crate::sync::config::SyncConfig,
    /// `[edge.packet]`: the kernel filter.
    pub packet: mailgate_packet::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            behind: Behind::default(),
            foreign: crate::foreign::config::ForeignConfig::default(),
            local: vec![
                IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
                IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST)),
            ],
            suspicion: SuspicionConfig::default(),
            greylist: GreylistConfig::default(),
            traps: TrapsConfig::default(),
            tarpit: TarpitConfig::default(),
            limits: LimitsConfig::default(),
            overload: mailgate_packet::overload::Config::default(),
            learn: crate::learn::LearnConfig::default(),
            sync: crate::sync::config::SyncConfig::default(),
            packet: mailgate_packet::Config::default(),
        }
    }
}

/// `[edge.greylist]`: the timings here are those of spamd(8) `-G pass:grey:white`, for mode `"classic"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GreylistConfig {
    /// From the first attempt until a retry passes. Default `"25m"`; example `"2m"`.
    pub pass_after: Span,
    /// From the first attempt until a retry counts as the first again; longer than `pass_after`. Default `"4h"`.
    pub keep_for: Span,
    /// How long a client that passed goes straight to reception; renewed by every accepted message. Default `"36d"`.
    pub passed_for: Span,
    /// Length of the IPv4 prefix that counts as one client, 16 to 32. Default 32; 24 treats a pool as one.
    pub ipv4_prefix: u8,
    /// Length of the IPv6 prefix that counts as one client, 32 to 128. Default 64: many hosts speak from another address of
    /// their /64 each time, and would never pass. spamd(8) knows no IPv6.
    pub ipv6_prefix: u8,
    /// For how long after connecting an unknown client is answered one byte per `tarpit.interval`, as spamd(8) `-S`;
    /// impatient programs leave, some old but honest ones too. Default `"0s"` (never); spamd's own is `"10s"`.
    pub stutter_for: Span,
    /// Recipients who want no greylisting: addresses, local parts with `@`, or domains with their subdomains. The client
    /// may go on to other recipients in that session. Default `[]`; example `["help@example.org", "abuse@", "shop.example"]`.
    pub opt_out: Vec<String>,
    /// Whether everybody unknown goes on and only log, counters and `mailgate why` say who would have had to wait. Default
    /// false.
    pub dry_run: bool,
    /// `[edge.greylist.selective]`.
    pub selective: SelectiveConfig,
}

/// `[edge.greylist.selective]`: the timings of mode `"selective"`. Many mail servers come again after 200 to 300 seconds
/// and then only hours later, so a longer delay costs hours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveConfig {
    /// From the first attempt until a retry passes. Default `"180s"`.
    pub pass_after: Span,
    /// The same for clients with an SPF pass. Default `"90s"`.
    pub aligned_pass_after: Span,
    /// The same from `suspicion.strong_at` points on. Default `"25m"`, as spamd.
    pub strong_pass_after: Span,
    /// From the last attempt until a retry counts as the first again. Default `"24h"`: some come again after half a day.
    pub keep_for: Span,
    /// The same from the first attempt. Default `"3d"`.
    pub keep_at_most: Span,
    /// How long a sender is trusted after its last accepted mail. Default `"45d"`: a monthly letter stays trusted.
    pub trusted_for: Span,
    /// Attempts of one source that may begin to wait within an hour, 1 to 10000; more are deferred and not remembered until
    /// one of the first has come again, which makes the source trusted. Default 20.
    pub pending: u32,
}

impl Default for SelectiveConfig {
    fn default() -> Self {
        Self {
            pass_after: Span::from_secs(180),
            aligned_pass_after: Span::from_secs(90),
            strong_pass_after: Span::from_secs(25 * 60),
            keep_for: Span::from_secs(24 * 3600),
            keep_at_most: Span::from_secs(3 * 86_400),
            trusted_for: Span::from_secs(45 * 86_400),
            pending: 20,
        }
    }
}

impl SelectiveConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, found) in [
            ("pass_after", self.pass_after),
            ("aligned_pass_after", self.aligned_pass_after),
            ("strong_pass_after", self.strong_pass_after),
        ] {
            if found >= self.keep_for {
                problems.push(format!(
                    "edge.greylist.selective.{key}: found {found}, expected less than keep_for ({}), for example \"3m\"",
                    self.keep_for
                ));
            }
        }
        if self.keep_at_most < self.keep_for {
            problems.push(format!(
                "edge.greylist.selective.keep_at_most: found {}, expected at least keep_for ({}), for example \"3d\"",
                self.keep_at_most, self.keep_for
            ));
        }
        if !(1..=10_000).contains(&self.pending) {
            let found = self.pending;
            problems.push(format!(
                "edge.greylist.selective.pending: found {found}, expected 1 to 10000, for example 20"
            ));
        }
        problems
    }
}

impl Default for GreylistConfig {
    fn default() -> Self {
        Self {
            pass_after: Span::from_secs(25 * 60),
            keep_for: Span::from_secs(4 * 3600),
            passed_for: Span::from_secs(36 * 86_400),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            stutter_for: Span::from_secs(0),
            opt_out: Vec::new(),
            dry_run: false,
            selective: SelectiveConfig::default(),
        }
    }
}

/// `[edge.traps]`: what an unknown client does only when it sends to addresses nobody ever gave away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrapsConfig {
    /// How long a client stays trapped, from its last hit; doubled each further time until 30 days without a trap or
    /// accepted mail make it forgotten. Default `"24h"`.
    pub trapped_for: Span,
    /// The longest that doubling leads to; not shorter than `trapped_for`. Default `"7d"`; the same as `trapped_for`
    /// for no doubling.
    pub trapped_at_most: Span,
    /// Length of the IPv6 prefix that is trapped, 32 to 128; IPv4 is trapped by address. Default 64: one host has a
    /// whole /64 to hide in.
    pub ipv6_prefix: u8,
    /// When not empty, a recipient outside these domains and their subdomains traps the client, as spamd's
    /// `alloweddomains`, but compared label by label. Default `[]`; example `["example.org"]`.
    pub allowed_domains: Vec<Domain>,
    /// A file with more of them, one to a line, `#` begins a comment; `@example.org` is the domain without what is below
    /// it, `user@example.org` one address. Followed: a change acts within seconds. Default none; example
    /// `"/etc/mail/spamd.alloweddomains"`.
    pub allowed_domains_file: Option<PathBuf>,
    /// Our own addresses whose MX record has the lowest priority: who asks there first, while the others are up, is
    /// trapped, as spamd(8) `-M`; not within a minute after the start. Default `[]`; example `["192.0.2.9"]`.
    pub low_priority: Vec<IpAddr>,
    /// Recipients that do not exist, asked for by one client within an hour, that trap it if they are two thirds of all
    /// it asked for. Default 10; 0 for never.
    pub unknown_recipients: u32,
}

impl Default for TrapsConfig {
    fn default() -> Self {
        Self {
            trapped_for: Span::from_secs(86_400),
            trapped_at_most: Span::from_secs(7 * 86_400),
            ipv6_prefix: 64,
            allowed_domains: Vec::new(),
            allowed_domains_file: None,
            low_priority: Vec::new(),
            unknown_recipients: 10,
        }
    }
}

/// Whether the tarpit's last word says to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastWord {
    /// 450, spamd(8) `-4`: the spammer's queue stays full, and a wrongly listed sender loses nothing.
    #[default]
    Transient,
    /// 550, spamd(8) `-5`.
    Permanent,
}

/// `[edge.tarpit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TarpitConfig {
    /// Between two bytes of our replies, 10 ms to 10 s, as spamd(8) `-s`. Default `"1s"`.
    pub interval: Span,
    /// Turns a second of all held clients together, 100 to 1000000: when there are more clients than that times
    /// `interval`, each waits longer, so that the tarpit stays at about a tenth of a processor. Default
    /// 5000.
    pub pace: u32,
    /// Connections held at once, 1 to 1000000; the oldest ones of listed sources make room. Needs as many open files; of
    /// those the process may have, some are left to others. Each takes less than 1 KiB of our memory. Default 10000.
    pub capacity: usize,
    /// Connections held at once of one network, an IPv4 /24 or an IPv6 /64; further ones are closed. Default 1000.
    pub per_network: usize,
    /// Octets asked of the kernel for what a held client sends, so that it has to wait for us, as spamd(8) `-w`; the
    /// kernel has a least of its own. 0 leaves it as it is. Default 256.
    pub window: u32,
    /// How many of them may be inside TLS, which costs some 50 KB each. Default 500.
    pub tls_capacity: usize,
    /// Whether the last word is `"transient"` (450) or `"permanent"` (550). Default `"transient"`.
    pub last_word: LastWord,
    /// What trapped clients are told at the end; `%A` is their address, `%%` a percent sign, lines end with `\n`, as in
    /// spamd.conf(5).
    pub trapped_message: String,
    /// What clients of a table are told that has no message of its own; `%T` is the table's name.
    pub listed_message: String,
    /// Messages by table name, instead of what the list itself says. Default none; example `{ spews = "Mail from %A is not wanted, see https://..." }`.
    pub messages: BTreeMap<String, String>,
}

impl Default for TarpitConfig {
    fn default() -> Self {
        Self {
            interval: Span::from_secs(1),
            pace: 5000,
            capacity: 10_000,
            per_network: 1000,
            window: 256,
            tls_capacity: 500,
            last_word: LastWord::default(),
            trapped_message: "Your address %A sent mail to a trap within the last days".to_owned(),
            listed_message: "Your address %A is in the list %T".to_owned(),
            messages: BTreeMap::new(),
        }
    }
}

/// `[edge.limits]`: bounds of sessions with unknown clients. Connections of listed sources never count here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Sessions with unknown clients at once. Default 10000.
    pub sessions: usize,
    /// Sessions with one unknown address at once. Default 20.
    pub sessions_per_source: usize,
    /// Silence after which a session ends (RFC 5321 §4.5.3.2.7 asks for at least 5 minutes). Default `"5m"`.
    pub idle: Span,
    /// The longest session with an unknown client. Default `"15m"`.
    pub session: Span,
    /// Commands in one session with an unknown client. Default 1000.
    pub commands: u32,
    /// Commands we cannot follow before the session ends, as spamd(8). Default 20.
    pub mistakes: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            sessions_per_source: 20,
            idle: Span::from_secs(5 * 60),
            session: Span::from_secs(15 * 60),
            commands: 1000,
            mistakes: 20,
        }
    }
}

impl Config {
    /// Everything that is wrong with the values, each with its key, what was found and what is expected.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.foreign_problems();
        let mut want = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        let mut ports = self.packet.reception_ports.clone();
        ports.sort_unstable();
        ports.dedup();
        want(
            ports.len() <= RECEPTION_PORTS as usize,
            format!(
                "edge.packet.reception_ports: found {} ports, expected at most {RECEPTION_PORTS}, for example [25]",
                ports.len()
            ),
        );
        let grey = &self.greylist;
        want(
            grey.pass_after < grey.keep_for,
            format!(
                "edge.greylist.keep_for: found {}, expected longer than pass_after ({}), for example \"4h\"",
                grey.keep_for, grey.pass_after
            ),
        );
        let length = |key: &str, found: u8, least: u8, most: u8| {
            let text = format!("{key}: found {found}, expected a prefix length from {least} to {most}");
            ((least..=most).contains(&found), text)
        };
        for (right, text) in [
            length("edge.greylist.ipv4_prefix", grey.ipv4_prefix, 16, 32),
            length("edge.greylist.ipv6_prefix", grey.ipv6_prefix, 32, 128),
            length("edge.traps.ipv6_prefix", self.traps.ipv6_prefix, 32, 128),
        ] {
            want(right, text);
        }
        let traps = &self.traps;
        want(
            traps.trapped_for <= traps.trapped_at_most,
            format!(
                "edge.traps.trapped_at_most: found {}, expected not shorter than trapped_for ({}), for example \"7d\"",
                traps.trapped_at_most, traps.trapped_for
            ),
        );
        let interval = self.tarpit.interval;
        want(
            (Span::from_millis(10)..=Span::from_secs(10)).contains(&interval),
            format!("edge.tarpit.interval: found {interval}, expected 10ms to 10s, for example \"1s\""),
        );
        let instance = &self.packet.instance;
        want(
            self.packet.instance_fits(),
            format!("edge.packet.instance: found {instance:?}, expected 1 to 32 of a-z A-Z 0-9 - _"),
        );
        let capacity = self.tarpit.capacity;
        want(
            (1..=1_000_000).contains(&capacity),
            format!("edge.tarpit.capacity: found {capacity}, expected 1 to 1000000"),
        );
        let pace = self.tarpit.pace;
        want(
            (100..=1_000_000).contains(&pace),
            format!("edge.tarpit.pace: found {pace}, expected 100 to 1000000"),
        );
        want(self.tarpit.per_network > 0, "edge.tarpit.per_network: found 0, expected at least 1".to_owned());
        for (key, found) in [
            ("sessions", self.limits.sessions),
            ("sessions_per_source", self.limits.sessions_per_source),
            ("commands", self.limits.commands as usize),
            ("mistakes", self.limits.mistakes as usize),
        ] {
            want(found > 0, format!("edge.limits.{key}: found 0, expected at least 1"));
        }
        problems.extend(self.overload.problems());
        problems.extend(self.sync.problems());
        problems.extend(self.learn.problems());
        problems.extend(self.suspicion.problems());
        problems.extend(self.greylist.selective.problems());
        problems
    }
}

impl Config {
    fn foreign_problems(&self) -> Vec<String> {
        match self.behind {
            Behind::Own => {
                let unused = self.foreign != crate::foreign::config::ForeignConfig::default();
                let problem = "edge.behind: found \"own\", expected \"foreign\", because [edge.foreign] is about the mail \
                               server behind the edge";
                if unused { vec![problem.to_owned()] } else { Vec::new() }
            }
            Behind::Foreign => {
                let mut problems = self.foreign.problems();
                if self.packet.interfaces.is_empty() {
                    problems.push(
                        "edge.packet.interfaces: found none, expected those by which mail comes in, for example [\"eth0\"], \
                         because only the kernel filter can give the edge connections to another program's port \
                         (behind = \"foreign\")"
                            .to_owned(),
                    );
                }
                if self.packet.steer_loopback {
                    problems.push(
                        "edge.packet.steer_loopback: found true, expected false, because the edge itself reaches the \
                         mail server through loopback (behind = \"foreign\")"
                            .to_owned(),
                    );
                }
                problems
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_problems_and_wrong_values_are_all_named() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
        let mut config = Config::default();
        config.greylist.keep_for = Span::from_secs(60);
        config.greylist.ipv4_prefix = 33;
        config.tarpit.interval = Span::from_secs(11);
        config.limits.sessions = 0;
        config.overload.stays.clear();
        let problems = config.problems();
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].contains("edge.greylist.keep_for: found 1m"), "{problems:?}");
    }

    #[test]
    fn in_front_of_another_mail_server_other_keys_are_needed() {
        let mut config = Config { behind: Behind::Foreign, ..Config::default() };
        config.packet.steer_loopback = true;
        config.foreign.handover = crate::foreign::config::Way::Proxy;
        let problems = config.problems();
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(keys, ["edge.foreign.address", "edge.packet.interfaces", "edge.packet.steer_loopback"]);
        config.behind = Behind::Own;
        assert!(config.problems()[0].starts_with("edge.behind: found \"own\""), "{:?}", config.problems());
    }
}
