//! `[edge.traps]`.

use std::net::IpAddr;
use std::path::PathBuf;

use mailgate_model::{Domain, Span};
use serde::Deserialize;

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
