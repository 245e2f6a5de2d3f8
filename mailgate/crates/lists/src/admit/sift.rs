//! Working on sorted sets, one walk each.

use std::cmp::Ordering;
use std::thread;

use ipnet::IpNet;

use super::{Reason, Refusals};
use crate::prefix::{Key as _, Packed, PrefixSet, Sense};

/// Entries from which on a second thread pays.
const MANY: usize = 64 * 1024;

/// What is left of a set when `judge` has looked at every entry; `None` when that is all of it, which is the rule and
/// costs no memory.
pub(super) fn sift(
    set: &PrefixSet,
    refusals: &mut Refusals,
    judge: impl Fn(IpNet, Sense) -> Option<Reason> + Sync,
) -> Option<PrefixSet> {
    fn each<P: Packed>(
        entries: &[P],
        refusals: &mut Refusals,
        judge: &(impl Fn(IpNet, Sense) -> Option<Reason> + Sync),
    ) -> Option<Vec<P>> {
        if entries.len() >= MANY && all_pass(entries, judge) {
            return None;
        }
        let mut left: Option<Vec<P>> = None;
        for (at, entry) in entries.iter().enumerate() {
            let prefix = entry.key().prefix();
            match judge(prefix, entry.sense()) {
                Some(reason) => {
                    refusals.add(reason, prefix);
                    left.get_or_insert_with(|| entries.get(..at).unwrap_or_default().to_vec());
                }
                None => left.iter_mut().for_each(|left| left.push(*entry)),
            }
        }
        left
    }
    match (each(&set.v4, refusals, &judge), each(&set.v6, refusals, &judge)) {
        (None, None) => None,
        (v4, v6) => {
            let v4 = v4.unwrap_or_else(|| set.v4.clone());
            let v6 = v6.unwrap_or_else(|| set.v6.clone());
            Some(PrefixSet::of(v4, v6))
        }
    }
}

/// Whether `judge` has nothing to say of any entry; by two processors.
fn all_pass<P: Packed>(entries: &[P], judge: &(impl Fn(IpNet, Sense) -> Option<Reason> + Sync)) -> bool {
    let pass = |entries: &[P]| entries.iter().all(|one| judge(one.key().prefix(), one.sense()).is_none());
    let (one, other) = entries.split_at(entries.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| pass(other));
        // A panic shows when the entries are judged one by one.
        pass(one) && other.join().unwrap_or(false)
    })
}

/// Tells every entry of `new` whether `old` has it with the same sense.
fn compare<P: Packed>(old: &[P], new: &[P], mut told: impl FnMut(P, bool)) {
    let mut old = old.iter().peekable();
    for entry in new {
        while old.next_if(|held| held.key() < entry.key()).is_some() {}
        let held = old.next_if(|held| held.key() == entry.key());
        told(*entry, held.is_some_and(|held| held.sense() == entry.sense()));
    }
}

/// How many entries of `new` that `counts` looks for are not in `old`.
pub(super) fn news(old: &PrefixSet, new: &PrefixSet, counts: impl Fn(Sense) -> bool) -> usize {
    let mut found = 0;
    let mut count = |sense: Sense, is_old: bool| found += usize::from(!is_old && counts(sense));
    compare(&old.v4, &new.v4, |entry, is_old| count(entry.sense(), is_old));
    compare(&old.v6, &new.v6, |entry, is_old| count(entry.sense(), is_old));
    found
}

/// The entries of `new` that are in `old` or need not be; the others are counted.
pub(super) fn without_news(
    old: &PrefixSet,
    new: &PrefixSet,
    reason: Reason,
    refusals: &mut Refusals,
    waits: impl Fn(Sense) -> bool,
) -> PrefixSet {
    fn each<P: Packed>(
        old: &[P],
        new: &[P],
        waits: &impl Fn(Sense) -> bool,
        put_aside: &mut impl FnMut(P),
    ) -> Vec<P> {
        let mut left = Vec::with_capacity(new.len().min(old.len()));
        compare(
            old,
            new,
            |entry, is_old| {
                if is_old || !waits(entry.sense()) { left.push(entry) } else { put_aside(entry) }
            },
        );
        left
    }
    let v4 = each(&old.v4, &new.v4, &waits, &mut |entry| refusals.add(reason, entry.key().prefix()));
    let v6 = each(&old.v6, &new.v6, &waits, &mut |entry| refusals.add(reason, entry.key().prefix()));
    PrefixSet::of(v4, v6)
}

/// The prefixes that are listed in both.
pub(super) fn common(one: &PrefixSet, other: &PrefixSet) -> PrefixSet {
    fn each<P: Packed>(one: &[P], other: &[P]) -> Vec<P> {
        let (mut at, mut with, mut both) = (0, 0, Vec::new());
        while let (Some(a), Some(b)) = (one.get(at), other.get(with)) {
            match a.key().cmp(&b.key()) {
                Ordering::Less => at += 1,
                Ordering::Greater => with += 1,
                Ordering::Equal => {
                    if a.sense() == Sense::Listed && b.sense() == Sense::Listed {
                        both.push(*a);
                    }
                    at += 1;
                    with += 1;
                }
            }
        }
        both
    }
    PrefixSet::of(each(&one.v4, &other.v4), each(&one.v6, &other.v6))
}

/// Whether a sorted set lists a prefix.
pub(super) fn lists(set: &PrefixSet, prefix: IpNet) -> bool {
    fn in_set<P: Packed>(entries: &[P], key: Option<P::Key>) -> bool {
        key.is_some_and(|key| entries.binary_search_by_key(&key, |entry| entry.key()).is_ok())
    }
    use crate::prefix::{Key4, Key6};
    match prefix {
        IpNet::V4(_) => in_set(&set.v4, Key4::of_net(prefix)),
        IpNet::V6(_) => in_set(&set.v6, Key6::of_net(prefix)),
    }
}
