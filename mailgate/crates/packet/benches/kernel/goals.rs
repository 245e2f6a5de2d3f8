//! The goals, and what was found beside them.

use crate::addresses::Shape;
use crate::loading;
use crate::lookups;
use crate::packets::{self, Case, FLOOR, OURS, TRIE};
use crate::peers::Peer;
use crate::report::{Bound, Report, Subject};

/// Judges by the uniform set of `entries` hosts.
pub(crate) fn judge(report: &mut Report, entries: usize) {
    let set = Shape::Uniform.name();
    let of = |what, who, case| Subject { what, who, case, entries, set };
    let ratio = |report: &Report, above: Subject, below: Subject| {
        report.find(above).zip(report.find(below)).map(|(above, below)| above / below)
    };

    for (case, limit) in [(lookups::UNLISTED, 35.0), (lookups::LISTED, 110.0)] {
        let ours = of(lookups::NANOSECONDS, OURS, case);
        let text = format!("ns per lookup of {case} sources, {entries} entries");
        report.goal(text, report.find(ours), Bound::AtMost(limit));
        let times = ratio(report, Subject { who: TRIE, ..ours }, ours);
        report.goal("  LPM_TRIE takes how many times that", times, Bound::AtLeast(15.0));
    }
    for (case, limit) in [(Case::UnlistedDropped, 1.5), (Case::ListedDropped, 2.5)] {
        let ours = of(packets::NANOSECONDS, OURS, case.name());
        let times = ratio(report, ours, Subject { who: FLOOR, ..ours });
        let text = format!("whole packet {}, in times an unconditional drop", case.name());
        report.goal(text, times, Bound::AtMost(limit));
        for (peer, least) in [(Peer::Ipset, 2.0), (Peer::NftInterval, 4.0)] {
            let times = ratio(report, Subject { who: peer.name(), ..ours }, ours);
            report.goal(format!("  {} takes how many times ours", peer.name()), times, Bound::AtLeast(least));
        }
    }
    for peer in Peer::ALL {
        let ours = of(loading::LOAD, OURS, "");
        let times = ratio(report, Subject { who: peer.name(), ..ours }, ours);
        let text = format!("load from a file: {} takes how many times ours", peer.name());
        report.goal(text, times, Bound::AtLeast(20.0));
    }
    let swap = report.find(of(loading::SWAP_PARSED, OURS, ""));
    report.goal("ms of a swap of all entries", swap, Bound::AtMost(250.0));
    let bytes = report.find(of(loading::MEMORY, OURS, ""));
    report.goal("MiB of the tables in the kernel", bytes, Bound::AtMost(32.0));
}
