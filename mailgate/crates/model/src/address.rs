//! Domains, local parts, addresses and the two paths of an envelope.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest local part in octets (RFC 5321 §4.5.3.1.1).
const LOCAL_PART_LIMIT: usize = 64;
/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
const DOMAIN_LIMIT: usize = 255;
/// Longest label in octets (RFC 1035 §2.3.4).
const LABEL_LIMIT: usize = 63;

/// Why a text is not an address; the text of the error names what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    found: String,
    expected: &'static str,
}

impl AddressError {
    fn new(found: &str, expected: &'static str) -> Self {
        // Bytes of strangers end up in logs and replies: no control characters, no flood.
        let found = found.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { found, expected }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {:?}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for AddressError {}

/// A domain name: lower case, A-labels inside, no trailing dot, at least one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// Reads `text`, which may contain U-labels (RFC 6531 §3.2), and normalises it to lower-case A-labels.
    ///
    /// # Errors
    /// When a label is empty, too long or contains a character no host name may have.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii(text)
                .map_err(|_| AddressError::new(text, "a domain name such as mail.example.org"))?
        };
        let well_formed = !ascii.is_empty()
            && ascii.len() <= DOMAIN_LIMIT
            && ascii.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= LABEL_LIMIT
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    // The underscore is no host name character but is seen in real addresses (deviates: RFC 1123 §2.1).
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        if well_formed {
            Ok(Self(ascii))
        } else {
            Err(AddressError::new(text, "a domain name such as mail.example.org"))
        }
    }

    /// The normalised text, A-labels, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `parent` or lies below it, compared label by label.
    #[must_use]
    pub fn is_within(&self, parent: &Domain) -> bool {
        self.0 == parent.0 || self.0.strip_suffix(&parent.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

/// What stands right of the `@`: a domain or an address literal (RFC 5321 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A domain name.
    Domain(Domain),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

impl Host {
    /// Reads a domain or a bracketed address literal.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
            return Domain::parse(text).map(Self::Domain);
        };
        let tag = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:"));
        let ip = match tag {
            Some(_) => inner.get(5..).and_then(|v6| v6.parse::<Ipv6Addr>().ok()).map(IpAddr::V6),
            None => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        ip.map(Self::Literal).ok_or_else(|| {
            AddressError::new(text, "an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]")
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

/// What stands left of the `@`: case kept, quotes removed; 1 to 64 octets without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPart(String);

impl LocalPart {
    /// Reads a dot-atom or a quoted string (RFC 5321 §4.1.2, RFC 6531 §3.3).
    ///
    /// # Errors
    /// When it is neither, empty or longer than 64 octets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let plain = match text.strip_prefix('"') {
            Some(rest) => {
                unquote(rest).ok_or_else(|| AddressError::new(text, "a closed quoted local part"))?
            }
            None if is_dot_atom(text) => text.to_owned(),
            None => return Err(AddressError::new(text, "a local part such as john.doe or \"john doe\"")),
        };
        if plain.is_empty() || plain.len() > LOCAL_PART_LIMIT {
            return Err(AddressError::new(text, "a local part of 1 to 64 octets"));
        }
        Ok(Self(plain))
    }

    /// From text that has no quotes, as [`as_str`](Self::as_str) gives it.
    ///
    /// # Errors
    /// When it is empty, longer than 64 octets or contains control characters.
    pub fn plain(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() || text.len() > LOCAL_PART_LIMIT || text.chars().any(char::is_control) {
            return Err(AddressError::new(text, "a local part of 1 to 64 octets without control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text without quotes, as the owner of the domain compares it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_atom(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

fn is_dot_atom(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|atom| {
            !atom.is_empty()
                && atom.chars().all(|c| {
                    c.is_ascii_alphanumeric()
                        || "!#$%&'*+-/=?^_`{|}~".contains(c)
                        || (!c.is_ascii() && !c.is_control())
                })
        })
}

/// The content of a quoted string whose opening quote is gone; `None` when it does not end right at the closing quote.
fn unquote(rest: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.as_str().is_empty().then_some(plain),
            '\\' => plain.push(chars.next().filter(|c| !c.is_control())?),
            c if c.is_control() => return None,
            c => plain.push(c),
        }
    }
    None
}

/// `local-part@domain` (RFC 5321 `Mailbox`; never called mailbox here, that word is IMAP's).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: LocalPart,
    host: Host,
}

impl Address {
    /// Reads `local-part@domain` without angle brackets.
    ///
    /// # Errors
    /// When a half is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, host) = text
            .rsplit_once('@')
            .ok_or_else(|| AddressError::new(text, "an address such as user@example.org"))?;
        Ok(Self { local: LocalPart::parse(local)?, host: Host::parse(host)? })
    }

    /// Joins two checked halves.
    #[must_use]
    pub fn new(local: LocalPart, domain: Domain) -> Self {
        Self { local, host: Host::Domain(domain) }
    }

    /// The local part.
    #[must_use]
    pub fn local(&self) -> &LocalPart {
        &self.local
    }

    /// Domain or address literal.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The domain, unless the address has a literal.
    #[must_use]
    pub fn domain(&self) -> Option<&Domain> {
        match &self.host {
            Host::Domain(domain) => Some(domain),
            Host::Literal(_) => None,
        }
    }

    /// Whether writing it needs SMTPUTF8 (RFC 6531): true when the local part is not ASCII.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.0.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.host)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// The path bounces go to: null `<>` or an address (RFC 5321 §4.1.1.2). Written without angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReversePath {
    /// An address.
    Address(Address),
    /// `<>`: never answered with a DSN (RFC 5321 §4.5.5).
    Null,
}

impl ReversePath {
    /// The address, unless null.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Address(address) => Some(address),
            Self::Null => None,
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Null => Ok(()),
        }
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { Address::parse(&text).map(Self::Address) }
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> Self {
        path.to_string()
    }
}

/// Where a recipient is: an address, or bare `postmaster` (RFC 5321 §4.1.1.3). Written without angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ForwardPath {
    /// An address.
    Address(Address),
    /// `<postmaster>` without a domain, in any case.
    Postmaster,
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Postmaster => f.write_str("postmaster"),
        }
    }
}

impl TryFrom<String> for ForwardPath {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.eq_ignore_ascii_case("postmaster") {
            Ok(Self::Postmaster)
        } else {
            Address::parse(&text).map(Self::Address)
        }
    }
}

impl From<ForwardPath> for String {
    fn from(path: ForwardPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_normalised() {
        assert_eq!(Domain::parse("EXAMPLE.org.").unwrap().as_str(), "example.org");
        assert_eq!(Domain::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
    }

    #[test]
    fn malformed_domains_are_refused() {
        for text in ["", ".", "a..b", "-a.org", "a b", "a\r\nb", &"a".repeat(64), &"a.".repeat(140)] {
            assert!(Domain::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_suffix_without_a_label_border_is_not_within() {
        let parent = Domain::parse("obtuse.com").unwrap();
        assert!(Domain::parse("mx.obtuse.com").unwrap().is_within(&parent));
        assert!(!Domain::parse("notobtuse.com").unwrap().is_within(&parent));
    }

    #[test]
    fn addresses_round_trip() {
        for text in [
            "a@b.org",
            "\"a b\"@b.org",
            "\"a\\\"b\"@b.org",
            "x+y@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
            "ü@b.org",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c.org",
            "a..b@c.org",
            ".a@c.org",
            "\"a@c.org",
            "\"a\"b@c.org",
            "a\r\nRSET@c.org",
            "a@[::1]",
            "a@[IPv6:1]",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic_and_what_parses_round_trips(text in "\\PC{0,80}") {
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
