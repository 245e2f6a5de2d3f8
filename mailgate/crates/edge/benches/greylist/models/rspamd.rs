//! rspamd 3.4: 300 seconds, one day; only what scores in the grey band is deferred, by the hash of the body or of the
//! envelope with the /19 or /64; what scores above it is rejected whatever the greylist says.

use std::collections::HashMap;

use ipnet::IpNet;

use super::network;
use crate::replay::{Answer, Attempt, Policy};

const DELAY: u64 = 300;
const AGE: u64 = 86_400;
const GREY: f32 = 4.0;
const REJECT: f32 = 15.0;

#[derive(Default)]
pub(crate) struct Rspamd {
    bodies: HashMap<u64, u64>,
    envelopes: HashMap<(IpNet, String, String), u64>,
}

impl Policy for Rspamd {
    fn name(&self) -> &'static str {
        "rspamd"
    }

    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer {
        let (at, message) = (attempt.at, attempt.message);
        if message.score < GREY {
            return Answer::Accept;
        }
        if message.score >= REJECT {
            return Answer::Reject;
        }
        let envelope = (network(attempt.ip, 19, 64), message.from.clone(), message.to.clone());
        let firsts =
            [self.bodies.entry(message.id).or_insert(at), self.envelopes.entry(envelope).or_insert(at)];
        let mut passes = false;
        for first in firsts {
            if at > *first + AGE {
                *first = at;
            }
            passes |= at >= *first + DELAY;
        }
        if passes { Answer::Accept } else { Answer::Defer }
    }
}
