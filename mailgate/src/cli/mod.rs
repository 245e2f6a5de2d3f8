//! The command line: `mailgate <noun> <verb>`.
//!
//! Each noun has its file, which says what is asked of the daemon and how the answer is shown.

mod account;
mod bgp;
mod dns;
mod firewall;
mod grey;
mod listing;
mod lists;
mod queue;
mod run;
mod sync;
mod table;
mod table_text;
mod trace;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::admin::{self, Answer, Call, Failure};
use crate::config;

pub(crate) use bgp::prefix as bgp_prefix;

/// Exit codes of sysexits(3).
pub mod exit {
    /// Wrong arguments.
    pub const USAGE: u8 = 64;
    /// What was named does not exist, or is malformed.
    pub const DATA: u8 = 65;
    /// No daemon answers.
    pub const UNAVAILABLE: u8 = 69;
    /// A mistake of ours.
    pub const SOFTWARE: u8 = 70;
    /// The system refused something.
    pub const SYSTEM: u8 = 71;
    /// Try again later.
    pub const TEMPORARY: u8 = 75;
    /// Only the administrator may do that.
    pub const PERMISSION: u8 = 77;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// The mail edge and mail service of this host.
#[derive(Debug, Parser)]
#[command(name = "mailgate", version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Configuration file; without it the built-in default for a look around on loopback.
    #[arg(long, short, global = true, env = "MAILGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket of the daemon, when it is not the one the configuration names.
    #[arg(long, global = true, env = "MAILGATE_CONTROL", value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Folder of the state, when it is not the one the configuration names.
    #[arg(long, global = true, env = "MAILGATE_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the daemon and stay in the foreground.
    Run(run::Arguments),
    /// Read the configuration and tell every problem it has.
    Check(run::CheckArguments),
    /// What the daemon is doing.
    Status,
    /// Why a client was deferred or let pass, or a message was taken.
    Why(why::Arguments),
    /// What the kernel filter does with single packets, as they come.
    Trace(trace::Arguments),
    /// Named tables of prefixes: block, bypass and your own.
    #[command(subcommand)]
    Table(table::Verb),
    /// Where the prefixes come from.
    #[command(subcommand)]
    Lists(lists::Verb),
    /// Rules for packets: what is let in, kept out, limited.
    #[command(subcommand)]
    Firewall(firewall::Verb),
    /// BGP peers that feed the tables.
    #[command(subcommand)]
    Bgp(bgp::Verb),
    /// The greylist: waiting tuples, passed and trapped sources, trap addresses.
    #[command(subcommand)]
    Grey(grey::Verb),
    /// Other MXs that share what this one learns.
    #[command(subcommand)]
    Sync(sync::Verb),
    /// Accepted messages that are not yet delivered.
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Domains that are local here.
    #[command(subcommand)]
    Domain(account::DomainVerb),
    /// People with a mailbox.
    #[command(subcommand)]
    Account(account::AccountVerb),
    /// Addresses that lead to other addresses.
    #[command(subcommand)]
    Alias(account::AliasVerb),
    /// Keys that sign outgoing mail.
    #[command(subcommand)]
    Dkim(dns::DkimVerb),
    /// What to publish in the DNS.
    #[command(subcommand)]
    Dns(dns::DnsVerb),
}

/// How an answer is shown to people.
enum Show {
    /// As a listing with these columns (JSON key, heading).
    Table(&'static [(&'static str, &'static str)]),
    /// As one thing, or a sentence.
    Card,
    /// Each string of an array on its own line.
    Lines,
    /// As this makes it.
    Text(fn(&Value) -> String),
}

/// A question to the daemon and how to show its answer.
struct Question {
    call: Call,
    show: Show,
}

/// Does what the arguments say.
pub fn main(arguments: Arguments) -> ExitCode {
    match dispatch(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("mailgate: {}", failure.message);
            ExitCode::from(failure.exit)
        }
    }
}

/// Returns the exit code.
fn dispatch(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { command, config, control, state_dir, json } = arguments;
    let place = config::Place { file: config, control, state_dir };
    let question = match command {
        Command::Run(run) => return run::run(&place, run).map(|()| 0),
        Command::Check(check) => return run::check(&place, check, json).map(|()| 0),
        Command::Status => Question { call: Call::Status, show: Show::Card },
        Command::Why(arguments) => arguments.question(),
        Command::Trace(arguments) => return trace::run(&place, &arguments, json).map(|()| 0),
        Command::Table(verb) => return table::run(&place, verb, json),
        Command::Lists(verb) => verb.question(),
        Command::Firewall(verb) => verb.question(),
        Command::Bgp(verb) => verb.question(),
        Command::Grey(verb) => verb.question()?,
        Command::Sync(sync::Verb::Key) => return sync::key(&place, json).map(|()| 0),
        Command::Sync(verb) => verb.question(),
        Command::Queue(verb) => verb.question(),
        Command::Domain(verb) => verb.question(),
        Command::Account(verb) => verb.question()?,
        Command::Alias(verb) => verb.question(),
        Command::Dkim(verb) => verb.question(),
        Command::Dns(verb) => verb.question(),
    };
    let value = ask(&place, &question.call)?;
    print(&value, &question.show, json);
    Ok(0)
}

/// Asks the daemon; records can also be read and changed while no daemon runs.
fn ask(place: &config::Place, call: &Call) -> Result<Value, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failure(exit::SYSTEM, format!("no runtime: {error}")))?;
    let control = place.control()?;
    let answer = match runtime.block_on(admin::ask(&control, call)) {
        Ok(answer) => answer,
        Err(error) if nobody_listens(&error) && call.is_about_records() => {
            runtime.block_on(admin::answer_records(place, call.clone()))
        }
        Err(error) if nobody_listens(&error) && call.works_on_pins() => admin::answer_offline(place, call),
        Err(error) if nobody_listens(&error) => {
            return Err(failure(
                exit::UNAVAILABLE,
                format!(
                    "no daemon answers at {} ({error}); start one with `mailgate run`, or name its socket with --control",
                    control.display()
                ),
            ));
        }
        Err(error) => return Err(not_heard(&control, &error)),
    };
    match answer {
        Answer::Done(value) => Ok(value),
        Answer::Failed(failure) => Err(failure),
    }
}

fn nobody_listens(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

/// A daemon may be there, but the call did not get through.
fn not_heard(control: &std::path::Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => failure(
            exit::PERMISSION,
            format!("{}: {error}; only root and the daemon's own user may ask it", control.display()),
        ),
        _ => failure(exit::TEMPORARY, format!("{}: {error}", control.display())),
    }
}

fn failure(exit: u8, message: impl Into<String>) -> Failure {
    Failure { message: message.into(), exit }
}

fn print(value: &Value, show: &Show, json: bool) {
    use std::io::Write as _;
    let text = if json {
        format!("{value:#}\n")
    } else {
        match (show, value) {
            (_, Value::String(sentence)) => format!("{}\n", sentence.trim_end()),
            (Show::Text(make), value) => make(value),
            (Show::Table(columns), Value::Array(rows)) => listing::table(rows, columns),
            (Show::Lines, Value::Array(rows)) => {
                rows.iter().map(|row| format!("{}\n", row.as_str().unwrap_or_default())).collect()
            }
            _ => listing::card(value),
        }
    };
    // A reader that closes the pipe early (head) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A secret from standard input: the first line, without its line end.
fn secret_from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| failure(exit::SYSTEM, format!("standard input could not be read: {error}")))?;
    let secret = line.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        return Err(failure(exit::DATA, "found an empty password on standard input, expected one line"));
    }
    Ok(secret)
}

/// The text of a file, or of standard input when the name is `-`.
fn text_of(file: &std::path::Path) -> Result<String, Failure> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| failure(66, format!("{} could not be read: {error}", file.display())))
}
