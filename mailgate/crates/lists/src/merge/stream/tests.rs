use proptest::prelude::*;

use super::*;
use crate::prefix::Key4;

const PEER: Origin = SOURCES + 1;

fn key(bits: u32) -> Key4 {
    Key4::of(ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(bits), 24 + (bits % 9) as u8).unwrap().trunc())
}

fn at(millis: i64) -> Claim {
    Claim::new(Sense::Listed, Timestamp::from_millis(millis), None)
}

fn walked(stream: &Stream<Key4>, after: Option<Key4>) -> Vec<(Key4, Claim)> {
    let mut walk = stream.walk(after);
    std::iter::from_fn(|| {
        let key = walk.key()?;
        Some((key, walk.take(key).unwrap()))
    })
    .collect()
}

fn agree(stream: &Stream<Key4>, naive: &BTreeMap<Key4, Claim>) -> Result<(), TestCaseError> {
    let all: Vec<(Key4, Claim)> = naive.iter().map(|(key, claim)| (*key, *claim)).collect();
    prop_assert_eq!(walked(stream, None), all.clone());
    prop_assert_eq!(stream.len, all.len());
    let places = stream.runs.iter().map(Run::len).sum::<usize>();
    prop_assert_eq!(places + stream.tail.len(), all.len() + stream.gone);
    let mut lengths = BTreeMap::new();
    all.iter().for_each(|(key, _)| *lengths.entry(key.length()).or_insert(0) += 1);
    prop_assert_eq!(&stream.lengths, &lengths);
    let middle = all.get(all.len() / 2).map(|(key, _)| *key);
    let rest: Vec<_> = all.into_iter().filter(|(key, _)| middle.is_none_or(|middle| *key > middle)).collect();
    prop_assert_eq!(walked(stream, middle), rest);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Enough keys for many runs, in an order without order, some of them withdrawn and some said again.
    #[test]
    fn a_stream_says_what_a_map_says(
        rounds in prop::collection::vec((0_u32..60_000, 1_u32..30_000, any::<bool>(), prop::bool::weighted(0.2)), 1..8),
    ) {
        let (mut stream, mut naive) = (Stream::new(PEER), BTreeMap::new());
        for (round, (begin, count, announces, compacts)) in (1..).zip(rounds) {
            for n in begin..begin + count {
                let key = key((n % 60_000).wrapping_mul(2_654_435_761));
                let wanted = announces.then(|| at(round * 1000 + i64::from(n % 7)));
                prop_assert_eq!(stream.claim(key), naive.get(&key).copied());
                stream.set(key, wanted);
                match wanted {
                    Some(claim) => naive.insert(key, claim),
                    None => naive.remove(&key),
                };
                prop_assert_eq!(stream.claim(key), wanted);
            }
            agree(&stream, &naive)?;
            if compacts {
                stream.compact();
                prop_assert!(stream.runs.len() <= 1 && stream.tail.is_empty() && stream.gone == 0);
                agree(&stream, &naive)?;
            }
        }
    }
}

#[test]
fn a_million_claims_take_sixteen_bytes_each_and_go_again() {
    let mut stream = Stream::new(PEER);
    let keys = || {
        (0..1_000_000_u32).map(|n| Key4::of(std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761)).into()))
    };
    keys().for_each(|key| stream.set(key, Some(at(5))));
    assert!(stream.runs.len() < 9, "{} runs", stream.runs.len());
    stream.compact();
    assert_eq!(stream.len, 1_000_000);
    assert!(stream.bytes() < 17_000_000, "{}", stream.bytes());
    keys().for_each(|key| stream.set(key, None));
    assert!(stream.is_empty());
    assert!(stream.bytes() < 1_000_000, "{}", stream.bytes());
}

#[test]
fn only_plain_claims_of_sources_are_taken() {
    let end = Claim::new(Sense::Listed, Timestamp::default(), Some(Timestamp::from_secs(9)));
    let hole = Claim::new(Sense::Hole, Timestamp::default(), None);
    for (origin, claim, want) in [
        (PEER, at(0), true),
        (PEER, at((1 << 48) - 2), true),
        (PEER, at((1 << 48) - 1), false),
        (PEER, at(-1), false),
        (SOURCES - 1, at(0), false),
        (PEER, end, false),
        (PEER, hole, false),
    ] {
        assert_eq!(Stream::<Key4>::takes(origin, claim), want, "{origin} {claim:?}");
    }
}
