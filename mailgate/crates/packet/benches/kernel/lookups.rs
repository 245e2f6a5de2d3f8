//! Nanoseconds per lookup, net of a program that does all but the lookup.

use crate::Result;
use crate::addresses::Family;
use crate::gear::Gear;
use crate::report::{Listing, Report, Subject, cell, grown};

/// Interleaved rounds; the least of them counts, because other tenants of the machine only ever add.
const ROUNDS: usize = 11;
/// Lookups in one round.
const REPEAT: u32 = 100_000;

/// Beside each structure, the beginning of its programs' names for IPv4 and for IPv6.
const STRUCTURES: [(&str, &str, &str); 4] = [
    ("", "empty", "empty6"),
    ("ours", "ours", "ours6"),
    ("HASH (hosts only)", "hash", "hash6"),
    ("LPM_TRIE", "trie", "trie6"),
];

pub(crate) const NANOSECONDS: &str = "ns per lookup";
pub(crate) const NANOSECONDS6: &str = "ns per IPv6 lookup";
pub(crate) const UNLISTED: &str = "unlisted";
pub(crate) const LISTED: &str = "listed";

fn what(family: Family) -> &'static str {
    if family == Family::V4 { NANOSECONDS } else { NANOSECONDS6 }
}

/// An empty table of results.
pub(crate) fn listing(family: Family) -> Listing {
    let title = format!(
        "{} (least of {ROUNDS} interleaved runs of {REPEAT}, net of the empty program)",
        what(family)
    );
    let columns = [
        ("structure", 18),
        ("set", 9),
        ("entries", 9),
        (UNLISTED, 9),
        (LISTED, 9),
        ("filled in", 10),
        ("memory", 12),
    ];
    Listing::new(title, 2, &columns)
}

/// Our part of a row: how long filling took, bytes.
#[derive(Clone, Copy)]
pub(crate) struct Ours {
    pub(crate) seconds: f64,
    pub(crate) bytes: f64,
}

/// Measures one set.
pub(crate) fn measure(
    report: &mut Report,
    listing: &mut Listing,
    gear: &mut Gear,
    family: Family,
    (entries, set): (usize, &'static str),
    ours: Ours,
) -> Result<()> {
    let mut least = [[u32::MAX; 2]; STRUCTURES.len()];
    for _ in 0..ROUNDS {
        for ([unlisted, listed], (_, v4, v6)) in least.iter_mut().zip(STRUCTURES) {
            let name = if family == Family::V4 { v4 } else { v6 };
            *unlisted = gear.time(&format!("{name}_random"), REPEAT)?.min(*unlisted);
            *listed = gear.time(&format!("{name}_listed"), REPEAT)?.min(*listed);
        }
    }
    let [[empty, empty_listed], measured @ ..] = least;
    let fills = [
        (ours.seconds, ours.bytes),
        (gear.hash.took.as_secs_f64(), gear.hash.bytes),
        (gear.trie.took.as_secs_f64(), gear.trie.bytes),
    ];
    for (((who, ..), [unlisted, listed]), (seconds, bytes)) in
        STRUCTURES.into_iter().skip(1).zip(measured).zip(fills)
    {
        let unlisted = f64::from(unlisted.saturating_sub(empty));
        let listed = (entries > 0).then(|| f64::from(listed.saturating_sub(empty_listed)));
        let subject = Subject { what: what(family), who, case: UNLISTED, entries, set };
        report.note(subject, unlisted);
        if let Some(listed) = listed {
            report.note(Subject { case: LISTED, ..subject }, listed);
        }
        listing.row(vec![
            who.to_owned(),
            set.to_owned(),
            entries.to_string(),
            cell(Some(unlisted), 0),
            cell(listed, 0),
            format!("{seconds:.3} s"),
            format!("{} MiB", grown(bytes)),
        ]);
    }
    Ok(())
}
