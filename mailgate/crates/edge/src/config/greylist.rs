//! `[edge.greylist]`.

use mailgate_model::Span;
use serde::Deserialize;

/// When an unknown client is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// At RCPT.
    #[default]
    Rcpt,
    /// After the first octets of the content, where it would have to wait.
    Data,
}

/// `[edge.greylist]`: the timings here are those of spamd(8) `-G pass:grey:white`, for mode `"classic"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GreylistConfig {
    /// From the first attempt until a retry passes. Default `"25m"`; example `"2m"`.
    pub pass_after: Span,
    /// From the first attempt until a retry counts as the first again; longer than `pass_after`. Default `"4h"`.
    pub keep_for: Span,
    /// How long a client that passed goes straight to reception; renewed by every accepted message. Default `"36d"`.
    pub passed_for: Span,
    /// Length of the IPv4 prefix that counts as one client, 16 to 32. Default 32; 24 treats a pool as one.
    pub ipv4_prefix: u8,
    /// Length of the IPv6 prefix that counts as one client, 32 to 128. Default 64: many hosts speak from another address of
    /// their /64 each time, and would never pass. spamd(8) knows no IPv6.
    pub ipv6_prefix: u8,
    /// For how long after connecting an unknown client is answered one byte per `tarpit.interval`, as spamd(8) `-S`;
    /// impatient programs leave, some old but honest ones too. Default `"0s"` (never); spamd's own is `"10s"`.
    pub stutter_for: Span,
    /// Recipients who want no greylisting: addresses, local parts with `@`, or domains with their subdomains. The client
    /// may go on to other recipients in that session. Default `[]`; example `["help@example.org", "abuse@", "shop.example"]`.
    pub opt_out: Vec<String>,
    /// When a client that would have to wait is judged: `"rcpt"`, or `"data"` after the first octets of its message, so that
    /// a retry of that message passes from whatever address of a pool, and an answer to a message of ours at once. Clients
    /// from `suspicion.strong_at` points on are judged at RCPT all the same. Default `"rcpt"`: nothing is read in vain.
    pub decide: Decide,
    /// Whether everybody unknown goes on and only log, counters and `mailgate why` say who would have had to wait. Default
    /// false.
    pub dry_run: bool,
    /// `[edge.greylist.selective]`.
    pub selective: SelectiveConfig,
}

/// `[edge.greylist.selective]`: the timings of mode `"selective"`. Many mail servers come again after 200 to 300 seconds
/// and then only hours later, so a longer delay costs hours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveConfig {
    /// From the first attempt until a retry passes. Default `"180s"`.
    pub pass_after: Span,
    /// The same for clients with an SPF pass. Default `"90s"`.
    pub aligned_pass_after: Span,
    /// The same from `suspicion.strong_at` points on. Default `"25m"`, as spamd.
    pub strong_pass_after: Span,
    /// From the last attempt until a retry counts as the first again. Default `"24h"`: some come again after half a day.
    pub keep_for: Span,
    /// The same from the first attempt. Default `"3d"`.
    pub keep_at_most: Span,
    /// How long a sender is trusted after its last accepted mail. Default `"45d"`: a monthly letter stays trusted.
    pub trusted_for: Span,
    /// Attempts of one source that may begin to wait within an hour, 1 to 10000; more are deferred and not remembered until
    /// one of the first has come again, which makes the source trusted. Default 20.
    pub pending: u32,
}

impl Default for SelectiveConfig {
    fn default() -> Self {
        Self {
            pass_after: Span::from_secs(180),
            aligned_pass_after: Span::from_secs(90),
            strong_pass_after: Span::from_secs(25 * 60),
            keep_for: Span::from_secs(24 * 3600),
            keep_at_most: Span::from_secs(3 * 86_400),
            trusted_for: Span::from_secs(45 * 86_400),
            pending: 20,
        }
    }
}

impl SelectiveConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, found) in [
            ("pass_after", self.pass_after),
            ("aligned_pass_after", self.aligned_pass_after),
            ("strong_pass_after", self.strong_pass_after),
        ] {
            if found >= self.keep_for {
                problems.push(format!(
                    "edge.greylist.selective.{key}: found {found}, expected less than keep_for ({}), for example \"3m\"",
                    self.keep_for
                ));
            }
        }
        if self.keep_at_most < self.keep_for {
            problems.push(format!(
                "edge.greylist.selective.keep_at_most: found {}, expected at least keep_for ({}), for example \"3d\"",
                self.keep_at_most, self.keep_for
            ));
        }
        if !(1..=10_000).contains(&self.pending) {
            let found = self.pending;
            problems.push(format!(
                "edge.greylist.selective.pending: found {found}, expected 1 to 10000, for example 20"
            ));
        }
        problems
    }
}

impl Default for GreylistConfig {
    fn default() -> Self {
        Self {
            pass_after: Span::from_secs(25 * 60),
            keep_for: Span::from_secs(4 * 3600),
            passed_for: Span::from_secs(36 * 86_400),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
            stutter_for: Span::from_secs(0),
            opt_out: Vec::new(),
            decide: Decide::default(),
            dry_run: false,
            selective: SelectiveConfig::default(),
        }
    }
}
