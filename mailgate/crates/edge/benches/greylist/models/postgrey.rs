//! postgrey 1.37: 300 seconds, 2 days, 35 days; /24 or /64 and both paths; a client is let pass after five deliveries,
//! of which one an hour counts.

use std::collections::HashMap;

use ipnet::IpNet;

use super::{network, without_serials};
use crate::replay::{Answer, Attempt, Policy};

const DELAY: u64 = 300;
const WINDOW: u64 = 2 * 86_400;
const AGE: u64 = 35 * 86_400;
const DELIVERIES: u32 = 5;
const HOUR: u64 = 3600;

#[derive(Default)]
pub(crate) struct Postgrey {
    /// First and last attempt, and whether one has passed.
    tuples: HashMap<(IpNet, String, String), (u64, u64, bool)>,
    /// Deliveries and the last of them.
    clients: HashMap<IpNet, (u32, u64)>,
}

impl Policy for Postgrey {
    fn name(&self) -> &'static str {
        "postgrey"
    }

    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer {
        let at = attempt.at;
        let client = network(attempt.ip, 24, 64);
        let known = self.clients.entry(client).or_insert((0, 0));
        if known.0 >= DELIVERIES && at < known.1 + AGE {
            known.1 = at;
            return Answer::Accept;
        }
        let message = attempt.message;
        let key = (client, without_serials(&message.from), message.to.clone());
        let tuple = self.tuples.entry(key).or_insert((at, at, false));
        let is_over = if tuple.2 { at > tuple.1 + AGE } else { at > tuple.0 + WINDOW };
        if is_over {
            *tuple = (at, at, false);
        }
        tuple.1 = at;
        if at < tuple.0 + DELAY {
            return Answer::Defer;
        }
        tuple.2 = true;
        if at >= known.1 + HOUR {
            *known = (known.0 + 1, at);
        }
        Answer::Accept
    }
}
