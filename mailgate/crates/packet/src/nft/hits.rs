//! Packets and bytes of each rule, as nft tells them.

use std::collections::BTreeMap;

use mailgate_common::{Action, Reason};

use super::super::{Counted, RuleRow};

/// Name of the counter of what no rule decided, in host mode.
pub(super) const DEFAULT: &str = "hits.default";

/// Name of the counter of a rule.
pub(super) fn name(rule: usize) -> String {
    format!("hits.{rule}")
}

/// Packets and bytes by the name of the counter. nft is asked to tell and to begin anew, for to tell alone it reads all
/// elements of all sets; so the sums are kept here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hits(BTreeMap<String, (u64, u64)>);

impl Hits {
    /// Adds what nft said: `counter NAME {`, then `packets N bytes N`.
    pub(super) fn add(&mut self, said: &str) {
        let mut counter = None;
        for line in said.lines() {
            match *line.split_whitespace().collect::<Vec<_>>() {
                ["counter", name, "{"] => counter = Some(name),
                ["packets", packets, "bytes", bytes] => {
                    let (Some(name), Ok(packets), Ok(bytes)) =
                        (counter.take(), packets.parse::<u64>(), bytes.parse::<u64>())
                    else {
                        continue;
                    };
                    let sum = self.0.entry(name.to_owned()).or_default();
                    *sum = (sum.0.saturating_add(packets), sum.1.saturating_add(bytes));
                }
                _ => {}
            }
        }
    }

    /// Packets and bytes that a rule decided.
    pub(super) fn of_rule(&self, rule: u32) -> (u64, u64) {
        self.of(&name(rule as usize))
    }

    fn of(&self, name: &str) -> (u64, u64) {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The same by reason, as far as rules are reasons.
    pub(super) fn reasons(&self, rules: &[RuleRow]) -> Vec<Counted> {
        let sum = |action: Action| {
            let of_action = rules.iter().filter(|row| row.effective.rule.action == action);
            of_action.fold((0, 0), |(packets, bytes), row| {
                let (more, of_them) = self.of_rule(row.number);
                (packets + more, bytes + of_them)
            })
        };
        [
            (Reason::Passed, sum(Action::Pass)),
            (Reason::Greylisted, sum(Action::Greylist)),
            (Reason::Tarpitted, sum(Action::Tarpit)),
            (Reason::Dropped, sum(Action::Drop)),
            (Reason::Rejected, sum(Action::Reject)),
            (Reason::DefaultDropped, self.of(DEFAULT)),
        ]
        .map(|(reason, (count, bytes))| Counted { name: reason.name(), count, bytes })
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_says_twice_is_added_up_and_other_text_is_nothing() {
        let said = "table inet mailgate.x {\n\tcounter hits.3 {\n\t\tpackets 5 bytes 300\n\t}\n\
                    \tcounter hits.default {\n\t\tpackets 1 bytes 60\n\t}\n}\npackets 9 bytes 9\n";
        let mut hits = Hits::default();
        hits.add(said);
        hits.add(said);
        assert_eq!(hits.of_rule(3), (10, 600));
        assert_eq!(hits.of(DEFAULT), (2, 120));
        assert_eq!(hits.of_rule(4), (0, 0));
        hits.add("Error: syntax error\ncounter\npackets x bytes y\n");
        assert_eq!(hits.of_rule(3), (10, 600));
    }
}
