//! Why entries of a feed are not in the tables: one vocabulary for the log, the rows and the documentation.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::rows::RefusedRow;

/// Why an entry that a feed has is not in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The feed lists the same prefix as block and as bypass, and no priority is stated.
    Contradiction,
    /// It is everybody: `0.0.0.0/0` or `::/0`.
    DefaultRoute,
    /// The feed is frozen because it grew, or shrank, more than it may.
    Frozen,
    /// It is IPv4 disguised as IPv6 (RFC 4291 §2.5.5.2).
    Mapped,
    /// `lists.entries_limit` is reached.
    NoRoom,
    /// The feed is new and only watched.
    Observed,
    /// It would keep out an address that nothing keeps out.
    Protected,
    /// The feed has more than `admission.max_entries`.
    TooMany,
    /// It is wider than the feed may speak of.
    TooShort,
}

impl Reason {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 9] = [
        Self::Contradiction,
        Self::DefaultRoute,
        Self::Frozen,
        Self::Mapped,
        Self::NoRoom,
        Self::Observed,
        Self::Protected,
        Self::TooMany,
        Self::TooShort,
    ];

    /// The word of the log, of rows and of the documentation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::DefaultRoute => "default-route",
            Self::Frozen => "frozen",
            Self::Mapped => "mapped",
            Self::NoRoom => "no-room",
            Self::Observed => "observed",
            Self::Protected => "protected",
            Self::TooMany => "too-many",
            Self::TooShort => "too-short",
        }
    }

    /// Whether such an entry is not wrong but waits until the feed is believed.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::Frozen | Self::Observed)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Prefixes that are shown for each reason.
const EXAMPLES: usize = 3;

/// How many entries are not in the tables, by reason, with the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusals([Refused; Reason::ALL.len()]);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Refused {
    entries: usize,
    examples: Vec<IpNet>,
}

impl Refusals {
    /// One more.
    pub(crate) fn add(&mut self, reason: Reason, prefix: IpNet) {
        let Some(refused) = self.0.get_mut(reason as usize) else { return };
        refused.entries += 1;
        if refused.examples.len() < EXAMPLES && !refused.examples.contains(&prefix) {
            refused.examples.push(prefix);
        }
    }

    /// One less.
    pub(crate) fn less(&mut self, reason: Reason, prefix: IpNet) {
        let Some(refused) = self.0.get_mut(reason as usize) else { return };
        refused.entries = refused.entries.saturating_sub(1);
        refused.examples.retain(|example| *example != prefix);
    }

    /// So many at once, without examples.
    pub(crate) fn add_all(&mut self, reason: Reason, entries: usize) {
        if let Some(refused) = self.0.get_mut(reason as usize) {
            refused.entries += entries;
        }
    }

    /// How many for a reason.
    pub(crate) fn of(&self, reason: Reason) -> usize {
        self.0.get(reason as usize).map_or(0, |refused| refused.entries)
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> usize {
        Reason::ALL.into_iter().filter(|reason| reason.waits()).map(|reason| self.of(reason)).sum()
    }

    /// Those that are wrong.
    pub(crate) fn refused(&self) -> usize {
        Reason::ALL.into_iter().filter(|reason| !reason.waits()).map(|reason| self.of(reason)).sum()
    }

    /// All reasons that there are.
    pub(crate) fn rows(&self) -> Vec<RefusedRow> {
        let row = |(reason, refused): (Reason, &Refused)| {
            let Refused { entries, examples } = refused;
            (*entries > 0).then(|| RefusedRow { reason, entries: *entries, examples: examples.clone() })
        };
        Reason::ALL.into_iter().zip(&self.0).filter_map(row).collect()
    }
}
