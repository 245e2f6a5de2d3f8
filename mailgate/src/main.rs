//! The `mailgate` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use mailgate::cli::{self, exit};

/// Gives memory back soon after a large message or a password hash. The system's allocator keeps it for each thread:
/// fifty logins side by side left 700 MB behind.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => cli::main(arguments),
        Err(said) => {
            // Help that was asked for goes to standard output, the rest to standard error; a closed pipe is no error.
            let _ = said.print();
            if said.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
