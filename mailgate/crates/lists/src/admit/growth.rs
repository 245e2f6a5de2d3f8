//! How fast a feed may change: when it is frozen, and when it is believed again. Pure.

use std::collections::HashSet;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use crate::config::Limits;
use crate::merge::TableIndex;

/// New entries that no share or factor freezes: small lists change by large parts of themselves.
const NEW_MIN: usize = 1000;

/// Lists shorter than this may lose anything.
const SHRINK_MIN: usize = 100;

/// Over which time the share of a peer's new entries is taken.
const HOUR: Duration = Duration::from_secs(3600);

const MINUTE: Duration = Duration::from_secs(60);

/// A peer has brought what it has to bring when nothing new has come for so long; until then it may grow.
const SETTLED: Duration = MINUTE;

/// And at the latest after this time.
const LOADED: Duration = Duration::from_secs(600);

/// Withdrawn prefixes that are remembered, so that one which comes back is not new; beyond that it is, which freezes a
/// feed too early rather than too late. 12 MB at most.
const LEFT_LIMIT: usize = 200_000;

/// A feed whose new entries wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Freeze {
    pub(crate) since: Timestamp,
    /// What was found and what was expected.
    pub(crate) why: String,
    /// Fetches since then that said the same.
    pub(crate) confirmed: u32,
}

impl Freeze {
    fn new(since: Timestamp, why: String) -> Self {
        Self { since, why, confirmed: 0 }
    }
}

/// What is known of a feed's size and pace.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Whether it has once brought what it has to bring.
    pub(crate) is_settled: bool,
    /// Entries when it was last well.
    pub(crate) usual: usize,
    /// When a set was last taken.
    taken: Option<Timestamp>,
    minute: Window,
    hour: Window,
    /// When something new last came.
    last_new: Option<Timestamp>,
    /// When the first of it came.
    loading: Option<Timestamp>,
    /// Withdrawn since the hour before last began: of the hour before, and of this one.
    left: [HashSet<(TableIndex, IpNet)>; 2],
}

/// A count over a time.
#[derive(Debug, Default)]
struct Window {
    began: Option<Timestamp>,
    new: usize,
    /// Entries when it began.
    size: usize,
}

impl Window {
    /// Begins anew when the time is over; whether it did.
    fn roll(&mut self, length: Duration, size: usize, now: Timestamp) -> bool {
        let is_over = self.began.is_none_or(|began| now.since(began) >= length);
        if is_over {
            *self = Self { began: Some(now), new: 0, size };
        }
        is_over
    }
}

/// What a fetch would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Entries there are.
    pub(crate) held: usize,
    /// Entries there would be.
    pub(crate) wanted: usize,
    /// New ones that keep out.
    pub(crate) new: usize,
}

impl Growth {
    /// Whether a whole set may be taken.
    pub(crate) fn judge(&self, step: Step, limits: &Limits, now: Timestamp) -> Option<Freeze> {
        let Step { held, wanted, new } = step;
        let frozen = |why| Some(Freeze::new(now, why));
        if let Some(why) = self.jumps(wanted, limits) {
            return frozen(why);
        }
        if !self.is_settled || held == 0 {
            return None;
        }
        if let Some(why) = self.shrinks(step, limits) {
            return frozen(why);
        }
        if let Some(share) = limits.share {
            let most = NEW_MIN.max(held.saturating_mul(share) / 100);
            if new > most {
                return frozen(format!(
                    "found {new} new entries beside {held}, expected at most {most} (freeze_share = {share})"
                ));
            }
        }
        if let Some(rate) = limits.rate {
            let minutes = self.taken.map_or(0, |taken| now.since(taken).as_secs() / MINUTE.as_secs()).max(1);
            let most = usize::try_from(minutes).unwrap_or(usize::MAX).saturating_mul(rate);
            if new > most {
                return frozen(format!(
                    "found {new} new entries in {minutes} min, expected at most {most} (freeze_rate = {rate})"
                ));
            }
        }
        None
    }

    fn jumps(&self, wanted: usize, limits: &Limits) -> Option<String> {
        let (jump, usual) = (limits.jump?, self.usual);
        let most = NEW_MIN.max(usual.saturating_mul(jump));
        (usual > 0 && wanted > most).then(|| {
            format!(
                "found {wanted} entries, expected at most {most}, as it usually has {usual} (jump = {jump})"
            )
        })
    }

    /// Whether a set is so much shorter than the one before that it cannot be meant.
    pub(crate) fn shrinks(&self, step: Step, limits: &Limits) -> Option<String> {
        let Step { held, wanted, .. } = step;
        let shrink = limits.shrink.filter(|_| self.is_settled && held >= SHRINK_MIN)?;
        let least = held.saturating_mul(100 - shrink.min(100)) / 100;
        (wanted < least).then(|| {
            format!("found {wanted} entries after {held}, expected at least {least} (shrink = {shrink})")
        })
    }

    /// A set was taken whole.
    pub(crate) fn took(&mut self, size: usize, now: Timestamp) {
        self.is_settled = true;
        self.usual = size;
        self.taken = Some(now);
    }

    /// A peer announces a prefix that it did not have, beside `held` others. Whether it is frozen with that.
    pub(crate) fn announced(
        &mut self,
        entry: (TableIndex, IpNet),
        held: usize,
        limits: &Limits,
        now: Timestamp,
    ) -> Option<Freeze> {
        self.roll(held, now);
        if self.left.iter().any(|left| left.contains(&entry)) {
            return None;
        }
        self.last_new = Some(now);
        if let Some(why) = self.jumps(held + 1, limits) {
            return Some(Freeze::new(now, why));
        }
        if !self.is_settled {
            self.loading.get_or_insert(now);
            return None;
        }
        self.minute.new += 1;
        self.hour.new += 1;
        let (in_minute, in_hour, size) = (self.minute.new, self.hour.new, self.hour.size);
        if let Some(rate) = limits.rate.filter(|rate| in_minute > *rate) {
            return Some(Freeze::new(
                now,
                format!(
                    "found more than {rate} new entries in a minute, expected at most that (freeze_rate = {rate})"
                ),
            ));
        }
        let share = limits.share?;
        let most = NEW_MIN.max(size.saturating_mul(share) / 100);
        (in_hour > most).then(|| {
            let why = format!(
                "found more than {most} new entries in an hour beside {size}, expected at most that (freeze_share = {share})"
            );
            Freeze::new(now, why)
        })
    }

    /// A peer withdraws a prefix that was in a table, and leaves `held`.
    pub(crate) fn withdrew(&mut self, entry: (TableIndex, IpNet), held: usize, now: Timestamp) {
        self.roll(held, now);
        let [_, left] = &mut self.left;
        if left.len() < LEFT_LIMIT / 2 {
            left.insert(entry);
        }
        if held == 0 {
            // All is gone; what comes next is as the first time, but for its size.
            self.is_settled = false;
            self.loading = None;
        }
    }

    fn roll(&mut self, held: usize, now: Timestamp) {
        self.minute.roll(MINUTE, held, now);
        if self.hour.roll(HOUR, held, now) {
            self.left.rotate_left(1);
            let [_, left] = &mut self.left;
            *left = HashSet::new();
            if self.is_settled {
                self.usual = held;
            }
        }
    }

    /// Time goes by: a peer that is silent has brought what it has.
    pub(crate) fn tick(&mut self, held: usize, now: Timestamp) {
        let is_silent = self.last_new.is_some_and(|last| now.since(last) >= SETTLED);
        let is_late = self.loading.is_some_and(|first| now.since(first) >= LOADED);
        if held > 0 && !self.is_settled && (is_silent || is_late) {
            self.begin(held, now);
        }
    }

    /// What there is now is as it should be.
    pub(crate) fn begin(&mut self, held: usize, now: Timestamp) {
        self.is_settled = held > 0;
        self.usual = held;
        self.taken = Some(now);
        self.loading = None;
        self.minute = Window { began: Some(now), new: 0, size: held };
        self.hour = Window { began: Some(now), new: 0, size: held };
    }
}
