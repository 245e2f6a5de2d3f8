//! spamd(8): 25 minutes, 4 hours, 36 days; address, HELO and both paths; promotion by a scan every minute.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::replay::{Answer, Attempt, Policy};

const PASS: u64 = 25 * 60;
const GREY: u64 = 4 * 3600;
const WHITE: u64 = 36 * 86_400;
const SCAN: u64 = 60;

/// It has no IPv6: such clients reach the mail server without it.
#[derive(Default)]
pub(crate) struct Spamd {
    /// First attempts.
    grey: HashMap<(IpAddr, String, String, String), u64>,
    /// From when and until when an address goes past it.
    white: HashMap<IpAddr, (u64, u64)>,
}

impl Policy for Spamd {
    fn name(&self) -> &'static str {
        "spamd"
    }

    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer {
        let Attempt { at, ip, .. } = *attempt;
        if ip.is_ipv6() {
            return Answer::Accept;
        }
        if let Some((from, until)) = self.white.get_mut(&ip)
            && (*from..*until).contains(&at)
        {
            // spamlogd refreshes it with every connection.
            *until = at + WHITE;
            return Answer::Accept;
        }
        let message = attempt.message;
        let key = (ip, attempt.helo.to_owned(), message.from.clone(), message.to.clone());
        let first = self.grey.entry(key).or_insert(at);
        if at >= *first + GREY {
            *first = at;
        }
        if at > *first + PASS {
            // The retry that qualifies is itself deferred; the next scan lets the address pass.
            let scan = (at / SCAN + 1) * SCAN;
            let white = self.white.entry(ip).or_insert((scan, 0));
            if white.1 <= at {
                *white = (scan, scan + WHITE);
            }
        }
        Answer::Defer
    }
}
