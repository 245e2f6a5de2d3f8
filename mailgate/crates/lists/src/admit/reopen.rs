//! What is judged again: when a feed is believed, when time is over, when other networks are protected.

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::guarded::{Guarded, Protected};
use super::steps::Pace;
use super::{Desk, Effect, Reason, Told};
use crate::merge::{Origin, SOURCES, TableIndex};
use crate::prefix::{PrefixSet, Sense};
use crate::shared::State;

/// Believes a source that is frozen or watched. How many entries came into the tables by that; `None` when it was
/// neither.
pub(crate) fn thaw(state: &mut State, origin: Origin, now: Timestamp) -> Option<usize> {
    let mut desk = state.desk(origin, now)?;
    let is_watched = desk.gate.first.is_some() && desk.gate.observed_until(now).is_some();
    if desk.gate.freeze.is_none() && !is_watched {
        return None;
    }
    if is_watched {
        desk.gate.first = Some(Timestamp::default());
        desk.gate.is_dirty = true;
    }
    desk.unfreeze("by command");
    Some(desk.believe())
}

/// Time goes by: frozen feeds are believed, watched ones have been watched long enough, the log hears how many.
pub(crate) fn tick(state: &mut State, now: Timestamp) {
    for origin in (SOURCES..).take(state.sources.len()) {
        let Some(mut desk) = state.desk(origin, now) else { continue };
        if desk.gate.announces {
            let held = desk.gate.installed;
            desk.gate.growth.tick(held, now);
        }
        let is_over =
            |since: Timestamp| desk.gate.limits.thaw_after.is_some_and(|after| now.since(since) >= after);
        let is_believed = desk.gate.freeze.as_ref().is_some_and(|freeze| is_over(freeze.since));
        if is_believed {
            desk.unfreeze("after thaw_after");
        }
        let was_watched =
            desk.gate.refusals.of(Reason::Observed) > 0 && desk.gate.observed_until(now).is_none();
        if is_believed || was_watched {
            let entries = desk.believe();
            tracing::info!(target: "lists", event = "believed", source = desk.source, entries);
        }
        desk.gate.tell(desk.source);
    }
}

/// These networks are protected from now on.
pub(crate) fn protect(state: &mut State, networks: Vec<Protected>, now: Timestamp) {
    let guarded = Guarded::new(networks.into_iter().chain(state.peers.iter().copied()));
    if guarded == state.guarded {
        return;
    }
    let before = std::mem::replace(&mut state.guarded, guarded);
    let added: Vec<IpNet> = {
        let is_new = |one: &&Protected| !before.all().iter().any(|other| other.network == one.network);
        state.guarded.all().iter().filter(is_new).map(|one| one.network).collect()
    };
    for origin in (SOURCES..).take(state.sources.len()) {
        if let Some(mut desk) = state.desk(origin, now) {
            desk.reprotect(&added);
            desk.gate.tell(desk.source);
        }
    }
}

impl Desk<'_> {
    /// Takes what waits. How many entries came into the tables by that.
    fn believe(&mut self) -> usize {
        if !self.gate.announces {
            let Some(sets) = self.gate.last.take() else { return 0 };
            let offered = self.offer(sets, Told::Believed);
            return offered.map_or(0, |offered| offered.difference.added);
        }
        let waiting = self.aside(|reason| reason.waits());
        let before = self.gate.installed;
        for (table, prefix) in waiting {
            self.announce(table, prefix, Pace::Believed);
        }
        let held = self.gate.installed;
        self.gate.growth.begin(held, self.now);
        held.saturating_sub(before)
    }

    fn aside(&self, chosen: impl Fn(Reason) -> bool) -> Vec<(TableIndex, IpNet)> {
        let aside = self.gate.aside.iter();
        aside.filter(|(_, reason)| chosen(**reason)).map(|(entry, _)| *entry).collect()
    }

    /// What the source has in its tables and may not, now that these are protected too; and what it may now.
    fn reprotect(&mut self, added: &[IpNet]) {
        let tables: Vec<TableIndex> = self.gate.tables.clone();
        let touched: Vec<(TableIndex, IpNet)> = tables
            .iter()
            .flat_map(|table| added.iter().map(move |network| (*table, *network)))
            .flat_map(|(table, network)| {
                let found = self.merged.overlapping(table, network, self.origin);
                found.into_iter().map(move |(prefix, sense)| (table, prefix, sense))
            })
            .filter(|(table, _, sense)| self.effect(*table, *sense) == Effect::Blocks)
            .map(|(table, prefix, _)| (table, prefix))
            .collect();
        if self.gate.announces {
            for (table, prefix) in touched {
                self.merged.set(table, prefix, self.origin, None);
                self.gate.installed = self.gate.installed.saturating_sub(1);
                self.put_aside(table, prefix, Reason::Protected);
            }
            for (table, prefix) in self.aside(|reason| reason == Reason::Protected) {
                if self.wrong(table, prefix, Sense::Listed).is_none() {
                    self.announce(table, prefix, Pace::Believed);
                }
            }
        } else if !touched.is_empty() || self.gate.refusals.of(Reason::Protected) > 0 {
            let held = || -> Vec<(TableIndex, PrefixSet)> {
                tables.iter().map(|table| (*table, self.merged.set_of(*table, self.origin))).collect()
            };
            let sets = self.gate.last.take().unwrap_or_else(held);
            // It fitted before.
            let _ = self.offer(sets, Told::Again);
        }
    }
}
