//! Figures, goals, and both as JSON.
#![expect(clippy::print_stdout, reason = "a measurement speaks on standard output")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;

/// What a figure is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// What was measured, with its unit.
    pub(crate) what: &'static str,
    /// Whose it is.
    pub(crate) who: &'static str,
    /// Which case of it; may be empty.
    pub(crate) case: &'static str,
    /// Entries in the tables.
    pub(crate) entries: usize,
    /// How they lie.
    pub(crate) set: &'static str,
}

struct Goal {
    text: String,
    found: Option<f64>,
    bound: Bound,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// To be seen beside the others.
    None,
}

impl Bound {
    /// In words; the limit; whether `found` keeps to it.
    fn judge(self, found: Option<f64>) -> (&'static str, Option<f64>, Option<bool>) {
        match self {
            Bound::AtMost(limit) => ("at most", Some(limit), found.map(|found| found <= limit)),
            Bound::AtLeast(limit) => ("at least", Some(limit), found.map(|found| found >= limit)),
            Bound::None => ("", None, None),
        }
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<(Subject, f64)>,
    goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn note(&mut self, subject: Subject, value: f64) {
        self.figures.push((subject, value));
    }

    pub(crate) fn find(&self, subject: Subject) -> Option<f64> {
        self.figures.iter().find(|(other, _)| *other == subject).map(|(_, value)| *value)
    }

    pub(crate) fn goal(&mut self, text: impl Into<String>, found: Option<f64>, bound: Bound) {
        self.goals.push(Goal { text: text.into(), found, bound });
    }

    /// One line per goal.
    pub(crate) fn print_goals(&self) {
        println!("\ngoals");
        for Goal { text, found, bound } in &self.goals {
            let (words, limit, met) = bound.judge(*found);
            let limit = limit.map_or(String::new(), |limit| limit.to_string());
            let found = found.map_or("not measured".to_owned(), |found| format!("{found:.2}"));
            let verdict = met.map_or("-", |met| if met { "met" } else { "missed" });
            println!("  {text:68} {words:8} {limit:>4} found {found:>12}  {verdict}");
        }
    }

    /// All figures and goals.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|(Subject { what, who, case, entries, set }, value)| {
                json!({ "what": what, "who": who, "case": case, "entries": entries, "set": set, "value": value })
            })
            .collect();
        let goals: Vec<Value> = self
            .goals
            .iter()
            .map(|goal| {
                let (bound, limit, met) = goal.bound.judge(goal.found);
                json!({ "goal": goal.text, "bound": bound, "limit": limit, "found": goal.found, "met": met })
            })
            .collect();
        let all = json!({ "figures": figures, "goals": goals });
        Ok(std::fs::write(file, format!("{all:#}\n"))?)
    }
}

/// A table under construction: its rows are printed when all of them are there.
pub(crate) struct Listing {
    title: String,
    /// Heading and width of each column; the first `left` of them are words.
    columns: Vec<(&'static str, usize)>,
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Listing {
    pub(crate) fn new(title: String, left: usize, columns: &[(&'static str, usize)]) -> Self {
        Self { title, columns: columns.to_vec(), left, rows: Vec::new() }
    }

    /// Adds a row, and tells it at once: until the whole is printed, minutes may pass.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let named = self.columns.iter().zip(&cells).skip(self.left);
        let said: Vec<String> = named.map(|((heading, _), cell)| format!("{heading} {cell}")).collect();
        progress(&format!("{}: {}", cells.get(..self.left).unwrap_or_default().join(", "), said.join(", ")));
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            for (n, (cell, (_, width))) in cells.zip(&self.columns).enumerate() {
                if n < self.left { print!("{cell:width$} ") } else { print!("{cell:>width$} ") }
            }
            println!();
        };
        println!("\n{}", self.title);
        line(&mut self.columns.iter().map(|(heading, _)| *heading));
        for row in &self.rows {
            line(&mut row.iter().map(String::as_str));
        }
    }
}

/// Where and beside what it is measured.
pub(crate) fn circumstances() {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?");
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("Linux {}, {processors} processors, load before it {load}", release.trim());
    if load.parse().is_ok_and(|load: f64| load > 0.5) {
        println!("other work runs on this machine: the figures are worse than they would be, ratios less so");
    }
}

/// Says what is being done, and how long after the first such line; not part of the results.
pub(crate) fn progress(text: &str) {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    eprintln!("  {:4} s  {text}", BEGUN.elapsed().as_secs());
}

/// A cell of a table; `-` for what was not measured.
pub(crate) fn cell(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Bytes as a cell in MiB; less than nothing says only that others gave more back meanwhile.
pub(crate) fn grown(bytes: f64) -> String {
    cell((bytes >= 0.0).then(|| mib(bytes)), 1)
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: f64) -> f64 {
    bytes / 1_048_576.0
}
