//! `[lists.source.admission]` and `[lists.protect]`: what a feed may do, and whom it may never touch.

use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Span;
use serde::Deserialize;

/// Default of [`Admission::max_entries`] of a feed from elsewhere: five times the largest public lists of single hosts.
const MAX_ENTRIES: usize = 1_000_000;

/// What one source may bring into its tables. Files and folders of this host are trusted with more than what comes from
/// elsewhere (URLs, commands, BGP peers), whose defaults stand second where they differ. Zero switches a rule off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Shortest IPv4 prefix accepted, in bits, 1 to 32; a default route never is. Default: 8, from elsewhere 24.
    /// Example: 12 for a list such as Spamhaus DROP.
    pub shortest_v4: Option<u8>,
    /// Shortest IPv6 prefix accepted, in bits, 1 to 128; a default route never is. Default: 16, from elsewhere 48.
    /// Example: 29.
    pub shortest_v6: Option<u8>,
    /// Most entries; a list with more is refused as a whole, of a peer's routes those that come too late are. Default:
    /// `lists.entries_limit`, from elsewhere 1000000.
    pub max_entries: Option<usize>,
    /// New blocking entries in one fetch, or of a peer in an hour, in percent of those there are; more freeze the feed.
    /// Counts from 1000 new entries on. Default: 0, from elsewhere 20.
    pub freeze_share: Option<u32>,
    /// New blocking entries per minute; more freeze the feed. Default: 0, from elsewhere 5000.
    pub freeze_rate: Option<u32>,
    /// How many times its usual size a feed may reach before it is frozen. Counts from 1000 entries on. Default: 0, from
    /// elsewhere 10.
    pub jump: Option<u32>,
    /// Loss of entries in one fetch, in percent; more freeze the feed as it was. Counts for lists of 100 entries and
    /// more; peers withdraw what they like. Default: 0, from elsewhere 90.
    pub shrink: Option<u32>,
    /// After this time a frozen feed is believed. Default: `"24h"`; `"0s"` waits for `mailgate lists thaw`.
    pub thaw_after: Option<Span>,
    /// After so many fetches in a row that say the same a frozen feed is believed. Default: 5; 0 waits for `thaw_after`
    /// or `mailgate lists thaw`.
    pub confirm: Option<u32>,
    /// How long a feed that was never seen before is only watched: its entries are counted, none is used. Default: `"0s"`.
    /// Example: `"24h"`.
    pub observe: Option<Span>,
    /// What counts when a feed both blocks and bypasses the same prefix: `"none"` refuses both, else `"block"` or
    /// `"bypass"`. Default: `"none"`.
    pub priority: Priority,
}

/// What counts when a feed contradicts itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// The entry that keeps out.
    Block,
    /// The entry that lets in.
    Bypass,
    /// Neither.
    #[default]
    None,
}

/// Whom no feed keeps out, besides this host, loopback, gateways, name servers, BGP peers, the networks of
/// administrators and who is logged in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protect {
    /// Networks, for instance of customers and backup MXs. Default: none. Example: `["198.51.100.0/24"]`.
    pub networks: Vec<IpNet>,
}

/// The rules in numbers; `None` where a rule is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) shortest_v4: u8,
    pub(crate) shortest_v6: u8,
    pub(crate) max_entries: usize,
    /// Percent.
    pub(crate) share: Option<usize>,
    /// Per minute.
    pub(crate) rate: Option<usize>,
    /// Factor.
    pub(crate) jump: Option<usize>,
    /// Percent.
    pub(crate) shrink: Option<usize>,
    pub(crate) thaw_after: Option<Duration>,
    pub(crate) confirm: Option<u32>,
    pub(crate) observe: Duration,
    pub(crate) priority: Priority,
}

impl Limits {
    /// Whether any rule asks how a fetch differs from the one before.
    pub(crate) fn judges_growth(&self) -> bool {
        [self.share, self.rate, self.jump, self.shrink].iter().any(Option::is_some)
    }
}

impl Admission {
    /// With the defaults of the kind; `most` is what all tables may hold.
    pub(crate) fn limits(&self, is_local: bool, most: usize) -> Limits {
        let number = |set: Option<u32>, elsewhere: usize| {
            let number = set.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
            Some(number.unwrap_or(if is_local { 0 } else { elsewhere })).filter(|number| *number > 0)
        };
        let max_entries = self.max_entries.unwrap_or(if is_local { most } else { MAX_ENTRIES });
        let thaw_after = self.thaw_after.map_or(Duration::from_secs(86_400), |span| span.duration());
        Limits {
            shortest_v4: self.shortest_v4.unwrap_or(if is_local { 8 } else { 24 }),
            shortest_v6: self.shortest_v6.unwrap_or(if is_local { 16 } else { 48 }),
            max_entries: max_entries.min(most),
            share: number(self.freeze_share, 20),
            rate: number(self.freeze_rate, 5000),
            jump: number(self.jump, 10),
            shrink: number(self.shrink, 90),
            thaw_after: Some(thaw_after).filter(|after| !after.is_zero()),
            confirm: Some(self.confirm.unwrap_or(5)).filter(|times| *times > 0),
            observe: self.observe.map_or(Duration::ZERO, |span| span.duration()),
            priority: self.priority,
        }
    }

    /// What cannot be meant.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(found) = self.shortest_v4.filter(|length| !(1..=32).contains(length)) {
            problems.push(format!("found shortest_v4 {found}, expected 1 to 32"));
        }
        if let Some(found) = self.shortest_v6.filter(|length| !(1..=128).contains(length)) {
            problems.push(format!("found shortest_v6 {found}, expected 1 to 128"));
        }
        if self.max_entries == Some(0) {
            problems.push("found max_entries 0, expected at least 1".into());
        }
        if let Some(found) = self.jump.filter(|factor| *factor == 1) {
            problems.push(format!("found jump {found}, expected 0 or at least 2"));
        }
        if let Some(found) = self.shrink.filter(|percent| *percent > 99) {
            problems.push(format!("found shrink {found}, expected 0 to 99 percent"));
        }
        problems
    }
}

impl Protect {
    /// What cannot be meant.
    pub(crate) fn problems(&self) -> Vec<String> {
        let all = self.networks.iter().filter(|network| network.prefix_len() == 0);
        all.map(|network| format!("protect: found network {network}, expected one that is not everything"))
            .collect()
    }
}
