//! `test`: everything, with totals and the reasons for what was skipped.
//!
//! A test that cannot run here (not root, a peer is not installed) prints a line `skipped: reason` and returns; the
//! runner's report carries that line to us, so that a skipped test is never counted as passed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::kernels::{self, Ended, Outcome, Which};
use crate::{build, setup, shell};

/// What a test says when it cannot run here.
pub(crate) const SKIPPED: &str = "skipped:";

/// What asks for the tests on other kernels alone.
const KERNELS: &str = "--kernels";

/// Sets up, builds, runs every test (or those whose names contain a given word) and prints the totals. The tests of the
/// kernel filter run once more on the oldest kernel that is promised, and with `--kernels` on every one, nothing else.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::run()?;
    if arguments.iter().any(|argument| argument == KERNELS) {
        let words: Vec<String> = arguments.iter().filter(|word| *word != KERNELS).cloned().collect();
        return on_kernels(&words);
    }
    let kernel = build::kernel()?;
    let mut cargo = shell::cargo();
    // One selection of targets for building and running, so that no dependency is compiled twice.
    cargo.args(["build", "--workspace", "--lib", "--bins", "--tests"]);
    shell::succeed(kernel.apply(&mut cargo, "mailgate-tests"))?;

    let mut tally = if shell::output("cargo", &["nextest", "--version"]).is_some() {
        nextest(&kernel, arguments)?
    } else {
        plain(&kernel, arguments)?
    };
    // Who asks for some tests wants an answer soon.
    if arguments.is_empty() {
        for outcome in kernels::run(&kernel, Which::Oldest, &[])? {
            tally.add(&outcome);
        }
    }
    tally.print(&kernel);
    tally.verdict()
}

/// The tests of the kernel filter on every kernel that is promised.
fn on_kernels(words: &[String]) -> Result<()> {
    let kernel = build::kernel()?;
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "mailgate", "--bin", "mailgate"]);
    shell::succeed(kernel.apply(&mut cargo, "mailgate"))?;
    let outcomes = kernels::run(&kernel, Which::All, words)?;
    kernels::print_table(&outcomes);
    let mut tally = Tally::default();
    outcomes.iter().for_each(|outcome| tally.add(outcome));
    tally.print(&kernel);
    tally.verdict()
}

/// What a run came to.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: usize,
    failed: usize,
    /// Test name and reason.
    skipped: Vec<(String, String)>,
    /// Tests that failed, were tried once more and passed; they count as passed, and are named.
    unsteady: Vec<String>,
    /// Passed and all, per test binary.
    binaries: BTreeMap<String, (usize, usize)>,
}

impl Tally {
    /// Adds the tests on another kernel.
    fn add(&mut self, outcome: &Outcome) {
        let cases = match &outcome.cases {
            Ok(cases) => cases,
            Err(reason) => return self.skipped.push((outcome.name.clone(), reason.clone())),
        };
        let entry = self.binaries.entry(outcome.name.clone()).or_default();
        for case in cases {
            entry.1 += 1;
            match &case.ended {
                Ended::Passed => {
                    self.passed += 1;
                    entry.0 += 1;
                }
                Ended::Unsteady(_) => {
                    self.passed += 1;
                    entry.0 += 1;
                    self.unsteady.push(format!("{} {}", outcome.name, case.name));
                }
                Ended::Failed(_) => self.failed += 1,
                Ended::Skipped(reason) => {
                    self.skipped.push((format!("{} {}", outcome.name, case.name), reason.clone()));
                }
            }
        }
    }

    fn verdict(&self) -> Result<()> {
        if self.failed > 0 || (self.passed == 0 && self.skipped.is_empty()) {
            bail!("{} failed", self.failed);
        }
        Ok(())
    }

    fn print(&self, kernel: &build::Kernel) {
        println!();
        for (binary, (passed, all)) in &self.binaries {
            println!("{binary:32} {passed:5} of {all} passed");
        }
        if let build::Kernel::Without(reason) = kernel {
            println!("tests of the kernel filter ran without it: {reason}");
        }
        for (test, reason) in &self.skipped {
            println!("skipped {test}: {reason}");
        }
        for test in &self.unsteady {
            println!("unsteady {test}: failed at first, passed when tried again (what it said is above)");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len());
    }
}

fn nextest(kernel: &build::Kernel, arguments: &[String]) -> Result<Tally> {
    let report = shell::target().join("nextest/default/junit.xml");
    let _ = fs::remove_file(&report);
    let mut cargo = shell::cargo();
    cargo.args(["nextest", "run", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    kernel.apply(&mut cargo, "mailgate-tests").args(arguments).env("MAILGATE_BIN", binary());
    let status = cargo.status().context("cannot start cargo nextest")?;
    let text = fs::read_to_string(&report)
        .with_context(|| format!("cargo nextest ended with {status} and left no report"))?;
    let tally = read_report(&text);
    if !status.success() && tally.failed == 0 {
        bail!("cargo nextest ended with {status}, though no test failed");
    }
    Ok(tally)
}

fn binary() -> std::path::PathBuf {
    shell::target().join("debug/mailgate")
}

/// Reads nextest's JUnit report; the few elements that it writes, not XML in general.
fn read_report(text: &str) -> Tally {
    let mut tally = Tally::default();
    for case in text.split("<testcase ").skip(1) {
        let (head, rest) = case.split_once('>').unwrap_or((case, ""));
        let body = if head.ends_with('/') { "" } else { rest.split("</testcase>").next().unwrap_or("") };
        let binary = attribute(head, "classname");
        let name = format!("{binary} {}", attribute(head, "name"));
        let entry = tally.binaries.entry(binary).or_default();
        entry.1 += 1;
        if body.contains("<failure") || body.contains("<error") {
            tally.failed += 1;
        } else if let Some(reason) = reason(body) {
            tally.skipped.push((name, reason));
        } else {
            tally.passed += 1;
            entry.0 += 1;
            if body.contains("<flakyFailure") || body.contains("<flakyError") {
                tally.unsteady.push(name);
            }
        }
    }
    tally
}

fn attribute(head: &str, name: &str) -> String {
    let mark = format!("{name}=\"");
    let value = head.match_indices(&mark).find(|(at, _)| *at == 0 || head[..*at].ends_with(' '));
    value
        .and_then(|(at, _)| head.get(at + mark.len()..))
        .and_then(|rest| rest.split('"').next())
        .map(plain_text)
        .unwrap_or_default()
}

fn plain_text(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// The reason in a test's output, if it skipped itself. The first line of an element follows its tag directly.
fn reason(body: &str) -> Option<String> {
    body.split(['\n', '>'])
        .find_map(|line| line.strip_prefix(SKIPPED))
        .map(|reason| plain_text(reason.split("</").next().unwrap_or(reason).trim()))
}

/// The same with cargo's own runner.
fn plain(kernel: &build::Kernel, arguments: &[String]) -> Result<Tally> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    kernel.apply(&mut cargo, "mailgate-tests").args(arguments).args(["--", "--show-output"]);
    let mut child = Command::stdout(&mut cargo, Stdio::piped())
        .env("MAILGATE_BIN", binary())
        .spawn()
        .context("cannot start cargo test")?;
    let mut tally = Tally::default();
    let mut binary = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            read_line(&line, &mut binary, &mut tally);
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test ended with {status}, though no test failed");
    }
    tally.passed = tally.passed.saturating_sub(tally.skipped.len());
    Ok(tally)
}

/// One line of libtest's output. `binary` holds the test whose output is shown.
fn read_line(line: &str, shown: &mut String, tally: &mut Tally) {
    if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
        test.clone_into(shown);
    } else if let Some(reason) = line.strip_prefix(SKIPPED) {
        tally.skipped.push((shown.clone(), reason.trim().to_owned()));
    } else if let Some(result) = line.strip_prefix("test result: ") {
        let count = |word: &str| -> usize {
            let before = result.split_once(&format!(" {word}")).map(|(before, _)| before);
            before.and_then(|before| before.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        tally.passed += count("passed");
        tally.failed += count("failed");
        for _ in 0..count("ignored") {
            tally.skipped.push((shown.clone(), "ignored".into()));
            tally.passed += 1; // taken off again with the other skips
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_passed_failed_and_skipped_apart() {
        let text = r#"<testsuites><testsuite name="a" tests="4">
<testcase name="x::one" classname="a" time="0.1"><system-out>fine</system-out></testcase>
<testcase name="x::two" classname="a" time="0.1"/>
<testcase name="x::three" classname="a"><failure type="f">no</failure><system-out>skipped: not counted</system-out></testcase>
<testcase name="x::four" classname="a"><flakyFailure type="f">late</flakyFailure></testcase>
<testcase name="k" classname="b::kernel"><system-out>
running 1 test
skipped: not root, so no &lt;XDP&gt;
</system-out></testcase></testsuite></testsuites>"#;
        let tally = read_report(text);
        assert_eq!((tally.passed, tally.failed), (3, 1));
        assert_eq!(tally.unsteady, ["a x::four"]);
        assert_eq!(tally.skipped, [("b::kernel k".to_owned(), "not root, so no <XDP>".to_owned())]);
        assert_eq!(tally.binaries.get("a"), Some(&(3, 4)));
    }

    #[test]
    fn libtest_output_is_counted_over_several_binaries() {
        let mut tally = Tally::default();
        let mut shown = String::new();
        for line in [
            "---- one stdout ----",
            "skipped: swaks is not installed",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        ] {
            read_line(line, &mut shown, &mut tally);
        }
        assert_eq!(tally.passed - tally.skipped.len(), 4);
        assert_eq!(tally.failed, 1);
        assert_eq!(tally.skipped.first(), Some(&("one".to_owned(), "swaks is not installed".to_owned())));
    }
}
