//! A flood of listed sources beside a bypassed client: what is left of the mail service behind each filter.
//!
//! One processor sends SYNs to the server's port as fast as it can, or at a set rate. They come in by a device of their
//! own, as they would by a receive queue of their own; the veth pair gives them to the filter on the same processor. So
//! the flood's time is that of making packets and filtering them; what remains of the machine serves the clients.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;
use mailgate_packet::xdp::Xdp;
use mailgate_packet::{Config, Mode, PacketFilter as _};
use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;
use crate::addresses::{Family, Random, Shape, Sources, host};
use crate::gear::Gear;
use crate::generator::{Cost, Generator, Segment, spin};
use crate::peers::{Peer, Rest};
use crate::place::{Home, INSIDE, Place, SECOND, ip};
use crate::report::{Bound, Listing, Report, Subject, cell, progress};
use crate::smtp::{Seen, Server, client};

/// The network of clients and servers (RFC 2544), in no table but the one that passes.
const NETWORK: &str = "198.18.0.0/15";
/// Clients at once, each from an address of its own.
const CLIENTS: u8 = 8;
/// Packets a second of the flood that is the same for all.
const RATE: u32 = 200_000;

const TRANSACTIONS: &str = "transactions per second";
const PER_LEFT: &str = "transactions per CPU second left";
const PER_USED: &str = "transactions per CPU second used";
const P99: &str = "p99 reply ms";
const PACKETS: &str = "flood packets per second";

/// What stands before the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filter {
    None,
    Ours,
    Peer(Peer),
}

impl Filter {
    const ALL: [Filter; 4] =
        [Filter::None, Filter::Ours, Filter::Peer(Peer::Ipset), Filter::Peer(Peer::NftInterval)];

    fn name(self) -> &'static str {
        match self {
            Filter::None => "none",
            Filter::Ours => "ours",
            Filter::Peer(peer) => peer.name(),
        }
    }
}

/// How it is flooded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    Not,
    /// No packets, but the processor that would send them is busy: what sharing the machine costs by itself.
    Spin,
    Paced,
    Full,
}

impl Flood {
    const ALL: [Flood; 4] = [Flood::Not, Flood::Spin, Flood::Paced, Flood::Full];

    fn name(self) -> &'static str {
        match self {
            Flood::Not => "unflooded",
            Flood::Spin => "busy core",
            Flood::Paced => "200,000/s",
            Flood::Full => "one core",
        }
    }
}

/// A server in a namespace, behind a filter, and who floods it.
struct Victim {
    filter: Filter,
    server: Server,
    /// Detached at the end.
    ours: Option<Xdp>,
    generator: Generator,
    /// Index of the interface that the flood leaves by.
    interface: u32,
    number: u8,
    /// As long as the server lives.
    _place: Place,
}

impl Victim {
    fn new(home: &Home, gear: &mut Gear, filter: Filter, number: u8, listed: &[u32]) -> Result<Self> {
        let outside = format!("flood{number}");
        let place = Place::new(home, &outside)?;
        for client in 0..CLIENTS {
            ip(&format!("address add {}/24 dev {outside}", client_address(number, client)))?;
        }
        let gateway = client_address(number, 0);
        let hardware = "02:00:00:00:00:01";
        ip(&format!("link set {outside} address {hardware}"))?;
        ip(&format!("neighbour replace {} lladdr 02:00:00:00:00:02 dev {outside}", server_address(number)))?;
        place.within(|| {
            ip("link set lo up")?;
            ip(&format!("address add {}/24 dev {INSIDE}", server_address(number)))?;
            for client in 0..CLIENTS {
                let address = client_address(number, client);
                ip(&format!("neighbour replace {address} lladdr {hardware} dev {INSIDE}"))?;
            }
            // Replies to invented sources go back the same way, and end there.
            ip(&format!("route add default via {gateway} dev {INSIDE}"))
        })?;
        let interface = place.cable(&format!("evil{number}"), SECOND)?;
        if filter != Filter::Ours {
            // Without a program on it, a veth pair does not take in frames that never were packets of a stack.
            gear.attach("bench_pass", &place, INSIDE)?;
            gear.attach("bench_pass", &place, SECOND)?;
        }
        let ours = match filter {
            Filter::None => None,
            Filter::Ours => Some(open(&place, listed)?),
            Filter::Peer(peer) => {
                let file = tempfile::NamedTempFile::new()?;
                std::fs::write(file.path(), peer.text(Sources::V4(listed), Rest::Pass(NETWORK)))?;
                place.within(|| {
                    peer.read(file.path()).and_then(|()| peer.rule(Family::V4, Rest::Pass(NETWORK)))
                })?;
                None
            }
        };
        let server = Server::start(&place, SocketAddrV4::new(server_address(number), 25))?;
        let generator = Generator::new(Sources::V4(listed), Segment::syn_to(server_address(number)))?;
        Ok(Self { filter, server, ours, generator, interface, number, _place: place })
    }

    /// Clients, and a flood beside them, for as long as said.
    fn measure(&mut self, flood: Flood, length: Duration, cpu: usize) -> Result<Left> {
        let done = &AtomicBool::new(false);
        let rate = (flood == Flood::Paced).then_some(RATE);
        let (server, own, idle) = (self.server.time(), own_time()?, idle_time()?);
        let begun = Instant::now();
        let to = SocketAddrV4::new(server_address(self.number), 25);
        let (interface, number, generator) = (self.interface, self.number, &mut self.generator);
        let (seen, flooded) = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| scope.spawn(move || client(client_address(number, n), to, done)))
                .collect();
            let attack = move || match flood {
                Flood::Spin => spin(cpu, done).map(|cost| (0, cost)),
                _ => generator.flood(interface, cpu, rate, done),
            };
            let attacker = (flood != Flood::Not).then(|| scope.spawn(attack));
            std::thread::sleep(length);
            done.store(true, Ordering::Relaxed);
            let flooded = attacker.map(|attacker| attacker.join());
            let mut seen = Seen::default();
            for one in clients {
                if let Ok(one) = one.join() {
                    seen.add(one);
                }
            }
            (seen, flooded)
        });
        let wall = begun.elapsed();
        let flooded = flooded.transpose().map_err(|_| "the attacker panicked")?.transpose()?;
        let (packets, cost) = flooded.unwrap_or((0, Cost::default()));
        let mail = (own_time()? - own).saturating_sub(cost.thread) + (self.server.time() - server);
        let idle = idle_time()?.saturating_sub(idle);
        Ok(Left { seen, packets, cost, wall, mail, idle })
    }
}

/// What was left.
struct Left {
    seen: Seen,
    packets: u64,
    cost: Cost,
    wall: Duration,
    /// Processor time of clients and server.
    mail: Duration,
    /// Time in which a processor had nothing to do.
    idle: Duration,
}

fn server_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, number, 1)
}

fn client_address(number: u8, client: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, number, 10 + client)
}

/// Processor time of this process.
fn own_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of =
        |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Time in which processors had nothing to do (proc_stat: hundredths of a second, the fourth and fifth of the first line).
fn idle_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let words = text.lines().next().unwrap_or_default().split_whitespace().skip(4).take(2);
    Ok(Duration::from_millis(words.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 10))
}

/// Our filter: the clients' network bypasses, the listed sources are dropped.
fn open(place: &Place, listed: &[u32]) -> Result<Xdp> {
    let config = Config {
        interfaces: vec![INSIDE.to_owned(), SECOND.to_owned()],
        mode: Mode::Native,
        ..Config::default()
    };
    let filter = place.within(|| Ok(Xdp::open(&config, Arc::new(ManualClock::default()))?))?;
    let mut drop: Vec<_> = listed.iter().map(|address| host(Ipv4Addr::from(*address))).collect();
    drop.sort_unstable_by_key(|entry| entry.prefix);
    let clients = mailgate_lists::parse_entry(NETWORK)?;
    let table = |name: &str, action, entries: Vec<Entry>| -> Result<Table> {
        Ok(Table { name: TableName::parse(name)?, action, entries: Arc::new(entries.into()) })
    };
    let tables = vec![table("clients", Action::Bypass, vec![clients])?, table("listed", Action::Drop, drop)?];
    filter.apply(vec![Change::Reload(Snapshot { tables })])?;
    Ok(filter)
}

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Listed sources.
    pub(crate) entries: usize,
    /// Interleaved rounds; the median counts.
    pub(crate) rounds: usize,
    /// Length of each run.
    pub(crate) length: Duration,
    /// The processor that floods.
    pub(crate) cpu: usize,
}

/// Measures all filters.
pub(crate) fn run(report: &mut Report, home: &Home, effort: Effort) -> Result<()> {
    let listed = Random(0x6d61_696c).addresses(effort.entries, Shape::Uniform);
    let mut gear = Gear::plain()?;
    let mut victims = Vec::new();
    for (number, filter) in (1..).zip(Filter::ALL) {
        if matches!(filter, Filter::Peer(peer) if peer.versions().is_none()) {
            println!("{} is not here (`cargo xtask setup`)", filter.name());
            continue;
        }
        progress(&format!("{} listed sources into the filter: {}", effort.entries, filter.name()));
        victims.push(Victim::new(home, &mut gear, filter, number, &listed)?);
    }
    let mut rows: Vec<(Filter, Flood, Vec<Figures>)> = Vec::new();
    for round in 1..=effort.rounds {
        progress(&format!("round {round} of {}", effort.rounds));
        for flood in Flood::ALL {
            // Without packets all filters are alike.
            let alike = |victim: &&mut Victim| flood != Flood::Spin || victim.filter == Filter::Ours;
            for victim in victims.iter_mut().filter(alike) {
                let figures = Figures::of(victim.measure(flood, effort.length, effort.cpu)?);
                match rows.iter_mut().find(|(filter, other, _)| *filter == victim.filter && *other == flood) {
                    Some((.., all)) => all.push(figures),
                    None => rows.push((victim.filter, flood, vec![figures])),
                }
            }
        }
    }
    print(report, effort, rows);
    victims.iter().filter_map(|victim| victim.ours.as_ref()).try_for_each(|ours| Ok(ours.detach()?))
}

/// The figures of a run, in the order of [`Figures::NAMES`].
#[derive(Clone, Copy)]
struct Figures([f64; 7]);

impl Figures {
    const NAMES: [&str; 7] =
        [TRANSACTIONS, PER_LEFT, PER_USED, P99, PACKETS, "ns of CPU per flood packet", "failed transactions"];

    fn of(mut left: Left) -> Self {
        let wall = left.wall.as_secs_f64();
        let flood = left.cost.all().as_secs_f64();
        let transactions = left.seen.transactions as f64;
        Self([
            transactions / wall,
            transactions / (left.mail + left.idle).as_secs_f64(),
            transactions / left.mail.as_secs_f64(),
            left.seen.p99(),
            left.packets as f64 / wall,
            flood * 1e9 / left.packets as f64,
            left.seen.failed as f64,
        ])
    }

    /// The median of each, over several runs.
    fn median(all: &[Self]) -> Self {
        let mut middle = [f64::NAN; 7];
        for (n, middle) in middle.iter_mut().enumerate() {
            let mut values: Vec<f64> =
                all.iter().filter_map(|Self(figures)| figures.get(n).copied()).collect();
            values.sort_by(f64::total_cmp);
            *middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
        }
        Self(middle)
    }
}

fn print(report: &mut Report, effort: Effort, mut rows: Vec<(Filter, Flood, Vec<Figures>)>) {
    let title = format!(
        "SMTP of {CLIENTS} bypassed clients, a connection each time, while {} listed sources flood (median of {} interleaved runs of {:?})",
        effort.entries, effort.rounds, effort.length
    );
    let columns = [
        ("filter", 18),
        ("flood", 9),
        ("tx/s", 8),
        ("per CPU s left", 14),
        ("per CPU s used", 14),
        ("p99 ms", 8),
        ("packets/s", 10),
        ("ns each", 8),
        ("failed", 6),
    ];
    let mut listing = Listing::new(title, 2, &columns);
    rows.sort_by_key(|(_, flood, _)| Flood::ALL.iter().position(|other| other == flood));
    for (filter, flood, runs) in rows {
        let Figures(figures) = Figures::median(&runs);
        let mut cells = vec![filter.name().to_owned(), flood.name().to_owned()];
        for ((what, value), decimals) in Figures::NAMES.into_iter().zip(figures).zip([0, 0, 0, 2, 0, 0, 0]) {
            cells.push(cell(value.is_finite().then_some(value), decimals));
            if value.is_finite() {
                let subject = Subject {
                    what,
                    who: filter.name(),
                    case: flood.name(),
                    entries: effort.entries,
                    set: Shape::Uniform.name(),
                };
                report.note(subject, value);
            }
        }
        listing.row(cells);
    }
    listing.print();
    println!(
        "  CPU used: clients and smtp-sink; left: that and the idle time (the flood and other work of the machine had the rest)"
    );
    goals(report, effort.entries);
}

/// With our filter, what the flooded service still does per processor second.
fn goals(report: &mut Report, entries: usize) {
    let set = Shape::Uniform.name();
    let ratio = |report: &Report, what, flood: Flood, beside: Flood| {
        let of = |flood: Flood| Subject { what, who: Filter::Ours.name(), case: flood.name(), entries, set };
        report.find(of(flood)).zip(report.find(of(beside))).map(|(above, below)| above / below)
    };
    for flood in [Flood::Full, Flood::Paced, Flood::Spin] {
        let bound = if flood == Flood::Spin { Bound::None } else { Bound::AtLeast(0.8) };
        for what in [PER_LEFT, PER_USED] {
            let share = ratio(report, what, flood, Flood::Not);
            report.goal(format!("ours, {}: {what}, of the unflooded", flood.name()), share, bound);
        }
    }
    // A core that is merely busy leaves as much of the machine as the flood does.
    let share = ratio(report, TRANSACTIONS, Flood::Full, Flood::Spin);
    report.goal(
        "ours, one core: transactions per second, of those beside a busy core",
        share,
        Bound::AtLeast(0.8),
    );
    let times = ratio(report, P99, Flood::Full, Flood::Spin);
    report.goal(
        "ours, one core: p99 of replies, in times that beside a busy core",
        times,
        Bound::AtMost(1.2),
    );
}
