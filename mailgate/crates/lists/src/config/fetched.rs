//! `kind = "url"`, `kind = "command"` and `kind = "spamd"`: what is had every now and then.

use std::path::PathBuf;

use mailgate_model::Span;

use super::keys::source_config;

/// Shortest pause between two fetches that may be configured: what is nearer to a stream than to a list comes by BGP.
const INTERVAL_MIN: Span = Span::from_secs(60);

/// Largest lists that may be configured.
const SIZE_MAX: u64 = crate::inflate::SIZE_MAX;

source_config! {
    /// A list behind a URL. `http_proxy` and its like are not followed.
    pub struct UrlConfig (called |config| config.shown().to_owned()) {
        /// Where it is, `http://` or `https://`. Example: `"https://www.spamhaus.org/drop/drop_v4.json"`.
        pub url: String,
        /// Pause between two fetches, give or take a tenth. At least `"1m"`. Default: `"1h"`.
        #[serde(default = "interval")]
        pub interval: Span,
        /// How long a fetch may take in all. Default: `"2m"`.
        #[serde(default = "timeout")]
        pub timeout: Span,
        /// Largest list as it is sent, in bytes. At most 268435456. Default: 33554432.
        #[serde(default = "sent_limit")]
        pub sent_limit: u64,
        /// Largest list when it is unpacked, in bytes. At most 268435456. Default: 134217728.
        #[serde(default = "size_limit")]
        pub size_limit: u64,
        /// Certificates (PEM) that the server's must lead to. Default: those of this machine.
        /// Example: `"/etc/mailgate/feed-ca.pem"`.
        #[serde(default)]
        pub ca_file: Option<PathBuf>,
        /// Public key of signify(1); then only a list is taken that it has signed, by what stands at the same URL with `.sig` at the end.
        /// Default: none is asked for. Example: `"/etc/mailgate/feed.pub"`.
        #[serde(default)]
        pub signed_by: Option<PathBuf>,
    }
}

source_config! {
    /// What a program prints.
    pub struct CommandConfig (called |config| config.command.join(" ")) {
        /// The program, by its whole path, and its arguments; no shell sees them. It runs as the daemon's user with an
        /// empty environment (`PATH` and `LC_ALL=C` only) in `/`. Example: `["/usr/local/bin/feed", "--all"]`.
        pub command: Vec<String>,
        /// Pause between two runs, give or take a tenth. At least `"1m"`. Default: `"1h"`.
        #[serde(default = "interval")]
        pub interval: Span,
        /// How long it may run; then it is killed with all it has started. Default: `"2m"`.
        #[serde(default = "timeout")]
        pub timeout: Span,
        /// Most bytes it may print, and most when that is unpacked. At most 268435456. Default: 134217728.
        #[serde(default = "size_limit")]
        pub size_limit: u64,
    }
}

source_config! {
    /// The lists of a spamd.conf(5), as it is.
    pub struct SpamdConfig (called |config| config.path.display().to_string()) {
        /// The file. Example: `"/etc/mail/spamd.conf"`.
        pub path: PathBuf,
        /// Pause between two fetches of what it names, give or take a tenth; files act when they change. At least `"1m"`.
        /// Default: `"1h"`.
        #[serde(default = "interval")]
        pub interval: Span,
        /// How long each list may take. Default: `"2m"`.
        #[serde(default = "timeout")]
        pub timeout: Span,
        /// Largest list as it is sent, in bytes. At most 268435456. Default: 33554432.
        #[serde(default = "sent_limit")]
        pub sent_limit: u64,
        /// Largest list when it is unpacked, in bytes. At most 268435456. Default: 134217728.
        #[serde(default = "size_limit")]
        pub size_limit: u64,
    }
}

fn interval() -> Span {
    Span::from_secs(3600)
}
fn timeout() -> Span {
    Span::from_secs(120)
}
fn sent_limit() -> u64 {
    32 * 1024 * 1024
}
fn size_limit() -> u64 {
    128 * 1024 * 1024
}

fn times(interval: Span, timeout: Span) -> Vec<String> {
    let mut problems = Vec::new();
    if interval < INTERVAL_MIN {
        problems.push(format!("found interval {interval}, expected at least {INTERVAL_MIN}"));
    }
    if timeout.duration().is_zero() {
        problems.push("found timeout 0s, expected a longer time".into());
    }
    problems
}

fn sizes(limits: &[(&str, u64)]) -> Vec<String> {
    let wrong = limits.iter().filter(|(_, limit)| !(1..=SIZE_MAX).contains(limit));
    wrong.map(|(key, limit)| format!("found {key} {limit}, expected 1 to {SIZE_MAX}")).collect()
}

impl UrlConfig {
    /// The URL as people are shown it: what stands after `?` may be a key.
    pub(crate) fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or(&self.url)
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = times(self.interval, self.timeout);
        problems.extend(sizes(&[("sent_limit", self.sent_limit), ("size_limit", self.size_limit)]));
        problems.extend(mailgate_net::http::check(&self.url).err());
        problems
    }
}

impl CommandConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = times(self.interval, self.timeout);
        problems.extend(sizes(&[("size_limit", self.size_limit)]));
        match self.command.first() {
            None => problems.push("found an empty command, expected a program and its arguments".into()),
            Some(program) if !program.starts_with('/') => {
                problems.push(format!("found command {program:?}, expected a path that begins with /"));
            }
            Some(_) => {}
        }
        problems
    }
}

impl SpamdConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = times(self.interval, self.timeout);
        problems.extend(sizes(&[("sent_limit", self.sent_limit), ("size_limit", self.size_limit)]));
        problems
    }
}
