//! The decision: which tables hold an address and where it goes, hence what is done.

use crate::ruleset::{Facts, NO_RULE, Words, first_rule, head, matching, option};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Action {
    /// Goes on; a connection to reception goes straight there.
    Pass = 0,
    /// Vanishes.
    Drop = 1,
    /// Is refused.
    Reject = 2,
    /// Is held: one byte a second.
    Tarpit = 3,
    /// Is judged by the edge.
    Greylist = 4,
    /// Counts against a limit; the next rules decide.
    Limit = 5,
}

impl Action {
    /// All, by number.
    pub const ALL: [Self; 6] =
        [Self::Pass, Self::Drop, Self::Reject, Self::Tarpit, Self::Greylist, Self::Limit];

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Tarpit => "tarpit",
            Self::Greylist => "greylist",
            Self::Limit => "limit",
        }
    }
}

/// What is done, and which rule says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What is done; `None` when no rule concerns it: then the default says.
    pub action: Option<Action>,
    /// Number of the rule, or [`NO_RULE`].
    pub rule: u32,
}

/// The first rule that concerns a packet from a source in the tables of `set`. Runs in the kernel, in the fallback and
/// in tests. `forget` returns what it is given; see [`crate::World::forget`].
#[inline(always)]
pub fn decide<W: Words>(rules: &W, set: u64, facts: &Facts, forget: impl FnOnce(u64) -> u64) -> Decision {
    let matched = forget(matching(rules, set, facts) & rules.word(head::TERMINAL));
    if matched == 0 {
        return Decision { action: None, rule: NO_RULE };
    }
    let lowest = matched & matched.wrapping_neg();
    let is = |action: Action| lowest & rules.word(head::ACTIONS + action as u32) != 0;
    let action = if is(Action::Greylist) {
        Action::Greylist
    } else if is(Action::Pass) {
        Action::Pass
    } else if is(Action::Drop) {
        Action::Drop
    } else if is(Action::Tarpit) {
        Action::Tarpit
    } else {
        Action::Reject
    };
    Decision { action: Some(action), rule: first_rule(lowest) }
}

/// Whether what no rule concerns is dropped.
#[inline(always)]
pub fn drops_by_default<W: Words>(rules: &W) -> bool {
    rules.word(head::OPTIONS) & option::DEFAULT_DROP != 0
}
