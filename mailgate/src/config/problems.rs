//! Finding everything that is wrong with a file, not only the first thing.

use std::fmt;
use std::ops::Range;

use super::file::Config;

/// More problems than this are not told.
const PROBLEM_LIMIT: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line, from 1; 0 when it concerns the whole file.
    pub line: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problems {
    /// Name of the file.
    pub file: String,
    /// In the order of lines.
    pub problems: Vec<Problem>,
}

impl Problems {
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// A problem of the key with this dotted name: at its line, else at the first line with a text that the message
    /// quotes, else at the heading of its table, else at the whole file.
    pub(super) fn at(&mut self, text: &str, key: &str, message: impl Into<String>) {
        let message = message.into();
        let (table, last) = key.rsplit_once('.').unwrap_or(("", key));
        let quoted = message.split('"').nth(1).map(|inner| format!("\"{inner}\""));
        let line = line_of_key(text, table, last)
            .or_else(|| quoted.and_then(|quoted| line_with(text, &quoted)))
            .or_else(|| line_with(text, &format!("[{key}]")))
            .or_else(|| line_with(text, &format!("[{table}]")))
            .unwrap_or(0);
        self.problems.push(Problem { line, message });
    }

    pub(super) fn push(&mut self, line: usize, message: String) {
        self.problems.push(Problem { line, message });
    }

    /// In the order of lines, as people go through a file.
    pub(super) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| problem.line);
    }
}

/// Number of the line that sets `key` in `[table]` or in one of `[[table]]`.
fn line_of_key(text: &str, table: &str, key: &str) -> Option<usize> {
    let mut here = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            here = line.split(']').next().unwrap_or_default().trim_start_matches('[').trim();
        } else if here == table
            && line.split_once('=').is_some_and(|(name, _)| name.trim().trim_matches('"') == key)
        {
            return Some(index + 1);
        }
    }
    None
}

/// Lines (from 1, the end excluded) of each table with this name, heading included.
pub(super) fn tables_named(text: &str, name: &str) -> Vec<Range<usize>> {
    let mut tables: Vec<Range<usize>> = Vec::new();
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_inside = line.split(']').next().unwrap_or_default().trim_start_matches('[').trim() == name;
            if is_inside {
                tables.push(index + 1..index + 2);
            }
        } else if is_inside && let Some(table) = tables.last_mut() {
            table.end = index + 2;
        }
    }
    tables
}

/// The line that sets `key` among these lines.
pub(super) fn line_in(text: &str, lines: &Range<usize>, key: &str) -> Option<usize> {
    let inside = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let sets =
        |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim().trim_matches('"') == key);
    inside.filter(|(number, _)| lines.contains(number)).find(|(_, line)| sets(line)).map(|(number, _)| number)
}

pub(super) fn line_with(text: &str, needle: &str) -> Option<usize> {
    let found = text.lines().position(|line| !line.trim_start().starts_with('#') && line.contains(needle));
    found.map(|index| index + 1)
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{count} problem{} in {}", if count == 1 { "" } else { "s" }, self.file)?;
        for problem in &self.problems {
            match problem.line {
                0 => write!(f, "\n  {}: {}", self.file, problem.message)?,
                line => write!(f, "\n  {}:{line}: {}", self.file, problem.message)?,
            }
        }
        Ok(())
    }
}

/// Reads `text`; after each problem the offending lines are blanked and the rest is read again.
pub(super) fn read(name: &str, text: &str) -> (Option<Config>, Problems) {
    let mut problems = Problems { file: name.to_owned(), problems: Vec::new() };
    let mut rest = text.to_owned();
    while problems.problems.len() < PROBLEM_LIMIT {
        match toml::from_str::<Config>(&rest) {
            Ok(config) => {
                problems.sort();
                return (Some(config), problems);
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let Some(extent) = extent(&rest, &span) else { break };
                let lines = line_at(&rest, extent.start)..=line_at(&rest, extent.end);
                let told = problems.problems.iter().any(|problem| lines.contains(&problem.line));
                // What is missing because its line was wrong, and was blanked, was told already.
                if !(told && error.message().starts_with("missing field")) {
                    let line = line_at(&rest, span.start);
                    problems.problems.push(Problem { line, message: sentence(&error, &rest, &span) });
                }
                let Some(blanked) = blank(&rest, &extent) else { break };
                rest = blanked;
            }
        }
    }
    problems.sort();
    (None, problems)
}

fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
}

/// The parser's words, with what was found and an example where it leaves them out.
fn sentence(error: &toml::de::Error, text: &str, span: &Range<usize>) -> String {
    let expected = match error.message() {
        "invalid socket address syntax" => "an address with its port such as \"192.0.2.1:25\" or \"[::]:25\"",
        "invalid IP address syntax" => "an address such as \"192.0.2.1\" or \"2001:db8::1\"",
        other => return other.replace('\n', "; "),
    };
    format!("found {}, expected {expected}", text.get(span.clone()).unwrap_or_default())
}

/// The whole lines of `span`; a table's heading takes its keys along.
fn extent(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let mut end = text.get(span.end..)?.find('\n').map_or(text.len(), |at| span.end + at);
    if text.get(start..)?.trim_start().starts_with('[') {
        let after = text.get(end..)?;
        end = after.find("\n[").map_or(text.len(), |at| end + at);
    }
    Some(start..end)
}

/// `text` with those lines made empty. `None` when that changes nothing.
fn blank(text: &str, extent: &Range<usize>) -> Option<String> {
    // Blank lines keep the numbers of all later lines.
    let lines: String = text.get(extent.clone())?.chars().filter(|c| *c == '\n').collect();
    let blanked = format!("{}{lines}{}", text.get(..extent.start)?, text.get(extent.end..)?);
    (blanked.trim() != text.trim()).then_some(blanked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_with_its_line() {
        let text = "hostname = \"-bad-\"\nnonsense = 1\n[admin]\ncontrol = 5\n[unknown]\na = 1\nb = 2\n";
        let (_, problems) = read("x.toml", text);
        let lines: Vec<usize> = problems.problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 4, 5], "{problems}");
        assert!(problems.to_string().starts_with("4 problems in x.toml\n  x.toml:1: "), "{problems}");
    }

    #[test]
    fn a_field_whose_line_was_wrong_is_not_told_to_be_missing_as_well() {
        let text = "[[lists.source]]\nkind = \"ftp\"\npath = \"/x\"\n\n[[lists.source]]\npath = \"/x\"\n";
        let (_, problems) = read("x.toml", text);
        let told: Vec<(usize, bool)> = problems
            .problems
            .iter()
            .map(|problem| (problem.line, problem.message.starts_with("missing field")))
            .collect();
        assert_eq!(told, [(2, false), (5, true)], "{problems}");
    }

    #[test]
    fn a_listener_without_port_is_told_with_an_example() {
        let (_, problems) = read("x.toml", "[smtp.mx]\nlisten = [\"0.0.0.0\"]\n");
        assert!(problems.to_string().contains("x.toml:2: found "), "{problems}");
        assert!(problems.to_string().contains("\"[::]:25\""), "{problems}");
    }
}
