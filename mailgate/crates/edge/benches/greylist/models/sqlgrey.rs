//! sqlgrey 1.8: 5 minutes, 24 hours, 60 days; the /24 of a host with a good name, else its address; a sender that passed is
//! known with its host, and from the second sender of a domain on the whole domain.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::{network, without_serials};
use crate::replay::{Answer, Attempt, Policy};
use crate::world::Reverse;

const DELAY: u64 = 300;
const WINDOW: u64 = 86_400;
const AGE: u64 = 60 * 86_400;
const SENDERS: usize = 2;

#[derive(Default)]
pub(crate) struct Sqlgrey {
    connects: HashMap<(IpNet, String, String), u64>,
    senders: HashMap<(IpNet, String), u64>,
    /// The senders of a domain that passed from a host.
    domains: HashMap<(IpNet, String), (HashSet<String>, u64)>,
}

impl Policy for Sqlgrey {
    fn name(&self) -> &'static str {
        "sqlgrey"
    }

    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer {
        let at = attempt.at;
        let has_name = matches!(attempt.sender.reverse, Reverse::Confirmed | Reverse::Provider);
        // With a /64 for hosts that make their addresses themselves.
        let client = network(attempt.ip, if has_name { 24 } else { 32 }, 64);
        let message = attempt.message;
        let sender = without_serials(&message.from);
        let domain = attempt.sender.domain.clone();
        if let Some((names, last)) = self.domains.get_mut(&(client, domain.clone()))
            && names.len() >= SENDERS
            && at < *last + AGE
        {
            *last = at;
            return Answer::Accept;
        }
        if let Some(last) = self.senders.get_mut(&(client, sender.clone()))
            && at < *last + AGE
        {
            *last = at;
            return Answer::Accept;
        }
        let first = self.connects.entry((client, sender.clone(), message.to.clone())).or_insert(at);
        if at > *first + WINDOW {
            *first = at;
        }
        if at < *first + DELAY {
            return Answer::Defer;
        }
        let known = self.domains.entry((client, domain)).or_default();
        known.0.insert(sender.clone());
        known.1 = at;
        self.senders.insert((client, sender), at);
        Answer::Accept
    }
}
