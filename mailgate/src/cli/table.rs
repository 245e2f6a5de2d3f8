//! `mailgate table`: pfctl's table verbs.

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use mailgate_model::Span;
use serde_json::Value;

use super::table_text as text;
use super::{Question, Show, ask, exit, failure, print, text_of};
use crate::admin::{Call, Failure, PAGE, how};
use crate::config::Place;

/// Entries that `show` prints to a terminal unless told otherwise.
const SHOWN: usize = 1000;

/// What can be done with tables.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// All tables with their action, size, memory, and what they have counted.
    List,
    /// The entries of one table, one per line; a terminal gets the first 1000.
    Show {
        /// Name of the table.
        table: String,
        /// Also where each entry comes from, since when, until when, and what it has counted.
        #[arg(long, short)]
        verbose: bool,
        /// Print at most this many entries; 0 is all of them.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
    },
    /// Add addresses or prefixes; `!` in front makes a hole in a larger prefix.
    Add {
        #[command(flatten)]
        what: Entries,
        /// Drop the entries after this time, such as 24h.
        #[arg(long, value_name = "SPAN")]
        expires: Option<Span>,
        #[command(flatten)]
        options: Options,
    },
    /// Delete addresses or prefixes that were added by hand or by the daemon.
    Delete {
        #[command(flatten)]
        what: Entries,
        #[command(flatten)]
        options: Options,
    },
    /// Replace everything that was added by hand or by the daemon, at once for every packet.
    Replace {
        #[command(flatten)]
        what: Entries,
        #[command(flatten)]
        options: Options,
    },
    /// Delete everything that was added by hand or by the daemon.
    Flush {
        /// Name of the table.
        table: String,
        #[command(flatten)]
        options: Options,
    },
    /// Delete what was added by hand or by the daemon and has become old, or has had no hit for long.
    #[command(group = clap::ArgGroup::new("age").required(true))]
    Expire {
        /// Name of the table.
        table: String,
        /// Seconds, as `pfctl -T expire` has it: short for --older.
        #[arg(group = "age")]
        seconds: Option<u64>,
        /// Added, or cleared by `zero`, longer ago than this.
        #[arg(long, value_name = "SPAN", group = "age")]
        older: Option<Span>,
        /// Neither added, cleared nor hit since this time; the table needs counters = true.
        #[arg(long, value_name = "SPAN", group = "age")]
        idle: Option<Span>,
        #[command(flatten)]
        options: Options,
    },
    /// Set counts to zero, of the whole table or of some entries; ages for `expire --older` begin anew.
    Zero {
        /// Name of the table.
        table: String,
        /// Entries, if not all.
        entries: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Which tables hold addresses, by which entry, and what that means for them. Exits with 1 when none is held, with 2
    /// when some are not.
    Test {
        /// The addresses.
        #[arg(required_unless_present = "file")]
        addresses: Vec<IpAddr>,
        /// File with one address per line; `-` is standard input.
        #[arg(long, short, conflicts_with = "addresses")]
        file: Option<PathBuf>,
        /// Only this table.
        #[arg(long, short, value_name = "NAME")]
        table: Option<String>,
    },
}

/// A table, and entries from the command line or a file.
#[derive(Debug, Args)]
pub(super) struct Entries {
    /// Name of the table.
    table: String,
    /// Addresses or prefixes, such as 192.0.2.1, 2001:db8::/32 or !192.0.2.7.
    #[arg(required_unless_present = "file")]
    entries: Vec<String>,
    /// File with one address or prefix per line; `-` is standard input.
    #[arg(long, short, conflicts_with = "entries")]
    file: Option<PathBuf>,
}

impl Entries {
    fn read(self) -> Result<(String, String), Failure> {
        let text = self.file.map_or_else(|| Ok(self.entries.join("\n")), |file| text_of(&file))?;
        Ok((self.table, text))
    }
}

/// How a change is made.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Options {
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Say of each entry what happened: A added, C changed, D deleted, X named twice, Y there with the opposite `!`,
    /// Z cleared.
    #[arg(long, short)]
    verbose: bool,
}

/// Does what the arguments say and returns the exit code.
pub(super) fn run(place: &Place, verb: Verb, json: bool) -> Result<u8, Failure> {
    match verb {
        Verb::Show { table, verbose, limit } => {
            let limit = match limit {
                Some(0) => usize::MAX,
                Some(limit) => limit,
                None if !json && std::io::stdout().is_terminal() => SHOWN,
                None => usize::MAX,
            };
            Listing { place, table, verbose, json }.print(limit)
        }
        Verb::Test { addresses, file, table } => {
            let addresses = match file {
                Some(file) => addresses_of(&text_of(&file)?)?,
                None => addresses,
            };
            let rows = ask(place, &Call::TableTest { addresses, table })?;
            let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
            let (told, code) = text::tested(rows);
            out(if json { format!("{:#}\n", Value::from(rows)) } else { told })?;
            Ok(code)
        }
        other => change(place, other, json),
    }
}

/// The verbs whose answer says what became of entries, and `list`.
fn change(place: &Place, verb: Verb, json: bool) -> Result<u8, Failure> {
    let of = |options: Options| how(options.dry_run, options.verbose);
    let (call, options, say): (Call, Options, fn(&Value) -> String) = match verb {
        Verb::Add { what, expires, options } => {
            let (table, entries) = what.read()?;
            (Call::TableAdd { table, entries, expires, how: of(options) }, options, text::added)
        }
        Verb::Delete { what, options } => {
            let (table, entries) = what.read()?;
            (Call::TableDelete { table, entries, how: of(options) }, options, text::deleted)
        }
        Verb::Replace { what, options } => {
            let (table, entries) = what.read()?;
            (Call::TableReplace { table, entries, how: of(options) }, options, text::replaced)
        }
        Verb::Flush { table, options } => {
            (Call::TableFlush { table, how: of(options) }, options, text::flushed)
        }
        Verb::Expire { table, seconds, older, idle, options } => {
            let older = older.or(seconds.map(Span::from_secs));
            (Call::TableExpire { table, older, idle, how: of(options) }, options, text::expired)
        }
        Verb::Zero { table, entries, options } => {
            let entries = (!entries.is_empty()).then(|| entries.join("\n"));
            (Call::TableZero { table, entries, how: of(options) }, options, text::cleared)
        }
        Verb::List | Verb::Show { .. } | Verb::Test { .. } => {
            let Question { call, show } = list();
            print(&text::with_figures(ask(place, &call)?, json), &show, json);
            return Ok(0);
        }
    };
    let done = ask(place, &call)?;
    out(if json { format!("{done:#}\n") } else { text::done(&done, options.dry_run, say) })?;
    // What is saved and not in force is no success.
    Ok(if done.get("in_force") == Some(&Value::Bool(false)) { exit::TEMPORARY } else { 0 })
}

fn list() -> Question {
    Question {
        call: Call::TableList,
        show: Show::Table(&[
            ("name", "TABLE"),
            ("action", "ACTION"),
            ("entries", "ENTRIES"),
            ("memory", "MEMORY"),
            ("packets", "PACKETS"),
            ("bytes", "BYTES"),
            ("flags", "FLAGS"),
            ("origins", "FROM"),
        ]),
    }
}

/// `table show`: asks page by page, so that neither side ever holds five million rows.
struct Listing<'p> {
    place: &'p Place,
    table: String,
    verbose: bool,
    json: bool,
}

impl Listing<'_> {
    fn print(&self, limit: usize) -> Result<u8, Failure> {
        let (mut shown, mut after) = (0, None);
        out(if self.json { "[" } else { "" })?;
        loop {
            let call = Call::TableShow { table: self.table.clone(), after, limit: PAGE.min(limit - shown) };
            let page = ask(self.place, &call)?;
            let rows = page.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let is_first = shown == 0;
            shown += rows.len();
            out(if self.json { text::rows_json(rows, is_first) } else { text::rows(rows, self.verbose) })?;
            after = rows.last().and_then(|row| row.get("prefix")?.as_str()?.parse::<IpNet>().ok());
            let more = page.get("more") == Some(&Value::Bool(true));
            if !more || shown >= limit || after.is_none() {
                out(if self.json { "\n]\n" } else { "" })?;
                self.close(&page, shown, more);
                return Ok(0);
            }
        }
    }

    /// What the entries themselves do not say; not on standard output, where the next program reads entries.
    fn close(&self, page: &Value, shown: usize, more: bool) {
        let entries = page.get("entries").and_then(Value::as_u64).unwrap_or(0);
        if more {
            let left = entries.saturating_sub(shown as u64);
            eprintln!("{left} of {entries} entries are left out; --limit 0 prints all of them");
        }
        if self.verbose && !self.json && page.get("counters") == Some(&Value::Bool(false)) {
            eprintln!(
                "table {} does not count hits; counters = true in [[lists.table]] makes it",
                self.table
            );
        }
    }
}

/// Prints; who reads no further (head) ends us, and that is no error.
fn out(text: impl AsRef<str>) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_ref().as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(failure(exit::SYSTEM, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn addresses_of(text: &str) -> Result<Vec<IpAddr>, Failure> {
    let words = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let address = |word: &str| {
        let wrong = |_| failure(exit::DATA, format!("found {word:?}, expected an address such as 192.0.2.1"));
        word.parse().map_err(wrong)
    };
    words.filter(|word| !word.is_empty()).map(address).collect()
}
