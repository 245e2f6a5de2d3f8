//! Who names an address, and what follows from it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::view::origin_name;
use crate::merge::{Claim, Found, Origin, SOURCES, TableIndex};
use crate::prefix::Sense;
use crate::rows::{Explained, Named};
use crate::shared::State;
use crate::table::{Action, Entry, TableName};

/// The most specific claim of each origin on an address, in one table; the prefix that decides first.
fn claims(state: &State, table: TableIndex, address: IpAddr) -> Vec<(Origin, IpNet, Claim)> {
    let mut found: Vec<(Origin, IpNet, Claim)> = Vec::new();
    for length in state.merged.lengths(table, address.is_ipv4()) {
        let Ok(prefix) = IpNet::new(address, length) else { continue };
        let Some(Found { entry, claims }) = state.merged.find(table, prefix.trunc()) else { continue };
        for (origin, claim) in claims {
            if !found.iter().any(|(other, ..)| *other == origin) {
                found.push((origin, entry.prefix, claim));
            }
        }
    }
    found
}

/// What sources tell an address, in the order of tables.
pub(super) fn messages(state: &State, address: IpAddr) -> Vec<(TableName, String)> {
    let mut told = Vec::new();
    for (index, (name, ..)) in (0..).zip(state.merged.tables()) {
        // A hole in front of everything means that the table does not hold it, whatever a source says.
        let holds = state.merged.covering(index, address).is_some_and(|found| !found.entry.negated);
        if !holds {
            continue;
        }
        let mut claims = claims(state, index, address);
        claims.sort_unstable_by_key(|(origin, ..)| *origin);
        for (origin, _, claim) in claims {
            if claim.sense == Sense::Listed {
                told.extend(said(state, origin, address).into_iter().map(|text| (name.clone(), text)));
            }
        }
    }
    told
}

fn said(state: &State, origin: Origin, address: IpAddr) -> Vec<String> {
    let source = origin.checked_sub(SOURCES).and_then(|at| state.sources.get(usize::from(at)));
    source.map(|source| source.voice.messages(address)).unwrap_or_default()
}

/// Everything about an address.
pub(super) fn explained(state: &State, address: IpAddr) -> Explained {
    let mut named = Vec::new();
    for (index, (name, ..)) in (0..).zip(state.merged.tables()) {
        let of_all = state.merged.covering(index, address).map(|found| found.entry);
        let of_own = state.merged.own_covering(index, address);
        for (origin, prefix, claim) in claims(state, index, address) {
            let Some(action) = state.merged.action_of(index, origin) else { continue };
            let is_hole = claim.sense == Sense::Hole;
            let is_this = |entry: &Entry| entry.prefix == prefix && entry.negated == is_hole;
            let decides = of_all.as_ref().is_some_and(is_this)
                || action == Action::Bypass && of_own.as_ref().is_some_and(is_this);
            let messages = if is_hole { Vec::new() } else { said(state, origin, address) };
            named.push(Named {
                table: name.clone(),
                action,
                origin: origin_name(state, origin),
                entry: format!("{}{prefix}", if is_hole { "!" } else { "" }),
                since: claim.added,
                decides,
                messages,
            });
        }
    }
    let action = named.iter().filter(|n| n.decides && !n.entry.starts_with('!')).map(|n| n.action).min();
    Explained { address, action, why: why(address, action, &named), named }
}

fn why(address: IpAddr, action: Option<Action>, named: &[Named]) -> String {
    let Some(action) = action else {
        let hole = named.iter().find(|n| n.decides && n.entry.starts_with('!'));
        return match hole {
            None => format!("no table holds {address}: it is judged as a stranger"),
            Some(n) => format!(
                "{} of {} takes {address} out of table {}: it is judged as a stranger",
                n.entry, n.origin, n.table
            ),
        };
    };
    let first = named.iter().find(|n| n.decides && n.action == action && !n.entry.starts_with('!'));
    let mut why = match first {
        Some(n) => format!("{}: {} of {} in table {}", action.name(), n.entry, n.origin, n.table),
        None => action.name().to_owned(),
    };
    let mut others: Vec<&str> = named
        .iter()
        .filter(|n| n.action != action && !n.entry.starts_with('!'))
        .map(|n| n.action.name())
        .collect();
    others.sort();
    others.dedup();
    if !others.is_empty() {
        why.push_str(&format!(", which comes before {}", others.join(", ")));
    }
    why
}
