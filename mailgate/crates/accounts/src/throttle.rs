//! Guessers are slowed down, with bounded memory.
//!
//! Wrong passwords are counted per source and per login. A source that knew the password of a login before is counted for
//! that pair alone: a stranger who guesses at a login locks nobody out who has used it from where they are, and one
//! forgotten client of an office does not lock out its colleagues. An attempt is counted before the password is
//! hashed and taken back when it was right, so that attempts side by side do not slip through.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mailgate_model::Timestamp;

/// Counters remembered; above it the half that was quiet for longest is forgotten.
const COUNTER_LIMIT: usize = 50_000;
/// Pairs of source and login remembered as familiar; above it the half that was used longest ago is forgotten.
const FAMILIAR_LIMIT: usize = 20_000;
/// A login may be tried wrongly from everywhere this many times as often as from one source.
const LOGIN_FACTOR: u32 = 10;

/// Octets of a login that are remembered; no address is longer (RFC 5321 §4.5.3.1).
const LOGIN_KEPT: usize = 320;

/// Whom an attempt counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    /// A source and a login that belonged together before.
    Familiar(IpAddr, String),
    /// A login, from everywhere.
    Login(String),
    /// An IPv4 address or an IPv6 /64.
    Source(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Count {
    wrong: u32,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct Memory {
    counts: HashMap<Party, Count>,
    familiar: HashMap<(IpAddr, String), Timestamp>,
}

/// What has been tried of late.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Memory>);

/// How much may be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Wrong passwords of one source.
    pub(crate) limit: u32,
    /// Silence after which a party begins anew.
    pub(crate) span: Duration,
}

/// An attempt that was let through and is counted as wrong until [`Throttle::right`] says otherwise.
#[derive(Debug)]
pub(crate) struct Attempt {
    parties: Vec<Party>,
    pair: (IpAddr, String),
}

impl Throttle {
    /// Lets an attempt through, or not: `None`.
    pub(crate) fn begin(
        &self,
        ip: IpAddr,
        login: &str,
        now: Timestamp,
        patience: Patience,
    ) -> Option<Attempt> {
        let kept = login.get(..login.floor_char_boundary(LOGIN_KEPT)).unwrap_or_default();
        let pair = (source(ip), kept.to_ascii_lowercase());
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parties = if memory.familiar.contains_key(&pair) {
            vec![Party::Familiar(pair.0, pair.1.clone())]
        } else {
            vec![Party::Source(pair.0), Party::Login(pair.1.clone())]
        };
        if parties.iter().any(|party| memory.is_exhausted(party, now, patience)) {
            return None;
        }
        for party in &parties {
            memory.count(party, now, patience);
        }
        Some(Attempt { parties, pair })
    }

    /// The attempt does not count: it could not be judged.
    pub(crate) fn forgive(&self, attempt: &Attempt) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forgive(attempt);
    }

    /// The password was right: the attempt does not count, and source and login are familiar from now on. What was
    /// counted before stays, or somebody with an account of their own could guess at others' for ever.
    pub(crate) fn right(&self, attempt: Attempt, now: Timestamp) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forgive(&attempt);
        if memory.familiar.len() >= FAMILIAR_LIMIT {
            forget_half(&mut memory.familiar, |last| *last);
        }
        memory.familiar.insert(attempt.pair, now);
    }
}

impl Memory {
    fn forgive(&mut self, attempt: &Attempt) {
        for party in &attempt.parties {
            if let Some(count) = self.counts.get_mut(party) {
                count.wrong = count.wrong.saturating_sub(1);
                if count.wrong == 0 {
                    self.counts.remove(party);
                }
            }
        }
    }

    fn is_exhausted(&self, party: &Party, now: Timestamp, patience: Patience) -> bool {
        let limit = match party {
            Party::Login(_) => patience.limit.saturating_mul(LOGIN_FACTOR),
            Party::Familiar(..) | Party::Source(_) => patience.limit,
        };
        let count = self.counts.get(party);
        count.is_some_and(|count| count.wrong >= limit && now.since(count.last) < patience.span)
    }

    fn count(&mut self, party: &Party, now: Timestamp, patience: Patience) {
        if self.counts.len() >= COUNTER_LIMIT && !self.counts.contains_key(party) {
            self.counts.retain(|_, count| now.since(count.last) < patience.span);
            if self.counts.len() >= COUNTER_LIMIT {
                forget_half(&mut self.counts, |count| count.last);
            }
        }
        let count = self.counts.entry(party.clone()).or_insert(Count { wrong: 0, last: now });
        if now.since(count.last) >= patience.span {
            count.wrong = 0;
        }
        count.wrong = count.wrong.saturating_add(1);
        count.last = now;
    }
}

/// Forgets the older half by `last`.
fn forget_half<K, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    let mut times: Vec<Timestamp> = map.values().map(&last).collect();
    times.sort_unstable();
    // Many may share one moment; by number as well, so that the map is smaller afterwards in any case.
    let mut to_forget = times.len() / 2;
    let middle = times.get(to_forget).copied().unwrap_or_default();
    map.retain(|_, value| {
        let goes = to_forget > 0 && last(value) <= middle;
        to_forget -= usize::from(goes);
        !goes
    });
}

fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { limit: 3, span: Duration::from_secs(300) };
    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tries(throttle: &Throttle, from: &str, login: &str) -> bool {
        throttle.begin(ip(from), login, NOW, PATIENCE).is_some()
    }

    #[test]
    fn attempts_side_by_side_are_counted_before_they_end() {
        let throttle = Throttle::default();
        let open: Vec<_> = (0..5).map(|_| throttle.begin(ip("192.0.2.1"), "a", NOW, PATIENCE)).collect();
        assert_eq!(open.iter().flatten().count(), 3);
    }

    #[test]
    fn an_account_of_ones_own_does_not_buy_guesses_at_others() {
        let throttle = Throttle::default();
        for _ in 0..3 {
            assert!(tries(&throttle, "192.0.2.1", "victim"));
            if let Some(own) = throttle.begin(ip("192.0.2.1"), "mine", NOW, PATIENCE) {
                throttle.right(own, NOW);
            }
        }
        assert!(!tries(&throttle, "192.0.2.1", "victim"));
        assert!(tries(&throttle, "192.0.2.1", "mine"), "one's own stays open");
    }

    #[test]
    fn a_login_guessed_at_from_everywhere_closes_except_where_it_is_familiar() {
        let throttle = Throttle::default();
        let home = throttle.begin(ip("198.51.100.1"), "victim", NOW, PATIENCE).unwrap();
        throttle.right(home, NOW);
        let admitted = (0..100).filter(|n| tries(&throttle, &format!("192.0.2.{n}"), "VICTIM")).count();
        assert_eq!(admitted, 30);
        assert!(tries(&throttle, "198.51.100.1", "victim"));
    }

    #[test]
    fn a_flood_of_long_logins_is_cut() {
        let throttle = Throttle::default();
        assert!(tries(&throttle, "192.0.2.1", &"ü".repeat(10_000)));
        let memory = throttle.0.lock().unwrap();
        assert!(memory.counts.keys().all(|party| matches!(party, Party::Source(_))
            || matches!(party, Party::Login(login) if login.len() == LOGIN_KEPT)));
    }

    #[test]
    fn a_v6_source_is_its_64_and_silence_begins_anew() {
        let throttle = Throttle::default();
        for n in 1..=3 {
            assert!(tries(&throttle, &format!("2001:db8::{n}"), &n.to_string()));
        }
        assert!(!tries(&throttle, "2001:db8::9", "x"));
        assert!(tries(&throttle, "2001:db8:0:1::9", "x"));
        assert!(throttle.begin(ip("2001:db8::9"), "x", NOW.plus(PATIENCE.span), PATIENCE).is_some());
    }

    #[test]
    fn memory_is_bounded_and_the_newest_counts_stay() {
        let throttle = Throttle::default();
        for n in 0..COUNTER_LIMIT {
            let at = NOW.plus(Duration::from_millis(n as u64));
            let from = IpAddr::V4(std::net::Ipv4Addr::from_bits(n as u32));
            throttle.begin(from, &n.to_string(), at, PATIENCE);
        }
        let memory = throttle.0.lock().unwrap();
        assert!(memory.counts.len() <= COUNTER_LIMIT);
        assert!(memory.counts.contains_key(&Party::Login((COUNTER_LIMIT - 1).to_string())));
    }
}
