//! The measurement of the tarpit: the daemon in one namespace, a host full of listed clients in another, and postscreen of
//! Postfix in the daemon's place in the same run.
#![expect(clippy::print_stdout, reason = "it reports")]

mod clients;
mod sizes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use self::clients::run as clients;
use self::sizes::{Kernel, Use};
use crate::{Daemon, Namespace, Network, Node, Postfix, Running, SmtpClient, find, until};

const HUB: Node = node("hub", 53);
/// The server's host.
const MX: Node = node("mx", 1);
/// The host of the listed clients.
const EVIL: Node = node("evil", 3);
/// Clients of one process and one address: below the number of ephemeral ports.
const PER_PROCESS: usize = 14_000;
/// How long the clients are held while processor time is taken.
const HOLD: Duration = Duration::from_secs(60);
/// How long they may take to connect, all together.
const CONNECT: Duration = Duration::from_secs(400);
/// Open files of a process beside one for each client: what the edge keeps free, and its own.
const SPARE_FILES: usize = 2_500;
/// Turns a second of all daemons together: the default of one.
const PACE: usize = 4_000;

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

/// Holds so many clients, first in our tarpit, then in postscreen; prints what each cost.
///
/// # Errors
/// When a step fails, or a claim does not hold.
pub fn measure(count: usize, postscreen: usize) -> Result<()> {
    ensure!(crate::is_root(), "network namespaces need root");
    println!("load before: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let files = usize::try_from(file_limit(count.max(postscreen) + SPARE_FILES)?)?;
    let room = files.saturating_sub(SPARE_FILES).max(1);
    ours(count, room)?;
    match find("postfix") {
        Some(_) => theirs(postscreen.min(room)),
        None => {
            println!("postscreen: Postfix is not installed, so there is nothing beside it");
            Ok(())
        }
    }
}

/// Allows this process and its children so many open files, or as many as they may have.
fn file_limit(wanted: usize) -> Result<u64> {
    let wanted = wanted as u64;
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most.min(wanted))
}

/// The address of the daemon with this number.
fn daemon_at(number: usize) -> Result<(Ipv4Addr, Ipv6Addr)> {
    let last = u8::try_from(number + 10)?;
    Ok((Ipv4Addr::new(198, 18, 1, last), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last.into())))
}

fn configuration(v4: Ipv4Addr, v6: Ipv6Addr, count: usize, pace: usize) -> String {
    format!(
        r#"hostname = "mx.example.org"

[smtp.mx]
listen = ["{v4}:25", "[{v6}]:25"]

[smtp.msa]
listen = []
submissions = []

[access.imap]
listen = []
listen_tls = []

[edge.limits]
sessions = 500

# Whoever is unknown is deferred, whatever is known of its name: no name server answers here.
[edge]
mode = "classic"

[edge.tarpit]
capacity = {count}
per_network = {count}
pace = {pace}

[[lists.table]]
name = "block"
action = "tarpit"
entries = ["198.18.3.0/24", "2001:db8:3::/48"]
"#
    )
}

/// Daemons with their folders, processes and figures.
struct Daemons<'n> {
    daemons: Vec<(Daemon<'n>, tempfile::TempDir)>,
    processes: Vec<u32>,
}

impl<'n> Daemons<'n> {
    fn start(network: &'n Network, number: usize, each: usize) -> Result<Self> {
        let mx = network.node(MX.label)?;
        let (mut daemons, mut processes) = (Vec::new(), Vec::new());
        for n in 0..number {
            let (v4, v6) = daemon_at(n)?;
            mx.ip(&format!("address add {v4}/24 dev eth0"))?;
            mx.ip(&format!("address add {v6}/64 dev eth0 nodad"))?;
            let folder = tempfile::tempdir()?;
            let text = configuration(v4, v6, each, (PACE / number).max(100));
            let daemon = Daemon::start(folder.path(), &text, Some(mx))?;
            processes.push(daemon.process().context("the daemon runs")?);
            daemons.push((daemon, folder));
        }
        Ok(Self { daemons, processes })
    }

    /// A figure of the edge, of all together.
    fn figure(&self, name: &str) -> Option<u64> {
        let figure =
            |daemon: &Daemon<'_>| daemon.json(&["status"]).ok()?.pointer(&format!("/edge/{name}"))?.as_u64();
        self.daemons.iter().map(|(daemon, _)| figure(daemon)).sum()
    }

    fn uses(&self) -> Result<Use> {
        Use::of(&self.processes)
    }
}

/// The tarpit of the daemon; of several where one process may not have enough open files.
fn ours(count: usize, room: usize) -> Result<()> {
    let network = Network::new(HUB, &[MX, EVIL])?;
    let number = count.div_ceil(room);
    let each = count.div_ceil(number);
    let daemons = Daemons::start(&network, number, each)?;
    let (before, kernel) = (daemons.uses()?, Kernel::now()?);
    let folder = tempfile::tempdir()?;
    let mut crowd = Crowd::default();
    for n in 0..number {
        let (v4, v6) = daemon_at(n)?;
        let here = each.min(count - n * each);
        crowd.gather(&network, folder.path(), [(v4, 25).into(), (v6, 25).into()], here)?;
    }
    let all = count as u64;
    until("everybody to be held", CONNECT, || (daemons.figure("held_now") == Some(all)).then_some(()))
        .with_context(|| format!("{:?} of {count} are held", daemons.figure("held_now")))?;
    let (after, used) = (daemons.uses()?, Kernel::now()?.since(&kernel));
    println!(
        "mailgate: {all} held after {:.1} s, half of them IPv6, in {number} process(es) because one may have {} open files",
        crowd.took.as_secs_f64(),
        getrlimit(Resource::RLIMIT_NOFILE)?.0,
    );
    println!(
        "  our memory      {:>6} bytes each ({:.1} MiB before, {:.1} MiB now)",
        after.memory.saturating_sub(before.memory) / all,
        before.mebibytes(),
        after.mebibytes()
    );
    println!(
        "  kernel          {:>6} bytes each of socket buffers, {} bytes each of slabs; both ends, whole machine",
        used.buffers / all,
        used.slabs / all
    );
    let (bytes, begun, watched) = (daemons.figure("stuttered").unwrap_or(0), daemons.uses()?, Instant::now());
    pass(HOLD);
    let (ended, seconds) = (daemons.uses()?, watched.elapsed().as_secs_f64());
    let bytes = daemons.figure("stuttered").unwrap_or(0) - bytes;
    println!(
        "  processor       {:>6.1} % of one core ({:.1} % in the kernel) for {:.0} bytes a second",
        100.0 * ended.time_since(&begun).as_secs_f64() / seconds,
        100.0 * ended.system_since(&begun).as_secs_f64() / seconds,
        bytes as f64 / seconds
    );
    let delay = grey(&network)?;
    println!("  an unknown client was judged within {:.1} ms beside them", delay.as_secs_f64() * 1e3);
    println!("  at the clients: {}", crowd.said());
    let held = daemons.figure("held_now");
    ensure!(held == Some(all), "some were lost: {held:?} of {all} are held");
    Ok(())
}

/// It is the time that is wanted here, not a condition.
fn pass(time: Duration) {
    let _ = until("nothing but time", time, || None::<()>);
}

/// How long an unknown client waits from connecting until its recipient is deferred.
fn grey(network: &Network) -> Result<Duration> {
    let (v4, _) = daemon_at(0)?;
    network.hub().within(move || {
        let begun = Instant::now();
        let mut client = SmtpClient::connect((v4, 25).into())?;
        client.greet("client.example")?;
        client.command("MAIL FROM:<a@example.net>")?;
        let reply = client.command("RCPT TO:<b@example.org>")?;
        ensure!(reply.code == 451, "an unknown client was not deferred: {reply}");
        Ok(begun.elapsed())
    })
}

/// postscreen, which holds clients until it has judged them.
fn theirs(count: usize) -> Result<()> {
    let network = Network::new(HUB, &[MX, EVIL])?;
    let folder = tempfile::Builder::new().permissions(permissions()).tempdir()?;
    let main = format!(
        "postscreen_access_list =\npostscreen_pre_queue_limit = {count}\npostscreen_post_queue_limit = {count}\n\
         postscreen_client_connection_count_limit = 0\npostscreen_greet_action = enforce\n\
         postscreen_greet_wait = 6s\npostscreen_pipelining_enable = yes\npostscreen_command_time_limit = 300s\n\
         postscreen_cache_map = btree:$data_directory/postscreen_cache\n"
    );
    let master = "26 inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\n\
                  tlsproxy unix - - n - 0 tlsproxy\n";
    let mx = network.node(MX.label)?;
    let postfix = Postfix::start_with(mx, folder.path(), "mx.example.org", "example.org", &main, master)?;
    let mut crowd = Crowd::default();
    crowd.gather(&network, folder.path(), [(MX.v4, 26).into(), (MX.v6, 26).into()], count)?;
    let processes = sizes::named("postscreen")?;
    ensure!(!processes.is_empty(), "postscreen did not start: {}", postfix.log());
    let (begun, watched) = (Use::of(&processes)?, Instant::now());
    pass(HOLD);
    let ended = Use::of(&processes)?;
    let seconds = watched.elapsed().as_secs_f64();
    let open = crowd.open();
    println!("postscreen: {open} of {count} still held {:.0} s later", seconds);
    println!("  its memory      {:>6} bytes each ({:.1} MiB)", ended.memory / open.max(1), ended.mebibytes());
    println!(
        "  processor       {:>6.1} % of one core",
        100.0 * ended.time_since(&begun).as_secs_f64() / seconds
    );
    println!("  at the clients: {}", crowd.said());
    Ok(())
}

/// Postfix's own users must come through.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o755)
}

/// Processes full of clients; they end with this value.
#[derive(Default)]
struct Crowd {
    processes: Vec<Running>,
    took: Duration,
}

impl Crowd {
    /// Starts processes of clients, half of them for each address, and returns when all have connected.
    fn gather(&mut self, network: &Network, folder: &Path, to: [SocketAddr; 2], count: usize) -> Result<()> {
        let evil = network.node(EVIL.label)?;
        let begun = Instant::now();
        let each = count.div_ceil(count.div_ceil(PER_PROCESS).next_multiple_of(2)).max(1);
        for (n, from) in (0..count).step_by(each).enumerate() {
            let host = u8::try_from(self.processes.len() + 10)?;
            let to = if n % 2 == 0 { to[0] } else { to[1] };
            let source: IpAddr = if to.is_ipv4() {
                Ipv4Addr::new(198, 18, 3, host).into()
            } else {
                Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, host.into()).into()
            };
            let mut process = start(evil, folder, to, source, each.min(count - from))?;
            until("clients to connect", CONNECT, || {
                (process.log().contains("connected") || process.ended().is_some()).then_some(())
            })?;
            ensure!(process.log().contains("connected"), "clients ended: {}", process.log().trim());
            self.processes.push(process);
        }
        self.took += begun.elapsed();
        Ok(())
    }

    /// Connections that are still open, as the clients saw it last.
    fn open(&self) -> u64 {
        self.last().map(|(open, _)| open).sum()
    }

    fn said(&self) -> String {
        let (open, bytes) = self.last().fold((0, 0), |(a, b), (open, bytes)| (a + open, b + bytes));
        format!("{open} connections open, {bytes} bytes heard")
    }

    /// What each process said last: `open N heard N`.
    fn last(&self) -> impl Iterator<Item = (u64, u64)> {
        self.processes.iter().filter_map(|process| {
            let log = process.log();
            let line = log.lines().rfind(|line| line.starts_with("open "))?;
            let mut words = line.split_whitespace();
            Some((words.nth(1)?.parse().ok()?, words.nth(1)?.parse().ok()?))
        })
    }
}

fn start(evil: &Namespace, folder: &Path, to: SocketAddr, source: IpAddr, count: usize) -> Result<Running> {
    let family = if source.is_ipv4() { "24" } else { "64 nodad" };
    evil.ip(&format!("address add {source}/{family} dev eth0"))?;
    let mut command = Command::new(std::env::current_exe()?.with_file_name("mailgate-crowd"));
    command.args([&to.to_string(), &count.to_string(), &source.to_string()]);
    evil.start(command, &folder.join(format!("clients-{source}")))
}
