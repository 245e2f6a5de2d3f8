//! Tables and rules in maps of the kernel: two slots, one in force.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use mailgate_common::ruleset::RULESET_WORDS;
use mailgate_common::{LINE_WORDS, PAGE_WORDS, header, names, setting};
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};

use super::super::Error;
use super::super::area::Area;
use super::super::engine::{Backing, News, Part};
use super::{pins, sys};

/// The arrays of maps and the settings.
///
/// Both slots hold the same, so that whichever a packet saw is right; only while a change of rules waits for its
/// confirmation do the slots have different rules. The kernel ends an update of such an array only after every packet
/// that may have seen what was there before (`synchronize_rcu`), which is what makes changing one slot after the other
/// safe.
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

    /// The slot in force, and whether it is so for a time only.
    fn slot(&self) -> Result<(u32, bool), Error> {
        let word = self.setting(setting::SLOT)?;
        Ok((setting::slot(word, monotonic), word >> 1 != 0))
    }

    /// Number of the newest generation that is there, for numbers to go on.
    pub(super) fn newest(&self) -> u64 {
        let of_slot = |tables: &OwnedFd, slot| generation_number(tables.as_fd(), slot);
        (0..setting::SLOTS)
            .flat_map(|slot| [of_slot(&self.tables4, slot), of_slot(&self.tables6, slot)])
            .max()
            .unwrap_or(0)
    }

    /// Puts areas into a slot.
    fn fill(&self, slot: u32, news: &News<'_>) -> Result<(), Error> {
        let rules = news.rules.map(Some);
        for (map, area) in [(&self.tables4, news.v4), (&self.tables6, news.v6), (&self.rulesets, rules)] {
            let Some(area) = area else { continue };
            let done = match area.and_then(Area::map_fd) {
                Some(inner) => sys::map_update_fd(map.as_fd(), slot, inner),
                None => sys::map_delete(map.as_fd(), slot),
            };
            done.map_err(|source| Error::kernel("switching to the new tables", source))?;
        }
        Ok(())
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
        let lines = |line: u32| u32::try_from(words / line as usize).unwrap_or(u32::MAX);
        match part {
            Part::V4 => sys::generation_map("generation4", LINE_WORDS * 8, lines(LINE_WORDS)),
            Part::V6 => sys::generation_map("generation6", PAGE_WORDS * 8, lines(PAGE_WORDS)),
            Part::Rules => sys::ruleset_map("ruleset", RULESET_WORDS * 8),
        }
        .and_then(|map| Area::of_map(words, map))
        .map_err(|source| Error::kernel("memory for the tables", source))
    }

    fn publish(&self, news: &News<'_>, within: Option<Duration>) -> Result<(), Error> {
        let (slot, waits) = self.slot()?;
        let parts =
            [news.v4.is_some(), news.v6.is_some(), news.rules.is_some()].iter().filter(|new| **new).count();
        if let Some(within) = within {
            let deadline =
                monotonic().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX >> 1));
            self.fill(slot ^ 1, news)?;
            return self.set(setting::SLOT, setting::slot_word(slot ^ 1, deadline));
        }
        if parts <= 1 || waits {
            // One exchange of a pointer; whichever slot a packet sees, it sees all of the old or all of the new.
            self.fill(slot, news)?;
            return self.fill(slot ^ 1, news);
        }
        self.fill(slot ^ 1, news)?;
        self.set(setting::SLOT, setting::slot_word(slot ^ 1, 0))?;
        // Any update waits for the packets that still use the slot of before; then it can be made the same.
        self.fill(slot ^ 1, news)?;
        self.fill(slot, news)
    }

    fn confirm(&self) -> Result<(), Error> {
        let (slot, _) = self.slot()?;
        self.set(setting::SLOT, setting::slot_word(slot, 0))?;
        self.copy_rules(slot, slot)?;
        self.copy_rules(slot, slot ^ 1)
    }

    fn roll_back(&self) -> Result<(), Error> {
        let word = self.setting(setting::SLOT)?;
        if word >> 1 == 0 {
            return Ok(());
        }
        let before = (word & 1) as u32 ^ 1;
        self.set(setting::SLOT, setting::slot_word(before, 0))?;
        self.copy_rules(before, before)?;
        self.copy_rules(before, before ^ 1)
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
    let Ok(Some(id)) = sys::map_lookup_u32(tables, slot) else { return 0 };
    let Ok(map) = sys::map_by_id(id) else { return 0 };
    Area::of_map(header::WORDS as usize, map).map_or(0, |area| area.load(header::GENERATION as usize))
}
