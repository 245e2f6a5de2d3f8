//! What the administrator asks and orders: `mailgate grey`, and the text of spamdb(8).

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_lists::TableName;
use mailgate_model::Span;
use mailgate_store::greylist::{Filter, Identity, Kind, Known, Origin, Peer, PeerKind, Standing};
use serde::{Deserialize, Serialize};

use crate::accept::Edge;
use crate::classify::Route;
use crate::error::Error;
use crate::greylist::normalised_recipient;
use crate::greylist::spamdb::{self, Entry, Read};
use crate::statistics::Delays;
use crate::suspicion::{Facts, Weighed};

/// Which entries are listed; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only entries inside this network or holding it.
    pub network: Option<IpNet>,
    /// Only deferred attempts whose reverse-path holds this text, in any case of letters.
    pub from: Option<String>,
    /// Only deferred attempts whose recipient, and trap addresses that hold this text, in any case of letters.
    pub to: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// What is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Given {
    /// A network goes straight to reception.
    Passed {
        /// The network.
        network: IpNet,
        /// For how long; `edge.greylist.passed_for` when not said.
        lasts: Option<Span>,
    },
    /// A network goes to the tarpit.
    Trapped {
        /// The network.
        network: IpNet,
        /// For how long; `edge.traps.trapped_for` when not said.
        lasts: Option<Span>,
    },
    /// Who sends to this address is trapped.
    TrapAddress {
        /// The address, without angle brackets.
        address: String,
    },
}

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Only this kind; every kind that fits when not said.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// An address or prefix of a client, or a trap address (with `@`).
    pub what: String,
}

/// What is known of one address and what would happen to it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The address.
    pub ip: IpAddr,
    /// `passed`, `trapped` or `unknown`.
    pub standing: &'static str,
    /// `reception`, `greylist`, `tarpit` or `refuse`, where a connection would go now.
    pub route: &'static str,
    /// Why, for reception and tarpit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The tables that list it.
    pub tables: Vec<TableName>,
    /// Entries that hold it.
    pub entries: Vec<Entry>,
}

/// An identity that people look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownIdentity {
    /// Who.
    pub identity: Identity,
    /// Whether it goes on without waiting.
    pub trusted: bool,
    /// What it did.
    #[serde(flatten)]
    pub known: Known,
}

/// What became of a dump of spamdb(8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// GREY lines taken in.
    pub grey: usize,
    /// WHITE lines taken in.
    pub passed: usize,
    /// TRAPPED lines taken in.
    pub trapped: usize,
    /// SPAMTRAP lines taken in.
    pub trap_addresses: usize,
    /// Lines left out because they have expired.
    pub expired: usize,
    /// Lines that could not be read, each with its number, what was found and what was expected.
    pub problems: Vec<String>,
}

impl Edge {
    /// The entries that `query` selects.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn grey_list(&self, query: Query) -> Result<Vec<Entry>, Error> {
        let rows = self.greylist.list(filter(query)).await?;
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    /// The same entries in the text of spamdb(8), one per line.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn grey_dump(&self, query: Query) -> Result<String, Error> {
        let rows = self.greylist.list(filter(query)).await?;
        Ok(rows.iter().filter_map(spamdb::line).map(|line| line + "\n").collect())
    }

    /// What is known of one address.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn grey_show(&self, ip: IpAddr) -> Result<Shown, Error> {
        let ip = ip.to_canonical();
        let (route, tables) = self.route(ip);
        let (route, reason) = match route {
            Route::Greylist => ("greylist", None),
            Route::Reception(reason) => ("reception", Some(reason.word())),
            Route::Refuse(refusal) => ("refuse", Some(refusal.reason().word())),
            Route::Tarpit(reason) => ("tarpit", Some(reason.word())),
        };
        let standing = match self.greylist.standing(ip) {
            Standing::Passed(..) => "passed",
            Standing::Trapped(..) => "trapped",
            Standing::Unknown => "unknown",
        };
        let query = Query { network: Some(ip.into()), ..Query::default() };
        Ok(Shown { ip, standing, route, reason, tables, entries: self.grey_list(query).await? })
    }

    /// How long those waited who came again and passed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn delays(&self) -> Result<Delays, Error> {
        Ok(Delays::of(&self.greylist.waits().await?))
    }

    /// Identities that had mail accepted or came again; only those whose text holds `part`.
    #[must_use]
    pub fn identities(&self, part: Option<&str>, limit: usize) -> Vec<KnownIdentity> {
        let found = self.greylist.identities(part, limit);
        found
            .into_iter()
            .map(|(identity, known)| KnownIdentity { identity, trusted: known.is_trusted(), known })
            .collect()
    }

    /// Adds an entry by command; it is stored when this returns.
    ///
    /// # Errors
    /// [`Error::Asked`] for an address that is none; otherwise why it could not be stored (memory has it).
    pub async fn grey_add(&self, given: Given) -> Result<(), Error> {
        match given {
            Given::Passed { network, lasts } => {
                let lasts = lasts.unwrap_or(self.config.greylist.passed_for);
                self.admit(network, PeerKind::Passed, lasts);
            }
            Given::Trapped { network, lasts } => {
                let lasts = lasts.unwrap_or(self.config.traps.trapped_for);
                self.admit(network, PeerKind::Trapped, lasts);
            }
            Given::TrapAddress { address } => {
                if mailgate_model::Address::parse(&address).is_err() {
                    let expected = "an address such as trap@example.org";
                    return Err(Error::Asked(format!("found {address:?}, expected {expected}")));
                }
                self.greylist.add_trap_address(&normalised_recipient(&address));
            }
        }
        Ok(self.greylist.flush().await?)
    }

    fn admit(&self, network: IpNet, kind: PeerKind, lasts: Span) {
        let now = self.clock.now();
        let expires = now.plus(lasts.duration());
        let peer =
            Peer { kind, origin: Origin::Admin, first: now, pass: now, expires, blocked: 0, passed: 0 };
        self.greylist.admit(network, peer);
    }

    /// Deletes entries and says how many: standings of exactly this network, tuples of every client inside it, or a trap
    /// address. What was deleted stays deleted when this returns.
    ///
    /// # Errors
    /// [`Error::Asked`] when `what` is neither address nor prefix; otherwise why it could not be stored.
    pub async fn grey_delete(&self, asked: &Asked) -> Result<usize, Error> {
        let wants = |kind| asked.kind.is_none_or(|wanted| wanted == kind);
        let mut count = 0;
        if asked.what.starts_with("spf:") || asked.what.starts_with("rdns:") {
            let identity: Identity = asked.what.parse().map_err(Error::Asked)?;
            count += usize::from(self.greylist.forget_identity(&identity));
        } else if asked.what.contains('@') {
            if wants(Kind::TrapAddress) {
                count += usize::from(self.greylist.forget_trap_address(&asked.what));
            }
        } else {
            let network = mailgate_packet::network(&asked.what).map_err(Error::Asked)?;
            if wants(Kind::Passed) {
                count += usize::from(self.greylist.forget_identity(&Identity::Network(network)));
                count += usize::from(self.greylist.forget_peer(network, PeerKind::Passed));
            }
            if wants(Kind::Trapped) {
                count += usize::from(self.greylist.forget_peer(network, PeerKind::Trapped));
            }
            if wants(Kind::Grey) {
                count += self.greylist.forget_tuples(network).await?;
            }
        }
        self.greylist.flush().await?;
        Ok(count)
    }

    /// Takes in a dump of spamdb(8). Times are kept; what has expired is left out; lines that cannot be read are
    /// reported and skipped. Tuples that differ only in HELO, letters or tags become one. A standing given by the
    /// administrator stays.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn grey_import(&self, dump: &str) -> Result<Imported, Error> {
        let now = self.clock.now();
        let mut imported = Imported::default();
        for (number, line) in dump.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match spamdb::parse(line, now) {
                Err(problem) => imported.problems.push(format!("line {}: {problem}", number + 1)),
                Ok(Read::Grey { grey, .. }) if grey.expires <= now => imported.expired += 1,
                Ok(Read::Peer { peer, .. }) if peer.expires <= now => imported.expired += 1,
                Ok(Read::Grey { ip, said, reverse, forward, mut grey }) => {
                    let timings = self.policy.timings(&Weighed::unknown(ip));
                    grey.pass = grey.first.plus(timings.pass_after);
                    let (reverse_path, forward_path) = (&reverse.to_string(), &forward.to_string());
                    let facts = Facts { reverse_path, forward_path, ..Facts::of(ip) };
                    if let Some(key) = self.policy.keys(&Weighed::unknown(facts.ip), &facts).first() {
                        self.greylist.restore(key, &said, grey);
                    }
                    imported.grey += 1;
                }
                Ok(Read::Peer { network, peer }) => {
                    self.greylist.learn(network, peer);
                    match peer.kind {
                        PeerKind::Passed => imported.passed += 1,
                        PeerKind::Trapped => imported.trapped += 1,
                    }
                }
                Ok(Read::TrapAddress(address)) => {
                    self.greylist.add_trap_address(&normalised_recipient(&address));
                    imported.trap_addresses += 1;
                }
            }
            if number % 1000 == 999 {
                // A dump of millions must neither stall this thread nor outrun the disk.
                self.greylist.flush().await?;
            }
        }
        self.greylist.flush().await?;
        Ok(imported)
    }
}

fn filter(query: Query) -> Filter {
    let Query { kind, network, from, to, limit } = query;
    Filter { kind, network, from, to, limit }
}
