//! What no single key can know.

use mailgate_packet::firewall::{Finding, Severity};

use super::file::Config;
use super::problems::{Problem, Problems, line_in, line_with, tables_named};

/// Where a rule of the firewall stands.
const RULE: &str = "firewall.rule";

/// Adds what is wrong between keys; what is only odd goes to the configuration.
pub(super) fn check(config: &mut Config, text: &str, problems: &mut Problems) {
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
    check_firewall(config, text, problems);
    problems.sort();
}

fn check_firewall(config: &mut Config, text: &str, problems: &mut Problems) {
    for (rule, table) in config.firewall.rule.iter_mut().zip(tables_named(text, RULE)) {
        rule.line = table.start;
    }
    for finding in config.firewall.findings(&config.surroundings()) {
        let line = line_of(&finding, config, text);
        match finding.severity {
            Severity::Error => problems.push(line, finding.message),
            Severity::Warning => config.warnings.push(Problem { line, message: finding.message }),
        }
    }
    config.warnings.sort_by_key(|warning| warning.line);
}

/// The line of the key, else of the rule or section it belongs to; 0 when the rules are written in another way than
/// under a heading each.
fn line_of(finding: &Finding, config: &Config, text: &str) -> usize {
    let (table, heading) = match finding.rule {
        Some(number) => {
            let heading = config.firewall.rule.get(number).map_or(0, |rule| rule.line);
            (tables_named(text, RULE).into_iter().nth(number), heading)
        }
        None => (tables_named(text, "firewall").into_iter().next(), 0),
    };
    let Some(table) = table else { return heading };
    line_in(text, &table, finding.key).unwrap_or(table.start)
}

/// A sentence that begins with a key of `table`.
fn in_table(text: &str, table: &str, problem: &str, problems: &mut Problems) {
    let key = problem.split(' ').next().unwrap_or_default();
    problems.at(text, &format!("{table}.{key}"), format!("{table}.{problem}"));
}
