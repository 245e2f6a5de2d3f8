//! `[[lists.publish]]`: what this host has learned, for others.

use std::path::PathBuf;

use mailgate_model::Span;
use serde::Deserialize;

use crate::bgp::Pattern;

/// One list that is written for others. Default: none is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishConfig {
    /// What the log calls it. Example: `"trapped"`.
    pub name: String,
    /// What is published: `"trapped"`, hosts whose first message went to a trap, until a day after the last (longer for
    /// those who come again); or `"passed"`, hosts with enough accepted mail.
    pub set: Learned,
    /// The file, one host to a line, replaced as a whole. Example: `"/var/lib/mailgate/publish/trapped.txt"`.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Secret key without a passphrase, made by `signify -G -n`; with it the file's signature stands beside it as
    /// `FILE.sig`. Default: not signed. Example: `"/etc/mailgate/publish.sec"`.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// BGP sources, by name, to whose neighbours it is announced; each needs `announces = true`. Default: none.
    /// Example: `["192.0.2.66"]`.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Communities of the announcements, `ASN:value` or `ASN:value:value`. Example: `["65500:666"]`.
    #[serde(default)]
    pub communities: Vec<Pattern>,
    /// Accepted messages that a passed host needs, in `within` or on average per `within`. Default: 10.
    #[serde(default = "messages")]
    pub messages: u32,
    /// The time for `messages`. Default: `"75d"`.
    #[serde(default = "within")]
    pub within: Span,
    /// How often it is looked whether something has changed. Default: `"5m"`.
    #[serde(default = "interval")]
    pub interval: Span,
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learned {
    /// Hosts that passed and went on to send mail.
    Passed,
    /// Hosts in the trap.
    Trapped,
}

/// Ten in 75 days, as the feed of AS 65066 admits senders.
fn messages() -> u32 {
    10
}

fn within() -> Span {
    Span::from_secs(75 * 86_400)
}

fn interval() -> Span {
    Span::from_secs(300)
}

impl PublishConfig {
    /// What cannot be meant; `announcing` are the neighbours that something may be announced to.
    pub(super) fn problems(&self, announcing: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        if self.path.is_none() && self.peers.is_empty() {
            problems.push("found neither path nor peers, expected where the list goes".into());
        }
        if self.communities.is_empty() && !self.peers.is_empty() {
            problems.push("found no communities, expected at least one such as \"65500:666\"".into());
        }
        let is_wrong = |pattern: &&Pattern| pattern.mark().is_none();
        problems.extend(self.communities.iter().filter(is_wrong).map(|pattern| {
            format!("found community {pattern}, expected numbers such as 65500:666 or 65500:1:666")
        }));
        for peer in &self.peers {
            if !announcing.contains(peer) {
                problems.push(format!("found peer {peer}, expected a BGP source with announces = true"));
            }
        }
        if self.within.duration().is_zero() || self.interval.duration().is_zero() {
            problems.push("found a time of 0s, expected within and interval above it".into());
        }
        problems
    }
}
