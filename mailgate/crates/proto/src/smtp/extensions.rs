//! What we offer after EHLO; one builder for the edge and for reception, so that both say the same.

use mailgate_model::{Domain, Reply};

use super::{Offered, reply};

/// Whether AUTH is offered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sasl {
    /// Not offered: port 25, or no TLS yet.
    Hidden,
    /// PLAIN and LOGIN.
    Offered,
}

/// Whether STARTTLS is offered now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Not offered: TLS is on, or there is no certificate.
    Hidden,
    /// Offered (RFC 3207 §4.1).
    Offered,
}

/// The extensions of one session at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions {
    /// Largest content in octets, said with SIZE (RFC 1870 §3).
    pub size: usize,
    /// STARTTLS.
    pub starttls: StartTls,
    /// AUTH PLAIN LOGIN (RFC 4954 §3).
    pub sasl: Sasl,
}

impl Extensions {
    /// For port 25: no AUTH.
    #[must_use]
    pub const fn mx(size: usize, starttls: StartTls) -> Self {
        Self { size, starttls, sasl: Sasl::Hidden }
    }

    /// The keyword lines in the order in which they are said.
    #[must_use]
    pub fn keywords(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN"]
                .map(str::to_owned)
                .into();
        lines.insert(1, format!("SIZE {}", self.size));
        if self.starttls == StartTls::Offered {
            lines.push("STARTTLS".to_owned());
        }
        if self.sasl == Sasl::Offered {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        lines
    }

    /// The keyword lines that a server behind us, which goes on with the session later, offers as well. `size` is then
    /// that server's.
    #[must_use]
    pub fn keywords_behind(&self, behind: &Offered) -> Vec<String> {
        let size = behind.size.and_then(|size| usize::try_from(size).ok());
        let own = Self { size: size.unwrap_or(self.size), ..*self };
        let offered = |line: &String| match line.split(' ').next().unwrap_or_default() {
            "8BITMIME" => behind.eight_bit,
            "CHUNKING" => behind.chunking,
            "DSN" => behind.dsn,
            "ENHANCEDSTATUSCODES" => behind.enhanced_status,
            "PIPELINING" => behind.pipelining,
            "SIZE" => behind.size.is_some(),
            "SMTPUTF8" => behind.smtputf8,
            "STARTTLS" => behind.starttls,
            _ => false,
        };
        own.keywords().into_iter().filter(offered).collect()
    }

    /// The whole answer to EHLO.
    #[must_use]
    pub fn answer(&self, hostname: &Domain) -> Reply {
        reply::ehlo(hostname, self)
    }
}
