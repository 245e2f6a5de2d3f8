//! `[smtp]`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mailgate_model::Span;
use serde::Deserialize;

/// Reception and submission. Static: read at start.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Octets of contents in memory of all sessions together; each message counts twice, because the trace header is put
    /// in front of a copy. When used up, clients hear that the system is out of storage and come again. At least twice
    /// `message_size`. Default 268435456.
    pub content_memory: usize,
    /// Wrong commands in one session before it is closed; 1 to 1000. Default 20.
    pub errors: u32,
    /// Octets of one line of a message with its CRLF, at least 1000. Default 65536 (deviates: RFC 5321 §4.5.3.1.6 says
    /// 1000, but newsletters and scripts send more, and nobody is helped by losing them).
    pub line_length: usize,
    /// Octets of a message, said with SIZE; at least 65536 (RFC 5321 §4.5.3.1.7). Default 52428800.
    pub message_size: usize,
    /// Port 25.
    pub mx: Mx,
    /// Ports 587 and 465.
    pub msa: Msa,
    /// `Received` fields in a message before it is taken for a loop; at least 100 (RFC 5321 §6.3). Default 100.
    pub received: usize,
    /// Sessions at the same time, MX and MSA together. Default 1000.
    pub sessions: usize,
    /// Sessions at the same time from one IPv4 address or IPv6 /64. Default 50.
    pub sessions_per_source: usize,
    /// How long a peer may take.
    pub timeouts: Timeouts,
}

/// `[smtp.mx]`: mail from other MTAs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mx {
    /// What a DMARC policy of reject does: `"mark"` (said in Authentication-Results only) or `"reject"`. Default `"mark"`.
    pub dmarc: Dmarc,
    /// Addresses and ports. Default `["0.0.0.0:25", "[::]:25"]`. Where the edge is on, it listens in their place.
    pub listen: Vec<SocketAddr>,
    /// Recipients of one message, at least 100 (RFC 5321 §4.5.3.1.8). Default 100.
    pub recipients: usize,
    /// Unknown recipients in one session before it is closed; 1 to 10000. Default 50.
    pub unknown_recipients: u32,
}

/// `[smtp.msa]`: mail of our own people.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Msa {
    /// AUTH is offered and taken only inside TLS. Default true (RFC 8314 §3.3); false only for tests on loopback.
    pub auth_require_tls: bool,
    /// Addresses and ports of submission with STARTTLS. Default `["0.0.0.0:587", "[::]:587"]`.
    pub listen: Vec<SocketAddr>,
    /// Recipients of one message, at least 100. Default 1000.
    pub recipients: usize,
    /// Wrong passwords in one session before it is closed; 1 to 100. Default 3.
    pub sasl_failures: u32,
    /// Addresses and ports of submission with implicit TLS (RFC 8314 §3.3). Default `["0.0.0.0:465", "[::]:465"]`.
    pub submissions: Vec<SocketAddr>,
}

/// `[smtp.timeouts]`: the least a server should grant is in RFC 5321 §4.5.3.2.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For one whole command, however slowly its octets come, and for taking our replies. Default `5m` (RFC 5321
    /// §4.5.3.2.7).
    pub command: Span,
    /// Between two pieces of content. Default `3m` (RFC 5321 §4.5.3.2.5).
    pub content: Span,
    /// For one whole content. Default `30m`: 50 MiB at 30 kB/s.
    pub message: Span,
}

/// What a DMARC policy of reject does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dmarc {
    /// The result stands in the header; whoever reads may act.
    #[default]
    Mark,
    /// The message is rejected when the author's domain asks for it (RFC 9989 §5).
    Reject,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            content_memory: 256 * 1024 * 1024,
            errors: 20,
            line_length: 65_536,
            message_size: 50 * 1024 * 1024,
            mx: Mx::default(),
            msa: Msa::default(),
            received: 100,
            sessions: 1000,
            sessions_per_source: 50,
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Mx {
    fn default() -> Self {
        Self { dmarc: Dmarc::default(), listen: everywhere(25), recipients: 100, unknown_recipients: 50 }
    }
}

impl Default for Msa {
    fn default() -> Self {
        Self {
            auth_require_tls: true,
            listen: everywhere(587),
            recipients: 1000,
            sasl_failures: 3,
            submissions: everywhere(465),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Span::from_secs(5 * 60),
            content: Span::from_secs(3 * 60),
            message: Span::from_secs(30 * 60),
        }
    }
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
}

impl Config {
    /// Every value that is out of range, as `(key, found, expected)`; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut problems = Vec::new();
        let mut want = |holds: bool, key, found: u64, expected| {
            if !holds {
                problems.push((key, found.to_string(), expected));
            }
        };
        let (size, memory) = (self.message_size as u64, self.content_memory as u64);
        want(size >= 65_536, "smtp.message_size", size, "at least 65536");
        want(memory >= 2 * size, "smtp.content_memory", memory, "at least twice smtp.message_size");
        want(self.line_length >= 1000, "smtp.line_length", self.line_length as u64, "at least 1000");
        want((1..=1000).contains(&self.errors), "smtp.errors", self.errors.into(), "1 to 1000");
        want(self.received >= 100, "smtp.received", self.received as u64, "at least 100");
        want(self.sessions >= 1, "smtp.sessions", self.sessions as u64, "at least 1");
        want(
            self.sessions_per_source >= 1,
            "smtp.sessions_per_source",
            self.sessions_per_source as u64,
            "at least 1",
        );
        want(self.mx.recipients >= 100, "smtp.mx.recipients", self.mx.recipients as u64, "at least 100");
        want(self.msa.recipients >= 100, "smtp.msa.recipients", self.msa.recipients as u64, "at least 100");
        let (unknown, sasl) = (self.mx.unknown_recipients, self.msa.sasl_failures);
        want((1..=10_000).contains(&unknown), "smtp.mx.unknown_recipients", unknown.into(), "1 to 10000");
        want((1..=100).contains(&sasl), "smtp.msa.sasl_failures", sasl.into(), "1 to 100");
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_have_no_problem() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn every_value_out_of_range_is_named() {
        let config = Config { message_size: 1, errors: 0, content_memory: 1, ..Config::default() };
        let keys: Vec<&str> = config.problems().iter().map(|(key, ..)| *key).collect();
        assert_eq!(keys, ["smtp.message_size", "smtp.content_memory", "smtp.errors"]);
    }
}
