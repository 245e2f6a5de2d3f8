//! The routes of one address family.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::Hash;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use mailgate_proto::bgp::Nlri;

use super::super::community::Marks;
use super::super::sets::{Kind, Sets};
use super::{Fate, Tables};
use crate::prefix::Key;

/// Of routes that an earlier session announced.
const OLD: u16 = 0;

/// One route: what it carries, and when it was announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// Which of several paths (RFC 7911).
    path: u32,
    pub(super) kind: Kind,
    round: u16,
}

/// The one path of a prefix, with the number zero: nearly all routes of nearly all sessions.
#[derive(Debug, Clone, Copy)]
struct Only {
    kind: Kind,
    round: u16,
}

/// The routes. A prefix is in one of the two maps.
#[derive(Debug)]
pub(super) struct Half<K> {
    routes: HashMap<K, Only, RandomState>,
    /// Of prefixes with several paths, or with one that has a number.
    paths: HashMap<K, Vec<Route>, RandomState>,
    /// Routes, of which a prefix may have several.
    len: usize,
    /// Those of before `round`.
    stale: usize,
    /// Counts how often everything had to be announced anew.
    round: u16,
}

/// What changed for a prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed {
    pub(super) before: Option<Route>,
    /// Its tables before, by all its paths.
    pub(super) old: Tables,
    pub(super) new: Tables,
}

/// A route as it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) nlri: Nlri,
    pub(crate) marks: &'a Marks,
    pub(crate) fate: Fate,
    pub(crate) is_stale: bool,
}

impl<K> Default for Half<K> {
    fn default() -> Self {
        Self { routes: HashMap::default(), paths: HashMap::default(), len: 0, stale: 0, round: OLD + 1 }
    }
}

impl Only {
    fn route(self) -> Route {
        Route { path: 0, kind: self.kind, round: self.round }
    }
}

impl Route {
    fn only(self) -> Option<Only> {
        (self.path == 0).then_some(Only { kind: self.kind, round: self.round })
    }
}

fn tables(routes: &[Route], fates: impl Fn(Kind) -> Tables) -> Tables {
    routes.iter().fold(0, |tables, route| tables | fates(route.kind))
}

/// Sets one path; what it was before.
fn set(routes: &mut Vec<Route>, route: Route) -> Option<Route> {
    if let Some(place) = routes.iter_mut().find(|other| other.path == route.path) {
        return Some(std::mem::replace(place, route));
    }
    routes.push(route);
    None
}

impl<K: Key + Hash> Half<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn stale(&self) -> usize {
        self.stale
    }

    pub(super) fn bytes(&self) -> usize {
        let routes = (self.len - self.routes.len().min(self.len)) * (size_of::<Route>() + 4);
        // A byte of control for each place, of which an eighth stays free.
        let places = self.routes.capacity() * (size_of::<(K, Only)>() + 1)
            + self.paths.capacity() * (size_of::<(K, Vec<Route>)>() + 1);
        places * 8 / 7 + routes
    }

    /// Everything has to be announced anew.
    pub(super) fn begin(&mut self) {
        self.stale = self.len;
        self.round = match self.round.checked_add(1) {
            Some(round) => round,
            None => {
                self.routes.values_mut().for_each(|only| only.round = OLD);
                self.paths.values_mut().flatten().for_each(|route| route.round = OLD);
                OLD + 1
            }
        };
    }

    pub(super) fn insert(
        &mut self,
        key: K,
        path: u32,
        kind: Kind,
        fates: impl Fn(Kind) -> Tables,
    ) -> Changed {
        let route = Route { path, kind, round: self.round };
        let changed = match self.paths_of(key) {
            Some(routes) => {
                let old = tables(routes, &fates);
                let before = set(routes, route);
                Changed { before, old, new: tables(routes, &fates) }
            }
            None => self.insert_only(key, route, fates),
        };
        match changed.before {
            None => self.len += 1,
            Some(before) => self.stale -= usize::from(before.round != self.round),
        }
        changed
    }

    fn paths_of(&mut self, key: K) -> Option<&mut Vec<Route>> {
        // The usual session has none, and is spared the search.
        if self.paths.is_empty() { None } else { self.paths.get_mut(&key) }
    }

    /// Of a prefix that is not among those of several paths.
    fn insert_only(&mut self, key: K, route: Route, fates: impl Fn(Kind) -> Tables) -> Changed {
        let new = fates(route.kind);
        match (self.routes.entry(key), route.only()) {
            (Place::Vacant(place), Some(only)) => {
                place.insert(only);
                Changed { before: None, old: 0, new }
            }
            (Place::Vacant(_), None) => {
                self.paths.insert(key, vec![route]);
                Changed { before: None, old: 0, new }
            }
            (Place::Occupied(mut place), Some(only)) => {
                let before = place.insert(only);
                Changed { before: Some(before.route()), old: fates(before.kind), new }
            }
            (Place::Occupied(place), None) => {
                let first = place.remove();
                self.paths.insert(key, vec![first.route(), route]);
                let old = fates(first.kind);
                Changed { before: None, old, new: old | new }
            }
        }
    }

    pub(super) fn remove(&mut self, key: K, path: u32, fates: impl Fn(Kind) -> Tables) -> Changed {
        let changed = match self.paths_of(key) {
            Some(_) => self.remove_path(key, path, fates),
            None => {
                let before = if path == 0 { self.routes.remove(&key) } else { None };
                let old = before.map_or(0, |only| fates(only.kind));
                Changed { before: before.map(Only::route), old, new: 0 }
            }
        };
        let Some(before) = changed.before else { return changed };
        self.len -= 1;
        self.stale -= usize::from(before.round != self.round);
        if self.len == 0 {
            // A peer that left for good gives its memory back.
            (self.routes, self.paths) = (HashMap::default(), HashMap::default());
        }
        changed
    }

    fn remove_path(&mut self, key: K, path: u32, fates: impl Fn(Kind) -> Tables) -> Changed {
        let none = Changed { before: None, old: 0, new: 0 };
        let Some(routes) = self.paths.get_mut(&key) else { return none };
        let old = tables(routes, &fates);
        let Some(at) = routes.iter().position(|route| route.path == path) else { return none };
        let before = Some(routes.swap_remove(at));
        let new = tables(routes, &fates);
        let left = match routes.as_slice() {
            [] => None,
            [last] if last.path == 0 => last.only(),
            _ => return Changed { before, old, new },
        };
        self.paths.remove(&key);
        self.routes.extend(left.map(|only| (key, only)));
        Changed { before, old, new }
    }

    /// Whether a prefix has as many paths as may be, and this is not one of them.
    pub(super) fn is_crowded(&self, key: K, path: u32, limit: usize) -> bool {
        // The usual session has one path, whose number is zero; it costs no lookup.
        path != 0
            && self
                .paths
                .get(&key)
                .is_some_and(|routes| routes.len() >= limit && !routes.iter().any(|route| route.path == path))
    }

    /// What was not announced anew.
    pub(super) fn left(&self) -> Vec<Nlri> {
        if self.stale == 0 {
            return Vec::new();
        }
        let old = self.all().filter(|(_, route)| route.round != self.round);
        old.map(|(key, route)| Nlri { prefix: key.prefix(), path: route.path }).collect()
    }

    fn all(&self) -> impl Iterator<Item = (K, Route)> {
        let paths = self.paths.iter().flat_map(|(key, routes)| routes.iter().map(|route| (*key, *route)));
        self.routes.iter().map(|(key, only)| (*key, only.route())).chain(paths)
    }

    pub(super) fn routes<'a>(&'a self, sets: &'a Sets) -> impl Iterator<Item = Seen<'a>> {
        self.all().filter_map(|(key, route)| self.seen(key.prefix(), route, sets))
    }

    pub(super) fn find<'a>(&'a self, key: K, sets: &'a Sets) -> Vec<Seen<'a>> {
        let only = self.routes.get(&key).map(|only| only.route());
        let paths = self.paths.get(&key).into_iter().flatten().copied();
        only.into_iter().chain(paths).filter_map(|route| self.seen(key.prefix(), route, sets)).collect()
    }

    fn seen<'a>(&self, prefix: IpNet, route: Route, sets: &'a Sets) -> Option<Seen<'a>> {
        let carried = sets.carried(route.kind)?;
        Some(Seen {
            nlri: Nlri { prefix, path: route.path },
            marks: &carried.marks,
            fate: carried.fate,
            is_stale: route.round != self.round,
        })
    }
}

#[cfg(test)]
#[test]
fn a_route_takes_eight_bytes_beside_its_prefix() {
    assert_eq!(size_of::<Only>(), 8);
    assert_eq!(size_of::<(crate::prefix::Key4, Only)>(), 16);
}
