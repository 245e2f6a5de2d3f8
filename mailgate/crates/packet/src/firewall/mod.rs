//! The firewall as the administrator sees it: what is written, what it comes to, what it says of an address.
//!
//! `config.rs` is the section as written, `check.rs` finds what is wrong with it, `meant.rs` makes it what the filter
//! takes, `derive.rs` joins that with what the tables' actions imply, `words.rs` says it in words. The kernel's side is
//! `crate::packet`.

mod asked;
mod behaviour;
mod check;
pub mod config;
mod control;
mod cookies;
mod covers;
mod denies;
mod derive;
mod meant;
mod peers;
mod protect;
mod rule;
mod service;
mod words;
mod written;

pub use asked::{Asked, done, protocol, stops};
pub use behaviour::{Unknown, with_behaviour};
pub use check::{Finding, Severity};
pub use config::{Config, Otherwise, RuleConfig, Urpf};
pub use control::{Applied, Consent, Control, Parts};
pub use cookies::SynCookies;
pub use denies::denies;
pub use derive::{Effective, Origin, PROTECTED, RULES, effective};
pub use meant::Surroundings;
pub use protect::{Protected, Why};
pub use rule::{Default, Limit, Options, Ports, Protocol, Rate, ReversePath, Rule, RuleSet, TableMatch};

#[cfg(test)]
mod tests;
