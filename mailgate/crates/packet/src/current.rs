//! What lookups in user space use: the same words as the kernel, through the same code.

use std::net::IpAddr;
use std::sync::Arc;

use mailgate_common::ruleset::Words;
use mailgate_common::{
    Action as Done, Decision, Facts, LINE_WORDS, NO_RULE, PAGE_WORDS, Packet, Ruling, WayBack, World, decide,
    hidden, judge_frame, lookup4, lookup6,
};
use mailgate_lists::{Action, TableName};

use super::Verdict;
use super::area::{Area, View};
use crate::firewall::{Effective, Origin};

/// Tables and rules in force.
#[derive(Clone, Default)]
pub(super) struct Current {
    pub(super) area4: Option<Arc<Area>>,
    pub(super) area6: Option<Arc<Area>>,
    pub(super) rules: Option<Arc<Area>>,
    pub(super) effective: Arc<[Effective]>,
    pub(super) tables: Arc<[(TableName, Action)]>,
    /// The port that [`Current::verdict`] is about.
    pub(super) reception: u16,
}

impl Current {
    /// As [`super::PacketFilter::verdict`].
    pub(super) fn verdict(&self, source: IpAddr) -> Verdict {
        // Behaviour is weighed at accept itself, which knows more of it.
        let set = self.set(source) & !hidden::BEHAVIOUR;
        self.of_set(set, &Facts::connection(self.reception, 0))
    }

    /// As [`super::PacketFilter::explain`].
    pub(super) fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        self.of_set(self.set(source), facts)
    }

    fn of_set(&self, set: u64, facts: &Facts) -> Verdict {
        let decision = match &self.rules {
            Some(rules) => decide(&RuleWords(rules), set, facts, |matched| matched),
            None => Decision { action: None, rule: NO_RULE },
        };
        let rule = self.effective.get(decision.rule as usize);
        let action = match decision.action {
            // Nobody said anything of this source.
            Some(Done::Pass) if rule.is_some_and(|one| one.origin == Origin::Reception) => None,
            Some(Done::Pass) if rule.is_some_and(|one| matches!(one.origin, Origin::Feeds(_))) => {
                Some(Action::FeedBypass)
            }
            Some(Done::Pass) => Some(Action::Bypass),
            Some(Done::Drop) => Some(Action::Drop),
            Some(Done::Reject) => Some(Action::Reject),
            Some(Done::Tarpit) => Some(Action::Tarpit),
            Some(Done::Greylist | Done::Limit) | None => None,
        };
        let holds = |n: usize| set >> n & 1 == 1;
        let held = self.tables.iter().enumerate().filter(|(n, _)| holds(*n));
        let (tables, meanings): (Vec<TableName>, Vec<Action>) = held.map(|(_, one)| one.clone()).unzip();
        let says = |action: Action| meanings.contains(&action).then_some(action);
        Verdict {
            action: action.or_else(|| says(Action::Grey)).or_else(|| says(Action::Score)),
            tables,
            meanings,
            rule: rule.map(|one| one.rule.name.clone()),
            number: (decision.rule < NO_RULE).then_some(decision.rule),
            done: decision.action,
        }
    }

    /// The tables that hold an address.
    pub(super) fn set(&self, source: IpAddr) -> u64 {
        match source.to_canonical() {
            IpAddr::V4(ip) => self
                .area4
                .as_ref()
                .map_or(0, |area| lookup4(&area.view::<{ LINE_WORDS as usize }>(), ip.into())),
            IpAddr::V6(ip) => self.area6.as_ref().map_or(0, |area| {
                let address = u128::from(ip);
                lookup6(&area.view::<{ PAGE_WORDS as usize }>(), (address >> 64) as u64, address as u64)
            }),
        }
    }

    /// The verdict of the kernel's program on a frame, as user space computes it: without live connections and routes.
    pub(super) fn judge(&self, frame: &[u8], interface: u32) -> Ruling {
        judge_frame(&Still { current: self, interface }, &frame)
    }

    /// Bytes of the compiled tables.
    pub(super) fn bytes(&self) -> u64 {
        [&self.area4, &self.area6].into_iter().flatten().map(|area| area.bytes()).sum()
    }

    /// Names of the tables, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| name.to_string()).collect()
    }
}

/// A world without sockets and routes.
struct Still<'a> {
    current: &'a Current,
    interface: u32,
}

impl<'a> World for Still<'a> {
    type Tables4 = View<'a, { LINE_WORDS as usize }>;
    type Tables6 = View<'a, { PAGE_WORDS as usize }>;
    type Rules = RuleWords<'a>;

    fn tables4(&self) -> Option<Self::Tables4> {
        self.current.area4.as_ref().map(|area| area.view())
    }

    fn tables6(&self) -> Option<Self::Tables6> {
        self.current.area6.as_ref().map(|area| area.view())
    }

    fn rules(&self) -> Option<Self::Rules> {
        self.current.rules.as_deref().map(RuleWords)
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn established(&self, _: &Packet) -> bool {
        false
    }

    fn way_back(&self, _: &Packet) -> WayBack {
        WayBack::Here
    }
}

/// A ruleset in memory.
struct RuleWords<'a>(&'a Area);

impl Words for RuleWords<'_> {
    fn word(&self, at: u32) -> u64 {
        self.0.load(at as usize)
    }
}
