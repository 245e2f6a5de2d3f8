//! How suspicious a client is: a pure function of what is known of it. Nothing here asks anybody or waits; what was not
//! known in time counts for nothing.
//!
//! Start reading at [`weigh`]; the points are in `suspicion/config.rs`.

pub mod config;
mod dnsbl;
mod gather;

use std::net::IpAddr;

use mailgate_lists::TableName;
use mailgate_model::Domain;
use mailgate_store::greylist::Identity;
use serde::Serialize;

use crate::identity::{self, Naming};
use crate::reason::Reason;

pub use self::config::SuspicionConfig;
pub(crate) use self::dnsbl::Zones;
pub use self::dnsbl::{Hit, Trust, ZoneStatus};
pub use self::gather::{Answer, Inquiry, Names, Reversed};
pub(crate) use self::gather::{Gathered, Gathering, Surroundings, Tables};

/// What the reverse DNS says of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reverse<'a> {
    /// No answer came in time, or nobody asked.
    #[default]
    Late,
    /// The address has no name.
    None,
    /// It has this name, which does not lead back.
    Unconfirmed(&'a str),
    /// It has this name, which leads back (RFC 8601 §2.7.3).
    Confirmed(&'a str),
}

/// Where the name said at HELO leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeloLeads {
    /// No answer came in time, or nobody asked.
    #[default]
    Late,
    /// There is no such host.
    Nowhere,
    /// To other addresses.
    Elsewhere,
    /// To the client.
    Here,
}

/// What SPF says of the reverse-path, of the HELO name when that is null (RFC 7208 §2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spf {
    /// No answer came in time (temperror counts as that too), or nobody asked.
    #[default]
    Late,
    /// fail.
    Fail,
    /// none or neutral.
    None,
    /// pass.
    Pass,
    /// permerror.
    Permerror,
    /// softfail.
    Softfail,
}

/// What is known of one attempt to deliver; the default knows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The client's address; mapped ones are unmapped.
    pub ip: IpAddr,
    /// What it said at HELO or EHLO; empty while it has said nothing, which is held against nobody.
    pub helo: &'a str,
    /// Reverse-path without angle brackets; empty for the null path.
    pub reverse_path: &'a str,
    /// Forward-path without angle brackets.
    pub forward_path: &'a str,
    /// Its reverse name.
    pub reverse: Reverse<'a>,
    /// Where the HELO name leads.
    pub helo_leads: HeloLeads,
    /// The result of SPF.
    pub spf: Spf,
    /// It talked before the greeting was complete.
    pub early_talk: bool,
    /// It sent several commands at once before PIPELINING was offered.
    pub early_pipelining: bool,
    /// What DNS lists say of it.
    pub zones: &'a [Hit],
    /// Tables with action score that hold it.
    pub score_tables: &'a [TableName],
    /// Whether a table with action grey holds it.
    pub grey_table: bool,
}

impl Facts<'_> {
    /// Nothing but the address is known.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self {
            ip: ip.to_canonical(),
            helo: "",
            reverse_path: "",
            forward_path: "",
            reverse: Reverse::Late,
            helo_leads: HeloLeads::Late,
            spf: Spf::Late,
            early_talk: false,
            early_pipelining: false,
            zones: &[],
            score_tables: &[],
            grey_table: false,
        }
    }
}

/// Who we are, so that a client that claims to be us is found out.
#[derive(Debug, Clone)]
pub struct Ourselves {
    /// Our name in greetings.
    pub hostname: Domain,
    /// The address that the client connected to, if known.
    pub address: Option<IpAddr>,
}

/// One thing that was found, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub reason: Reason,
    /// Points of suspicion; below zero speaks for the client.
    pub points: i32,
    /// Which list, table or name, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What [`weigh`] made of the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Weighed {
    /// The sum of the points, not below zero.
    pub points: i32,
    /// Everything that was found.
    pub findings: Vec<Finding>,
    /// Who it is, the best proof first; the last is always a network.
    pub identities: Vec<Identity>,
    /// SPF says pass.
    pub aligned: bool,
    /// A DNS list of known senders trusts it with medium or high.
    pub vouched: bool,
    /// With high: it is never trapped.
    pub vouched_high: bool,
    /// A table with action grey holds it.
    pub grey_table: bool,
    /// Whether its network is one of subscribers, whose neighbours are no relatives.
    pub among_strangers: bool,
}

impl Weighed {
    /// Of a client of whom nothing is known but its address.
    #[must_use]
    pub fn unknown(ip: IpAddr) -> Self {
        Self {
            points: 0,
            findings: Vec::new(),
            identities: vec![identity::network(ip)],
            aligned: false,
            vouched: false,
            vouched_high: false,
            grey_table: false,
            among_strangers: true,
        }
    }

    /// The best proved identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        // There is always a network at the end.
        self.identities.first().unwrap_or(&NOBODY)
    }

    /// The words of everything found, for a line of log or a header.
    #[must_use]
    pub fn words(&self) -> String {
        let words: Vec<&str> = self.findings.iter().map(|finding| finding.reason.word()).collect();
        words.join(" ")
    }
}

static NOBODY: Identity =
    Identity::Network(ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 32)));

/// Weighs what is known. Late answers add nothing, so a slow DNS makes nobody suspicious.
#[must_use]
pub fn weigh(config: &SuspicionConfig, ourselves: &Ourselves, facts: &Facts<'_>) -> Weighed {
    let mut scale = Scale { config, findings: Vec::with_capacity(6) };
    let naming = scale.reverse(facts);
    scale.helo(ourselves, facts);
    scale.manners(facts);
    scale.spf(facts);
    scale.lists(facts);
    let findings = scale.findings;
    let points = findings.iter().map(|finding| finding.points).sum::<i32>().max(0);
    Weighed {
        points,
        identities: identities(facts),
        aligned: facts.spf == Spf::Pass,
        vouched: findings.iter().any(|finding| finding.reason == Reason::Dnswl),
        vouched_high: facts.zones.iter().any(|hit| hit.trust == Some(Trust::High)),
        grey_table: facts.grey_table,
        among_strangers: naming != Some(Naming::Own),
        findings,
    }
}

/// The proofs of who it is, the best first: SPF, a confirmed name, the network.
fn identities(facts: &Facts<'_>) -> Vec<Identity> {
    let mut found = Vec::with_capacity(3);
    if facts.spf == Spf::Pass {
        // For the null reverse-path SPF is about the HELO name.
        let domain = facts.reverse_path.rsplit_once('@').map_or(facts.helo, |(_, domain)| domain);
        found.extend(identity::by_spf(domain));
    }
    if let Reverse::Confirmed(name) = facts.reverse {
        found.extend(identity::by_reverse(name, facts.ip));
    }
    found.push(identity::network(facts.ip));
    found
}

struct Scale<'a> {
    config: &'a SuspicionConfig,
    findings: Vec<Finding>,
}

impl Scale<'_> {
    fn found(&mut self, reason: Reason) {
        self.found_as(reason, self.config.points(reason), None);
    }

    fn found_as(&mut self, reason: Reason, points: i32, detail: Option<String>) {
        self.findings.push(Finding { reason, points, detail });
    }

    /// What its name says; `None` when none is known.
    fn reverse(&mut self, facts: &Facts<'_>) -> Option<Naming> {
        let name = match facts.reverse {
            Reverse::Late => return None,
            Reverse::None => {
                self.found(Reason::NoReverse);
                return None;
            }
            Reverse::Unconfirmed(name) => {
                self.found(Reason::ReverseUnconfirmed);
                name
            }
            Reverse::Confirmed(name) => name,
        };
        let naming = identity::naming(name, facts.ip);
        match naming {
            Naming::Dynamic => self.found(Reason::DynamicName),
            Naming::Generic => self.found(Reason::GenericName),
            Naming::Own => {}
        }
        Some(naming)
    }

    fn helo(&mut self, ourselves: &Ourselves, facts: &Facts<'_>) {
        let said = facts.helo.trim_end_matches('.');
        if said.is_empty() {
            return;
        }
        if let Some(literal) = said.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address = literal.strip_prefix("IPv6:").unwrap_or(literal).parse::<IpAddr>().ok();
            let address = address.map(|address| address.to_canonical());
            return match address {
                Some(address) if address == facts.ip => self.found(Reason::HeloLiteral),
                Some(address) if Some(address) == ourselves.address => self.found(Reason::HeloOurs),
                _ => self.found(Reason::HeloOtherLiteral),
            };
        }
        // An address without brackets is no name and no literal (RFC 5321 §4.1.3).
        if let Ok(address) = said.parse::<IpAddr>() {
            let ours = Some(address.to_canonical()) == ourselves.address;
            return self.found(if ours { Reason::HeloOurs } else { Reason::HeloOtherLiteral });
        }
        if said.eq_ignore_ascii_case(ourselves.hostname.as_str()) {
            return self.found(Reason::HeloOurs);
        }
        if !said.contains('.') {
            return self.found(Reason::HeloBare);
        }
        let is_relative = match facts.reverse {
            Reverse::Confirmed(name) => identity::related(name, said),
            Reverse::Late | Reverse::None | Reverse::Unconfirmed(_) => false,
        };
        match facts.helo_leads {
            HeloLeads::Nowhere => self.found(Reason::HeloUnresolvable),
            HeloLeads::Elsewhere if !is_relative => self.found(Reason::HeloMismatch),
            HeloLeads::Late | HeloLeads::Elsewhere | HeloLeads::Here => {}
        }
    }

    fn manners(&mut self, facts: &Facts<'_>) {
        if facts.early_talk {
            self.found(Reason::EarlyTalk);
        }
        if facts.early_pipelining {
            self.found(Reason::EarlyPipelining);
        }
    }

    fn spf(&mut self, facts: &Facts<'_>) {
        match facts.spf {
            Spf::Late => {}
            Spf::Fail => self.found(Reason::SpfFail),
            Spf::None => self.found(Reason::SpfNone),
            Spf::Pass => self.found(Reason::SpfPass),
            Spf::Permerror => self.found(Reason::SpfPermerror),
            Spf::Softfail => self.found(Reason::SpfSoftfail),
        }
    }

    fn lists(&mut self, facts: &Facts<'_>) {
        for hit in facts.zones {
            let (reason, points) = match hit.trust {
                None => (Reason::Dnsbl, hit.points),
                Some(Trust::None) => continue,
                Some(Trust::Low) => (Reason::DnswlLow, self.config.points(Reason::DnswlLow)),
                Some(Trust::Medium | Trust::High) => (Reason::Dnswl, self.config.points(Reason::Dnswl)),
            };
            self.found_as(reason, points, Some(hit.zone.clone()));
        }
        for table in facts.score_tables {
            self.found_as(
                Reason::ScoreTable,
                self.config.points(Reason::ScoreTable),
                Some(table.to_string()),
            );
        }
        if facts.grey_table {
            self.found(Reason::GreyTable);
        }
    }
}

#[cfg(test)]
mod tests;
