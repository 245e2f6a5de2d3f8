//! Guessers are slowed down, with bounded memory.
//!
//! Wrong passwords are counted per source and per login. A source that knew the password of a login before is counted for
//! that pair alone: a stranger who guesses at a login locks nobody out who has used it from where they are, and one
//! forgotten client of an office does not lock out its colleagues. As many attempts run side by side as may still be
//! wrong, so that none slips through; further ones wait for their verdicts, for mail programs open many connections at
//! once, and an office or a webmail has one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailgate_model::{Clock, Timestamp};
use tokio::sync::Notify;

/// Counters remembered; above it the half that was quiet for longest is forgotten.
const COUNTER_LIMIT: usize = 50_000;
/// Pairs of source and login remembered as familiar; above it the half that was used longest ago is forgotten.
const FAMILIAR_LIMIT: usize = 20_000;
/// A login may be tried wrongly from everywhere this many times as often as from one source.
const LOGIN_FACTOR: u32 = 10;

/// Octets of a login that are remembered; no address is longer (RFC 5321 §4.5.3.1).
const LOGIN_KEPT: usize = 320;

/// How long an attempt waits for its turn.
const WAIT: Duration = Duration::from_secs(20);

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
    /// Attempts without a verdict yet.
    open: u32,
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
pub(crate) struct Throttle {
    memory: Mutex<Memory>,
    /// Notified after every verdict.
    judged: Notify,
}

/// Why an attempt may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Too many were wrong.
    Exhausted,
    /// If all those that run were wrong, it would be too many.
    Full,
}

/// How much may be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Wrong passwords of one source.
    pub(crate) limit: u32,
    /// Silence after which a party begins anew.
    pub(crate) span: Duration,
}

/// An attempt that was let through. Dropped without a verdict it was wrong: who goes away before the answer guesses.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    parties: Vec<Party>,
    pair: (IpAddr, String),
    began: Timestamp,
}

impl Throttle {
    /// Lets an attempt through when it is its turn; `None` when too many were wrong, or its turn does not come.
    pub(crate) async fn admit(
        &self,
        ip: IpAddr,
        login: &str,
        clock: &dyn Clock,
        patience: Patience,
    ) -> Option<Attempt<'_>> {
        let mut patient = clock.sleep(WAIT);
        loop {
            let judged = self.judged.notified();
            tokio::pin!(judged);
            // From here on, so that no verdict is missed between the look and the wait.
            judged.as_mut().enable();
            match self.begin(ip, login, clock.now(), patience) {
                Ok(attempt) => return Some(attempt),
                Err(Refused::Exhausted) => return None,
                Err(Refused::Full) => {}
            }
            tokio::select! {
                biased;
                () = judged => {}
                () = &mut patient => return None,
            }
        }
    }

    fn begin(
        &self,
        ip: IpAddr,
        login: &str,
        now: Timestamp,
        patience: Patience,
    ) -> Result<Attempt<'_>, Refused> {
        let kept = login.get(..login.floor_char_boundary(LOGIN_KEPT)).unwrap_or_default();
        let pair = (source(ip), kept.to_ascii_lowercase());
        let mut memory = self.memory();
        let parties = if memory.familiar.contains_key(&pair) {
            vec![Party::Familiar(pair.0, pair.1.clone())]
        } else {
            vec![Party::Source(pair.0), Party::Login(pair.1.clone())]
        };
        for party in &parties {
            memory.room(party, now, patience)?;
        }
        for party in &parties {
            memory.open(party, now, patience);
        }
        Ok(Attempt { throttle: self, parties, pair, began: now })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The attempt does not count: it could not be judged.
    pub(crate) fn forgive(mut self) {
        self.throttle.memory().close(&std::mem::take(&mut self.parties));
    }

    /// The password was right: the attempt does not count, and source and login are familiar from now on. What was
    /// counted before stays, or somebody with an account of their own could guess at others' for ever.
    pub(crate) fn right(mut self, now: Timestamp) {
        let mut memory = self.throttle.memory();
        memory.close(&std::mem::take(&mut self.parties));
        if memory.familiar.len() >= FAMILIAR_LIMIT {
            forget_half(&mut memory.familiar, |last| *last);
        }
        memory.familiar.insert(self.pair.clone(), now);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.parties.is_empty() {
            self.throttle.memory().wrong(&self.parties, self.began);
        }
        self.throttle.judged.notify_waiters();
    }
}

impl Memory {
    /// Whether one more attempt of `party` may run.
    fn room(&self, party: &Party, now: Timestamp, patience: Patience) -> Result<(), Refused> {
        let limit = match party {
            Party::Login(_) => patience.limit.saturating_mul(LOGIN_FACTOR),
            Party::Familiar(..) | Party::Source(_) => patience.limit,
        };
        let Some(count) = self.counts.get(party) else { return Ok(()) };
        let wrong = if now.since(count.last) < patience.span { count.wrong } else { 0 };
        if wrong >= limit {
            return Err(Refused::Exhausted);
        }
        if wrong.saturating_add(count.open) >= limit { Err(Refused::Full) } else { Ok(()) }
    }

    fn open(&mut self, party: &Party, now: Timestamp, patience: Patience) {
        if self.counts.len() >= COUNTER_LIMIT && !self.counts.contains_key(party) {
            self.counts.retain(|_, count| now.since(count.last) < patience.span);
            if self.counts.len() >= COUNTER_LIMIT {
                forget_half(&mut self.counts, |count| count.last);
            }
        }
        let count = self.counts.entry(party.clone()).or_insert(Count { open: 0, wrong: 0, last: now });
        if now.since(count.last) >= patience.span {
            count.wrong = 0;
        }
        count.open = count.open.saturating_add(1);
        count.last = now;
    }

    /// A verdict in favour, or none.
    fn close(&mut self, parties: &[Party]) {
        for party in parties {
            if let Some(count) = self.counts.get_mut(party) {
                count.open = count.open.saturating_sub(1);
                if count.open == 0 && count.wrong == 0 {
                    self.counts.remove(party);
                }
            }
        }
    }

    /// A verdict against.
    fn wrong(&mut self, parties: &[Party], began: Timestamp) {
        for party in parties {
            // A party that was forgotten meanwhile for want of room stays forgotten.
            if let Some(count) = self.counts.get_mut(party) {
                count.open = count.open.saturating_sub(1);
                count.wrong = count.wrong.saturating_add(1);
                count.last = count.last.max(began);
            }
        }
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
        throttle.begin(ip(from), login, NOW, PATIENCE).is_ok()
    }

    #[test]
    fn no_more_attempts_run_side_by_side_than_may_be_wrong() {
        let throttle = Throttle::default();
        let from = ip("192.0.2.1");
        let mut open: Vec<_> = (0..5).map(|_| throttle.begin(from, "a", NOW, PATIENCE)).collect();
        assert!(open[..3].iter().all(Result::is_ok));
        assert_eq!(open[3].as_ref().unwrap_err(), &Refused::Full);
        open.remove(0).unwrap().forgive();
        assert!(throttle.begin(from, "b", NOW, PATIENCE).is_ok(), "wrong, as it was dropped");
        drop(open);
        assert_eq!(throttle.begin(from, "c", NOW, PATIENCE).unwrap_err(), Refused::Exhausted);
    }

    #[tokio::test]
    async fn many_right_ones_at_once_all_have_their_turn() {
        let throttle = std::sync::Arc::new(Throttle::default());
        let mut all = tokio::task::JoinSet::new();
        for n in 0..40 {
            let throttle = std::sync::Arc::clone(&throttle);
            all.spawn(async move {
                let (clock, login) = (mailgate_model::ManualClock::at(NOW), format!("user{}", n % 7));
                let attempt = throttle.admit(ip("192.0.2.1"), &login, &clock, PATIENCE).await?;
                tokio::task::yield_now().await;
                attempt.right(NOW);
                Some(())
            });
        }
        assert!(all.join_all().await.into_iter().all(|done| done.is_some()));
    }

    #[tokio::test]
    async fn who_waits_behind_wrong_ones_is_refused_with_them() {
        let throttle = Throttle::default();
        let clock = mailgate_model::ManualClock::at(NOW);
        let wrong: Vec<_> =
            (0..3).map(|_| throttle.begin(ip("192.0.2.1"), "a", NOW, PATIENCE).unwrap()).collect();
        let waiting = throttle.admit(ip("192.0.2.1"), "b", &clock, PATIENCE);
        let (admitted, ()) = tokio::join!(waiting, async { drop(wrong) });
        assert!(admitted.is_none());
    }

    #[test]
    fn an_account_of_ones_own_does_not_buy_guesses_at_others() {
        let throttle = Throttle::default();
        for _ in 0..3 {
            assert!(tries(&throttle, "192.0.2.1", "victim"));
            if let Ok(own) = throttle.begin(ip("192.0.2.1"), "mine", NOW, PATIENCE) {
                own.right(NOW);
            }
        }
        assert!(!tries(&throttle, "192.0.2.1", "victim"));
        assert!(tries(&throttle, "192.0.2.1", "mine"), "one's own stays open");
    }

    #[test]
    fn a_login_guessed_at_from_everywhere_closes_except_where_it_is_familiar() {
        let throttle = Throttle::default();
        let home = throttle.begin(ip("198.51.100.1"), "victim", NOW, PATIENCE).unwrap();
        home.right(NOW);
        let admitted = (0..100).filter(|n| tries(&throttle, &format!("192.0.2.{n}"), "VICTIM")).count();
        assert_eq!(admitted, 30);
        assert!(tries(&throttle, "198.51.100.1", "victim"));
    }

    #[test]
    fn a_flood_of_long_logins_is_cut() {
        let throttle = Throttle::default();
        assert!(tries(&throttle, "192.0.2.1", &"ü".repeat(10_000)));
        let memory = throttle.memory();
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
        assert!(throttle.begin(ip("2001:db8::9"), "x", NOW.plus(PATIENCE.span), PATIENCE).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_newest_counts_stay() {
        let throttle = Throttle::default();
        for n in 0..COUNTER_LIMIT {
            let at = NOW.plus(Duration::from_millis(n as u64));
            let from = IpAddr::V4(std::net::Ipv4Addr::from_bits(n as u32));
            assert!(throttle.begin(from, &n.to_string(), at, PATIENCE).is_ok());
        }
        let memory = throttle.memory();
        assert!(memory.counts.len() <= COUNTER_LIMIT);
        assert!(memory.counts.contains_key(&Party::Login((COUNTER_LIMIT - 1).to_string())));
    }
}
