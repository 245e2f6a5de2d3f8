//! `[queue]`.

use mailgate_model::Span;
use serde::Deserialize;

/// How long, how often and how much at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Attempts at the same time, local and remote together; 1 to 10000. Default 100.
    pub attempts: usize,
    /// Attempts at the same time to one remote destination; 1 to 1000. Default 5: many hosts refuse more connections
    /// from one source.
    pub attempts_per_destination: usize,
    /// Attempts at the same time to mailboxes of ours; 1 to 1000. Default 16: more only wait for the same disk.
    pub attempts_local: usize,
    /// After this age the reverse-path is told once that delivery is delayed; `0s` is never. Default `4h`
    /// (RFC 5321 §4.5.4.1 allows the warning, RFC 3461 lets the recipient's NOTIFY forbid it).
    pub delay_warning: Span,
    /// Finished messages are remembered for `mailgate why` up to this age. Default `30d`.
    pub history_age: Span,
    /// Finished messages that are remembered at most. Default 100000 (about 50 MB).
    pub history_count: u64,
    /// Added to each wait, at most this many hundredths of it, so that messages deferred together do not come back
    /// together; 0 to 100. Default 10.
    pub jitter_percent: u8,
    /// A message is given up at this age and reported. Default `5d` (RFC 5321 §4.5.4.1: at least 4 to 5 days).
    pub lifetime: Span,
    /// Octets of contents in memory for running attempts; one larger message still goes alone. Default 268435456.
    pub memory: u64,
    /// Recipients in one attempt. Default 100, what every receiver must take (RFC 5321 §4.5.3.1.8).
    pub recipients_per_attempt: usize,
    /// The wait after the first, second, ... attempt; the last one repeats. Default
    /// `["5m", "10m", "20m", "40m", "1h", "2h", "4h"]` (RFC 5321 §4.5.4.1: two attempts in the first hour, then
    /// every two or three hours).
    pub retry: Vec<Span>,
    /// At shutdown running attempts get this long to end. Default `20s`.
    pub shutdown_grace: Span,
}

impl Default for Config {
    fn default() -> Self {
        let minutes = |n: u64| Span::from_secs(n * 60);
        Self {
            attempts: 100,
            attempts_per_destination: 5,
            attempts_local: 16,
            delay_warning: minutes(4 * 60),
            history_age: minutes(30 * 24 * 60),
            history_count: 100_000,
            jitter_percent: 10,
            lifetime: minutes(5 * 24 * 60),
            memory: 256 * 1024 * 1024,
            recipients_per_attempt: 100,
            retry: [5, 10, 20, 40, 60, 120, 240].map(minutes).to_vec(),
            shutdown_grace: Span::from_secs(20),
        }
    }
}

impl Config {
    /// Every problem with what was configured, each a sentence with key, found and expected.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let counts = [
            ("attempts", self.attempts, 10_000),
            ("attempts_per_destination", self.attempts_per_destination, 1000),
            ("attempts_local", self.attempts_local, 1000),
            ("recipients_per_attempt", self.recipients_per_attempt, 10_000),
        ];
        for (key, found, most) in counts {
            if found == 0 || found > most {
                problems.push(format!("{key} = {found}, expected 1 to {most}"));
            }
        }
        if self.jitter_percent > 100 {
            problems.push(format!("jitter_percent = {}, expected 0 to 100", self.jitter_percent));
        }
        if self.retry.is_empty() || self.retry.iter().any(|wait| wait.duration().is_zero()) {
            problems.push(
                "retry wants at least one wait, none of them zero, such as [\"5m\", \"1h\"]".to_owned(),
            );
        }
        if self.lifetime.duration().is_zero() {
            problems.push("lifetime is zero, expected a span such as 5d".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_well_and_what_makes_no_sense_is_said() {
        assert!(Config::default().problems().is_empty());
        let config: Config = serde_json::from_str(
            r#"{"attempts": 0, "retry": ["5m", "0s"], "jitter_percent": 101, "lifetime": "0s"}"#,
        )
        .unwrap();
        assert_eq!(config.problems().len(), 4);
        assert!(serde_json::from_str::<Config>(r#"{"atempts": 5}"#).is_err());
    }
}
