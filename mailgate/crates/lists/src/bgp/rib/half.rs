//! The routes of one address family.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::Hash;

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

/// All paths of one prefix. Nearly always there is one, which needs no allocation.
#[derive(Debug)]
enum Paths {
    One(Route),
    #[expect(clippy::box_collection, reason = "sixteen bytes for each route instead of twenty-four")]
    Many(Box<Vec<Route>>),
}

/// The routes.
#[derive(Debug)]
pub(super) struct Half<K> {
    routes: HashMap<K, Paths>,
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
        Self { routes: HashMap::new(), len: 0, stale: 0, round: OLD + 1 }
    }
}

impl Paths {
    fn all(&self) -> &[Route] {
        match self {
            Self::One(route) => std::slice::from_ref(route),
            Self::Many(routes) => routes,
        }
    }

    fn all_mut(&mut self) -> &mut [Route] {
        match self {
            Self::One(route) => std::slice::from_mut(route),
            Self::Many(routes) => routes,
        }
    }

    fn tables(&self, fates: impl Fn(Kind) -> Tables) -> Tables {
        self.all().iter().fold(0, |tables, route| tables | fates(route.kind))
    }

    /// Sets one path; what it was before.
    fn set(&mut self, route: Route) -> Option<Route> {
        if let Some(place) = self.all_mut().iter_mut().find(|other| other.path == route.path) {
            return Some(std::mem::replace(place, route));
        }
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, route])),
            Self::Many(routes) => routes.push(route),
        }
        None
    }

    /// Takes one path of several away.
    fn take(&mut self, path: u32) -> Option<Route> {
        let Self::Many(routes) = self else { return None };
        let at = routes.iter().position(|route| route.path == path)?;
        let taken = routes.swap_remove(at);
        if let [last] = routes.as_slice() {
            *self = Self::One(*last);
        }
        Some(taken)
    }
}

impl<K: Key + Hash> Half<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn stale(&self) -> usize {
        self.stale
    }

    pub(super) fn bytes(&self) -> usize {
        let spare = (self.len - self.routes.len().min(self.len)) * (size_of::<Route>() * 2);
        // A byte of control for each place, of which an eighth stays free.
        self.routes.capacity() * (size_of::<(K, Paths)>() + 1) * 8 / 7 + spare
    }

    /// Everything has to be announced anew.
    pub(super) fn begin(&mut self) {
        self.stale = self.len;
        self.round = match self.round.checked_add(1) {
            Some(round) => round,
            None => {
                let routes = self.routes.values_mut().flat_map(Paths::all_mut);
                routes.for_each(|route| route.round = OLD);
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
        let changed = match self.routes.entry(key) {
            Place::Vacant(place) => {
                place.insert(Paths::One(route));
                Changed { before: None, old: 0, new: fates(kind) }
            }
            Place::Occupied(mut place) => {
                let paths = place.get_mut();
                let old = paths.tables(&fates);
                let before = paths.set(route);
                Changed { before, old, new: paths.tables(&fates) }
            }
        };
        match changed.before {
            None => self.len += 1,
            Some(before) => self.stale -= usize::from(before.round != self.round),
        }
        changed
    }

    pub(super) fn remove(&mut self, key: K, path: u32, fates: impl Fn(Kind) -> Tables) -> Changed {
        let none = Changed { before: None, old: 0, new: 0 };
        let Place::Occupied(mut place) = self.routes.entry(key) else { return none };
        let old = place.get().tables(&fates);
        let changed = match place.get() {
            Paths::One(route) if route.path == path => {
                let before = Some(*route);
                place.remove();
                Changed { before, old, new: 0 }
            }
            Paths::One(_) => return none,
            Paths::Many(_) => {
                let Some(before) = place.get_mut().take(path) else { return none };
                Changed { before: Some(before), old, new: place.get().tables(&fates) }
            }
        };
        self.len -= 1;
        self.stale -= usize::from(changed.before.is_some_and(|before| before.round != self.round));
        if self.routes.is_empty() {
            // A peer that left for good gives its memory back.
            self.routes = HashMap::new();
        }
        changed
    }

    /// Whether a prefix has as many paths as may be, and this is not one of them.
    pub(super) fn is_crowded(&self, key: K, path: u32, limit: usize) -> bool {
        // The usual session has one path, whose number is zero; it costs no lookup.
        path != 0
            && self.routes.get(&key).is_some_and(|paths| {
                let all = paths.all();
                all.len() >= limit && !all.iter().any(|route| route.path == path)
            })
    }

    /// What was not announced anew.
    pub(super) fn left(&self) -> Vec<Nlri> {
        if self.stale == 0 {
            return Vec::new();
        }
        let left = self.routes.iter().flat_map(|(key, paths)| {
            let old = paths.all().iter().filter(|route| route.round != self.round);
            old.map(|route| Nlri { prefix: key.prefix(), path: route.path })
        });
        left.collect()
    }

    pub(super) fn routes<'a>(&'a self, sets: &'a Sets) -> impl Iterator<Item = Seen<'a>> {
        self.routes.iter().flat_map(move |(key, paths)| self.seen(key.prefix(), paths, sets))
    }

    pub(super) fn find<'a>(&'a self, key: K, sets: &'a Sets) -> Vec<Seen<'a>> {
        let paths = self.routes.get(&key).into_iter();
        paths.flat_map(|paths| self.seen(key.prefix(), paths, sets)).collect()
    }

    fn seen<'a>(&'a self, prefix: IpNet, paths: &'a Paths, sets: &'a Sets) -> impl Iterator<Item = Seen<'a>> {
        paths.all().iter().filter_map(move |route| {
            let carried = sets.carried(route.kind)?;
            let nlri = Nlri { prefix, path: route.path };
            Some(Seen {
                nlri,
                marks: &carried.marks,
                fate: carried.fate,
                is_stale: route.round != self.round,
            })
        })
    }
}

#[cfg(test)]
#[test]
fn a_route_takes_sixteen_bytes_beside_its_prefix() {
    assert_eq!(size_of::<Paths>(), 16);
    assert_eq!(size_of::<(crate::prefix::Key4, Paths)>(), 24);
}
