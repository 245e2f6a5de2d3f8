//! The rules in force: protected networks first, then the administrator's, then what the tables' actions imply.

use mailgate_common::Action;
use mailgate_lists::{Action as TableAction, TableName};

use super::rule::{Default, Ports, Protocol, Rule, RuleSet, TableMatch};

/// Rules at most: the bits of a word.
pub const RULES: usize = mailgate_common::RULES as usize;

/// Name of the rule that lets protected networks pass.
pub const PROTECTED: &str = "protected";

/// Where a rule in force comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Protected networks pass before anything else.
    Protected,
    /// Rule n of the configuration, from 0.
    Configured(usize),
    /// The action of these tables, which is the same.
    Tables(Vec<TableName>),
    /// Feeds let sources of these tables pass, if nobody here says anything else.
    Feeds(Vec<TableName>),
    /// What the behaviour of sources says; the table without a name of this bit.
    Behaviour(u8),
    /// What is done on reception ports when nothing else is said.
    Reception,
    /// What host mode lets in.
    BuiltIn,
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The rule. That of [`Origin::Protected`] names no table: its table has no name.
    pub rule: Rule,
    /// Where it comes from.
    pub origin: Origin,
}

/// The rules in force, in their order. The tables' actions come in the order bypass, drop, reject, tarpit, bypass by feeds,
/// whatever the order of the tables, so that bypass beats block, and a block beats the bypass of a feed. Tables of one action share a rule where there would be more than
/// [`RULES`] otherwise; beyond that the result is as long as it is.
#[must_use]
pub fn effective(set: &RuleSet, tables: &[(TableName, TableAction)]) -> Vec<Effective> {
    let mut rules = vec![Effective { rule: Rule::new(PROTECTED, Action::Pass), origin: Origin::Protected }];
    let configured = set.rules.iter().enumerate();
    rules.extend(configured.map(|(n, rule)| Effective { rule: rule.clone(), origin: Origin::Configured(n) }));
    let mut rest = Rule::new("reception", Action::Greylist);
    reception(set, &mut rest);
    // The protected one, that of reception, and three of behaviour.
    let others = set.rules.len() + set.built_in.len() + 5;
    let shares = others + tables.len() > RULES;
    rules.extend(implied(set, tables, shares));
    rules.push(Effective { rule: rest, origin: Origin::Reception });
    let built_in = set.built_in.iter();
    rules.extend(built_in.map(|rule| Effective { rule: rule.clone(), origin: Origin::BuiltIn }));
    rules
}

/// What the tables' actions imply; with `shares` one rule for each action.
fn implied(set: &RuleSet, tables: &[(TableName, TableAction)], shares: bool) -> Vec<Effective> {
    let of = |action: TableAction| -> Vec<TableName> {
        let of_action = tables.iter().filter(|(_, of_table)| *of_table == action);
        of_action.map(|(name, _)| name.clone()).collect()
    };
    let bypasses = of(TableAction::Bypass);
    let mut rules = Vec::new();
    // Grey and score stop no packet: such a source meets the rule of reception, and the edge asks which tables hold it.
    let actions = [
        TableAction::Bypass,
        TableAction::Drop,
        TableAction::Reject,
        TableAction::Tarpit,
        TableAction::FeedBypass,
    ];
    for action in actions {
        let tables = of(action);
        let origin = if action == TableAction::FeedBypass { Origin::Feeds } else { Origin::Tables };
        for group in tables.chunks(if shares { tables.len().max(1) } else { 1 }) {
            let rule = of_tables(set, group, action, &bypasses);
            rules.push(Effective { rule, origin: origin(group.to_vec()) });
        }
    }
    rules
}

/// What the action of tables means. Bypass and drop reach all ports; refusing and holding those of reception only, so
/// that a feed keeps nobody from reading mail or handing it in. In host mode bypass opens no port that is closed to
/// others: a feed of good senders says nothing about who may log in.
fn of_tables(set: &RuleSet, names: &[TableName], action: TableAction, bypasses: &[TableName]) -> Rule {
    let host_mode = set.default == Default::Drop;
    let (done, everywhere) = match action {
        TableAction::Bypass | TableAction::FeedBypass => (Action::Pass, !host_mode),
        TableAction::Drop => (Action::Drop, true),
        TableAction::Reject => (Action::Reject, false),
        TableAction::Tarpit => (Action::Tarpit, false),
        TableAction::Grey | TableAction::Score => (Action::Greylist, false),
    };
    let said: Vec<&str> = names.iter().map(TableName::as_str).collect();
    let mut rule = Rule::new(format!("table {}", said.join(" ")), done);
    rule.tables.extend(names.iter().map(|name| TableMatch { name: name.clone(), negated: false }));
    if !everywhere {
        reception(set, &mut rule);
    }
    if action == TableAction::Drop && host_mode {
        rule.tables.extend(bypasses.iter().map(|name| TableMatch { name: name.clone(), negated: true }));
    }
    rule
}

fn reception(set: &RuleSet, rule: &mut Rule) {
    rule.protocol = Some(Protocol::Tcp);
    rule.ports = set.reception_ports.iter().map(|port| Ports::new(*port, *port)).collect();
}
