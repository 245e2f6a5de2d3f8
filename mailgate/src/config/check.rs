//! What no single key can know.

use super::file::Config;
use super::problems::{Problems, line_with};

/// Adds what is wrong between keys.
pub(super) fn check(config: &Config, text: &str, problems: &mut Problems) {
    if let Err(message) = config.own_name() {
        problems.at(text, "hostname", message);
    }
    for problem in config.lists.problems() {
        // `source NAME: ...`, where NAME stands in quotes in the file.
        let source = problem.strip_prefix("source ").and_then(|rest| rest.split_once(": "));
        let line = source.and_then(|(name, _)| line_with(text, &format!("\"{name}\"")));
        problems.push(line.or_else(|| line_with(text, "[[lists.")).unwrap_or(0), problem);
    }
    for problem in config.edge.problems() {
        let key = problem.split(':').next().unwrap_or_default().to_owned();
        problems.at(text, &key, problem);
    }
    for problem in config.queue.problems() {
        in_table(text, "queue", &problem, problems);
    }
    for problem in config.delivery.problems() {
        in_table(text, "delivery", &problem, problems);
    }
    for (key, found, expected) in config.smtp.problems() {
        problems.at(text, key, format!("{key}: found {found}, expected {expected}"));
    }
    for pair in &config.net.tls.pair {
        for path in [&pair.certificate, &pair.key] {
            if !path.exists() {
                let line = line_with(text, &format!("\"{}\"", path.display()));
                let message = format!("{} does not exist, expected a PEM file", path.display());
                problems.push(line.unwrap_or(0), message);
            }
        }
    }
    problems.sort();
}

/// A sentence that begins with a key of `table`.
fn in_table(text: &str, table: &str, problem: &str, problems: &mut Problems) {
    let key = problem.split(' ').next().unwrap_or_default();
    problems.at(text, &format!("{table}.{key}"), format!("{table}.{problem}"));
}
