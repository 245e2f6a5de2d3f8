//! `[edge.sync]` of the configuration: other MXs that share what this one learns.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use mailgate_model::Span;
use mailgate_net::Fingerprint;
use serde::Deserialize;

/// The port of spamd's datagrams (spamd-sync in services(5)).
pub(super) const SPAMD_PORT: u16 = 8025;

/// `[edge.sync]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// Where peers reach us. Default none: we only connect to them. Example `["0.0.0.0:8027", "[::]:8027"]`.
    pub listen: Vec<SocketAddr>,
    /// The private key by which peers know us, made when it is missing. Default `sync.key` in the folder of the state.
    pub key_file: Option<PathBuf>,
    /// How far a peer's clock may be from ours, 1 s to 1 h. Beyond, the connection is refused and said. Default `"5m"`.
    pub clock_skew: Span,
    /// How often both sides prove to each other that they have the same, 5 s to 1 d. Default `"1m"`.
    pub compare_every: Span,
    /// `[[edge.sync.peer]]`: the other MXs. Default none.
    pub peer: Vec<PeerConfig>,
    /// `[edge.sync.spamd]`: hosts that run spamd(8). Default none.
    pub spamd: Option<SpamdConfig>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            key_file: None,
            clock_skew: Span::from_secs(300),
            compare_every: Span::from_secs(60),
            peer: Vec::new(),
            spamd: None,
        }
    }
}

/// How much is taken from a peer, or given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Everything, commands of the administrator and deletions too: hosts of one owner.
    Full,
    /// Addresses that stepped into a trap, nothing else: friends.
    Traps,
}

/// One of `[[edge.sync.peer]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// What we call it. Example `mx2`.
    pub name: String,
    /// Its key, as `mailgate sync key` prints it there. Example `sha256:4f0c...` with 64 digits.
    pub key: Fingerprint,
    /// Where we connect to. Default none: it connects to us. Example `192.0.2.2:8027`.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// What is taken from it: `"full"` or `"traps"`. Default `"full"`.
    #[serde(default = "full")]
    pub trust: Trust,
    /// What is given to it: `"full"` or `"traps"`. Default as `trust`.
    #[serde(default)]
    pub gives: Option<Trust>,
}

fn full() -> Trust {
    Trust::Full
}

/// `[edge.sync.spamd]`: the datagrams of spamd(8), version 1, for IPv4 clients; for the time of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpamdConfig {
    /// Where datagrams come in and go out from, spamd(8) `-y`. Default `"0.0.0.0:8025"`.
    pub listen: SocketAddrV4,
    /// The file that all hosts share, `/etc/mail/spamd.key` there. Default none, which needs `empty_key`.
    pub key_file: Option<PathBuf>,
    /// Whether to speak without a key as spamd does where it has no file: anybody who can send a datagram from a target's
    /// address can then trap and pass addresses. Default false.
    pub empty_key: bool,
    /// Hosts that are told, spamd(8) `-Y`; the port is 8025 where none is said. Default none; example `["192.0.2.2"]`.
    pub targets: Vec<Target>,
    /// The interface by which the multicast group 224.0.1.240 is told and heard. Default none; example `"eth0"`.
    pub multicast: Option<String>,
    /// Hops of such a datagram; 1 stays on the link. Default 1.
    pub hops: u8,
    /// How far the time in a datagram may be from ours, 10 s to 1 h; the same datagram counts once within. Default `"5m"`.
    pub window: Span,
}

impl Default for SpamdConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SPAMD_PORT),
            key_file: None,
            empty_key: false,
            targets: Vec::new(),
            multicast: None,
            hops: 1,
            window: Span::from_secs(300),
        }
    }
}

/// An IPv4 address, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Target(pub SocketAddrV4);

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse().or_else(|_| text.parse().map(|ip| SocketAddrV4::new(ip, SPAMD_PORT)));
        with_port.map(Self).map_err(|_| {
            let found: String = text.chars().take(80).collect();
            format!("found target {found:?}, expected an IPv4 address with or without a port, for example \"192.0.2.2\"")
        })
    }
}

impl SyncConfig {
    /// Whether there is anybody to share with.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !self.peer.is_empty() || !self.listen.is_empty() || self.spamd.is_some()
    }

    /// Everything that is wrong with the values.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut span = |key: &str, found: Span, least: Span, most: Span| {
            if !(least..=most).contains(&found) {
                problems.push(format!("edge.sync.{key}: found {found}, expected {least} to {most}"));
            }
        };
        let secs = Span::from_secs;
        span("clock_skew", self.clock_skew, secs(1), secs(3600));
        span("compare_every", self.compare_every, secs(5), secs(86_400));
        if let Some(spamd) = &self.spamd {
            span("spamd.window", spamd.window, secs(10), secs(3600));
            if spamd.key_file.is_none() && !spamd.empty_key {
                problems.push(
                    "edge.sync.spamd.key_file: found none, expected the file that the spamd hosts share, for example \
                     \"/etc/mail/spamd.key\"; or empty_key = true where they have none"
                        .to_owned(),
                );
            }
            if spamd.key_file.is_some() && spamd.empty_key {
                problems.push(
                    "edge.sync.spamd.empty_key: found true beside key_file, expected one of the two"
                        .to_owned(),
                );
            }
        }
        for (number, peer) in self.peer.iter().enumerate() {
            let before = self.peer.get(..number).unwrap_or_default();
            if before.iter().any(|other| other.name == peer.name || other.key == peer.key) {
                problems.push(format!(
                    "edge.sync.peer: found name or key of {:?} twice, expected each peer once",
                    peer.name
                ));
            }
            if peer.address.is_none() && self.listen.is_empty() {
                problems.push(format!(
                    "edge.sync.peer: found {:?} without address, expected one, for example \"192.0.2.2:8027\", or \
                     edge.sync.listen, else nobody begins",
                    peer.name
                ));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn read(text: &str) -> SyncConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn wrong_values_are_all_named_and_right_ones_are_not() {
        assert_eq!(SyncConfig::default().problems(), Vec::<String>::new());
        assert!(!SyncConfig::default().is_used());
        let wrong = read(&format!(
            "clock_skew = \"2h\"\ncompare_every = \"1s\"\n[[peer]]\nname = \"a\"\nkey = \"{KEY}\"\n\
             [[peer]]\nname = \"b\"\nkey = \"{KEY}\"\naddress = \"192.0.2.1:1\"\n[spamd]\nwindow = \"1s\"\n"
        ));
        let problems = wrong.problems();
        assert_eq!(problems.len(), 6, "{problems:?}");
        let right = read(&format!(
            "listen = [\"[::]:8027\"]\n[[peer]]\nname = \"a\"\nkey = \"{KEY}\"\ntrust = \"traps\"\n\
             [spamd]\nkey_file = \"/etc/mail/spamd.key\"\ntargets = [\"192.0.2.2\", \"192.0.2.3:9\"]\n"
        ));
        assert_eq!(right.problems(), Vec::<String>::new());
        let targets = right.spamd.unwrap().targets;
        assert_eq!(
            targets,
            [Target("192.0.2.2:8025".parse().unwrap()), Target("192.0.2.3:9".parse().unwrap())]
        );
    }
}
