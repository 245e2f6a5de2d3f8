//! Who sends: synthetic populations of legitimate senders and of bots, the same for every policy.
//!
//! The shares below are assumptions, chosen to be hard on us rather than to look like one host's log: what travels is how
//! the policies differ on one and the same world, not how much mail of each kind somebody gets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::schedule::Schedule;

/// Seconds of a day.
pub(crate) const DAY: u64 = 86_400;
/// Messages are born within this time; retries may come later.
const SPAN: u64 = 30 * DAY;
/// Local users who get mail.
const RECIPIENTS: u64 = 200;

/// Small, fast and the same everywhere (splitmix64); nothing here needs more.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `below` - 1.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below.max(1)
    }

    /// True in `percent` of 100.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the reverse DNS says of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reverse {
    /// A name of the sender's organisation that leads back.
    Confirmed,
    /// A name that leads back and looks like that of a dial-up line.
    Dynamic,
    /// Nothing.
    Missing,
    /// A name that leads back, made of the address by a provider of fixed lines.
    Provider,
}

/// What SPF says of the reverse-path (RFC 7208 §2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spf {
    Fail,
    None,
    Pass,
    Softfail,
}

/// Where the attempts of a message come from.
#[derive(Debug, Clone)]
pub(crate) enum Addresses {
    /// Always the same host.
    One(IpAddr),
    /// Each attempt from any of these.
    Pool(Vec<IpAddr>),
    /// Each attempt from another address of this /64.
    Rotating(Ipv6Addr),
}

/// A sending organisation, or a bot.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) population: usize,
    pub(crate) domain: String,
    pub(crate) addresses: Addresses,
    pub(crate) reverse: Reverse,
    pub(crate) spf: Spf,
    pub(crate) schedule: Schedule,
    /// Every message has a reverse-path of its own.
    pub(crate) verp: bool,
    /// Says a bare name or an address of its own making at HELO.
    pub(crate) bad_helo: bool,
    /// How many DNS block lists name the host.
    pub(crate) listed: u8,
    /// Speaks before it is spoken to.
    pub(crate) early: bool,
}

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sender: usize,
    /// Stands for Message-ID and body.
    pub(crate) id: u64,
    pub(crate) born: u64,
    pub(crate) from: String,
    pub(crate) to: String,
    /// What a content filter would say, as rspamd counts: from 4 on greylisted, from 15 on rejected.
    pub(crate) score: f32,
    /// The first of its sender.
    pub(crate) is_first: bool,
}

/// One kind of sender.
pub(crate) struct Population {
    pub(crate) name: &'static str,
    pub(crate) is_legitimate: bool,
    senders: usize,
    /// Messages of each sender.
    messages: u64,
    make: fn(&mut Random, usize) -> Sender,
}

/// All populations, legitimate ones first.
pub(crate) const POPULATIONS: &[Population] = &[
    Population { name: "single hosts", is_legitimate: true, senders: 2_000, messages: 3, make: single },
    Population { name: "pools of 8", is_legitimate: true, senders: 300, messages: 10, make: pool_8 },
    Population { name: "pools of 64", is_legitimate: true, senders: 100, messages: 30, make: pool_64 },
    Population { name: "slow retriers", is_legitimate: true, senders: 400, messages: 3, make: slow },
    Population { name: "VERP", is_legitimate: true, senders: 200, messages: 20, make: verp },
    Population { name: "IPv6 in a /64", is_legitimate: true, senders: 300, messages: 5, make: rotating },
    Population { name: "neglected hosts", is_legitimate: true, senders: 25, messages: 3, make: neglected },
    Population { name: "bots, one try", is_legitimate: false, senders: 20_000, messages: 1, make: bot },
    Population { name: "bots, at once", is_legitimate: false, senders: 5_000, messages: 1, make: hasty_bot },
    Population { name: "compromised", is_legitimate: false, senders: 200, messages: 30, make: compromised },
];

/// Everything that is sent, to be played to each policy.
pub(crate) struct World {
    pub(crate) senders: Vec<Sender>,
    pub(crate) messages: Vec<Message>,
}

impl World {
    /// `part` divides the number of senders: 1 for all.
    pub(crate) fn new(seed: u64, part: usize) -> Self {
        let mut random = Random(seed);
        let mut world = Self { senders: Vec::new(), messages: Vec::new() };
        for (number, population) in POPULATIONS.iter().enumerate() {
            for _ in 0..(population.senders / part).max(1) {
                let sender = (population.make)(&mut random, number);
                world.add(&mut random, sender, population);
            }
        }
        world
    }

    fn add(&mut self, random: &mut Random, sender: Sender, population: &Population) {
        let index = self.senders.len();
        let mut born = random.below(SPAN / 2);
        for nth in 0..population.messages {
            let writer = random.below(4);
            let local = if sender.verp {
                format!("bounce-{}-{}", random.below(1_000_000), random.below(1_000_000))
            } else {
                ["anna", "berta", "info", "service"]
                    .get(writer as usize)
                    .copied()
                    .unwrap_or("info")
                    .to_owned()
            };
            self.messages.push(Message {
                sender: index,
                id: random.next(),
                born,
                from: format!("{local}@{}", sender.domain),
                to: format!("user{}@example.net", random.below(RECIPIENTS)),
                score: score(random, population.is_legitimate),
                is_first: nth == 0,
            });
            born += random.below(4 * DAY) + 60;
        }
        self.senders.push(sender);
    }
}

/// Of legitimate mail 3 % falls into the grey band of a content filter; of spam 25 % is above it and 15 % below.
fn score(random: &mut Random, is_legitimate: bool) -> f32 {
    let draw = random.below(100);
    match (is_legitimate, draw) {
        (true, 0..3) => 5.0,
        (true, _) => 1.0,
        (false, 0..15) => 2.0,
        (false, 15..75) => 8.0,
        (false, _) => 20.0,
    }
}

/// A public IPv4 address; two draws hardly ever meet.
fn address(random: &mut Random) -> IpAddr {
    let bits = random.next();
    let [a, b, c, d, ..] = bits.to_le_bytes();
    IpAddr::from(Ipv4Addr::new(11 + a % 89, b, c, 1 + d % 254))
}

fn domain(random: &mut Random) -> String {
    format!("d{:x}.example", random.next() >> 24)
}

/// A well-kept mail server.
fn single(random: &mut Random, population: usize) -> Sender {
    let spf = if random.percent(92) { Spf::Pass } else { Spf::None };
    Sender {
        population,
        domain: domain(random),
        addresses: Addresses::One(address(random)),
        reverse: Reverse::Confirmed,
        spf,
        schedule: Schedule::usual(random),
        verp: false,
        bad_helo: random.percent(3),
        listed: u8::from(random.percent(1)),
        early: false,
    }
}

fn pool(random: &mut Random, population: usize, size: usize, networks: usize) -> Sender {
    let bases: Vec<IpAddr> = (0..networks).map(|_| address(random)).collect();
    let host = |nth: usize| {
        let IpAddr::V4(base) = bases.get(nth % networks).copied()? else { return None };
        let [a, b, c, d] = base.octets();
        Some(IpAddr::from(Ipv4Addr::new(a, b, c, d.wrapping_add((nth / networks) as u8))))
    };
    let pool = (0..size).filter_map(host).collect();
    Sender { addresses: Addresses::Pool(pool), spf: Spf::Pass, listed: 0, ..single(random, population) }
}

/// Eight hosts in two networks.
fn pool_8(random: &mut Random, population: usize) -> Sender {
    pool(random, population, 8, 2)
}

/// Sixty-four hosts in sixteen networks, as the large providers have them.
fn pool_64(random: &mut Random, population: usize) -> Sender {
    pool(random, population, 64, 16)
}

/// Tries again after a quarter of an hour to half a day.
fn slow(random: &mut Random, population: usize) -> Sender {
    let every = 15 * 60 + random.below(12 * 3600 - 15 * 60);
    Sender { schedule: Schedule::Every(every), ..single(random, population) }
}

/// Newsletters: another reverse-path for each message, from four hosts.
fn verp(random: &mut Random, population: usize) -> Sender {
    Sender { verp: true, ..pool(random, population, 4, 1) }
}

/// Another address of its /64 for each connection.
fn rotating(random: &mut Random, population: usize) -> Sender {
    let high = 0x2600_0000_0000_0000_u64 | (random.next() >> 8);
    let network = Ipv6Addr::from(u128::from(high) << 64);
    Sender { addresses: Addresses::Rotating(network), ..single(random, population) }
}

/// Honest people whose host nobody looks after: no SPF, a provider's name or none, a bare name at HELO.
fn neglected(random: &mut Random, population: usize) -> Sender {
    let reverse = if random.percent(60) { Reverse::Dynamic } else { Reverse::Missing };
    Sender { reverse, spf: Spf::None, bad_helo: random.percent(70), ..single(random, population) }
}

/// An infected home computer that forges a reverse-path and never tries again.
fn bot(random: &mut Random, population: usize) -> Sender {
    let reverse = match random.below(100) {
        0..70 => Reverse::Dynamic,
        70..97 => Reverse::Missing,
        // Nobody gives a stolen computer a name in the domain that it forges.
        _ => Reverse::Provider,
    };
    let spf = match random.below(100) {
        0..40 => Spf::Fail,
        40..70 => Spf::Softfail,
        _ => Spf::None,
    };
    Sender {
        population,
        domain: domain(random),
        addresses: Addresses::One(address(random)),
        reverse,
        spf,
        schedule: Schedule::Never,
        verp: false,
        bad_helo: random.percent(60),
        listed: u8::from(random.percent(60)) + u8::from(random.percent(40)),
        early: random.percent(30),
    }
}

/// The same, knocking several times within a minute.
fn hasty_bot(random: &mut Random, population: usize) -> Sender {
    Sender { schedule: Schedule::Hasty, ..bot(random, population) }
}

/// A real mail server with a stolen password: nothing but the content is wrong, and some lists know it by now.
fn compromised(random: &mut Random, population: usize) -> Sender {
    Sender { listed: u8::from(random.percent(30)), ..single(random, population) }
}
