//! Steps about who may speak: tables, feeds, the kernel filter.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::internet::{FRIEND, GATE, MX, OUTCAST, SPAMMER};
use super::setting::{ALICE, SPAMMER_ROUTES, Setting};
use crate::{Dialogue, Namespace, until};

/// A feed's news are in force within this time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A file's news are promised within a second too, of which the second look at a growing file takes the better part; a
/// busy machine gets another.
const SOON: Duration = Duration::from_secs(2);

/// A host that gets no answer to its SYN for this long is taken to be cut off.
const UNANSWERED: Duration = Duration::from_millis(600);

/// The kernel itself is asked, not mailgate.
pub(super) fn filter_is_native(lab: &mut Setting<'_>) -> Result<String> {
    let link = lab.run(GATE.label, "ip", &["-details", "link", "show", "dev", "eth0"])?.success()?;
    ensure!(!link.contains("xdpgeneric"), "generic mode: {link}");
    let program = link.split_whitespace().skip_while(|word| !word.starts_with("prog/xdp")).nth(2);
    ensure!(link.contains(" xdp ") || program.is_some(), "no XDP program on eth0: {link}");
    Ok(format!("program {} on eth0", program.unwrap_or("?")))
}

/// How a connection to port 25 is received.
#[derive(Debug, PartialEq)]
enum Reception {
    /// The whole greeting at once.
    Greeted,
    /// Byte by byte.
    Tarpit,
    /// No answer to the SYN.
    Unreachable,
}

/// The two addresses of mx.
const FAMILIES: [IpAddr; 2] = [IpAddr::V4(GATE.v4), IpAddr::V6(GATE.v6)];

/// Connects from `node` to this address of mx and looks how the greeting arrives.
fn reception(node: &Namespace, ip: IpAddr, port: u16) -> Result<Reception> {
    /// Longer than a greeting takes to cross a bridge on a busy machine, shorter than three bytes take in the tarpit.
    const GLANCE: Duration = Duration::from_millis(400);
    node.within(move || {
        let to = SocketAddr::new(ip, port);
        let Ok(tcp) = TcpStream::connect_timeout(&to, UNANSWERED) else {
            return Ok(Reception::Unreachable);
        };
        let mut dialogue = Dialogue::over(tcp)?;
        dialogue.set_patience(GLANCE)?;
        let begun = Instant::now();
        let mut bytes = Vec::new();
        while begun.elapsed() < GLANCE && !bytes.ends_with(b"\n") {
            match dialogue.receive() {
                Ok(more) if more.is_empty() => break,
                Ok(more) => bytes.extend(more),
                Err(_) => break, // nothing came within the glance
            }
        }
        Ok(if bytes.ends_with(b"\n") { Reception::Greeted } else { Reception::Tarpit })
    })
}

/// Waits until connections from `node` to this address are received so; how long that took.
fn becomes(node: &Namespace, ip: IpAddr, wanted: &Reception) -> Result<Duration> {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut last = None;
    let done = until(&format!("{} to be {wanted:?} at {ip}", node.label()), LIMIT, || {
        last = Some(reception(node, ip, 25));
        matches!(&last, Some(Ok(seen)) if seen == wanted).then_some(())
    });
    done.map(|(_, time)| time).with_context(|| format!("last seen: {last:?}"))
}

pub(super) fn bypass(lab: &mut Setting<'_>) -> Result<String> {
    lab.daemon.command(&["table", "add", "bypass", &FRIEND.v4.to_string()])?;
    let begun = Instant::now();
    lab.run(
        FRIEND.label,
        "swaks",
        &["--server", MX, "--ehlo", "mail.friend.example", "--from", "fred@friend.example", "--to", ALICE],
    )?
    .success()
    .context("swaks at its first attempt")?;
    let time = begun.elapsed();
    let grey = lab.daemon.command(&["grey", "list"])?;
    ensure!(!grey.contains(&FRIEND.v4.to_string()), "the greylister saw it: {grey}");
    Ok(format!("swaks was served at its first attempt in {:.1} s", time.as_secs_f64()))
}

/// The kernel's own counters: the stranger came by the edge's listener, the friend by reception's, nobody by accident.
pub(super) fn steered(lab: &mut Setting<'_>) -> Result<String> {
    let status = lab.daemon.json(&["status"])?;
    let counters = status.pointer("/filter/counters").and_then(serde_json::Value::as_array);
    let counters = counters.context("no counters in the status")?;
    let count = |name: &str| -> Result<u64> {
        let row = counters.iter().find(|row| row.get("name").is_some_and(|said| said == name));
        row.and_then(|row| row.get("count")?.as_u64())
            .with_context(|| format!("no counter {name} in {status}"))
    };
    let (edge, reception) = (count("steered-edge")?, count("steered-reception")?);
    let nowhere = count("steered-nowhere")?;
    ensure!(
        edge > 0 && reception > 0 && nowhere == 0,
        "edge {edge}, reception {reception}, nowhere {nowhere}"
    );
    Ok(format!("{edge} connections to the edge, {reception} to reception"))
}

pub(super) fn announced(lab: &mut Setting<'_>) -> Result<String> {
    until("the BGP session", Duration::from_secs(20), || lab.bird.is_established().then_some(()))
        .with_context(|| lab.bird.report())?;
    let spammer = lab.node(SPAMMER.label)?;
    let mut times = Vec::new();
    for (ip, route) in FAMILIES.into_iter().zip(SPAMMER_ROUTES) {
        let before = reception(spammer, ip, 25)?;
        ensure!(before == Reception::Greeted, "before the announcement, {ip}: {before:?}");
        lab.bird.announce(route)?;
        // The last look itself takes the time of a glance; the verdict fell before it.
        let time = becomes(spammer, ip, &Reception::Tarpit)?;
        ensure!(time <= AT_ONCE, "it took {:.2} s at {ip}", time.as_secs_f64());
        times.push(format!("{:.2} s", time.as_secs_f64()));
    }
    let bytes = stuttered(spammer, Duration::from_secs(3))?;
    Ok(format!("seen {} (IPv4, IPv6) after the announcement; then {bytes} bytes in 3 s", times.join(" and ")))
}

/// How many bytes of the greeting arrive in this time.
fn stuttered(node: &Namespace, time: Duration) -> Result<usize> {
    let bytes = node.within(move || {
        let mut dialogue = Dialogue::connect(SocketAddr::from((GATE.v4, 25)))?;
        let begun = Instant::now();
        let mut bytes = 0;
        while let Some(left) = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            dialogue.set_patience(left)?;
            bytes += dialogue.receive().map_or(0, |more| more.len());
        }
        Ok(bytes)
    })?;
    // One byte per second, and the first may come at once.
    ensure!((1..=4).contains(&bytes), "{bytes} bytes in {} s", time.as_secs());
    Ok(bytes)
}

pub(super) fn withdrawn(lab: &mut Setting<'_>) -> Result<String> {
    let spammer = lab.node(SPAMMER.label)?;
    let mut times = Vec::new();
    for (ip, route) in FAMILIES.into_iter().zip(SPAMMER_ROUTES) {
        let before = reception(spammer, ip, 25)?;
        ensure!(before == Reception::Tarpit, "before the withdrawal, {ip}: {before:?}");
        lab.bird.withdraw(route)?;
        let time = becomes(spammer, ip, &Reception::Greeted)?;
        ensure!(time <= AT_ONCE, "it took {:.2} s at {ip}", time.as_secs_f64());
        times.push(format!("{:.2} s", time.as_secs_f64()));
    }
    Ok(format!("seen {} (IPv4, IPv6) after the withdrawal", times.join(" and ")))
}

/// Whether a SYN from `node` is answered within a short time; the bridge needs less than a millisecond.
fn is_answered(node: &Namespace) -> bool {
    const BRIEFLY: Duration = Duration::from_millis(100);
    let answered =
        node.within(|| Ok(TcpStream::connect_timeout(&SocketAddr::from((GATE.v4, 25)), BRIEFLY).is_ok()));
    answered.unwrap_or(false)
}

pub(super) fn dropped(lab: &mut Setting<'_>) -> Result<String> {
    let outcast = lab.node(OUTCAST.label)?;
    for ip in FAMILIES {
        let before = reception(outcast, ip, 25)?;
        ensure!(before == Reception::Greeted, "before, {ip}: {before:?}");
    }
    let mut file = fs::File::options().append(true).open(lab.block_file())?;
    write!(file, "{}  # until further notice\n{}\n", OUTCAST.v4, OUTCAST.v6)?;
    let cut =
        until("the outcast to be cut off", Duration::from_secs(5), || (!is_answered(outcast)).then_some(()));
    let (_, time) = cut?;
    ensure!(time <= SOON, "it took {:.2} s", time.as_secs_f64());
    for (ip, port) in FAMILIES.into_iter().flat_map(|ip| [(ip, 25), (ip, 143)]) {
        let seen = reception(outcast, ip, port)?;
        ensure!(seen == Reception::Unreachable, "{ip} port {port}: {seen:?}");
    }
    Ok(format!("seen {:.2} s after the lines were written; SMTP and IMAP, IPv4 and IPv6", time.as_secs_f64()))
}

pub(super) fn outlives(lab: &mut Setting<'_>) -> Result<String> {
    lab.daemon.kill();
    let during = reception(lab.node(OUTCAST.label)?, FAMILIES[0], 25)?;
    let friend = lab.node(FRIEND.label)?;
    let refused = friend.within(|| {
        let to = SocketAddr::new(IpAddr::V4(GATE.v4), 25);
        let answer = TcpStream::connect_timeout(&to, UNANSWERED);
        Ok(answer.err().map(|error| error.kind()))
    })?;
    let begun = Instant::now();
    lab.daemon.begin()?;
    ensure!(during == Reception::Unreachable, "without the daemon: {during:?}");
    let after = reception(lab.node(OUTCAST.label)?, FAMILIES[0], 25)?;
    ensure!(after == Reception::Unreachable, "after the restart: {after:?}");
    let friend = refused.map_or("was answered".into(), |kind| format!("got {kind}"));
    Ok(format!(
        "dropped without it, while a friend {friend}; back after {:.1} s",
        begun.elapsed().as_secs_f64()
    ))
}

pub(super) fn reachable_again(lab: &mut Setting<'_>) -> Result<String> {
    let outcast = lab.node(OUTCAST.label)?;
    fs::write(lab.block_file(), "# nobody\n")?;
    let (_, time) = until("an answer", Duration::from_secs(5), || is_answered(outcast).then_some(()))?;
    ensure!(time <= SOON, "it took {:.2} s", time.as_secs_f64());
    let seen = reception(outcast, FAMILIES[1], 25)?;
    ensure!(seen == Reception::Greeted, "{seen:?}");
    Ok(format!("seen {:.2} s after the line was taken out", time.as_secs_f64()))
}
