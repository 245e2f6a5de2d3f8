//! What routes carry, kept once for all routes that carry the same: feeds have millions of routes and a handful of kinds.

use std::collections::HashMap;
use std::sync::Arc;

use super::community::Marks;
use super::rib::Fate;

/// Different kinds kept with their communities. A feed that gives each route communities of its own is remembered beyond
/// these by what its communities mean alone, so that memory stays bounded: 65536 full sets of 200 bytes are 13 MB.
const KINDS_LIMIT: usize = 65_536;

/// Number of a kind.
pub(super) type Kind = u32;

/// What routes carry, and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Carried {
    pub(super) marks: Marks,
    pub(super) fate: Fate,
}

/// All kinds.
#[derive(Debug, Default)]
pub(super) struct Sets {
    slots: Vec<Slot>,
    free: Vec<Kind>,
    numbers: HashMap<Arc<Carried>, Kind>,
}

#[derive(Debug)]
struct Slot {
    carried: Arc<Carried>,
    /// Routes of this kind.
    routes: usize,
}

impl Sets {
    /// The number of a kind, which is not yet counted for any route.
    pub(super) fn number(&mut self, carried: Carried) -> Kind {
        if let Some(number) = self.numbers.get(&carried) {
            return *number;
        }
        if self.numbers.len() >= KINDS_LIMIT && carried.marks != Marks::default() {
            return self.number(Carried { marks: Marks::default(), fate: carried.fate });
        }
        let carried = Arc::new(carried);
        let slot = Slot { carried: Arc::clone(&carried), routes: 0 };
        let number =
            match self.free.pop().and_then(|number| Some((number, self.slots.get_mut(number as usize)?))) {
                Some((number, place)) => {
                    *place = slot;
                    number
                }
                None => {
                    self.slots.push(slot);
                    u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
                }
            };
        self.numbers.insert(carried, number);
        number
    }

    pub(super) fn carried(&self, number: Kind) -> Option<&Arc<Carried>> {
        self.slots.get(number as usize).map(|slot| &slot.carried)
    }

    pub(super) fn fate(&self, number: Kind) -> Fate {
        self.carried(number).map_or(Fate::Accepted(0), |carried| carried.fate)
    }

    /// A route of this kind more.
    pub(super) fn add(&mut self, number: Kind) {
        self.slots.get_mut(number as usize).into_iter().for_each(|slot| slot.routes += 1);
    }

    /// A route of this kind less.
    pub(super) fn drop(&mut self, number: Kind) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        slot.routes = slot.routes.saturating_sub(1);
        if slot.routes == 0 {
            self.forget(number);
        }
    }

    /// Forgets a kind that no route came to have.
    pub(super) fn settle(&mut self, number: Kind) {
        if self.slots.get(number as usize).is_some_and(|slot| slot.routes == 0) {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: Kind) {
        let Some(slot) = self.slots.get(number as usize) else { return };
        if self.numbers.remove(&slot.carried).is_some() {
            self.free.push(number);
        }
    }

    /// Different kinds.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}
