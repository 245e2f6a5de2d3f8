//! A timer wheel: who is due, in constant time, for any number of clients.
//!
//! Times are relative to a cursor, not to the wall clock: a clock that is set back stops nothing. And to an interval that
//! may change: then everybody's turn comes later or earlier alike.

use std::time::Duration;

use mailgate_model::Timestamp;

/// Slots per interval: clients that came together drift apart to this grain, and work is spread over the interval.
const GRAIN: u32 = 20;
/// Slots of the wheel; the farthest deadline is one interval away.
const SLOTS: usize = GRAIN as usize + 1;

/// Deadlines of numbered clients, each one interval from when it was set.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<u32>>,
    tick: Duration,
    cursor: usize,
    /// When the cursor moved last.
    moved: Timestamp,
    waiting: usize,
}

impl Wheel {
    pub(crate) fn new(interval: Duration, now: Timestamp) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], tick: tick(interval), cursor: 0, moved: now, waiting: 0 }
    }

    /// From now on this is the interval. [`turn`](Self::turn) must have been called before.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.tick = tick(interval);
    }

    /// `id` is due one interval from now, or earlier by less than a tick. [`turn`](Self::turn) must have been called
    /// with `now` before.
    pub(crate) fn set(&mut self, id: u32, now: Timestamp) {
        if self.waiting == 0 {
            self.moved = now;
        }
        if let Some(slot) = self.slots.get_mut((self.cursor + GRAIN as usize) % SLOTS) {
            slot.push(id);
            self.waiting += 1;
        }
    }

    /// When [`turn`](Self::turn) should be called next; `None` when nobody waits.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        (self.waiting > 0).then(|| self.moved.plus(self.tick))
    }

    /// Moves on to `now` and gives who is due, the earliest first.
    pub(crate) fn turn(&mut self, now: Timestamp, due: &mut Vec<u32>) {
        if now < self.moved {
            // The clock was set back; go on from there.
            self.moved = now;
        }
        let ticks = now.since(self.moved).as_millis() / self.tick.as_millis().max(1);
        // Beyond one turn everybody is due anyway.
        let steps = usize::try_from(ticks).unwrap_or(SLOTS).min(SLOTS);
        for _ in 0..steps {
            self.cursor = (self.cursor + 1) % SLOTS;
            if let Some(slot) = self.slots.get_mut(self.cursor) {
                self.waiting -= slot.len();
                due.append(slot);
            }
        }
        let whole = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.moved = if ticks as usize > SLOTS { now } else { self.moved.plus(self.tick * whole) };
    }
}

fn tick(interval: Duration) -> Duration {
    (interval / GRAIN).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_700_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Timestamp {
        START.plus(Duration::from_millis(millis))
    }

    fn due(wheel: &mut Wheel, millis: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.turn(at(millis), &mut due);
        due
    }

    #[test]
    fn clients_are_due_one_interval_later() {
        let mut wheel = Wheel::new(SECOND, START);
        assert_eq!(wheel.next(), None);
        wheel.set(1, at(0));
        assert!(due(&mut wheel, 500).is_empty());
        wheel.set(2, at(500));
        assert!(due(&mut wheel, 999).is_empty());
        assert_eq!(due(&mut wheel, 1000), [1]);
        assert!(due(&mut wheel, 1499).is_empty());
        assert_eq!(due(&mut wheel, 1500), [2]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_jump_of_the_clock_holds_nobody_for_ever() {
        let mut wheel = Wheel::new(SECOND, START);
        wheel.set(1, at(0));
        let mut found = Vec::new();
        wheel.turn(Timestamp::from_secs(START.secs() - 3600), &mut found);
        assert!(found.is_empty());
        wheel.turn(Timestamp::from_secs(START.secs() - 3599), &mut found);
        assert_eq!(found, [1]);
        wheel.set(2, Timestamp::from_secs(START.secs() - 3599));
        assert_eq!(due(&mut wheel, 3_600_000), [2]);
    }

    #[test]
    fn a_longer_interval_moves_everybody_s_turn() {
        let mut wheel = Wheel::new(SECOND, START);
        wheel.set(1, at(0));
        assert!(due(&mut wheel, 500).is_empty());
        wheel.set_interval(4 * SECOND);
        assert!(due(&mut wheel, 2400).is_empty());
        assert_eq!(due(&mut wheel, 2500), [1], "half of one second, then half of four");
        wheel.set(2, at(2500));
        wheel.set_interval(SECOND);
        assert_eq!(due(&mut wheel, 3500), [2]);
    }

    proptest::proptest! {
        #[test]
        fn everybody_is_due_once_and_at_most_a_tick_early(steps in proptest::collection::vec(1_u64..120, 1..200)) {
            let mut wheel = Wheel::new(SECOND, START);
            let (mut now, mut id, mut set) = (0, 0_u32, std::collections::HashMap::new());
            for step in steps.iter().copied().chain(std::iter::repeat_n(50, 40)) {
                now += step;
                for found in due(&mut wheel, now) {
                    let since: u64 = now - set.remove(&found).unwrap();
                    proptest::prop_assert!(since >= 950 && since < 1000 + 50 + step, "{}", since);
                }
                wheel.set(id, at(now));
                set.insert(id, now);
                id += 1;
            }
            // Only who was set within the last interval still waits.
            proptest::prop_assert!(set.len() <= 22, "{}", set.len());
        }
    }
}
