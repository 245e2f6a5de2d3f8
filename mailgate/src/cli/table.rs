//! `mailgate table`: pfctl's table verbs.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;
use mailgate_model::Span;

use super::{Question, Show, lines_of};
use crate::admin::{Call, Failure};

/// What can be done with tables.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// All tables with their action and size.
    List,
    /// The entries of one table and where each comes from.
    Show {
        /// Name of the table.
        table: String,
    },
    /// Add addresses or prefixes; `!` in front makes a hole in a larger prefix.
    Add {
        /// Name of the table.
        table: String,
        /// Addresses or prefixes, such as 192.0.2.1, 2001:db8::/32 or !192.0.2.7.
        #[arg(required = true)]
        prefixes: Vec<String>,
        /// Drop the entries after this time, such as 24h.
        #[arg(long, value_name = "SPAN")]
        expires: Option<Span>,
    },
    /// Delete addresses or prefixes that were added by hand.
    Delete {
        /// Name of the table.
        table: String,
        /// Addresses or prefixes.
        #[arg(required = true)]
        prefixes: Vec<String>,
    },
    /// Replace everything that was added by hand with the lines of a file.
    Replace {
        /// Name of the table.
        table: String,
        /// File with one address or prefix per line; `-` is standard input.
        #[arg(long, short)]
        file: PathBuf,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
    },
    /// Which tables hold an address, and what that means for it.
    Test {
        /// The address.
        address: IpAddr,
    },
    /// Delete everything that was added by hand.
    Flush {
        /// Name of the table.
        table: String,
        /// Only say what would change.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Verb {
    pub(super) fn question(self) -> Result<Question, Failure> {
        let (call, show) = match self {
            Self::List => (
                Call::TableList,
                Show::Table(&[
                    ("name", "TABLE"),
                    ("action", "ACTION"),
                    ("entries", "ENTRIES"),
                    ("origins", "FROM"),
                ]),
            ),
            Self::Show { table } => (
                Call::TableShow { table },
                Show::Table(&[
                    ("prefix", "PREFIX"),
                    ("negated", "HOLE"),
                    ("origins", "FROM"),
                    ("expires", "EXPIRES"),
                ]),
            ),
            Self::Add { table, prefixes, expires } => {
                (Call::TableAdd { table, prefixes, expires }, Show::Card)
            }
            Self::Delete { table, prefixes } => (Call::TableDelete { table, prefixes }, Show::Card),
            Self::Replace { table, file, dry_run } => {
                (Call::TableReplace { table, prefixes: lines_of(&file)?, dry_run }, Show::Card)
            }
            Self::Test { address } => (Call::TableTest { address }, Show::Card),
            Self::Flush { table, dry_run } => (Call::TableFlush { table, dry_run }, Show::Card),
        };
        Ok(Question { call, show })
    }
}
