//! The words of the map of settings.

/// Not 0 when connections through loopback are steered too.
pub const STEER_LOOPBACK: u32 = 0;

/// Which of the two slots of tables and rules is in force, and until when: see [`slot`].
pub const SLOT: u32 = 1;

/// What is traced: see [`crate::event::trace`].
pub const TRACE: u32 = 2;

/// Cookie of the network namespace whose connections are counted; 0 for none.
pub const NAMESPACE: u32 = 3;

/// Of the packets that are traced only because all are, one in so many; 0 and 1 for each.
pub const TRACE_SAMPLE: u32 = 8;

/// Events per 2^30 nanoseconds and processor at most; 0 for any number.
pub const TRACE_RATE: u32 = 9;

/// Words of the map; more than are used, so that a new one does not change its shape.
pub const WORDS: u32 = 32;

/// Slots of tables and rules.
pub const SLOTS: u32 = 2;

/// The latest time that [`slot_word`] has room for.
pub const LATEST: u64 = u64::MAX >> 2;

/// Which of the two slots packets meet: 0 or 1 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    /// Of the rules.
    pub rules: u32,
    /// Of the tables of both families.
    pub tables: u32,
}

/// The word of [`SLOT`]: the slot of the rules in the lowest bit, that of the tables in the next one; above them, when not
/// 0, the time (nanoseconds of the monotonic clock) after which the other rules are in force. So a change that nobody
/// confirms takes itself back, daemon or no.
#[must_use]
pub const fn slot_word(slots: Slots, deadline: u64) -> u64 {
    deadline << 2 | ((slots.tables & 1) << 1 | slots.rules & 1) as u64
}

/// The time in a word of [`SLOT`]; 0 when there is none.
#[must_use]
#[inline(always)]
pub const fn deadline(word: u64) -> u64 {
    word >> 2
}

/// The slots in force at a time, which is only asked for when there is a deadline.
#[inline(always)]
pub fn slots(word: u64, now: impl FnOnce() -> u64) -> Slots {
    let (rules, tables) = ((word & 1) as u32, (word >> 1 & 1) as u32);
    let deadline = deadline(word);
    Slots { rules: if deadline != 0 && now() >= deadline { rules ^ 1 } else { rules }, tables }
}
