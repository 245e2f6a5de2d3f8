//! Tables and rules in maps of the kernel: two slots, one in force.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use mailgate_common::ruleset::RULESET_WORDS;
use mailgate_common::setting::Slots;
use mailgate_common::{CHUNK_WORDS, CHUNKS, header, names, setting};
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};

use super::super::Error;
use super::super::area::Area;
use super::super::engine::{Backing, News, Part};
use super::{pins, sys};

/// The arrays of maps and the settings.
///
/// Both slots hold the same, so that whichever a packet saw is right; only while a change of rules waits for its
/// confirmation do the slots have different rules. Tables are many maps, so they change in the slot that no packet looks
/// at. The kernel ends an update of such an array only after every packet that may have seen what was there before
/// (`synchronize_rcu`), which is what makes it safe to change the other slot then.
pub(super) struct Maps {
    tables4: OwnedFd,
    tables6: OwnedFd,
    rulesets: OwnedFd,
    settings: OwnedFd,
}

impl Maps {
    /// Those that are pinned in a folder.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let [tables4, tables6, rulesets, settings] =
            [names::TABLES4, names::TABLES6, names::RULESETS, names::SETTINGS]
                .map(|name| pins::open(&folder.join(name)));
        Ok(Self { tables4: tables4?, tables6: tables6?, rulesets: rulesets?, settings: settings? })
    }

    /// Sets a word of the settings.
    pub(super) fn set(&self, index: u32, value: u64) -> Result<(), Error> {
        sys::map_update(self.settings.as_fd(), &index.to_ne_bytes(), &value.to_ne_bytes())
            .map_err(|source| Error::kernel("settings", source))
    }

    fn setting(&self, index: u32) -> Result<u64, Error> {
        sys::map_lookup_u64(self.settings.as_fd(), index)
            .map(Option::unwrap_or_default)
            .map_err(|source| Error::kernel("settings", source))
    }

    fn switch(&self, slots: Slots, deadline: u64) -> Result<(), Error> {
        self.set(setting::SLOT, setting::slot_word(slots, deadline))
    }

    /// Number of the newest generation that is there, for numbers to go on.
    pub(super) fn newest(&self) -> u64 {
        let of_slot = |tables: &OwnedFd, slot| generation_number(tables.as_fd(), slot);
        (0..setting::SLOTS)
            .flat_map(|slot| [of_slot(&self.tables4, slot), of_slot(&self.tables6, slot)])
            .max()
            .unwrap_or(0)
    }

    /// Puts tables into a slot.
    fn fill_tables(&self, slot: u32, news: &News<'_>) -> Result<(), Error> {
        let failed = |source| Error::kernel("switching to the new tables", source);
        for (map, area) in [(&self.tables4, news.v4), (&self.tables6, news.v6)] {
            let Some(area) = area else { continue };
            let (map, first) = (map.as_fd(), slot * CHUNKS);
            let chunks = area.map(Area::maps).unwrap_or_default();
            let end = first + u32::try_from(chunks.len()).unwrap_or(CHUNKS);
            sys::map_update_fds(map, first, chunks).map_err(failed)?;
            // Behind them, what a larger generation left.
            let mut left = end;
            while left < first + CHUNKS && sys::map_lookup_u32(map, left).map_err(failed)?.is_some() {
                left += 1;
            }
            sys::map_delete_all(map, end..left).map_err(failed)?;
        }
        Ok(())
    }

    /// Puts rules into a slot.
    fn fill_rules(&self, slot: u32, news: &News<'_>) -> Result<(), Error> {
        let Some(rules) = news.rules.and_then(|area| area.maps().first()) else { return Ok(()) };
        sys::map_update_fd(self.rulesets.as_fd(), slot, rules.as_fd())
            .map_err(|source| Error::kernel("switching to the new rules", source))
    }

    /// Makes the rules of one slot those of the other.
    fn copy_rules(&self, from: u32, to: u32) -> Result<(), Error> {
        let failed = |source| Error::kernel("rules", source);
        match sys::map_lookup_u32(self.rulesets.as_fd(), from).map_err(failed)? {
            Some(id) => {
                let rules = sys::map_by_id(id).map_err(failed)?;
                sys::map_update_fd(self.rulesets.as_fd(), to, rules.as_fd()).map_err(failed)
            }
            None => sys::map_delete(self.rulesets.as_fd(), to).map_err(failed),
        }
    }
}

impl Backing for Maps {
    fn area(&self, part: Part, words: usize) -> Result<Area, Error> {
        let failed = |source| Error::kernel("memory for the tables", source);
        let (name, size) = match part {
            Part::V4 => ("generation4", CHUNK_WORDS),
            Part::V6 => ("generation6", CHUNK_WORDS),
            Part::Rules => ("ruleset", RULESET_WORDS),
        };
        let chunks = words.div_ceil(size as usize);
        if chunks > CHUNKS as usize {
            return Err(failed(std::io::ErrorKind::OutOfMemory.into()));
        }
        let maps =
            (0..chunks).map(|_| sys::value_map(name, size * 8)).collect::<Result<_, _>>().map_err(failed)?;
        Area::of_maps(size as usize, maps).map_err(failed)
    }

    fn publish(&self, news: &News<'_>, within: Option<Duration>) -> Result<(), Error> {
        let word = self.setting(setting::SLOT)?;
        let now = setting::slots(word, monotonic);
        if let Some(within) = within {
            let within = u64::try_from(within.as_nanos()).unwrap_or(setting::LATEST);
            let deadline = monotonic().saturating_add(within).min(setting::LATEST);
            let next = Slots { rules: now.rules ^ 1, ..now };
            self.fill_rules(next.rules, news)?;
            return self.switch(next, deadline);
        }
        if news.v4.is_none() && news.v6.is_none() {
            // One exchange of a pointer; whichever slot a packet sees, it sees all of the old or all of the new.
            self.fill_rules(now.rules, news)?;
            return self.fill_rules(now.rules ^ 1, news);
        }
        self.fill_tables(now.tables ^ 1, news)?;
        let (next, deadline) = if news.rules.is_some() {
            self.fill_rules(now.rules ^ 1, news)?;
            (Slots { rules: now.rules ^ 1, tables: now.tables ^ 1 }, 0)
        } else {
            // Rules that wait for their confirmation go on waiting.
            (Slots { tables: now.tables ^ 1, ..setting::slots(word, || 0) }, setting::deadline(word))
        };
        self.switch(next, deadline)?;
        // Any update waits for the packets that still use the slots of before; then these can be made the same.
        self.copy_rules(next.rules, next.rules)?;
        self.fill_tables(now.tables, news)?;
        if news.rules.is_some() { self.fill_rules(now.rules, news) } else { Ok(()) }
    }

    fn confirm(&self) -> Result<(), Error> {
        let slots = setting::slots(self.setting(setting::SLOT)?, monotonic);
        self.switch(slots, 0)?;
        self.copy_rules(slots.rules, slots.rules)?;
        self.copy_rules(slots.rules, slots.rules ^ 1)
    }

    fn roll_back(&self) -> Result<(), Error> {
        let word = self.setting(setting::SLOT)?;
        if setting::deadline(word) == 0 {
            return Ok(());
        }
        // Whether the time is over or not.
        let mut slots = setting::slots(word, || 0);
        slots.rules ^= 1;
        self.switch(slots, 0)?;
        self.copy_rules(slots.rules, slots.rules)?;
        self.copy_rules(slots.rules, slots.rules ^ 1)
    }

    fn interface(&self, name: &str) -> u32 {
        if_nametoindex(name).unwrap_or(0)
    }
}

/// Nanoseconds of the monotonic clock, which the kernel's programs read too.
pub(super) fn monotonic() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    Duration::from(now).as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Number of the generation in a slot of an array of maps; 0 when there is none.
fn generation_number(tables: BorrowedFd<'_>, slot: u32) -> u64 {
    let Ok(Some(id)) = sys::map_lookup_u32(tables, slot * CHUNKS) else { return 0 };
    let Ok(map) = sys::map_by_id(id) else { return 0 };
    Area::of_maps(CHUNK_WORDS as usize, vec![map]).map_or(0, |area| area.load(header::GENERATION as usize))
}
