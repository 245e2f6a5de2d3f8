//! `[delivery]`.

use std::net::{Ipv4Addr, Ipv6Addr};

use mailgate_model::{Domain, Span};
use serde::Deserialize;

/// How mail leaves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a TCP connection may take. Default `30s`: with several addresses of a host, waiting longer for one
    /// delays the others.
    pub connect_timeout: Span,
    /// Name said at EHLO. Default: the program's hostname. Example: `"out.example.org"`.
    pub helo: Option<Domain>,
    /// Whether MX records may lead to loopback addresses: `"refuse"` (default), for that is how strangers reach what
    /// listens only locally, or `"allow"` for laboratories. Static routes may always.
    pub loopback: Loopback,
    /// Port of remote MTAs. Default 25; others only make sense in laboratories.
    pub port: u16,
    /// Static routes; the first that fits wins. Example:
    /// `[[delivery.route]]` `domain = "example.org"` `host = "192.0.2.1"` `port = 2525`.
    pub route: Vec<StaticRoute>,
    /// Source address of IPv4 connections. Default: the system's choice.
    pub source_v4: Option<Ipv4Addr>,
    /// Source address of IPv6 connections. Default: the system's choice.
    pub source_v6: Option<Ipv6Addr>,
    /// `"opportunistic"` (default): TLS where offered, in the clear where it is not or breaks (RFC 7435). `"never"`.
    /// `"require"`: a host without working STARTTLS is not used.
    pub tls: TlsPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Span::from_secs(30),
            helo: None,
            loopback: Loopback::default(),
            port: 25,
            route: Vec::new(),
            source_v4: None,
            source_v6: None,
            tls: TlsPolicy::default(),
        }
    }
}

impl Config {
    /// Every problem with what was configured, each a sentence with key, found and expected.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.port == 0 {
            problems.push("port = 0, expected 1 to 65535".to_owned());
        }
        if self.connect_timeout.duration().is_zero() {
            problems.push("connect_timeout is zero, expected a span such as 30s".to_owned());
        }
        for route in &self.route {
            let is_host =
                route.host.parse::<std::net::IpAddr>().is_ok() || Domain::parse(&route.host).is_ok();
            if !is_host || route.port == 0 {
                problems.push(format!(
                    "route to {:?} port {}, expected a host such as relay.example.org or 192.0.2.1 and a port",
                    route.host, route.port
                ));
            }
        }
        problems
    }
}

/// A next hop fixed by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// `"example.org"`, `".example.org"` (all below it, not itself) or `"*"` (a smart host for everything).
    pub domain: Pattern,
    /// Name or address of the next hop; MX records are not asked.
    pub host: String,
    /// Its port. Default 25.
    #[serde(default = "smtp_port")]
    pub port: u16,
}

fn smtp_port() -> u16 {
    25
}

impl StaticRoute {
    /// `host:port`, the name of the destination.
    #[must_use]
    pub fn hop(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Which domains a static route is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Pattern {
    /// All domains below this one.
    Below(Domain),
    /// Every domain.
    Every,
    /// Exactly this domain.
    Exactly(Domain),
}

impl Pattern {
    /// Whether the route is for `domain`.
    #[must_use]
    pub fn fits(&self, domain: &Domain) -> bool {
        match self {
            Self::Below(parent) => domain != parent && domain.is_within(parent),
            Self::Every => true,
            Self::Exactly(exactly) => domain == exactly,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Every);
        }
        match text.strip_prefix('.') {
            Some(parent) => Domain::parse(parent).map(Self::Below),
            None => Domain::parse(&text).map(Self::Exactly),
        }
        .map_err(|error| format!("{error}, or .example.org, or *"))
    }
}

/// Whether MX records may lead to loopback addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// They may: for laboratories.
    Allow,
    /// Such addresses are left out.
    #[default]
    Refuse,
}

/// When TLS is used towards other MTAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// Not even when offered.
    Never,
    /// When offered and working.
    #[default]
    Opportunistic,
    /// Always, or the host is not used.
    Require,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_and_the_examples_are_well() {
        assert!(Config::default().problems().is_empty());
        let config: Config = serde_json::from_str(
            r#"{"connect_timeout": "10s", "tls": "require", "loopback": "allow", "helo": "out.example.org",
                "route": [{"domain": "example.org", "host": "192.0.2.1", "port": 2525},
                          {"domain": "*", "host": "relay.example.net"}]}"#,
        )
        .unwrap();
        assert!(config.problems().is_empty());
        assert_eq!(config.route[1].port, 25);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for json in
            [r#"{"prot": 25}"#, r#"{"route": [{"domain": "a b", "host": "x"}]}"#, r#"{"tls": "maybe"}"#]
        {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
        let json = r#"{"port": 0, "connect_timeout": "0s", "route": [{"domain": "*", "host": "a b"}]}"#;
        assert_eq!(serde_json::from_str::<Config>(json).unwrap().problems().len(), 3);
    }
}
