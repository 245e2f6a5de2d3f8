//! Who asks for recipients that do not exist: a list of guessed or harvested addresses.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::Known;

/// For how long recipients are counted together.
const WINDOW: Duration = Duration::from_secs(3600);
/// Of three recipients asked for, so many that do not exist make a list of guesses; an honest list that has aged has fewer.
const GUESSES_OF_THREE: u32 = 2;
/// Recipients of a network that are remembered: who asks for one of them again guesses nothing new, it comes again.
const LATELY: usize = 16;
/// Networks counted at once; some 20 MB. While there are more, newcomers are not counted.
const NETWORKS: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Asked {
    since: Timestamp,
    known: u32,
    unknown: u32,
    /// Hashes of the recipients asked for last.
    lately: [u32; LATELY],
}

/// Counts by network.
#[derive(Debug)]
pub(super) struct Strangers {
    /// So many unknown recipients trap; 0 for never.
    limit: u32,
    hasher: RandomState,
    asked: Mutex<HashMap<IpNet, Asked>>,
}

impl Strangers {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, hasher: RandomState::new(), asked: Mutex::default() }
    }

    pub(super) fn are_counted(&self) -> bool {
        self.limit > 0
    }

    /// Counts one recipient, once as long as it is remembered; says whether that was one too many.
    pub(super) fn count(&self, network: IpNet, recipient: &str, known: Known, now: Timestamp) -> bool {
        // One from the future (the clock was set back) is over.
        let holds = |asked: &Asked| asked.since <= now && now.since(asked.since) < WINDOW;
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= NETWORKS && !all.contains_key(&network) {
            all.retain(|_, asked| holds(asked));
            if all.len() >= NETWORKS {
                return false;
            }
        }
        let fresh = Asked { since: now, known: 0, unknown: 0, lately: [0; LATELY] };
        let asked = all.entry(network).or_insert(fresh);
        if !holds(asked) {
            *asked = fresh;
        }
        let [high, low] = [32, 0].map(|shift| (self.hasher.hash_one(recipient) >> shift) & 0xffff_ffff);
        let hash = u32::try_from(high ^ low).unwrap_or(0).max(1);
        if asked.lately.contains(&hash) {
            return false;
        }
        asked.lately.rotate_right(1);
        let [last, ..] = &mut asked.lately;
        *last = hash;
        match known {
            Known::No => asked.unknown = asked.unknown.saturating_add(1),
            Known::Unsure => return false,
            Known::Yes => asked.known = asked.known.saturating_add(1),
        }
        let all_asked = asked.known.saturating_add(asked.unknown);
        let too_many = known == Known::No
            && asked.unknown >= self.limit
            && asked.unknown.saturating_mul(3) >= all_asked.saturating_mul(GUESSES_OF_THREE);
        if too_many {
            all.remove(&network);
        }
        too_many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn counts(steps: &[(Known, u64)]) -> Vec<bool> {
        let strangers = Strangers::new(3);
        let network = "192.0.2.1/32".parse().unwrap();
        let at = |minutes: u64| NOW.plus(Duration::from_secs(60 * minutes));
        let mut asked = |(nth, (known, minutes)): (usize, &(Known, u64))| {
            strangers.count(network, &format!("guess{nth}@example.org"), *known, at(*minutes))
        };
        steps.iter().enumerate().map(&mut asked).collect()
    }

    #[test]
    fn who_comes_again_for_the_same_recipient_guesses_nothing() {
        let strangers = Strangers::new(3);
        let network = "192.0.2.1/32".parse().unwrap();
        for _ in 0..20 {
            assert!(!strangers.count(network, "gone@example.org", Known::No, NOW));
        }
        assert!(!strangers.count(network, "gone-too@example.org", Known::No, NOW));
        assert!(strangers.count(network, "never-there@example.org", Known::No, NOW));
    }

    #[test]
    fn the_third_guess_is_one_too_many_and_an_hour_later_it_begins_anew() {
        use Known::{No, Unsure, Yes};
        assert_eq!(counts(&[(No, 0), (No, 1), (Unsure, 2), (No, 3)]), [false, false, false, true]);
        assert_eq!(counts(&[(No, 0), (No, 1), (No, 61)]), [false; 3]);
        assert_eq!(counts(&[(Yes, 0), (Yes, 0), (No, 1), (No, 1), (No, 1)]), [false; 5], "three of five");
        assert_eq!(counts(&[(Yes, 0), (No, 1), (No, 1), (No, 1)]), [false, false, false, true]);
    }
}
