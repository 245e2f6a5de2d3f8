//! `fuzz`: gives every grammar its time with libFuzzer, one after the other, and says what came of it.
//!
//! The targets stand outside the workspace (fuzz/README.md), want nightly and cargo-fuzz, and are not part of `test`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Seconds that each target runs when nothing is said.
const SECONDS: u64 = 60;
/// An input that takes longer is a find, in seconds.
const TIMEOUT: u64 = 20;
/// Longest input, in octets: two large frames, or some tens of lines. What is longer only makes each try slower.
const LENGTH: usize = 2048;
/// Lines of libFuzzer that are shown when something was found: the sentence, the trace and the input.
const LAST_WORDS: usize = 60;

/// What the targets have in common with the texts they read: the beginning of their names, and the dictionary. The first
/// that fits counts.
const DICTIONARIES: &[(&str, &str)] = &[
    ("address", "smtp"),
    ("bgp", "bgp"),
    ("imap", "imap"),
    ("list", "list"),
    ("smtp", "smtp"),
    ("spamd_conf", "list"),
    ("spamdb", "list"),
];

/// Builds every target, runs all or those that are named, `--seconds N` each; fails if one found something.
///
/// # Errors
/// When a tool is missing, a target does not compile, or something was found.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let folder = shell::root().join("fuzz");
    let (seconds, wanted) = asked(arguments)?;
    let all = targets(&folder)?;
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there are: {}", all.join(", "));
    }
    if shell::output("cargo", &["+nightly", "fuzz", "--version"]).is_none() {
        bail!(
            "fuzzing wants nightly and cargo-fuzz: `rustup toolchain install nightly && cargo install cargo-fuzz`"
        );
    }
    // What is tried here is without `unsafe`, so the address sanitizer would find little and cost much time; overflows, bounds and
    // assertions are checked all the same.
    shell::succeed(cargo_fuzz(&folder).args(["build", "--sanitizer", "none"]))?;
    println!("{:<16} {:>8} {:>12} {:>8} {:>9}", "target", "seconds", "executions", "edges", "features");
    let mut found = Vec::new();
    for name in all.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        let said = one(&folder, name, seconds)?;
        let figure = |key| said.figures.get(key).copied().unwrap_or(0);
        println!(
            "{name:<16} {seconds:>8} {:>12} {:>8} {:>9}",
            figure("executions"),
            figure("cov:"),
            figure("ft:")
        );
        if let Some(words) = said.last_words {
            println!("{words}");
            found.push(name.as_str());
        }
    }
    if !found.is_empty() {
        bail!("inputs in fuzz/artifacts broke {}; each becomes a test beside the parser", found.join(", "));
    }
    Ok(())
}

/// Seconds, and the targets that are named.
fn asked(arguments: &[String]) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut wanted) = (SECONDS, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let text = words.next().map(String::as_str).unwrap_or_default();
            seconds = text
                .parse()
                .ok()
                .filter(|seconds| *seconds > 0)
                .with_context(|| format!("found --seconds {text:?}, expected a number from 1 on"))?;
        } else {
            wanted.push(word.clone());
        }
    }
    Ok((seconds, wanted))
}

/// The targets, by name: what is compiled and has a corpus.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).context("fuzz/Cargo.toml")?;
    let names = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/"));
    Ok(names.filter_map(|rest| rest.strip_suffix(".rs\"")).map(str::to_owned).collect())
}

fn cargo_fuzz(folder: &Path) -> Command {
    let mut command = Command::new("cargo");
    // The toolchain that cargo set for us would beat the one that is named.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(folder).stdin(Stdio::null());
    command.args(["+nightly", "fuzz"]);
    command
}

/// What came of one target.
#[derive(Debug, Default, PartialEq)]
struct Said {
    figures: BTreeMap<&'static str, u64>,
    /// The end of its output, where it found something.
    last_words: Option<String>,
}

fn one(folder: &Path, name: &str, seconds: u64) -> Result<Said> {
    let found = folder.join("found").join(name);
    fs::create_dir_all(&found)?;
    let mut command = cargo_fuzz(folder);
    command.args(["run", "--sanitizer", "none", name]).arg(found);
    command.arg(folder.join("corpus").join(name)).arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT}"),
        format!("-max_len={LENGTH}"),
        "-print_final_stats=1".to_owned(),
    ]);
    if let Some((_, words)) = DICTIONARIES.iter().find(|(beginning, _)| name.starts_with(beginning)) {
        command.arg(format!("-dict={}", folder.join(format!("dictionaries/{words}.dict")).display()));
    }
    let done = command.output().context("cannot start cargo")?;
    Ok(read(&String::from_utf8_lossy(&done.stderr), done.status.success()))
}

/// The last figures of libFuzzer's output.
fn read(output: &str, went_well: bool) -> Said {
    let mut said = Said::default();
    for line in output.lines() {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            said.figures.extend(count.trim().parse().map(|count| ("executions", count)));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let [key, value] = pair else { continue };
            for wanted in ["cov:", "ft:"] {
                if *key == wanted {
                    said.figures.extend(value.parse().map(|value| (wanted, value)));
                }
            }
        }
    }
    if !went_well {
        let before = output.lines().count().saturating_sub(LAST_WORDS);
        said.last_words = Some(output.lines().skip(before).collect::<Vec<_>>().join("\n"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_compiled_has_a_beginning_and_stands_in_the_readme() {
        let folder = shell::root().join("fuzz");
        let compiled = targets(&folder).unwrap();
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let mut written: Vec<String> = fs::read_dir(folder.join("targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| fs::read_to_string(path).unwrap().contains("fuzz_target!"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        written.sort();
        assert_eq!(compiled, written);
        for name in compiled {
            assert!(folder.join("corpus").join(&name).is_dir(), "{name} has no corpus");
            assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
        }
    }

    #[test]
    fn dictionaries_that_are_named_are_there() {
        for (_, words) in DICTIONARIES {
            assert!(shell::root().join(format!("fuzz/dictionaries/{words}.dict")).is_file(), "{words}");
        }
    }

    #[test]
    fn the_last_figures_of_the_fuzzer_count() {
        let output = "#2 INITED cov: 5 ft: 6 corp: 1/1b\n#9 NEW    cov: 1183 ft: 5912 corp: 2/9b\n\
                      stat::number_of_executed_units: 1880291\n";
        let said = read(output, true);
        let figures = [("cov:", 1183), ("executions", 1_880_291), ("ft:", 5912)];
        assert_eq!((said.figures, said.last_words), (figures.into(), None));
        assert!(read("x\npanicked at y\n", false).last_words.unwrap().ends_with("panicked at y"));
    }

    #[test]
    fn seconds_and_targets_are_read_and_nonsense_is_told() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(asked(&words("packet --seconds 5")).unwrap(), (5, words("packet")));
        assert!(asked(&words("--seconds 0")).unwrap_err().to_string().contains("expected a number"));
    }
}
