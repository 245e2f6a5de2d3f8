//! `cargo xtask bench tarpit`: how many clients the tarpit holds and what they cost, with postscreen beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let number = |n: usize| std::env::args().nth(n).and_then(|count| count.parse().ok());
    let count = number(1).unwrap_or(100_000);
    match mailgate_tests::pit::measure(count, number(2).unwrap_or(count)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tarpit: {error:#}");
            ExitCode::FAILURE
        }
    }
}
