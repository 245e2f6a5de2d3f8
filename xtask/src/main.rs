//! Everything a developer does: setup, build, run, lab, test, tidy, bench.
//!
//! **Purpose**: one place for the commands of a developer, the same on a laptop and in CI.
//! **In**: arguments. **Out**: child processes (cargo, apt-get, the daemon), lines on standard output, an exit code.
//! **Trust**: runs with the rights of whoever calls it; `setup` installs packages when that is root.
//! **Standards**: none. **Failure**: what is missing on the machine is said in one sentence and left out.
//! **Start reading at**: [`main`], then one module per command.
#![expect(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

mod bench;
mod bench_bgp;
mod bench_greylist;
mod bench_kernel;
mod bench_tarpit;
mod build;
mod ebpf;
mod fuzz;
mod kernels;
mod lab;
mod layers;
mod service;
mod setup;
mod shell;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup            install what tests need and the machine lacks (Debian packages, BPF toolchain)
  build            compile the kernel filter and the daemon
  run [-- ARGS]    build, then run the whole service on loopback; ARGS go to `mailgate run`
  lab              a small internet in network namespaces: play the whole path, narrated
  test [FILTER]    set up and build as needed, then run every test; ends with the totals
  test --kernels [WORD]   the tests of the kernel filter on Debian's 6.1 and 6.12, in virtual machines
  tidy             formatting, clippy, line budgets, layers, words
  bench NAME       measure; without a name: list the benches
  fuzz [TARGET] [--seconds N]   the grammars against libFuzzer, a minute each; needs nightly and cargo-fuzz
";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        print!("{USAGE}");
        return ExitCode::from(64);
    }
    let command = arguments.remove(0);
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let done = match command.as_str() {
        "setup" => setup::run(),
        "build" => build::run(),
        "run" => service::run(&arguments),
        "lab" => lab::run(&arguments),
        "test" => test::run(&arguments),
        "tidy" => tidy::run(),
        "bench" => bench::run(&arguments),
        "fuzz" => fuzz::run(&arguments),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprintln!("xtask: there is no command `{unknown}`\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
