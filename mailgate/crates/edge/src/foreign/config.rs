//! `[edge.foreign]`.

use std::fmt;
use std::net::SocketAddr;

use mailgate_model::Span;
use serde::Deserialize;

/// The MTA behind the edge, when it is not our own reception.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForeignConfig {
    /// Where sessions are handed over: `"auto"`, which is the port that the client asked for on loopback, or address and
    /// port. Default `"auto"`. Example: `"127.0.0.1:10025"`.
    pub address: Address,
    /// How a client that qualifies in the middle of a session goes on. Default `"auto"`. Example: `"xclient"`.
    pub handover: Way,
    /// Sessions handed over at once, 1 to 100000; more are told to connect again. Default 1000.
    pub sessions: usize,
    /// Silence of both sides after which a session that was handed over ends, 1m to 1h; a backstop, because the MTA has
    /// limits of its own. Default `"10m"`.
    pub idle: Span,
}

/// Where the MTA takes sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// On loopback, at the port that the client asked for.
    #[default]
    Auto,
    /// There.
    At(SocketAddr),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::At).map_err(|_| {
            let found: String = text.chars().take(60).collect();
            format!("found {found:?}, expected \"auto\" or address and port such as \"127.0.0.1:10025\"")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// How a client that qualifies in the middle of a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// As `xclient` where the MTA offers that to us, else as `defer`.
    #[default]
    Auto,
    /// On the same connection, the MTA being told of the client by XCLIENT (Postfix: `smtpd_authorized_xclient_hosts`).
    Xclient,
    /// On the same connection, the MTA being told of the client by the PROXY protocol, version 2, on a listener of its
    /// own (Postfix: `smtpd_upstream_proxy_protocol`).
    Proxy,
    /// On the same connection, and the MTA takes us for the client: its log, its limits and its checks see our address.
    /// Refused while the MTA would relay for that address.
    Plain,
    /// On its next connection, which reaches the MTA directly.
    Defer,
}

impl Default for ForeignConfig {
    fn default() -> Self {
        Self { address: Address::Auto, handover: Way::Auto, sessions: 1000, idle: Span::from_secs(600) }
    }
}

impl ForeignConfig {
    /// Everything that is wrong with the values, each with its key.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=100_000).contains(&self.sessions) {
            problems.push(format!("edge.foreign.sessions: found {}, expected 1 to 100000", self.sessions));
        }
        if !(Span::from_secs(60)..=Span::from_secs(3600)).contains(&self.idle) {
            problems.push(format!("edge.foreign.idle: found {}, expected 1m to 1h", self.idle));
        }
        if self.handover == Way::Proxy && self.address == Address::Auto {
            problems.push(
                "edge.foreign.address: found \"auto\", expected the address of a listener that speaks the PROXY \
                 protocol, for example \"127.0.0.1:10025\", because handover is \"proxy\""
                    .to_owned(),
            );
        }
        problems
    }
}
