//! The `mailgate` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use mailgate::cli::{self, exit};

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
