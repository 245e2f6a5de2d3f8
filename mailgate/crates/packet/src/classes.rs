//! Sets of tables as small numbers.

use std::collections::HashMap;

use super::area::Area;

/// The class table of one generation, and what is known of it.
#[derive(Debug)]
pub(super) struct Classes {
    ids: HashMap<u64, u32>,
    /// First word in the area.
    base: usize,
    /// Room, class 0 included.
    room: u32,
}

/// The generation has no room left; a larger one must be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Classes {
    /// Room for `known` sets and as many again.
    pub(super) fn room_for(known: usize) -> u32 {
        u32::try_from((known + 1).saturating_mul(2)).unwrap_or(u32::MAX >> 8).next_power_of_two().max(64)
    }

    /// An empty table at word `base`.
    pub(super) fn new(base: usize, room: u32) -> Self {
        Self { ids: HashMap::new(), base, room }
    }

    /// The class of a set, made if need be; the empty set is class 0.
    pub(super) fn id(&mut self, area: &Area, set: u64) -> Result<u32, Full> {
        if set == 0 {
            return Ok(0);
        }
        if let Some(id) = self.ids.get(&set) {
            return Ok(*id);
        }
        let id = self.ids.len() as u32 + 1;
        if id >= self.room {
            return Err(Full);
        }
        // The set is in place before any slot names its class.
        area.store(self.base + id as usize, set);
        self.ids.insert(set, id);
        Ok(id)
    }
}
