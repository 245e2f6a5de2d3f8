//! The tests of the kernel filter on Debian's kernels: each in a virtual machine, on the host's files.
//!
//! The machine's root is the host's file system, shared read-only, below a layer in memory: the same test binary, daemon,
//! Postfix and tshark as on the host meet another kernel. Needs root, qemu and two packages that apt can download.

mod archive;
mod debian;
mod machine;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{build, shell};
use debian::{Kernel, SERIES, Series};
use machine::{Engine, Plan, Played};
pub(crate) use report::{Case, Ended};

/// Which kernels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The oldest one, after all other tests: within a limit of time.
    Oldest,
    /// Every one that is promised, or those that are named, to the end.
    All,
}

impl Which {
    /// Longest time of all tests on one kernel.
    const fn limit(self) -> Duration {
        match self {
            Self::Oldest => Duration::from_secs(10 * 60),
            Self::All => Duration::from_secs(60 * 60),
        }
    }
}

/// The tests on one kernel.
pub(crate) struct Outcome {
    /// `kernel on RELEASE`, or on the series when there is no machine.
    pub(crate) name: String,
    /// None when they could not be run: why.
    pub(crate) cases: Result<Vec<Case>, String>,
}

/// Runs the tests whose names contain one of the words (all without a word), on the series that are among the words (all
/// of `which` without).
///
/// # Errors
/// When the test binary does not compile. What is missing on this machine is an [`Outcome`].
pub(crate) fn run(kernel: &build::Kernel, which: Which, words: &[String]) -> Result<Vec<Outcome>> {
    let (numbers, words): (Vec<String>, Vec<String>) =
        words.iter().cloned().partition(|word| SERIES.iter().any(|series| series.number == *word));
    let is_meant =
        |series: &&Series| numbers.is_empty() || numbers.iter().any(|number| number == series.number);
    let count = if which == Which::Oldest { 1 } else { SERIES.len() };
    let series: Vec<&Series> = SERIES.iter().take(count).filter(is_meant).collect();
    let skipped = |reason: String| -> Vec<Outcome> {
        series
            .iter()
            .map(|series| Outcome { name: named(series.number), cases: Err(reason.clone()) })
            .collect()
    };
    if let Some(reason) = lacking(kernel) {
        return Ok(skipped(reason));
    }
    let busybox = match debian::busybox() {
        Ok(busybox) => busybox,
        Err(error) => return Ok(skipped(format!("{error:#}"))),
    };
    let binary = binary(kernel, which)?;
    let tests = listed(&binary, &words)?;
    let mut common = Common { busybox, binary, tests, which, engine: None };
    Ok(series.into_iter().map(|series| on(series, &mut common)).collect())
}

/// What is the same on every kernel.
struct Common {
    busybox: PathBuf,
    binary: PathBuf,
    tests: Vec<String>,
    which: Which,
    /// What machines run by, once one did.
    engine: Option<Engine>,
}

fn named(kernel: &str) -> String {
    format!("kernel on {kernel}")
}

/// What this machine lacks for any of it.
fn lacking(kernel: &build::Kernel) -> Option<String> {
    if let build::Kernel::Without(reason) = kernel {
        Some(format!("there is no kernel filter to test: {reason}"))
    } else if std::env::consts::ARCH != "x86_64" {
        Some(format!("only kernels for x86_64 are fetched, this is {}", std::env::consts::ARCH))
    } else if !shell::is_root() {
        Some("not root, so the host's files cannot be shared with a virtual machine".into())
    } else if !shell::has("qemu-system-x86_64") || machine::sharer().is_none() {
        Some("qemu-system-x86_64 or virtiofsd is not installed (cargo xtask setup)".into())
    } else if !shell::has("apt-get") || !shell::has("dpkg-deb") {
        Some("this is not a Debian system, so its kernels cannot be fetched".into())
    } else {
        None
    }
}

/// The tests on the newest kernel of a series.
fn on(series: &Series, common: &mut Common) -> Outcome {
    let kernel = match debian::kernel(series, &common.busybox) {
        Ok(kernel) => kernel,
        Err(error) => return Outcome { name: named(series.number), cases: Err(format!("{error:#}")) },
    };
    let name = named(kernel.name());
    println!("kernels: {} tests on Linux {}", common.tests.len(), kernel.release);
    let cases = played(&kernel, common).unwrap_or_else(|error| Err(format!("{error:#}")));
    println!("kernels: Linux {} is done", kernel.release);
    Outcome { name, cases }
}

fn played(kernel: &Kernel, common: &mut Common) -> Result<Result<Vec<Case>, String>> {
    let (engines, mut why) = engines(common.engine);
    let (daemon, folder) = (shell::target().join("debug/mailgate"), shell::root().join("tests"));
    for engine in engines {
        if engine == Engine::Translation && common.engine.is_none() {
            println!("kernels: without KVM ({why}); qemu translates every instruction, which is slow");
        }
        let Common { busybox, binary, tests, which, .. } = &*common;
        let limit = which.limit();
        let plan = Plan { kernel, busybox, binary, daemon: &daemon, folder: &folder, tests, limit, engine };
        match machine::play(&plan, &mut tell)? {
            Played::Ran(cases) => {
                common.engine = Some(engine);
                return Ok(Ok(cases));
            }
            Played::NoMachine(reason) => why = reason,
        }
    }
    Ok(Err(why))
}

/// Where the kernel has KVM over page tables alone (PVM): on hosts without hardware for it, such as virtual machines.
const KVM_WITHOUT_HARDWARE: &str = "/sys/module/kvm_pvm";

/// What to try, in this order, and why it is not KVM if it is not.
fn engines(known: Option<Engine>) -> (Vec<Engine>, String) {
    if let Some(known) = known {
        (vec![known], String::new())
    } else if !Path::new("/dev/kvm").exists() {
        (vec![Engine::Translation], "there is no /dev/kvm".to_owned())
    } else if Path::new(KVM_WITHOUT_HARDWARE).exists() {
        let reason =
            "that of this host, kvm_pvm, runs only kernels built as its guests, which Debian's are not";
        (vec![Engine::Translation], reason.to_owned())
    } else {
        (vec![Engine::Kvm, Engine::Translation], String::new())
    }
}

/// Each test is told as it ends, and what it said when it did not pass.
fn tell(case: &Case) {
    println!("{} {}", cell(case), case.name);
    match &case.ended {
        Ended::Failed(said) => println!("{}", said.trim()),
        // What it said was told when it failed.
        Ended::Passed | Ended::Unsteady(_) | Ended::Skipped(_) => {}
    }
}

/// The test binary.
fn binary(kernel: &build::Kernel, which: Which) -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--quiet", "--message-format", "json"]);
    match which {
        // All tests are built; another selection would compile some dependencies anew.
        Which::Oldest => cargo.args(["--workspace", "--lib", "--bins", "--tests"]),
        Which::All => cargo.args(["--package", "mailgate-tests", "--test", "kernel"]),
    };
    let done = kernel.apply(&mut cargo, "mailgate-tests").output().context("cannot start cargo")?;
    ensure!(done.status.success(), "the tests do not compile: {}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8_lossy(&done.stdout);
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut kernel_tests = artifacts.filter(|artifact| {
        let target = artifact.get("target");
        let is = |key: &str, value: &str| {
            target.and_then(|target| target.get(key)).is_some_and(|found| found.as_str() == Some(value))
        };
        let is_test = target
            .and_then(|target| target.get("kind"))
            .is_some_and(|kinds| kinds.to_string().contains("test"));
        is("name", "kernel") && is_test
    });
    let found = kernel_tests.find_map(|artifact| Some(PathBuf::from(artifact.get("executable")?.as_str()?)));
    found.context("cargo names no test binary `kernel`")
}

/// Modules whose tests take longest: they begin first, so that no processor waits for the last one alone.
const LONG: &[&str] = &["upgrade::", "host_mode::", "gone::", "swaps::", "verbs::", "limits::"];

/// The names of the tests of a binary that contain one of the words, in the order in which they are to begin.
fn listed(binary: &Path, words: &[String]) -> Result<Vec<String>> {
    let program = binary.to_str().context("a path that is no text")?;
    let told =
        shell::output(program, &["--list", "--format", "terse"]).context("the test binary lists no tests")?;
    let names = told.lines().filter_map(|line| line.strip_suffix(": test"));
    let wanted =
        names.filter(|name| words.is_empty() || words.iter().any(|word| name.contains(word.as_str())));
    let mut tests: Vec<String> = wanted.map(str::to_owned).collect();
    tests.sort_by_key(|name| !LONG.iter().any(|module| name.starts_with(module)));
    ensure!(!tests.is_empty(), "no test of the kernel has such a name");
    Ok(tests)
}

/// Prints each test with what it came to on each kernel.
pub(crate) fn print_table(outcomes: &[Outcome]) {
    let ran: Vec<(&str, &[Case])> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome.name.as_str(), outcome.cases.as_ref().ok()?.as_slice())))
        .collect();
    let Some((_, first)) = ran.first() else { return };
    let width = first.iter().map(|case| case.name.len()).max().unwrap_or_default();
    let head: Vec<String> = ran.iter().map(|(name, _)| format!("{name:>26}")).collect();
    println!("\n{:width$} {}", "test", head.join(" "));
    for Case { name, .. } in *first {
        let cells: Vec<String> = ran
            .iter()
            .map(|(_, cases)| cases.iter().find(|case| case.name == *name).map_or_else(String::new, cell))
            .map(|cell| format!("{cell:>26}"))
            .collect();
        println!("{name:width$} {}", cells.join(" "));
    }
    let sums: Vec<String> = ran
        .iter()
        .map(|(_, cases)| cases.iter().map(|case| case.took).sum::<Duration>())
        .map(|sum| format!("{:>24.0} s", sum.as_secs_f64()))
        .collect();
    println!("{:width$} {}", "all", sums.join(" "));
}

fn cell(case: &Case) -> String {
    let word = match case.ended {
        Ended::Passed => "passed",
        Ended::Unsteady(_) => "again",
        Ended::Skipped(_) => "skipped",
        Ended::Failed(_) => "FAILED",
    };
    format!("{word:7} {:6.1} s", case.took.as_secs_f64())
}
