//! What the administrator asks of a peer's task.

use std::collections::BTreeMap;

use ipnet::IpNet;
use mailgate_proto::bgp::Nlri;
use tokio::sync::oneshot;

use super::community::{Pattern, Speakers};
use super::rib::{Fate, Rib, Seen};
use crate::rows::RouteRow;

/// An order, with where the answer goes.
pub(crate) enum Order {
    /// End the session and begin anew, with a text for the peer.
    Clear { text: String, done: oneshot::Sender<Result<String, String>> },
    /// Ask for all routes anew.
    Refresh { done: oneshot::Sender<Result<String, String>> },
    /// Show routes.
    Rib { asked: RibAsked, done: oneshot::Sender<Vec<RouteRow>> },
}

/// Which routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct RibAsked {
    /// With this community.
    pub(crate) community: Option<Pattern>,
    /// This prefix and what is inside of it.
    pub(crate) within: Option<IpNet>,
    /// After this one, in the order of prefixes.
    pub(crate) after: Option<IpNet>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// The first `limit` routes asked for, sorted.
pub(super) fn page(rib: &Rib, asked: &RibAsked, neighbor: &str) -> Vec<RouteRow> {
    let speakers = rib.policy().speakers;
    if let Some(prefix) = asked.within.filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len()) {
        let mut found = rib.find(prefix);
        found.sort_by_key(|seen| seen.nlri);
        let wanted = found.iter().filter(|seen| is_wanted(seen, asked, speakers));
        return wanted.take(asked.limit).map(|seen| row(rib, seen, neighbor)).collect();
    }
    let mut first: BTreeMap<Nlri, Seen<'_>> = BTreeMap::new();
    for seen in rib.routes() {
        let is_too_late =
            first.len() >= asked.limit && first.last_key_value().is_some_and(|(last, _)| seen.nlri > *last);
        if is_too_late || !is_wanted(&seen, asked, speakers) {
            continue;
        }
        first.insert(seen.nlri, seen);
        if first.len() > asked.limit {
            first.pop_last();
        }
    }
    first.values().map(|seen| row(rib, seen, neighbor)).collect()
}

fn is_wanted(seen: &Seen<'_>, asked: &RibAsked, speakers: Speakers) -> bool {
    asked.after.is_none_or(|after| seen.nlri.prefix > after)
        && asked.within.is_none_or(|within| within.contains(&seen.nlri.prefix))
        && asked.community.is_none_or(|pattern| pattern.matches(seen.marks, speakers))
}

fn row(rib: &Rib, seen: &Seen<'_>, neighbor: &str) -> RouteRow {
    RouteRow {
        prefix: seen.nlri.prefix,
        path: seen.nlri.path,
        neighbor: neighbor.to_owned(),
        communities: seen.marks.texts(),
        tables: rib.names(seen.fate),
        refused: match seen.fate {
            Fate::Refused(why) => Some(why.text()),
            Fate::Accepted(0) => Some("no community that means a table"),
            Fate::Accepted(_) => None,
        },
        stale: seen.is_stale,
    }
}
