//! `cargo xtask bench bgp`: how fast a feed reaches the kernel, beside BIRD and GoBGP as receivers, and what clients notice.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match mailgate_tests::feed::measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bgp: {error:#}");
            ExitCode::FAILURE
        }
    }
}
