//! What a server offers in its answer to EHLO (RFC 5321 §4.1.1.1).

use super::Answer;

/// The extensions of a peer that we can use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// Name the peer gives itself.
    pub name: String,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE said, with its limit in octets; `Some(0)` means offered without a fixed limit (RFC 1870 §4).
    pub size: Option<u64>,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// Mechanisms of AUTH, upper case (RFC 4954).
    pub mechanisms: Vec<String>,
}

impl Offered {
    /// Reads a positive answer to EHLO. Unknown keywords are ignored.
    #[must_use]
    pub fn from_answer(answer: &Answer) -> Self {
        let mut lines = answer.lines.iter();
        let name = lines.next().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
        let mut offered = Self { name, ..Self::default() };
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "8BITMIME" => offered.eight_bit = true,
                "CHUNKING" => offered.chunking = true,
                "DSN" => offered.dsn = true,
                "ENHANCEDSTATUSCODES" => offered.enhanced_status = true,
                "PIPELINING" => offered.pipelining = true,
                "SIZE" => offered.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "SMTPUTF8" => offered.smtputf8 = true,
                "STARTTLS" => offered.starttls = true,
                "AUTH" => offered.mechanisms = words.map(str::to_ascii_uppercase).collect(),
                _ => {}
            }
        }
        offered
    }
}
