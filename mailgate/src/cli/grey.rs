//! `mailgate grey`: what spamdb(8) does, and its format.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use mailgate_edge::Supposed;

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
        /// Only what concerns this address or network.
        #[arg(long, value_name = "ADDRESS", value_parser = mailgate_packet::network)]
        ip: Option<ipnet::IpNet>,
        /// Only deferred attempts whose reverse-path holds this text.
        #[arg(long, value_name = "TEXT")]
        from: Option<String>,
        /// Only deferred attempts whose recipient, or trap addresses that hold this text.
        #[arg(long, value_name = "TEXT")]
        to: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// What concerns one address.
    Show {
        /// The address.
        address: IpAddr,
    },
    /// Who had mail accepted or came again, and is trusted for it.
    Identities {
        /// Only those whose name holds this text.
        text: Option<String>,
    },
    /// What would happen to an attempt now, why, and when it would pass. Asks the DNS and changes nothing.
    Simulate {
        /// The client's address.
        #[arg(long, value_name = "ADDRESS")]
        ip: IpAddr,
        /// What it says at HELO.
        #[arg(long, value_name = "NAME", default_value = "")]
        helo: String,
        /// Reverse-path; nothing for the null path.
        #[arg(long, value_name = "ADDRESS", default_value = "")]
        from: String,
        /// Forward-path.
        #[arg(long, value_name = "ADDRESS")]
        to: String,
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
        /// Address or network of a source, a trap address, or an identity such as spf:example.org.
        key: String,
        /// Only this kind.
        #[arg(long, value_enum)]
        kind: Option<GreyKind>,
    },
    /// A message is junk: whoever handed it in loses half of what it had earned.
    Junk {
        /// Its queue id or Message-ID.
        message: String,
        /// It was called junk before and is none: its sender gets credit for one good message.
        #[arg(long)]
        not: bool,
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
            ("identity", "IDENTITY"),
            ("reverse_path", "REVERSE-PATH"),
            ("forward_path", "FORWARD-PATH"),
            ("first", "FIRST"),
            ("pass", "PASS"),
            ("expires", "EXPIRES"),
            ("blocked", "DEFERRED"),
            ("passed", "PASSED"),
        ];
        const IDENTITIES: &[(&str, &str)] = &[
            ("identity", "IDENTITY"),
            ("trusted", "TRUSTED"),
            ("messages", "MESSAGES"),
            ("retries", "RETRIES"),
            ("first", "FIRST"),
            ("expires", "EXPIRES"),
        ];
        let (call, show) = match self {
            Self::List { kind, ip, from, to, limit, format } => {
                let spamdb = format == Format::Spamdb;
                let show = if spamdb { Show::Lines } else { Show::Table(COLUMNS) };
                (Call::GreyList { kind, address: ip, from, to, limit, spamdb }, show)
            }
            Self::Show { address } => {
                let address = Some(address.into());
                let call =
                    Call::GreyList { kind: None, address, from: None, to: None, limit: None, spamdb: false };
                (call, Show::Table(COLUMNS))
            }
            Self::Identities { text } => (Call::GreyIdentities { part: text }, Show::Table(IDENTITIES)),
            Self::Simulate { ip, helo, from, to } => {
                (Call::GreySimulate { supposed: Supposed { ip, helo, from, to } }, Show::Card)
            }
            Self::Add { key, kind } => (Call::GreyAdd { kind, key }, Show::Card),
            Self::Delete { key, kind } => (Call::GreyDelete { kind, key }, Show::Card),
            Self::Junk { message, not } => (Call::GreyCalled { message, junk: !not }, Show::Card),
            Self::Import { file } => {
                (Call::GreyImport { rows: text_of(&file)?.lines().map(str::to_owned).collect() }, Show::Card)
            }
            Self::Statistics => (Call::GreyStatistics, Show::Card),
        };
        Ok(Question { call, show })
    }
}
