//! Enhanced status codes and the one question behind all of them: try again or not?

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether trying again later can help; the single source of 4xx against 5xx. When in doubt: transient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permanence {
    /// Trying again cannot help.
    Permanent,
    /// Trying again later can help.
    Transient,
}

/// An enhanced status code `class.subject.detail` (RFC 3463 §2); `5.1.1` is "no such user".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Status {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl Status {
    /// `class` is 2, 4 or 5; the others up to 999.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads `5.1.1`; `None` when the text has another shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = parts.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let subject = parts.next()?.parse().ok().filter(|n| *n <= 999)?;
        let detail = parts.next()?.parse().ok().filter(|n| *n <= 999)?;
        parts.next().is_none().then_some(Self { class, subject, detail })
    }

    /// Permanent for class 5, transient for class 4, `None` for success.
    #[must_use]
    pub fn permanence(self) -> Option<Permanence> {
        match self.class {
            4 => Some(Permanence::Transient),
            5 => Some(Permanence::Permanent),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl TryFrom<String> for Status {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("found {text:?}, expected an enhanced status such as 5.1.1"))
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        status.to_string()
    }
}
