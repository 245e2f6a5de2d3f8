//! `kind = "bgp"`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use mailgate_model::Span;
use serde::Deserialize;

use crate::TableName;
use super::Admission;
use crate::bgp::Pattern;

/// A BGP neighbour whose routes are list entries. Nothing is announced to it and no route reaches the host.
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
    /// Which community puts a prefix into which table; what carries none of them is counted and not used
    /// (RFC 8212). `ASN:value`, `ASN:value:value` (large) or a name such as `blackhole`; a part may be `*`.
    /// Example: `{ "65066:666" = "block", "65066:42" = "bypass" }`.
    pub communities: BTreeMap<Pattern, TableName>,
    /// Most prefixes the neighbour may announce; one more ends the session (RFC 4486 §4). Default: 500000.
    #[serde(default = "defaults::max_prefix")]
    pub max_prefix: u32,
    /// Whether the first AS of a path must be the neighbour's: `"enforce"`, or `"any"` for a route server that
    /// does not put itself into the path (RFC 7947 §2.2.2.1). Default: `"enforce"`.
    #[serde(default)]
    pub first_as: FirstAs,
    /// How long entries stay after the session is lost. Default: `"24h"`.
    #[serde(default = "defaults::stale")]
    pub stale: Span,
    /// What it may bring.
    #[serde(default)]
    pub admission: Admission,
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
        if self.communities.is_empty() {
            problems
                .push("found no communities, expected at least one such as \"65066:666\" = \"block\"".into());
        }
        problems
    }
}
