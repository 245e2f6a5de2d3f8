//! What an IPv4 generation will need, from the counts alone.

use std::cmp::Reverse;
use std::collections::HashMap;

use mailgate_common::{BY_SLOT, LINE_WORDS, OPEN_BASE};

use super::Error;
use super::area::chunked;
use super::classes::Classes;
use super::shadow::Shadow;
use super::slots4::Slots4;

/// First word of the classes when they fit into line 0.
const CLASS_WORD: u32 = 64;

/// What a generation will need.
pub(super) struct Plan {
    /// Sets of tables, those that cover most /24 first: the first ones fit into nibbles.
    pub(super) order: Vec<u64>,
    /// Slots, at most.
    pub(super) slots: u64,
}

/// Where things go, in lines and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) class_word: u32,
    pub(super) class_room: u32,
    pub(super) bucket_line: u32,
    pub(super) rows: u32,
    /// All lines.
    pub(super) lines: u32,
}

impl Plan {
    pub(super) fn of(shadow: &Shadow<u32>) -> Self {
        let mut cover: HashMap<u64, u64> = HashMap::new();
        let mut slots = 0;
        let mut last = None;
        for (_, length, set) in shadow.sweep_all() {
            let blocks = if length > 24 {
                slots += 1_u64 << (32 - length);
                0
            } else {
                1_u64 << (24 - length)
            };
            // Most prefixes say the same as the one before: no look into the table for those.
            match &mut last {
                Some((before, sum)) if *before == set => *sum += blocks,
                _ => {
                    if let Some((before, sum)) = last.replace((set, blocks)) {
                        *cover.entry(before).or_default() += sum;
                    }
                }
            }
        }
        if let Some((before, sum)) = last {
            *cover.entry(before).or_default() += sum;
        }
        cover.remove(&0);
        let mut order: Vec<(u64, u64)> = cover.into_iter().collect();
        order.sort_unstable_by_key(|(set, blocks)| (Reverse(*blocks), *set));
        // Of all blocks there are 2^24, however often prefixes overlap.
        let by_slot: u64 = order.iter().skip(BY_SLOT as usize - 1).map(|(_, blocks)| *blocks).sum();
        slots += by_slot.min(1 << 24);
        Self { order: order.into_iter().map(|(set, _)| set).collect(), slots }
    }

    /// Bytes of the generation, as the kernel holds it.
    pub(super) fn bytes(&self) -> Result<u64, Error> {
        Ok(chunked(u64::from(self.layout()?.lines) * u64::from(LINE_WORDS)))
    }

    /// Where things go.
    pub(super) fn layout(&self) -> Result<Layout, Error> {
        let class_room = Classes::room_for(self.order.len());
        let near = CLASS_WORD + class_room <= LINE_WORDS;
        let class_word = if near { CLASS_WORD } else { OPEN_BASE * LINE_WORDS };
        let bucket_line = OPEN_BASE + if near { 0 } else { class_room.div_ceil(LINE_WORDS) };
        let rows = Slots4::rows_for(self.slots, class_room)
            .ok_or(Error::TooLarge { slots: self.slots, limit: Slots4::MOST })?;
        let lines = bucket_line + Slots4::lines(rows);
        Ok(Layout { class_word, class_room, bucket_line, rows, lines })
    }
}
