//! What the machine reports, line by line: see `tests.sh`.

use std::time::Duration;

use crate::test::SKIPPED;

/// How a test ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    Passed,
    /// Passed at the second try, alone; with the end of what it said at the first.
    Unsteady(String),
    /// With its reason.
    Skipped(String),
    /// With the end of what it said.
    Failed(String),
}

/// One test on one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) ended: Ended,
    pub(crate) took: Duration,
}

/// The status with which `timeout` ends when it had to kill.
const KILLED: &str = "137";

/// A report as it comes in.
#[derive(Default)]
pub(crate) struct Report {
    /// The machine's release, once its programs run.
    pub(crate) up: Option<String>,
    /// All tests have run.
    pub(crate) is_done: bool,
    /// The machine was stopped because it was slow; what it did not come to was not tried.
    pub(crate) is_out_of_time: bool,
    pub(crate) cases: Vec<Case>,
    /// The tests that run.
    running: Vec<String>,
    /// What the test that ends now has said.
    said: String,
}

impl Report {
    /// Takes a line; the case that ended with it, if one did.
    pub(crate) fn line(&mut self, line: &str) -> Option<&Case> {
        let line = line.trim_end_matches('\r');
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["=up", release] => self.up = Some((*release).to_owned()),
            ["=start", name] => self.running.push((*name).to_owned()),
            ["=said", _] => self.said.clear(),
            ["=end", name, status, begun, ended] => {
                self.running.retain(|running| running != name);
                let said = std::mem::take(&mut self.said);
                let seconds = |word: &str| word.parse::<f64>().unwrap_or_default();
                let took = Duration::try_from_secs_f64(seconds(ended) - seconds(begun)).unwrap_or_default();
                let ended = match (self.first_failure(name), ending(status, &said)) {
                    (Some(first), Ended::Passed) => Ended::Unsteady(first),
                    (_, ended) => ended,
                };
                self.cases.push(Case { name: (*name).to_owned(), ended, took });
                return self.cases.last();
            }
            ["=done"] => self.is_done = true,
            _ => {
                self.said.push_str(line);
                self.said.push('\n');
            }
        }
        None
    }

    /// Takes out a test that failed before; what it said.
    fn first_failure(&mut self, name: &str) -> Option<String> {
        let at = self.cases.iter().position(|case| case.name == name)?;
        match self.cases.remove(at).ended {
            Ended::Failed(said) => Some(said),
            _ => None,
        }
    }

    /// Ends the report: every test of `wanted` that is not in it failed, for this reason; or was skipped, if time was up.
    pub(crate) fn finish(mut self, wanted: &[String], why: &str) -> Vec<Case> {
        for name in wanted {
            if self.cases.iter().any(|case| case.name == *name) {
                continue;
            }
            let text = if self.running.contains(name) {
                format!("{why}, and this was running")
            } else {
                why.to_owned()
            };
            let ended = if self.is_out_of_time { Ended::Skipped(text) } else { Ended::Failed(text) };
            self.cases.push(Case { name: name.clone(), ended, took: Duration::ZERO });
        }
        self.cases
    }
}

fn ending(status: &str, said: &str) -> Ended {
    if status != "0" {
        let killed = if status == KILLED { "killed: it took too long or too much memory\n" } else { "" };
        return Ended::Failed(format!("{said}{killed}"));
    }
    match said.lines().find_map(|line| line.strip_prefix(SKIPPED)) {
        Some(reason) => Ended::Skipped(reason.trim().to_owned()),
        None => Ended::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_is_asked_once_more_and_both_are_told() {
        let mut report = Report::default();
        let lines = "=up 6.1.0\n=start one\n=said one\nlate\n=end one 101 1 2\n=start two\n=said two\nno\n=end two 101 1 2\n\
                     =start one\n=said one\n=end one 0 5 6\n=start two\n=said two\nno again\n=end two 101 6 7\n=done";
        for line in lines.lines() {
            report.line(line);
        }
        let cases = report.finish(&["one".to_owned(), "two".to_owned()], "unused");
        let ended: Vec<&Ended> = cases.iter().map(|case| &case.ended).collect();
        assert_eq!(ended, [&Ended::Unsteady("late\n".into()), &Ended::Failed("no again\n".into())]);
    }

    #[test]
    fn a_report_that_breaks_off_leaves_failures_behind_not_silence() {
        let mut report = Report::default();
        // Two at a time: what one said stands between `=said` and its end.
        let lines = "=up 6.1.0\n=start a::one\n=start two\n=said a::one\nrunning 1 test\n=end a::one 0 10.10 12.60\r\n\
                     =start three\n=said two\n\nskipped: no veth\n=end two 0 1 1\n=start four\n=said three\npanicked\n\
                     =end three 101 1 2\n=said four\nlast words";
        for line in lines.lines() {
            report.line(line);
        }
        assert_eq!(report.up.as_deref(), Some("6.1.0"));
        let wanted = ["a::one", "two", "three", "four", "five"].map(str::to_owned);
        let cases = report.finish(&wanted, "the machine ended");
        let ended: Vec<&Ended> = cases.iter().map(|case| &case.ended).collect();
        assert_eq!(ended.first(), Some(&&Ended::Passed));
        assert_eq!(cases.first().map(|case| case.took), Some(Duration::from_millis(2500)));
        assert_eq!(ended.get(1), Some(&&Ended::Skipped("no veth".into())));
        assert_eq!(ended.get(2), Some(&&Ended::Failed("panicked\n".into())));
        assert_eq!(ended.get(3), Some(&&Ended::Failed("the machine ended, and this was running".into())));
        assert_eq!(ended.get(4), Some(&&Ended::Failed("the machine ended".into())));
        assert_eq!(cases.len(), 5);
    }
}
