//! `tidy`: the house rules that a machine can check (docs/contributing.md has their reasons).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, layers, shell};

/// Lines of a source file; tests and tables are exempt.
const FILE_LINES: usize = 800;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "helper", "helpers", "misc", "auth"];

/// Endings of type names that say nothing about what the type is.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Handler", "Helper", "Processor", "Util", "Utils"];

/// The headings that open every crate.
const HEADINGS: &[&str] = &["Purpose", "In", "Out", "Trust", "Standards", "Failure", "Start reading at"];

/// Checks everything, prints all violations, fails if there is one.
pub(crate) fn run() -> Result<()> {
    let mut found = layers::violations()?;
    for file in sources(&shell::root()) {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(shell::root()).unwrap_or(&file);
        found.extend(file_violations(name, &text));
    }
    for line in &found {
        println!("tidy: {line}");
    }
    let mut failed = usize::from(!found.is_empty());
    println!("tidy: layers, lines, names, headings: {} violations", found.len());
    failed += usize::from(!step("formatting", shell::cargo().args(["fmt", "--all", "--check", "--", "-l"])));
    let mut clippy = shell::cargo();
    clippy.args(["clippy", "--quiet", "--keep-going", "--workspace", "--lib", "--bins", "--tests"]);
    build::existing_kernel().apply(&mut clippy, "mailgate-tests").args(["--", "-D", "warnings"]);
    failed += usize::from(!step("clippy", &mut clippy));
    if failed > 0 {
        bail!("not tidy");
    }
    println!("tidy: all is tidy");
    Ok(())
}

/// One cargo command; a tool that is not installed counts as a failure with a plain sentence.
fn step(name: &str, command: &mut Command) -> bool {
    let done = shell::succeed(command);
    match &done {
        Ok(()) => println!("tidy: {name}: fine"),
        Err(error) => println!("tidy: {name}: {error:#}"),
    }
    done.is_ok()
}

/// Every Rust source of ours.
fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["mailgate", "mailgate-common", "mailgate-ebpf", "tests", "xtask"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn file_violations(name: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("{}:{line}: {what}", name.display()));
    let of_tests = name.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with("tests") || part == "benches" || part.starts_with("table")
    });
    let lines = text.lines().count();
    if lines > FILE_LINES && !of_tests {
        say(lines, format!("{lines} lines; a file has at most {FILE_LINES}"));
    }
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    let folder = name.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    for part in [&stem, &folder] {
        if EMPTY_NAMES.contains(&part.as_ref()) {
            say(1, format!("a module named `{part}` says nothing"));
        }
    }
    if stem == "lib" {
        let opening: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let lacks = |heading: &&&str| !opening.iter().any(|line| line.contains(&format!("**{heading}**")));
        let lacking: Vec<&str> = HEADINGS.iter().filter(lacks).copied().collect();
        if !lacking.is_empty() {
            say(1, format!("the crate's opening lacks {}", lacking.join(", ")));
        }
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(what) = line_violation(line.trim_start()) {
            say(at + 1, what);
        }
    }
    found
}

fn line_violation(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or(line);
    let declared = |keyword: &str| -> Option<&str> {
        let at = code.find(keyword)?;
        let before = code.get(..at)?;
        if before.contains('"') || before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let rest = code.get(at + keyword.len()..)?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    };
    if let Some(name) = declared("fn ").filter(|name| name.starts_with("get_")) {
        return Some(format!("`{name}`: no get_ prefix"));
    }
    for keyword in ["struct ", "enum ", "trait "] {
        let Some(name) = declared(keyword) else { continue };
        if EMPTY_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            return Some(format!("`{name}`: a name that says nothing"));
        }
    }
    let (before, comment) = line.split_once("//")?;
    let comment = comment.trim_start_matches(['/', '!', ' ']);
    let marks = ["TODO", "FIXME", "XXX"];
    let mark = marks.into_iter().find(|mark| comment.starts_with(mark) && !before.contains('"'))?;
    let form = line.split_once("TODO(").and_then(|(_, rest)| rest.split_once("): "));
    form.is_none().then(|| format!("{mark}: write `TODO(name): what`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found_and_others_are_not() {
        assert!(line_violation("pub fn get_address(&self) {").is_some());
        assert!(line_violation("pub(crate) struct SessionManager;").is_some());
        assert!(line_violation("// TODO: later").is_some());
        assert!(line_violation("// TODO(ada): later").is_none());
        assert!(line_violation("fn address(&self) -> &str {").is_none());
        assert!(line_violation("let text = \"fn get_x\";").is_none());
        assert!(line_violation("struct Handled;").is_none());
    }

    #[test]
    fn a_long_file_and_an_empty_module_name_are_found() {
        let long = "\n".repeat(FILE_LINES + 1);
        assert_eq!(file_violations(Path::new("mailgate/src/wire.rs"), &long).len(), 1);
        assert_eq!(file_violations(Path::new("mailgate/src/wire/tests.rs"), &long).len(), 0);
        assert_eq!(file_violations(Path::new("mailgate/src/util/x.rs"), "").len(), 1);
        assert_eq!(file_violations(Path::new("mailgate/crates/x/src/lib.rs"), "//! **In**").len(), 1);
    }
}
