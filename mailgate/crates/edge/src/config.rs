//! `[edge]` of the configuration: first contact on port 25.

mod greylist;
mod problems;
mod tarpit;
mod traps;

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Span;
use serde::Deserialize;

use crate::suspicion::SuspicionConfig;

pub use self::greylist::{Decide, GreylistConfig, SelectiveConfig};
pub use self::tarpit::{LastWord, TarpitConfig};
pub use self::traps::TrapsConfig;

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
