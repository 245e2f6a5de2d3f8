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

    /// A problem at the first line that contains `needle`; at the whole file when none does.
    pub(super) fn at(&mut self, text: &str, needle: &str, message: impl Into<String>) {
        let line = text.lines().position(|line| !line.trim_start().starts_with('#') && line.contains(needle));
        self.problems.push(Problem { line: line.map_or(0, |index| index + 1), message: message.into() });
    }
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
                problems.problems.sort_by_key(|problem| problem.line);
                return (Some(config), problems);
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let line = rest.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
                problems.problems.push(Problem { line, message: error.message().replace('\n', "; ") });
                let Some(blanked) = blank(&rest, &span) else { break };
                rest = blanked;
            }
        }
    }
    problems.problems.sort_by_key(|problem| problem.line);
    (None, problems)
}

/// `text` with the lines of `span` made empty; a table's heading takes its keys along. `None` when that changes nothing.
fn blank(text: &str, span: &Range<usize>) -> Option<String> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let mut end = text.get(span.end..)?.find('\n').map_or(text.len(), |at| span.end + at);
    if text.get(start..)?.trim_start().starts_with('[') {
        let after = text.get(end..)?;
        end = after.find("\n[").map_or(text.len(), |at| end + at);
    }
    let lines: String = text.get(start..end)?.chars().filter(|c| *c == '\n').collect();
    // Blank lines keep the numbers of all later lines.
    let blanked = format!("{}{lines}{}", text.get(..start)?, text.get(end..)?);
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
}
