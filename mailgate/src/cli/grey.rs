//! `mailgate grey`: what spamdb(8) does, and its format.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Question, Show, text_of};
use crate::admin::{Call, Failure, GreyKind};

/// In which form the greylist is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines with `|` between fields, as spamdb(8) prints them.
    Spamdb,
    /// An aligned listing.
    Table,
}

/// What can be done with the greylist.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Everything in it, or one kind, or what concerns one address.
    List {
        /// Only this kind.
        #[arg(long, value_enum)]
        kind: Option<GreyKind>,
        /// Only what concerns this address.
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<IpAddr>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// What concerns one address.
    Show {
        /// The address.
        address: IpAddr,
    },
    /// Let a source pass, trap it, or make a recipient a trap.
    Add {
        /// Address of a source, or a recipient with `--kind trap-address`.
        key: String,
        /// What it becomes.
        #[arg(long, value_enum, default_value = "passed")]
        kind: GreyKind,
    },
    /// Forget a source, a tuple or a trap address.
    Delete {
        /// Address of a source, or a trap address.
        key: String,
        /// Only this kind.
        #[arg(long, value_enum)]
        kind: Option<GreyKind>,
    },
    /// Take over a dump that spamdb(8) printed.
    Import {
        /// The dump; `-` is standard input.
        file: PathBuf,
    },
    /// How many were deferred, passed, trapped.
    Statistics,
}

impl Verb {
    pub(super) fn question(self) -> Result<Question, Failure> {
        const COLUMNS: &[(&str, &str)] = &[
            ("kind", "KIND"),
            ("network", "SOURCE"),
            ("reverse_path", "REVERSE-PATH"),
            ("forward_path", "FORWARD-PATH"),
            ("first", "FIRST"),
            ("pass", "PASS"),
            ("expires", "EXPIRES"),
            ("blocked", "DEFERRED"),
            ("passed", "PASSED"),
        ];
        let (call, show) = match self {
            Self::List { kind, ip, format: Format::Spamdb } => {
                (Call::GreyList { kind, address: ip, spamdb: true }, Show::Lines)
            }
            Self::List { kind, ip, format: Format::Table } => {
                (Call::GreyList { kind, address: ip, spamdb: false }, Show::Table(COLUMNS))
            }
            Self::Show { address } => {
                (Call::GreyList { kind: None, address: Some(address), spamdb: false }, Show::Table(COLUMNS))
            }
            Self::Add { key, kind } => (Call::GreyAdd { kind, key }, Show::Card),
            Self::Delete { key, kind } => (Call::GreyDelete { kind, key }, Show::Card),
            Self::Import { file } => {
                (Call::GreyImport { rows: text_of(&file)?.lines().map(str::to_owned).collect() }, Show::Card)
            }
            Self::Statistics => (Call::GreyStatistics, Show::Card),
        };
        Ok(Question { call, show })
    }
}
