//! The rules that behaviour implies, where the mail server is another program: the kernel itself must send it those that
//! passed the greylist.

use mailgate_common::{Action, hidden};

use super::derive::{Effective, Origin};
use super::rule::Rule;

/// What becomes of sources on reception ports that neither tables nor behaviour know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They go to the edge.
    Edge,
    /// They go to the mail server; nobody is greylisted.
    Pass,
}

/// Puts the rules of behaviour among those in force, in the order in which the edge weighs them at accept: what the
/// administrator let pass and who is trapped before the tables that tarpit, who passed behind them, and whom feeds let pass
/// last.
#[must_use]
pub fn with_behaviour(mut rules: Vec<Effective>, unknown: Unknown) -> Vec<Effective> {
    let Some(last) = rules.iter().position(|one| one.origin == Origin::Reception) else { return rules };
    let at_reception = |name: &str, action, bit| {
        let rule = rules.get(last).map(|one| Rule { name: name.to_owned(), action, ..one.rule.clone() });
        rule.map(|rule| Effective { rule, origin: Origin::Behaviour(bit) })
    };
    let passed = at_reception("passed", Action::Pass, hidden::PASSED);
    let admitted = at_reception("admitted", Action::Pass, hidden::ADMITTED);
    let trapped = at_reception("trapped", Action::Greylist, hidden::TRAPPED);
    if let (Unknown::Pass, Some(reception)) = (unknown, rules.get_mut(last)) {
        reception.rule.action = Action::Pass;
    }
    let tarpits =
        |one: &Effective| matches!(one.origin, Origin::Tables(_)) && one.rule.action == Action::Tarpit;
    let feeds = |one: &Effective| matches!(one.origin, Origin::Feeds(_));
    let behind = rules.iter().position(feeds).unwrap_or(last);
    let first = rules.iter().position(tarpits).unwrap_or(behind);
    rules.splice(behind..behind, passed);
    rules.splice(first..first, admitted.into_iter().chain(trapped));
    rules
}

#[cfg(test)]
mod tests {
    use mailgate_lists::{Action as TableAction, TableName};

    use super::super::{RuleSet, effective};
    use super::*;

    #[test]
    fn the_order_is_that_of_accept() {
        let table = |name: &str, action| (TableName::parse(name).unwrap(), action);
        let tables = [
            table("held", TableAction::Tarpit),
            table("refused", TableAction::Reject),
            table("friends", TableAction::Bypass),
            table("fed", TableAction::FeedBypass),
        ];
        let order = |rules: &[Effective]| -> Vec<(String, Action)> {
            rules.iter().map(|one| (one.rule.name.clone(), one.rule.action)).collect()
        };
        let set = RuleSet { reception_ports: vec![25, 2525], ..RuleSet::default() };
        let rules = with_behaviour(effective(&set, &tables), Unknown::Edge);
        assert_eq!(
            order(&rules),
            [
                ("protected".to_owned(), Action::Pass),
                ("table friends".to_owned(), Action::Pass),
                ("table refused".to_owned(), Action::Reject),
                ("admitted".to_owned(), Action::Pass),
                ("trapped".to_owned(), Action::Greylist),
                ("table held".to_owned(), Action::Tarpit),
                ("passed".to_owned(), Action::Pass),
                ("table fed".to_owned(), Action::Pass),
                ("reception".to_owned(), Action::Greylist),
            ]
        );
        assert_eq!(rules[6].rule.ports, rules[8].rule.ports);
        let rules = with_behaviour(effective(&set, &tables[2..]), Unknown::Edge);
        let names: Vec<&str> = rules.iter().map(|one| one.rule.name.as_str()).collect();
        let want = ["protected", "table friends", "admitted", "trapped", "passed", "table fed", "reception"];
        assert_eq!(names, want, "also without a table that tarpits");
        let rules = with_behaviour(effective(&set, &[]), Unknown::Pass);
        assert_eq!(
            order(&rules)[3..],
            [("passed".to_owned(), Action::Pass), ("reception".to_owned(), Action::Pass)]
        );
    }
}
