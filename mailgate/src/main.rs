//! The `mailgate` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    mailgate::cli::main(mailgate::cli::Arguments::parse())
}
