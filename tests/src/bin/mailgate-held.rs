//! `cargo xtask bench tarpit-kernel`: how many clients the tarpit in the kernel holds, and what they and a flood cost.

use std::process::ExitCode;

fn main() -> ExitCode {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    match mailgate_tests::held::bench::measure(count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tarpit-kernel: {error:#}");
            ExitCode::FAILURE
        }
    }
}
