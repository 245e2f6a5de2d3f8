//! The measurement: clients in several processes, each with as many as it may have open files; then a forged flood.
#![expect(clippy::print_stdout, reason = "it reports")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mailgate_common::answer::Answered;
use mailgate_packet::xdp::sys;
use mailgate_packet::{Answers, Mode};
use socket2::{Domain, Protocol, Socket, Type};

use super::{MX, Scene, clients as connect, connections, raise_file_limit};
use crate::{Namespace, Running, until};

/// Clients of one process and one address: below the number of ephemeral ports, and of open files almost everywhere.
const PER_PROCESS: usize = 16_000;
/// How long they are watched.
const HOLD: Duration = Duration::from_secs(60);
/// How long they may take to connect, all together.
const CONNECT: Duration = Duration::from_secs(300);
/// Forged SYNs of the flood.
const FLOOD: u32 = 500_000;
/// Runs of a program by itself.
const RUNS: usize = 20_001;
/// Bytes of neighbour discovery that may come beside the flood.
const NEIGHBOURS: u64 = 4096;
const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A process full of clients: the address to connect to, their number, their own address. Does not end by itself.
///
/// # Errors
/// When not all are held.
pub fn clients(arguments: &[String]) -> Result<()> {
    let [to, count, source] = arguments else { anyhow::bail!("expected: address, number, own address") };
    raise_file_limit()?;
    let (held, again) = connect(&[source.parse()?], to.parse()?, count.parse()?)?;
    println!("held {}, {again} of them after asking again", held.len());
    std::io::stdout().flush()?;
    // Whoever started us ends us.
    loop {
        std::thread::park();
    }
}

/// A setting of the kernel that is another as long as this lives.
struct Setting {
    path: &'static str,
    before: String,
}

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Self> {
        let before = std::fs::read_to_string(path).context(path)?;
        std::fs::write(path, value).context(path)?;
        Ok(Self { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = std::fs::write(self.path, self.before.trim());
    }
}

/// Nanoseconds and runs of `ingress` with everything it calls.
fn runs(scene: &Scene) -> Result<(u64, u64)> {
    let program = scene.filter.program("ingress")?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd()))?;
    let figure = |name: &str| -> Result<u64> {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
        Ok(line.trim().parse()?)
    };
    Ok((figure("run_time_ns:")?, figure("run_cnt:")?))
}

/// Nanoseconds of single runs on a frame (`BPF_PROG_TEST_RUN`): the median, since a run that changes its frame cannot be
/// repeated on it.
fn single(program: BorrowedFd<'_>, frame: &[u8]) -> Result<u32> {
    let mut each = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        each.push(sys::test_run(program, frame, &mut [], 1)?.1);
    }
    each.sort_unstable();
    each.get(RUNS / 2).copied().context("no runs")
}

/// What the program itself takes for a SYN and for a forged acknowledgment, over a program that does nothing.
fn alone(scene: &Scene) -> Result<()> {
    let filter = Arc::clone(&scene.filter);
    let (nothing, offered, forged) = scene.mx()?.within(move || {
        let [ingress, nothing] = [filter.program("ingress")?, sys::pass_program()?];
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend(syn(Ipv4Addr::new(203, 0, 113, 9), 4000));
        let mut acknowledgment = frame.clone();
        if let Some(flags) = acknowledgment.get_mut(14 + 20 + 13) {
            *flags = 16;
        }
        Ok((
            single(nothing.as_fd(), &frame)?,
            single(ingress.as_fd(), &frame)?,
            single(ingress.as_fd(), &acknowledgment)?,
        ))
    })?;
    println!(
        "one run (median of {RUNS}, the same with an empty program taken off): {} ns per SYN answered, {} ns per forged \
         acknowledgment dropped",
        offered.saturating_sub(nothing),
        forged.saturating_sub(nothing),
    );
    Ok(())
}

/// Bytes and packets that a namespace's `eth0` took in and gave out.
fn traffic(of: &Namespace) -> Result<[u64; 4]> {
    of.within(|| {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
        let figures: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let at = |n: usize| figures.get(n).copied().context("short line");
        Ok([at(0)?, at(1)?, at(8)?, at(9)?])
    })
}

/// Holds so many clients, then sends a forged flood; prints what it cost.
///
/// # Errors
/// When a step fails, or a claim does not hold.
pub fn measure(count: usize) -> Result<()> {
    ensure!(crate::is_root(), "namespaces and BPF programs need root");
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!("load before: {}", load.trim());
    let _statistics = Setting::set(STATISTICS, "1")?;
    // The clients' own host must not lose what they send: a client whose probes find its device full gives up soon.
    let _backlog = Setting::set(BACKLOG, "500000")?;
    hold(count)?;
    flood()
}

fn hold(count: usize) -> Result<()> {
    let answers = Answers {
        replies_per_source: 1_000_000,
        replies: 1_000_000,
        recorded: mailgate_common::answer::setting::RECORDS,
        ..Answers::default()
    };
    let scene = Scene::new(Mode::Native, answers)?;
    // On a busy machine the way between the two loses packets; who gives up early was never held.
    scene.evil()?.within(|| Ok(std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "20")?))?;
    let memory = scene.filter.answers_memory();
    let dropped = backlog_drops()?;
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let mut processes: Vec<Running> = Vec::new();
    let each = count.div_ceil(count.div_ceil(PER_PROCESS).next_multiple_of(2)).max(1);
    for (n, from) in (0..count).step_by(each).enumerate() {
        let (to, source): (SocketAddr, String) = if n % 2 == 0 {
            ((MX.v4, 25).into(), format!("198.18.3.{}", n + 10))
        } else {
            ((MX.v6, 25).into(), format!("2001:db8:3::{}", n + 10))
        };
        let family = if n % 2 == 0 { "24" } else { "64 nodad" };
        scene.evil()?.ip(&format!("address add {source}/{family} dev eth0"))?;
        let log = folder.path().join(n.to_string());
        let mut command = Command::new(std::env::current_exe()?.with_file_name("mailgate-clients"));
        command.args([&to.to_string(), &each.min(count - from).to_string(), &source]);
        let mut process = scene.evil()?.start(command, &log)?;
        // One process after the other: the probes of those that are held go on meanwhile.
        until("clients to be held", CONNECT, || {
            (process.log().contains("held") || process.ended().is_some()).then_some(())
        })?;
        let said = process.log();
        ensure!(said.contains("held"), "a process of clients ended: {}", said.trim());
        println!("{source}: {} after {:.1} s", said.trim(), begun.elapsed().as_secs_f64());
        processes.push(process);
    }
    let took = begun.elapsed();
    let (established, _) = connections(scene.evil()?)?;
    println!(
        "connected: {established} of {count} ESTABLISHED at the clients after {:.1} s, half IPv4, half IPv6",
        took.as_secs_f64()
    );
    let (_, before) = runs(&scene)?;
    let probes = scene.filter.answered(Answered::Held);
    let watched = Instant::now();
    let mut least = established;
    // Watching is what this waits for: a look every time, not a pause.
    while watched.elapsed() < HOLD {
        least = least.min(connections(scene.evil()?)?.0);
        let _ = until("the next look", Duration::from_secs(5), || None::<()>);
    }
    let (ours, in_use) = connections(scene.mx()?)?;
    let (_, after) = runs(&scene)?;
    println!(
        "held: at least {least} ESTABLISHED for {} s; {} probes answered, {} packets in",
        HOLD.as_secs(),
        scene.filter.answered(Answered::Held) - probes,
        after - before,
    );
    println!("packets that the backlog of this machine dropped meanwhile: {}", backlog_drops()? - dropped);
    println!("host with the filter: {ours} connections, {in_use} TCP sockets");
    println!(
        "memory of the answers: {:.1} MiB before, {:.1} MiB after ({} connections written down)",
        mebibytes(memory),
        mebibytes(scene.filter.answers_memory()),
        scene.filter.held()?.len(),
    );
    ensure!(least == count as u64 && (ours, in_use) == (0, 0), "not all were held without a socket");
    drop(processes);
    scene.end()
}

/// Packets that processors could not queue (second column of /proc/net/softnet_stat, hexadecimal).
fn backlog_drops() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/net/softnet_stat")?;
    let each = text.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    Ok(each.sum())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// SYNs from the 254 addresses of a listed network that has no host, as fast as a raw socket goes.
fn flood() -> Result<()> {
    for (what, answers) in [
        ("without caps", Answers { replies_per_source: 1_000_000, replies: 1_000_000, ..Answers::default() }),
        ("default caps", Answers::default()),
    ] {
        let scene = Scene::new(Mode::Native, answers)?;
        alone(&scene)?;
        // The first one resolves the neighbour.
        scene.evil()?.within(|| send(1))?;
        until("the first answer", CONNECT, || (scene.filter.answered(Answered::Offered) > 0).then_some(()))?;
        let ([in_bytes, in_packets, out_bytes, out_packets], (time, count)) =
            (traffic(scene.evil()?)?, runs(&scene)?);
        let took = scene.evil()?.within(|| send(FLOOD))?;
        let [in_bytes2, in_packets2, out_bytes2, out_packets2] = traffic(scene.evil()?)?;
        let (time2, count2) = runs(&scene)?;
        let (sent, back) = (out_bytes2 - out_bytes, in_bytes2 - in_bytes);
        println!(
            "forged flood, {what}: {} SYNs in {:.1} s, {} answered; {sent} bytes sent, {back} bytes back; \
             {} ns per SYN in the program (with the kernel's time keeping)",
            out_packets2 - out_packets,
            took.as_secs_f64(),
            in_packets2 - in_packets,
            (time2 - time) / (count2 - count).max(1),
        );
        ensure!(back <= sent + NEIGHBOURS, "the flood was amplified");
        scene.end()?;
    }
    Ok(())
}

fn send(count: u32) -> Result<Duration> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
    let to = SocketAddr::new(IpAddr::V4(MX.v4), 0).into();
    let begun = Instant::now();
    for n in 0..count {
        let source = Ipv4Addr::new(203, 0, 113, 1 + (n % 254) as u8);
        match socket.send_to(&syn(source, 1024 + (n / 254 % 60_000) as u16), &to) {
            Ok(_) => {}
            // The queue is full, as it is meant to be.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error).context("a raw socket"),
        }
    }
    Ok(begun.elapsed())
}

/// IPv4 and TCP; the kernel fills in the header's checksum, nobody looks at the segment's.
fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(source.octets());
    packet.extend(MX.v4.octets());
    packet.extend(port.to_be_bytes());
    packet.extend(25_u16.to_be_bytes());
    packet.extend([0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}
