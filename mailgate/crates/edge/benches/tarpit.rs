//! What a held connection costs: our memory, the kernel's, and time on a processor.
//!
//! `cargo bench -p mailgate-edge --bench tarpit -- 5000` holds 5000 clients for ten seconds at one byte a second. The
//! clients are another process, so that their memory is not counted. Needs one open file per client.

#![expect(clippy::expect_used, reason = "a bench stops when something is missing")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailgate_edge::{Config, Edge, Handoff, Handover, Parts};
use mailgate_lists::{Action, Change, TableName};
use mailgate_model::{Client, Domain, IdGenerator};
use mailgate_net::SystemClock;
use mailgate_packet::{Applied, PacketFilter, Verdict};
use mailgate_store::Greylist;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long the clients are held.
const HELD: Duration = Duration::from_secs(10);
/// Clients of one source address; below the number of ephemeral ports.
const PER_SOURCE: usize = 20_000;

/// Everybody is listed.
struct Everybody;

impl PacketFilter for Everybody {
    fn apply(&self, _: Vec<Change>) -> Result<Applied, mailgate_packet::Error> {
        Ok(Applied::default())
    }

    fn verdict(&self, _: IpAddr) -> Verdict {
        Verdict {
            action: Some(Action::Tarpit),
            tables: TableName::parse("feed").into_iter().collect(),
            ..Verdict::default()
        }
    }

    fn set_listeners(
        &self,
        _: mailgate_packet::Listeners,
        _: mailgate_packet::Listeners,
    ) -> Result<(), mailgate_packet::Error> {
        Ok(())
    }

    fn status(&self) -> mailgate_packet::Status {
        mailgate_packet::open(&mailgate_packet::Config::default(), Arc::new(SystemClock))
            .expect("no instance in use")
            .status()
    }

    fn detach(&self) -> Result<(), mailgate_packet::Error> {
        Ok(())
    }
}

struct Nobody;

impl Handoff for Nobody {
    fn hand_over(&self, _: Handover) {}
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, address, count] = arguments.as_slice()
        && word == "clients"
    {
        return clients(address.parse().expect("an address"), count.parse().expect("a number"));
    }
    let count = arguments.iter().find_map(|word| word.parse().ok()).unwrap_or(5000);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(measure(count));
}

async fn measure(count: usize) {
    let clock = Arc::new(SystemClock);
    let mut config = Config { local: Vec::new(), ..Config::default() };
    config.tarpit.capacity = count;
    config.tarpit.per_network = count;
    let edge = Edge::new(Parts {
        config,
        hostname: Domain::parse("mx.example.org").expect("a domain"),
        content_limit: 10_000_000,
        inquiry: None,
        feeds: Vec::new(),
        greylist: Greylist::memory(clock.clone()).await.expect("a greylist"),
        filter: Arc::new(Everybody),
        handoff: Arc::new(Nobody),
        tls: None,
        recipients: None,
        texts: None,
        clock,
        shutdown: CancellationToken::new(),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let ids = IdGenerator::new(1);
    let (memory, kernel) = (resident(), socket_memory());

    let mut others = Command::new(std::env::current_exe().expect("our own path"))
        .args(["clients", &address.to_string(), &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a second process");
    let begun = Instant::now();
    for _ in 0..count {
        let (tcp, peer) = listener.accept().await.expect("a connection");
        let session = ids.session_id(mailgate_model::Timestamp::from_secs(1));
        edge.serve(tcp, Client::new(peer, address), session).await;
    }
    wait_until(|| edge.statistics().held_now == count).await;
    let accepted = begun.elapsed();
    let (time, bytes) = (processor_time(), edge.statistics().stuttered);
    tokio::time::sleep(HELD).await;
    let (time, bytes) = (processor_time() - time, edge.statistics().stuttered - bytes);
    let (memory, kernel) = (resident() - memory, socket_memory() - kernel);

    let per = |total: i64| total / i64::try_from(count).unwrap_or(1);
    let share = 100.0 * time.as_secs_f64() / HELD.as_secs_f64();
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "held {count} connections, taken in {accepted:.1?}\n\
         our memory      {:>6} bytes each, {} KiB in all\n\
         socket memory   {:>6} bytes each, both ends (kernel, /proc/net/sockstat)\n\
         processor       {share:>6.1} % of one core for {} bytes a second",
        per(memory),
        memory / 1024,
        per(kernel),
        bytes / HELD.as_secs()
    );
    drop(others.stdin.take());
    let _ = others.wait();
}

/// The other process: connects, says so, and waits for the end of its input.
fn clients(server: SocketAddr, count: usize) {
    raise_file_limit();
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let source =
            std::net::Ipv4Addr::new(127, 0, 1, u8::try_from(number / PER_SOURCE + 1).expect("few sources"));
        socket.bind(&SocketAddr::new(source.into(), 0).into()).expect("a source address");
        socket.connect(&server.into()).expect("a connection");
        held.push(socket);
    }
    let _ = BufReader::new(std::io::stdin()).lines().next();
}

async fn wait_until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the tarpit did not take everybody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As many open files as we may have; root may have more than the limit it was given.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = 250_000;
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Bytes of this process in memory.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap_or(0) * 1024
}

/// Bytes that the kernel holds for TCP buffers.
fn socket_memory() -> i64 {
    let stat = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = stat.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages = line.split_ascii_whitespace().last().and_then(|pages| pages.parse::<i64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Time this process has used so far.
fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
    let part = |time: nix::sys::time::TimeVal| {
        Duration::new(
            u64::try_from(time.tv_sec()).unwrap_or(0),
            u32::try_from(time.tv_usec() * 1000).unwrap_or(0),
        )
    };
    part(usage.user_time()) + part(usage.system_time())
}
