//! `kind = "bgp"`.

mod link;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mailgate_model::Span;
use serde::Deserialize;

use super::Admission;
use crate::TableName;
use crate::bgp::Pattern;
pub use link::{AoAlgorithm, AoConfig, Password};

/// A BGP neighbour whose routes are list entries. No route reaches the host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpConfig {
    /// What `lists show` calls it. Default: the address of the peer. Example: `"eu.bgp-spamd.net"`.
    #[serde(default)]
    pub name: Option<String>,
    /// The neighbour. Example: `"217.31.80.170"`.
    pub peer: IpAddr,
    /// Its port. Default: 179.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// Who connects: `"active"` (we do), `"passive"` (the neighbour does) or `"both"`. Default: `"active"`.
    #[serde(default)]
    pub mode: Mode,
    /// Where neighbours connect to, for `"passive"` and `"both"`; neighbours with the same address share a listener, which
    /// closes everybody else. Default: none. Example: `"192.0.2.1:179"`.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// TCP MD5 signatures (RFC 2385), 1 to 80 bytes. Default: none. Example: `"a shared secret"`.
    #[serde(default)]
    pub password: Option<Password>,
    /// The same from a file, whose last line end does not count. Default: none. Example: `"/etc/mailgate/feed.key"`.
    #[serde(default)]
    pub password_file: Option<std::path::PathBuf>,
    /// TCP-AO signatures (RFC 5925), where the kernel has them. Default: none.
    /// Example: `{ key = "a shared secret", send_id = 1, receive_id = 1 }`.
    #[serde(default)]
    pub tcp_ao: Option<AoConfig>,
    /// Packets that came over more hops than these are dropped (RFC 5082); the neighbour has to send with TTL 255. 1 (the same
    /// link) to 254. Default: not checked.
    #[serde(default)]
    pub ttl_security: Option<u8>,
    /// How many hops our packets may take, 1 to 255. Default: as the system does it, mostly 64.
    #[serde(default)]
    pub multihop: Option<u8>,
    /// The address to speak from. Default: chosen by the system.
    #[serde(default)]
    pub local_address: Option<IpAddr>,
    /// Our AS, 1 to 4294967295; any private one will do. Example: `65500`.
    pub local_as: u32,
    /// The neighbour's AS. Example: `65066`.
    pub peer_as: u32,
    /// Our BGP identifier. Default: the IPv4 address we speak from, else `192.0.0.8`.
    #[serde(default)]
    pub router_id: Option<Ipv4Addr>,
    /// Hold time we propose; the smaller of both sides' counts. `"0s"` (never) or `"3s"` to `"65535s"`.
    /// Default: `"90s"`.
    #[serde(default = "defaults::hold_time")]
    pub hold_time: Span,
    /// First pause before connecting anew; doubles with each failure, with jitter. Default: `"5s"`.
    #[serde(default = "defaults::retry_min")]
    pub retry_min: Span,
    /// Longest pause before connecting anew. Default: `"2m"`.
    #[serde(default = "defaults::retry_max")]
    pub retry_max: Span,
    /// First pause of a session that came up and went down twice within a minute; doubles each time, and the neighbour is
    /// not let in meanwhile. Default: `"30s"`.
    #[serde(default = "defaults::damping_min")]
    pub damping_min: Span,
    /// Longest such pause. Default: `"10m"`.
    #[serde(default = "defaults::damping_max")]
    pub damping_max: Span,
    /// Whether several paths for one prefix are taken (RFC 7911). Default: false.
    #[serde(default)]
    pub add_path: bool,
    /// Which community puts a prefix into which table; what carries none of them is counted and not used
    /// (RFC 8212). `ASN:value`, `ASN:value:value` (large), `rt:ASN:value` or `ro:ASN:value` (extended) or a name such as
    /// `blackhole`; a part may be `*`, `local-as` or `neighbor-as`.
    /// Example: `{ "65066:666" = "block", "65066:42" = "bypass" }`.
    pub communities: BTreeMap<Pattern, TableName>,
    /// Most prefixes the neighbour may announce; one more ends the session (RFC 4486 §4). Default: 500000.
    #[serde(default = "defaults::max_prefix")]
    pub max_prefix: u32,
    /// How long the session stays down then. Default: the longest pause before connecting anew. Example: `"30m"`.
    #[serde(default)]
    pub max_prefix_restart: Option<Span>,
    /// Part of `max_prefix` at which a warning is given, 1 to 100 percent. Default: 80.
    #[serde(default = "defaults::max_prefix_warning")]
    pub max_prefix_warning: u8,
    /// Whether the first AS of a path must be the neighbour's: `"enforce"`, or `"any"` for a route server that
    /// does not put itself into the path (RFC 7947 §2.2.2.1). Default: `"enforce"`.
    #[serde(default)]
    pub first_as: FirstAs,
    /// How long entries stay after the session is lost. Default: `"24h"`.
    #[serde(default = "defaults::stale")]
    pub stale: Span,
    /// Who says how long entries stay after the session is lost: `"own"`, `stale` alone; or `"peer"`, graceful restart to the
    /// letter (RFC 4724 §4.2): not longer than the neighbour asked for, and not at all if it asked for nothing, said a hard
    /// reset, or came back without them. Default: `"own"`, so that a feed's failure leaves the tables alone.
    #[serde(default)]
    pub stale_by: StaleBy,
    /// Whether something may be announced to the neighbour. Default: false.
    #[serde(default)]
    pub announces: bool,
    /// Next hop of IPv6 prefixes we announce over IPv4. Default: our IPv4 address, mapped. Example: `"2001:db8::1"`.
    #[serde(default)]
    pub next_hop_v6: Option<Ipv6Addr>,
    /// What it may bring.
    #[serde(default)]
    pub admission: Admission,
}

/// Who connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// We do.
    #[default]
    Active,
    /// Either.
    Both,
    /// The neighbour does.
    Passive,
}

/// Who says how long entries of a lost session stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StaleBy {
    /// We do.
    #[default]
    Own,
    /// The neighbour, within our limit.
    Peer,
}

/// What the first AS of a path must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstAs {
    /// Anything.
    Any,
    /// The neighbour's.
    #[default]
    Enforce,
}

mod defaults {
    use mailgate_model::Span;

    pub(super) fn port() -> u16 {
        179
    }
    pub(super) fn hold_time() -> Span {
        Span::from_secs(90)
    }
    pub(super) fn retry_min() -> Span {
        Span::from_secs(5)
    }
    pub(super) fn retry_max() -> Span {
        Span::from_secs(120)
    }
    pub(super) fn max_prefix() -> u32 {
        500_000
    }
    pub(super) fn damping_min() -> Span {
        Span::from_secs(30)
    }
    pub(super) fn damping_max() -> Span {
        Span::from_secs(600)
    }
    pub(super) fn max_prefix_warning() -> u8 {
        80
    }
    pub(super) fn stale() -> Span {
        Span::from_secs(86_400)
    }
}

impl BgpConfig {
    /// All contradictions, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let hold = self.hold_time.duration().as_secs();
        // RFC 4271 §4.2: zero, or at least three seconds, in sixteen bits.
        if hold != 0 && !(3..=65_535).contains(&hold) {
            problems.push(format!("found hold_time {}, expected 0s or 3s to 65535s", self.hold_time));
        }
        if self.local_as == 0 || self.peer_as == 0 {
            problems.push("found AS 0, expected 1 to 4294967295".into());
        }
        if self.local_address.is_some_and(|local| local.is_ipv4() != self.peer.is_ipv4()) {
            problems.push("found local_address and peer of different families, expected the same".into());
        }
        if self.router_id.is_some_and(|id| id.is_unspecified()) {
            problems.push("found router_id 0.0.0.0, expected another (RFC 6286 §2.1)".into());
        }
        if self.retry_min > self.retry_max || self.retry_min.duration().is_zero() {
            problems.push("expected retry_min above 0s and not longer than retry_max".into());
        }
        if self.damping_min > self.damping_max || self.damping_min.duration().is_zero() {
            problems.push("expected damping_min above 0s and not longer than damping_max".into());
        }
        if !(1..=100).contains(&self.max_prefix_warning) {
            problems.push(format!("found max_prefix_warning {}, expected 1 to 100", self.max_prefix_warning));
        }
        problems.extend(self.link_problems());
        if self.communities.is_empty() {
            problems
                .push("found no communities, expected at least one such as \"65066:666\" = \"block\"".into());
        }
        problems
    }
}
