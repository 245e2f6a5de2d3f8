//! The rules: what the administrator wrote, what the tables imply, and in which order they hold.

mod derive;
mod rule;

pub use derive::{Effective, Origin, effective};
pub use rule::{Default, Limit, Options, Ports, Protocol, Rate, ReversePath, Rule, RuleSet, TableMatch};
