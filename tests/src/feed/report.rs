//! What is said while it runs, and the table at the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Progress lines and rows.
pub(super) struct Report {
    began: Instant,
    rows: Vec<Row>,
    goals: Vec<(String, bool)>,
}

struct Row {
    what: String,
    figures: Vec<String>,
}

impl Report {
    /// Says which machine this is and how busy it was.
    pub(super) fn new(what: &str) -> Self {
        println!("{what}; {}", machine());
        Self { began: Instant::now(), rows: Vec::new(), goals: Vec::new() }
    }

    /// A line for whoever waits.
    pub(super) fn progress(&self, what: &str) {
        println!("[{:4.0} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// A row of the table at the end.
    pub(super) fn row(&mut self, what: &str, figures: impl IntoIterator<Item = String>) {
        self.rows.push(Row { what: what.to_owned(), figures: figures.into_iter().collect() });
    }

    /// A goal, and whether it was met.
    pub(super) fn goal(&mut self, what: String, is_met: bool) {
        self.goals.push((what, is_met));
    }

    /// The table and the goals.
    pub(super) fn finish(&self) {
        println!("\n{}", self.table());
        for (what, is_met) in &self.goals {
            println!("{} {what}", if *is_met { "met:   " } else { "missed:" });
        }
        println!("{:.0} s in all; {}", self.began.elapsed().as_secs_f64(), machine());
    }

    fn table(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.figures.get(column)).map(|text| text.chars().count()).max()
        };
        let first = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = write!(text, "{:first$}", row.what);
            for (column, figure) in row.figures.iter().enumerate() {
                let _ = write!(text, "  {figure:>width$}", width = width(column).unwrap_or(0));
            }
            text.push('\n');
        }
        text
    }
}

/// Processor, kernel and load.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores of {}, Linux {}, load {}",
        model.map_or("an unknown model", |(_, name)| name.trim()),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

/// Seconds, for a row.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Milliseconds, for a row.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The one in the middle.
pub(super) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut report = Report { began: Instant::now(), rows: Vec::new(), goals: Vec::new() };
        report.row("one", ["a".to_owned(), "10".to_owned()]);
        report.row("number two", ["abc".to_owned(), "1".to_owned()]);
        assert_eq!(report.table(), "one           a  10\nnumber two  abc   1\n");
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[3, 1, 2].map(Duration::from_secs)), Duration::from_secs(2));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
