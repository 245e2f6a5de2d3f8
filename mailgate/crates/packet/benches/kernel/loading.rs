//! A million prefixes from a file into force, and others in their place; the memory they take.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mailgate_lists::{Action, Change};
use mailgate_model::ManualClock;
use mailgate_packet::PacketFilter as _;
use mailgate_packet::xdp::Xdp;

use crate::Result;
use crate::addresses::{Random, Shape, Sources, host, reload, table_name};
use crate::gear::{Fill, Gear, kernel_memory};
use crate::packets::{Lanes, OURS, TRIE};
use crate::peers::{Peer, Rest};
use crate::place::Place;
use crate::report::{Report, Subject, cell, grown, mib, progress};

pub(crate) const LOAD: &str = "ms from file into force";
pub(crate) const SWAP: &str = "ms of a swap";
/// Only our side can begin with prefixes that are in memory already; the daemon's lists are.
pub(crate) const SWAP_PARSED: &str = "ms of a swap, from memory";
pub(crate) const MEMORY: &str = "MiB";

/// [`TRIE`] with a call for each entry.
const TRIE_SINGLE: &str = "LPM_TRIE, singly";

/// What one contender needed; milliseconds and bytes.
#[derive(Clone, Copy)]
struct Row {
    load: f64,
    swap: f64,
    parsed: Option<f64>,
    bytes: f64,
}

impl Row {
    fn least(self, other: Self) -> Self {
        Self {
            load: self.load.min(other.load),
            swap: self.swap.min(other.swap),
            parsed: self.parsed.zip(other.parsed).map(|(one, two)| one.min(two)),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Measures everybody, `rounds` times, interleaved; the least times and the greatest sizes count.
pub(crate) fn measure(
    report: &mut Report,
    lanes: &Lanes,
    random: &mut Random,
    entries: usize,
    rounds: usize,
) -> Result<()> {
    let [first, second] = [(); 2].map(|()| random.addresses(entries, Shape::Uniform));
    let folder = tempfile::tempdir()?;
    let mut rows: Vec<(&'static str, Row)> = Vec::new();
    for round in 1..=rounds {
        progress(&format!("loading {entries} hosts, round {round} of {rounds}"));
        let mut measured = vec![
            (OURS, ours(&lanes.ours.filter, folder.path(), [&first, &second])?),
            (TRIE_SINGLE, trie(lanes, [&first, &second], Fill::Single)?),
            (TRIE, trie(lanes, [&first, &second], Fill::Batch)?),
        ];
        for peer in Peer::ALL {
            if let Some(place) = lanes.peer(peer) {
                measured.push((peer.name(), theirs(peer, place, folder.path(), [&first, &second])?));
            }
        }
        for (who, row) in measured {
            match rows.iter_mut().find(|(other, _)| *other == who) {
                Some((_, least)) => *least = least.least(row),
                None => rows.push((who, row)),
            }
        }
    }
    print(report, entries, rounds, &rows);
    changes(&lanes.ours.filter, random)
}

fn print(report: &mut Report, entries: usize, rounds: usize, rows: &[(&'static str, Row)]) {
    println!(
        "\n{entries} random hosts (least of {rounds} interleaved runs; resident memory of this process not counted)"
    );
    println!("{:18} {:>24} {:>14} {:>26} {:>10}", "", LOAD, SWAP, SWAP_PARSED, MEMORY);
    for (who, Row { load, swap, parsed, bytes }) in rows {
        println!("{who:18} {load:>24.0} {swap:>14.0} {:>26} {:>10}", cell(*parsed, 0), grown(*bytes));
        let mut note = |what, value| {
            report.note(Subject { what, who, case: "", entries, set: Shape::Uniform.name() }, value);
        };
        note(LOAD, *load);
        note(SWAP, *swap);
        note(MEMORY, mib(*bytes));
        if let Some(parsed) = parsed {
            note(SWAP_PARSED, *parsed);
        }
    }
    println!(
        "  memory: ours the tables in the kernel, ipset what it reports, the others the growth of slabs and vmalloc;\n  \
         LPM_TRIE: by one call for all entries, or a call for each; a swap fills a second trie"
    );
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

fn ours(filter: &Xdp, folder: &Path, [first, second]: [&[u32]; 2]) -> Result<Row> {
    filter.apply(vec![reload(Action::Drop, Vec::new())?])?;
    let lines = |addresses: &[u32]| -> String {
        addresses.iter().map(|address| format!("{}\n", Ipv4Addr::from(*address))).collect()
    };
    let file = folder.join("ours");
    std::fs::write(&file, lines(first))?;
    let begun = Instant::now();
    filter.apply(parse(&file)?)?;
    let load = milliseconds(begun);
    let bytes = filter.status().bytes as f64;
    std::fs::write(&file, lines(second))?;
    let begun = Instant::now();
    let change = parse(&file)?;
    let parsed = Instant::now();
    filter.apply(change)?;
    Ok(Row { load, swap: milliseconds(begun), parsed: Some(milliseconds(parsed)), bytes })
}

/// The file as a file source of the daemon takes it: read, judged by its gate, put into the tables; only no copy of it is
/// kept on disk.
fn parse(file: &Path) -> Result<Vec<Change>> {
    let clock = Arc::new(ManualClock::default());
    Ok(mailgate_lists::changes_of_file(table_name()?, Action::Drop, file, clock)?)
}

fn trie(lanes: &Lanes, [first, second]: [&[u32]; 2], how: Fill) -> Result<Row> {
    let gear = Gear::filled(&lanes.ours.pins, Sources::V4(first), how)?;
    let fresh = Gear::filled(&lanes.ours.pins, Sources::V4(second), how)?;
    let milliseconds = |gear: &Gear| gear.trie.took.as_secs_f64() * 1000.0;
    Ok(Row { load: milliseconds(&gear), swap: milliseconds(&fresh), parsed: None, bytes: gear.trie.bytes })
}

fn theirs(peer: Peer, place: &Place, folder: &Path, [first, second]: [&[u32]; 2]) -> Result<Row> {
    let [load, swap] = ["load", "swap"].map(|name| folder.join(name));
    std::fs::write(&load, peer.text(Sources::V4(first), Rest::Drop))?;
    std::fs::write(&swap, peer.swap_text(Sources::V4(second)))?;
    place.within(|| {
        peer.clear();
        let before = kernel_memory()?;
        let begun = Instant::now();
        peer.read(&load)?;
        let loaded = milliseconds(begun);
        let grown = kernel_memory()? - before;
        let bytes = peer.reported()?.map_or(grown, |bytes| bytes as f64);
        let begun = Instant::now();
        peer.read(&swap)?;
        let row = Row { load: loaded, swap: milliseconds(begun), parsed: None, bytes };
        peer.clear();
        Ok(row)
    })
}

/// Single changes beside the entries, each visible to the next packet.
fn changes(filter: &Xdp, random: &mut Random) -> Result<()> {
    let addresses = random.addresses(10_000, Shape::Uniform);
    let table = table_name()?;
    let begun = Instant::now();
    for address in &addresses {
        filter.apply(vec![Change::Add(table.clone(), host(Ipv4Addr::from(*address)))])?;
    }
    let added = milliseconds(begun);
    let begun = Instant::now();
    for address in &addresses {
        filter.apply(vec![Change::Delete(table.clone(), host(Ipv4Addr::from(*address)).prefix)])?;
    }
    let deleted = milliseconds(begun);
    let each = |took: f64| took * 1000.0 / addresses.len() as f64;
    println!(
        "  single changes beside ours: {:.1} µs per addition, {:.1} µs per deletion",
        each(added),
        each(deleted)
    );
    Ok(())
}
