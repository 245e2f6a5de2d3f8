//! `cargo xtask bench tarpit`: how many clients the tarpit holds and what they cost, with postscreen beside it.

use std::process::ExitCode;

use mailgate_tests::pit;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| arguments.get(n).and_then(|count| count.parse().ok());
    let done = match arguments.split_first() {
        Some((word, rest)) if word == "clients" => pit::clients(rest),
        _ => {
            let count = number(0).unwrap_or(100_000);
            pit::measure(count, number(1).unwrap_or(count))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tarpit: {error:#}");
            ExitCode::FAILURE
        }
    }
}
