//! What no single key can know.

use super::file::Config;
use super::problems::Problems;

/// Adds what is wrong between keys.
pub(super) fn check(config: &Config, text: &str, problems: &mut Problems) {
    for problem in config.lists.problems() {
        problems.at(text, "[lists", problem);
    }
    for problem in config.edge.problems() {
        problems.at(text, "[edge", problem);
    }
    for problem in config.queue.problems() {
        problems.at(text, "[queue", problem);
    }
    for (key, found, expected) in config.smtp.problems() {
        let last = key.rsplit('.').next().unwrap_or(key);
        problems.at(text, last, format!("{key}: found {found}, expected {expected}"));
    }
    for pair in &config.net.tls.pair {
        for path in [&pair.certificate, &pair.key] {
            if !path.exists() {
                let name = path.display().to_string();
                problems.at(text, &name, format!("{name} does not exist, expected a PEM file"));
            }
        }
    }
}
