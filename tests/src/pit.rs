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
use nix::sys::resource::{Resource, setrlimit};

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
/// Open files of each process, beside one for each client.
const SPARE_FILES: u64 = 20_000;

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
    let files = count.max(postscreen) as u64 + SPARE_FILES;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)
        .with_context(|| format!("{files} open files: see fs.nr_open, and CAP_SYS_RESOURCE"))?;
    ours(count)?;
    match find("postfix") {
        Some(_) => theirs(postscreen),
        None => {
            println!("postscreen: Postfix is not installed, so there is nothing beside it");
            Ok(())
        }
    }
}

/// The tarpit of the daemon.
fn ours(count: usize) -> Result<()> {
    let network = Network::new(HUB, &[MX, EVIL])?;
    let folder = tempfile::tempdir()?;
    let text = format!(
        r#"hostname = "mx.example.org"

[smtp.mx]
listen = ["{}:25", "[{}]:25"]

[smtp.msa]
listen = []
submissions = []

[access.imap]
listen = []
listen_tls = []

[edge.tarpit]
capacity = {count}
per_network = {count}

[[lists.table]]
name = "block"
action = "tarpit"
entries = ["198.18.3.0/24", "2001:db8:3::/48"]
"#,
        MX.v4, MX.v6
    );
    let daemon = Daemon::start(folder.path(), &text, Some(network.node(MX.label)?))?;
    let process = daemon.process().context("the daemon runs")?;
    let before = Use::of(&[process])?;
    let kernel = Kernel::now()?;
    let crowd = Crowd::gather(&network, folder.path(), count)?;
    let held = || daemon.json(&["status"]).ok().and_then(|status| status.pointer("/edge/held_now")?.as_u64());
    let all = count as u64;
    until("everybody to be held", CONNECT, || (held() == Some(all)).then_some(()))
        .with_context(|| format!("{:?} of {count} are held", held()))?;
    let after = Use::of(&[process])?;
    let used = Kernel::now()?.since(&kernel);
    println!("mailgate: {all} held after {:.1} s, half of them IPv6", crowd.took.as_secs_f64());
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
    let sent = || daemon.json(&["status"]).ok()?.pointer("/edge/stuttered")?.as_u64();
    let (bytes, watched) = (sent().context("no count")?, Instant::now());
    let begun = Use::of(&[process])?;
    let delay = until("nothing but time", HOLD, || None::<()>);
    drop(delay); // It is the time that was wanted, not a condition.
    let ended = Use::of(&[process])?;
    let seconds = watched.elapsed().as_secs_f64();
    println!(
        "  processor       {:>6.1} % of one core ({:.1} % in the kernel) for {:.0} bytes a second",
        100.0 * ended.time_since(&begun).as_secs_f64() / seconds,
        100.0 * ended.system_since(&begun).as_secs_f64() / seconds,
        (sent().context("no count")? - bytes) as f64 / seconds
    );
    let delay = grey(&network)?;
    println!("  an unknown client was judged within {:.1} ms beside them", delay.as_secs_f64() * 1e3);
    println!("  at the clients: {}", crowd.said());
    ensure!(held() == Some(all), "some were lost: {:?} of {all} are held", held());
    Ok(())
}

/// How long an unknown client waits from connecting until its recipient is deferred.
fn grey(network: &Network) -> Result<Duration> {
    network.hub().within(|| {
        let begun = Instant::now();
        let mut client = SmtpClient::connect((MX.v4, 25).into())?;
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
    let crowd = Crowd::gather_at(&network, folder.path(), count, 26)?;
    let processes = sizes::named("postscreen")?;
    ensure!(!processes.is_empty(), "postscreen did not start: {}", postfix.log());
    let (begun, watched) = (Use::of(&processes)?, Instant::now());
    let delay = until("nothing but time", HOLD, || None::<()>);
    drop(delay); // As above.
    let ended = Use::of(&processes)?;
    let seconds = watched.elapsed().as_secs_f64();
    let open = crowd.open();
    println!("postscreen: {open} of {count} still held {:.0} s later", seconds);
    println!(
        "  its memory      {:>6} bytes each ({:.1} MiB)",
        ended.memory / open.max(1),
        ended.mebibytes()
    );
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
struct Crowd {
    processes: Vec<Running>,
    took: Duration,
}

impl Crowd {
    fn gather(network: &Network, folder: &Path, count: usize) -> Result<Self> {
        Self::gather_at(network, folder, count, 25)
    }

    /// Starts processes of clients, half of them IPv4, and returns when each has connected all of its own.
    fn gather_at(network: &Network, folder: &Path, count: usize, port: u16) -> Result<Self> {
        let evil = network.node(EVIL.label)?;
        let begun = Instant::now();
        let each = count.div_ceil(count.div_ceil(PER_PROCESS).next_multiple_of(2)).max(1);
        let mut processes = Vec::new();
        for (n, from) in (0..count).step_by(each).enumerate() {
            let (to, source): (SocketAddr, IpAddr) = if n % 2 == 0 {
                ((MX.v4, port).into(), Ipv4Addr::new(198, 18, 3, u8::try_from(n + 10)?).into())
            } else {
                let host = u16::try_from(n + 10)?;
                ((MX.v6, port).into(), Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, host).into())
            };
            let mut process = start(evil, folder, to, source, each.min(count - from))?;
            until("clients to connect", CONNECT, || {
                (process.log().contains("connected") || process.ended().is_some()).then_some(())
            })?;
            ensure!(process.log().contains("connected"), "clients ended: {}", process.log().trim());
            processes.push(process);
        }
        Ok(Self { processes, took: begun.elapsed() })
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
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["clients", &to.to_string(), &count.to_string(), &source.to_string()]);
    evil.start(command, &folder.join(format!("clients-{source}")))
}
