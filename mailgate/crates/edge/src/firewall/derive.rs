//! The rules in force: protected networks first, then the administrator's, then what the tables' actions imply.

use mailgate_common::Action;
use mailgate_lists::{Action as TableAction, TableName};

use super::rule::{Ports, Protocol, Rule, RuleSet, TableMatch};

/// Where a rule in force comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Protected networks pass before anything else.
    Protected,
    /// Rule n of the configuration, from 0.
    Configured(usize),
    /// The action of this table.
    Table(TableName),
    /// What is done on reception ports when nothing else is said.
    Reception,
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The rule. That of [`Origin::Protected`] names no table: its table has no name.
    pub rule: Rule,
    /// Where it comes from.
    pub origin: Origin,
}

/// The rules in force, in their order. The tables' actions come in the order bypass, drop, reject, tarpit, whatever the
/// order of the tables, so that bypass beats block.
#[must_use]
pub fn effective(set: &RuleSet, tables: &[(TableName, TableAction)]) -> Vec<Effective> {
    let mut rules = vec![Effective { rule: Rule::new("protected", Action::Pass), origin: Origin::Protected }];
    let configured = set.rules.iter().enumerate();
    rules.extend(configured.map(|(n, rule)| Effective { rule: rule.clone(), origin: Origin::Configured(n) }));
    for action in [TableAction::Bypass, TableAction::Drop, TableAction::Reject, TableAction::Tarpit] {
        for (name, _) in tables.iter().filter(|(_, of_table)| *of_table == action) {
            rules.push(Effective { rule: of_table(set, name, action), origin: Origin::Table(name.clone()) });
        }
    }
    let mut rest = Rule::new("reception", Action::Greylist);
    reception(set, &mut rest);
    rules.push(Effective { rule: rest, origin: Origin::Reception });
    rules
}

/// What the action of a table means. Bypass and drop reach all ports; refusing and holding those of reception only, so
/// that a feed keeps nobody from reading mail or handing it in.
fn of_table(set: &RuleSet, name: &TableName, action: TableAction) -> Rule {
    let (action, everywhere) = match action {
        TableAction::Bypass => (Action::Pass, true),
        TableAction::Drop => (Action::Drop, true),
        TableAction::Reject => (Action::Reject, false),
        TableAction::Tarpit => (Action::Tarpit, false),
    };
    let mut rule = Rule::new(format!("table {name}"), action);
    rule.tables.push(TableMatch { name: name.clone(), negated: false });
    if !everywhere {
        reception(set, &mut rule);
    }
    rule
}

fn reception(set: &RuleSet, rule: &mut Rule) {
    rule.protocol = Some(Protocol::Tcp);
    rule.ports = set.reception_ports.iter().map(|port| Ports::new(*port, *port)).collect();
}
