//! A feed that flaps: ten thousand UPDATEs a second from a generator of ours, and how far behind the kernel is at the end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use mailgate_proto::bgp::{
    Advert, AsWidth, Capability, Community, Families, Framer, Message, NextHops, Open, Session, announce,
    withdraw,
};

use super::ours::Ours;
use super::report::{Report, millis};
use super::{FEEDER, host, v4};
use crate::netns::Network;

/// UPDATEs a second, each with one prefix.
const RATE: u64 = 10_000;

/// Different prefixes that come and go.
const HOSTS: u32 = 20_000;

/// How far behind the kernel may be at the end.
const BEHIND: Duration = Duration::from_millis(100);

/// What the last third of the time may have over the second, for memory to count as bounded: the allocator's habits.
const SLACK_MIB: u64 = 8;

/// Lets the generator flap for so many seconds, and looks at the daemon.
pub(super) fn measure(network: &Network, folder: &Path, seconds: u64, report: &mut Report) -> Result<()> {
    let folder = folder.join("flap");
    std::fs::create_dir_all(&folder)?;
    let at = (v4(FEEDER), 1790);
    let listener = network.node(FEEDER.label)?.within(move || Ok(TcpListener::bind(at)?))?;
    let ours = Ours::start(&folder, HOSTS, network.node(super::MX.label)?)?;
    let (mut stream, session) = establish(&listener)?;
    let before = ours.memory()?.now;
    let began = Instant::now();
    let sizes = flap(&mut stream, &session, seconds, &ours)?;
    let spent = began.elapsed();
    // The last word: all of them, and one more that only now is there.
    let all: Vec<IpNet> = (0..=HOSTS).map(|n| IpNet::from(std::net::IpAddr::from(host(n)))).collect();
    for update in announce(&all, &advert(), 65066, hops(), &session) {
        stream.write_all(&Message::Update(Box::new(update)).encode(&session)?)?;
    }
    let ended = Instant::now();
    ours.in_kernel(u64::from(HOSTS) + 1).with_context(|| ours.log())?;
    let behind = ended.elapsed();
    let after = ours.memory()?;
    let total = RATE * seconds;
    let rate = total as f64 / spent.as_secs_f64();
    report.row("a feed that flaps", [format!("{rate:.0} a second"), format!("{total} updates")]);
    report.row("the kernel in step after the last", [millis(behind)]);
    let memory =
        [format!("{} MiB", after.now), format!("{before} MiB before"), format!("{} MiB at most", after.peak)];
    report.row("memory after the flapping", memory);
    report.goal(format!("takes {RATE} updates a second: {rate:.0}"), rate >= RATE as f64 * 0.99);
    report.goal(format!("in step within {}: {}", millis(BEHIND), millis(behind)), behind <= BEHIND);
    let third = sizes.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (second, last) = (
        most(sizes.get(third..third * 2).unwrap_or_default()),
        most(sizes.get(third * 2..).unwrap_or_default()),
    );
    report.goal(
        format!("memory is bounded: {last} MiB in the last third, {second} MiB in the second"),
        last <= second + SLACK_MIB,
    );
    Ok(())
}

/// Sends so many seconds' worth; the daemon's memory in MiB after each second.
fn flap(stream: &mut TcpStream, session: &Session, seconds: u64, ours: &Ours<'_>) -> Result<Vec<u64>> {
    let (mut sent, total) = (0_u64, RATE * seconds);
    let mut sizes = Vec::new();
    let began = Instant::now();
    while sent < total {
        let due = (u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) * RATE / 1000).min(total);
        let mut bytes = Vec::new();
        while sent < due {
            bytes.extend(message(sent, session)?);
            sent += 1;
        }
        stream.write_all(&bytes)?;
        if sent / RATE > sizes.len() as u64 {
            sizes.push(ours.memory()?.now);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(sizes)
}

/// The n-th UPDATE: each prefix is announced, and withdrawn the next time it is its turn.
fn message(n: u64, session: &Session) -> Result<Vec<u8>> {
    let hosts = u64::from(HOSTS);
    let prefix = [IpNet::from(std::net::IpAddr::from(host(u32::try_from(n % hosts)?)))];
    let updates = match n / hosts % 2 {
        0 => announce(&prefix, &advert(), 65066, hops(), session),
        _ => withdraw(&prefix, session),
    };
    let mut bytes = Vec::new();
    for update in updates {
        bytes.extend(Message::Update(Box::new(update)).encode(session)?);
    }
    Ok(bytes)
}

fn advert() -> Advert {
    Advert { communities: vec![Community::new(65066, 666)], ..Advert::default() }
}

fn hops() -> NextHops {
    NextHops { v4: FEEDER.v4, v6: FEEDER.v6 }
}

/// Lets the daemon connect, and answers as a feed does.
fn establish(listener: &TcpListener) -> Result<(TcpStream, Session)> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let session = Session { as_width: AsWidth::Four, families: Families::ALL, ..Session::default() };
    let capabilities = vec![Capability::Multiprotocol(1, 1), Capability::FourOctetAs(65066)];
    let open = Open::new(65066, 0, Ipv4Addr::new(198, 18, 0, 179), capabilities);
    stream.write_all(&Message::Open(open).encode(&session)?)?;
    stream.write_all(&Message::Keepalive.encode(&session)?)?;
    let mut framer = Framer::default();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        framer.push(buffer.get(..count).unwrap_or_default());
        while let Some(frame) = framer.take()? {
            match Message::decode(&frame, &session)? {
                Message::Keepalive => return Ok((stream, session)),
                Message::Notification(said) => bail!("the daemon says: {said}"),
                _ => {}
            }
        }
        if count == 0 {
            bail!("the daemon closed the connection");
        }
    }
}
