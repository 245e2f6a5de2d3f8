//! Nanoseconds per whole packet: real frames over a veth pair into each filter.

use std::path::PathBuf;
use std::sync::Arc;

use mailgate_model::ManualClock;
use mailgate_packet::firewall::{Default, RuleSet};
use mailgate_packet::xdp::Xdp;
use mailgate_packet::{Config, Mode, PacketFilter as _};

use crate::Result;
use crate::addresses::{Family, Sources};
use crate::gear::Gear;
use crate::generator::{Generator, Segment};
use crate::peers::{Peer, Rest};
use crate::place::{Home, INSIDE, Place};
use crate::report::{Listing, Report, Subject, cell, progress};

/// XDP_DROP and XDP_PASS (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;

pub(crate) const NANOSECONDS: &str = "ns per packet";
pub(crate) const NANOSECONDS6: &str = "ns per IPv6 packet";
pub(crate) const FLOOR: &str = "unconditional";
pub(crate) const OURS: &str = "ours";
pub(crate) const TRIE: &str = "LPM_TRIE";

/// Listed sources in turn from which packets come, at most.
const SAMPLE: usize = 1_000_000;

/// What becomes of a packet, and of which.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    ListedDropped,
    /// Not the first packet of a connection: whether the connection lives has to be asked.
    ListedAckDropped,
    UnlistedDropped,
    UnlistedPassed,
    Bypassed,
}

impl Case {
    const ALL: [Case; 5] = [
        Case::ListedDropped,
        Case::ListedAckDropped,
        Case::UnlistedDropped,
        Case::UnlistedPassed,
        Case::Bypassed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::ListedDropped => "listed, dropped",
            Case::ListedAckDropped => "listed, ACK, dropped",
            Case::UnlistedDropped => "unlisted, dropped",
            Case::UnlistedPassed => "unlisted, passed",
            Case::Bypassed => "bypassed",
        }
    }

    fn is_from_listed(self) -> bool {
        matches!(self, Case::ListedDropped | Case::ListedAckDropped | Case::Bypassed)
    }

    /// Whether netfilter takes part: it judges all segments alike.
    fn is_for_peers(self) -> bool {
        matches!(self, Case::ListedDropped | Case::UnlistedDropped)
    }

    fn segment(self) -> Segment {
        match self {
            Case::ListedAckDropped => Segment::ack(),
            Case::UnlistedDropped => Segment::unwanted(),
            _ => Segment::syn(),
        }
    }
}

/// A receiver in a namespace of its own.
struct Lane {
    place: Place,
    /// Packets sent to it, and packets that its device has taken in.
    sent: u64,
    received: u64,
    /// Of a peer: packets that its rules counted and dropped.
    dropped: Option<u64>,
}

impl Lane {
    fn new(home: &Home, outside: &str) -> Result<Self> {
        Ok(Self { place: Place::new(home, outside)?, sent: 0, received: 0, dropped: None })
    }
}

/// An instance of our filter and where it stands.
pub(crate) struct Ours {
    /// Folder of its maps.
    pub(crate) pins: PathBuf,
    pub(crate) filter: Xdp,
    lane: Lane,
}

impl Ours {
    fn open(home: &Home, instance: &str, default: Default) -> Result<Self> {
        let lane = Lane::new(home, instance)?;
        let config = Config {
            interfaces: vec![INSIDE.to_owned()],
            mode: Mode::Native,
            instance: instance.to_owned(),
            ..<Config as std::default::Default>::default()
        };
        let filter = lane.place.within(|| Ok(Xdp::open(&config, Arc::new(ManualClock::default()))?))?;
        filter.set_rules(RuleSet { default, ..config.rules() }, None)?;
        let pins = filter.status().pins.ok_or("the filter is not in the kernel")?.into();
        Ok(Self { pins, filter, lane })
    }
}

/// All receivers.
pub(crate) struct Lanes {
    drop: Lane,
    pass: Lane,
    trie: Lane,
    peers: Vec<(Peer, Lane)>,
    /// In host mode: drops what is listed, and what nobody wants; passes unknown sources to reception.
    pub(crate) ours: Ours,
    /// Passes what is listed to anywhere.
    pub(crate) bypass: Ours,
}

/// One contender of a case: the column it stands in, and its receiver.
struct Entrant<'l> {
    column: usize,
    lane: &'l mut Lane,
}

/// How much is sent.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Interleaved rounds; the least counts.
    pub(crate) rounds: usize,
    /// Packets of a run.
    pub(crate) packets: u32,
    /// The processor that sends.
    pub(crate) cpu: usize,
}

impl Lanes {
    pub(crate) fn new(home: &Home) -> Result<Self> {
        let peers = Peer::ALL.into_iter().filter(|peer| peer.versions().is_some());
        Ok(Self {
            drop: Lane::new(home, "drop")?,
            pass: Lane::new(home, "pass")?,
            trie: Lane::new(home, "trie")?,
            peers: peers
                .enumerate()
                .map(|(n, peer)| Ok((peer, Lane::new(home, &format!("peer{n}"))?)))
                .collect::<Result<_>>()?,
            ours: Ours::open(home, "ours", Default::Drop)?,
            bypass: Ours::open(home, "bypass", Default::Pass)?,
        })
    }

    /// Takes our filters away.
    pub(crate) fn close(&self) -> Result<()> {
        self.ours.filter.detach()?;
        Ok(self.bypass.filter.detach()?)
    }

    /// The place of a peer, if its programs are here.
    pub(crate) fn peer(&self, wanted: Peer) -> Option<&Place> {
        self.peers.iter().find(|(peer, _)| *peer == wanted).map(|(_, lane)| &lane.place)
    }

    /// Those who take part in a case.
    fn entrants(&mut self, case: Case, with_peers: bool) -> Vec<Entrant<'_>> {
        let (floor, ours) = match case {
            Case::ListedDropped | Case::ListedAckDropped | Case::UnlistedDropped => {
                (&mut self.drop, &mut self.ours.lane)
            }
            Case::UnlistedPassed => (&mut self.pass, &mut self.ours.lane),
            Case::Bypassed => (&mut self.pass, &mut self.bypass.lane),
        };
        let mut entrants = vec![
            Entrant { column: 0, lane: floor },
            Entrant { column: 1, lane: ours },
            Entrant { column: 2, lane: &mut self.trie },
        ];
        if case.is_for_peers() && with_peers {
            for (peer, lane) in &mut self.peers {
                let column = Peer::ALL.iter().position(|other| other == peer).unwrap_or(0);
                entrants.push(Entrant { column: 3 + column, lane });
            }
        }
        entrants
    }

    /// Programs onto the devices that have none of our own.
    fn attach(&self, gear: &mut Gear) -> Result<()> {
        gear.attach("bench_drop", &self.drop.place, INSIDE)?;
        gear.attach("bench_pass", &self.pass.place, INSIDE)?;
        gear.attach("bench_trie", &self.trie.place, INSIDE)?;
        for (_, lane) in &self.peers {
            // Without a program on it, a veth pair of this kind does not take in frames.
            gear.attach("bench_pass", &lane.place, INSIDE)?;
        }
        Ok(())
    }

    /// Fills the sets of the peers, and puts up their rules.
    fn fill(&self, listed: Sources<'_>) -> Result<()> {
        let folder = tempfile::tempdir()?;
        for (peer, lane) in &self.peers {
            progress(&format!("{} {} hosts: filling {}", listed.len(), listed.family().name(), peer.name()));
            let file = folder.path().join("set");
            std::fs::write(&file, peer.text(listed, Rest::Drop))?;
            lane.place.within(|| {
                peer.clear();
                peer.read(&file)?;
                peer.rule(listed.family(), Rest::Drop)
            })?;
        }
        Ok(())
    }

    /// Measures one set. Our own tables are filled already.
    pub(crate) fn measure(
        &mut self,
        report: &mut Report,
        listing: &mut Listing,
        gear: &mut Gear,
        (listed, strangers, set): (Sources<'_>, Sources<'_>, &'static str),
        with_peers: bool,
        effort: Effort,
    ) -> Result<()> {
        self.attach(gear)?;
        if with_peers {
            self.fill(listed)?;
        }
        progress(&format!("{} {} hosts, {set}: whole packets", listed.len(), listed.family().name()));
        let sample = listed.up_to(SAMPLE);
        let mut from_listed =
            (sample.len() > 0).then(|| Generator::new(sample, Segment::syn())).transpose()?;
        let mut from_others = Generator::new(strangers, Segment::syn())?;
        let mut least = [[None::<f64>; COLUMNS.len()]; Case::ALL.len()];
        for _ in 0..effort.rounds {
            for (case, least) in Case::ALL.into_iter().zip(&mut least) {
                let others = Some(&mut from_others);
                let sender = if case.is_from_listed() { from_listed.as_mut() } else { others };
                let Some(sender) = sender else { continue };
                sender.change(case.segment());
                let unlisted = if case == Case::UnlistedPassed { PASS } else { DROP };
                gear.verdicts(unlisted, if case == Case::Bypassed { PASS } else { DROP })?;
                for Entrant { column, lane } in self.entrants(case, with_peers) {
                    let each = send(sender, lane, effort)?;
                    let Some(least) = least.get_mut(column) else { continue };
                    *least = Some(least.map_or(each, |least| least.min(each)));
                }
            }
        }
        for (case, least) in Case::ALL.into_iter().zip(least) {
            note(report, listing, case, (listed, set), least);
        }
        if with_peers {
            self.count_peers(listed.family())?;
        }
        Ok(())
    }

    /// Asks the peers what they dropped, and clears them away.
    fn count_peers(&mut self, family: Family) -> Result<()> {
        for (peer, lane) in &mut self.peers {
            let dropped = lane.place.within(|| {
                let dropped = peer.dropped(family)?;
                peer.clear();
                Ok(dropped)
            })?;
            *lane.dropped.get_or_insert(0) += dropped;
        }
        Ok(())
    }

    /// How many packets were sent to each receiver, and how many its device took in.
    pub(crate) fn proof(&self) {
        let ours = [(OURS, &self.ours.lane), ("ours, bypass", &self.bypass.lane)];
        let floors = [("drop", &self.drop), ("pass", &self.pass), (TRIE, &self.trie)];
        let peers = self.peers.iter().map(|(peer, lane)| (peer.name(), lane));
        println!("\npackets sent, and taken in by the receiver's device:");
        for (name, lane) in floors.into_iter().chain(ours).chain(peers) {
            let all = if lane.sent == lane.received { "all" } else { "NOT ALL" };
            let counted =
                lane.dropped.map_or(String::new(), |dropped| format!(", {dropped} dropped by its rules"));
            println!("  {name:18} {:>12} {:>12}  {all}{counted}", lane.sent, lane.received);
        }
        for (name, ours) in [(OURS, &self.ours), ("ours, bypass", &self.bypass)] {
            let counters = ours.filter.status().counters.into_iter().filter(|counter| counter.count > 0);
            let words: Vec<String> =
                counters.map(|counter| format!("{} {}", counter.name, counter.count)).collect();
            println!("  {name:18} counted: {}", words.join(", "));
        }
    }
}

/// The columns after floor, ours and LPM_TRIE are those of [`Peer::ALL`].
const COLUMNS: [&str; 6] = [FLOOR, OURS, TRIE, "nft hash set", "nft interval set", "ipset hash:net"];

fn what(family: Family) -> &'static str {
    if family == Family::V4 { NANOSECONDS } else { NANOSECONDS6 }
}

/// An empty table of results.
pub(crate) fn listing(family: Family, effort: Effort) -> Listing {
    let title = format!(
        "{} (processor time from making it until it is dropped; least of {} interleaved runs of {})",
        what(family),
        effort.rounds,
        effort.packets
    );
    let mut columns = vec![("case", 20), ("set", 9), ("entries", 9)];
    columns.extend(COLUMNS.map(|name| (name, name.len().max(8))));
    Listing::new(title, 2, &columns)
}

/// One run; nanoseconds per packet.
fn send(sender: &mut Generator, lane: &mut Lane, effort: Effort) -> Result<f64> {
    let before = lane.place.received()?;
    let cost = sender.send(lane.place.interface, effort.packets, effort.cpu)?;
    lane.sent += u64::from(effort.packets);
    lane.received += lane.place.received()? - before;
    Ok(cost.all().as_nanos() as f64 / f64::from(effort.packets))
}

fn note(
    report: &mut Report,
    listing: &mut Listing,
    case: Case,
    (listed, set): (Sources<'_>, &'static str),
    least: [Option<f64>; COLUMNS.len()],
) {
    let (entries, what) = (listed.len(), what(listed.family()));
    if least.iter().all(Option::is_none) {
        return;
    }
    let mut cells = vec![case.name().to_owned(), set.to_owned(), entries.to_string()];
    for (who, value) in COLUMNS.into_iter().zip(least) {
        cells.push(cell(value, 0));
        if let Some(value) = value {
            report.note(Subject { what, who, case: case.name(), entries, set }, value);
        }
    }
    listing.row(cells);
}
