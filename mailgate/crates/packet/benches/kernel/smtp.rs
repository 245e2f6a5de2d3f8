//! Clients and the server of the flood test: transactions over connections of their own, and how long replies take.

use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::generator::run_time;
use crate::place::Place;

/// Replies that take longer are failures.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a message is: 4 KiB of lines.
const LINE: &str = "The quick brown fox jumps over the lazy dog, and the dog says nothing.\r\n";
const LINES: usize = 57;

/// Postfix's test server in a namespace, gone with this value.
pub(crate) struct Server(Child);

impl Server {
    /// Listens there.
    pub(crate) fn start(place: &Place, at: SocketAddrV4) -> Result<Self> {
        // Ends with us, however we end; that needs nobody's rights from the beginning, which may not have port 25.
        place.within(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?))?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL"]);
        command.args(["smtp-sink", "-4", &format!("inet:{at}"), "4096"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = place.within(|| Ok(command.spawn().map_err(|error| format!("setpriv: {error}"))?))?;
        let mut server = Self(spawned);
        let begun = Instant::now();
        while place.within(|| Ok(TcpStream::connect(at)?)).is_err() {
            if server.0.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err("smtp-sink (package postfix) does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Processor time that it has used.
    pub(crate) fn time(&self) -> Duration {
        run_time(Some(self.0.id()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the clients saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) transactions: u64,
    /// Transactions that broke off.
    pub(crate) failed: u64,
    /// How long each reply took, the connection's included.
    replies: Vec<Duration>,
}

impl Seen {
    pub(crate) fn add(&mut self, mut other: Self) {
        self.transactions += other.transactions;
        self.failed += other.failed;
        self.replies.append(&mut other.replies);
    }

    /// In how many milliseconds 99 of 100 replies came.
    pub(crate) fn p99(&mut self) -> f64 {
        self.replies.sort_unstable();
        let at = self.replies.len() * 99 / 100;
        self.replies.get(at).map_or(f64::NAN, |reply| reply.as_secs_f64() * 1000.0)
    }
}

/// One client: a transaction per connection, one after the other, until `done`.
pub(crate) fn client(from: Ipv4Addr, to: SocketAddrV4, done: &AtomicBool) -> Seen {
    let message = format!("Subject: measure\r\n\r\n{}.\r\n", LINE.repeat(LINES));
    let mut seen = Seen::default();
    while !done.load(Ordering::Relaxed) {
        match transaction(from, to, &message, &mut seen.replies) {
            Ok(()) => seen.transactions += 1,
            Err(_) => seen.failed += 1,
        }
    }
    seen
}

fn transaction(
    from: Ipv4Addr,
    to: SocketAddrV4,
    message: &str,
    replies: &mut Vec<Duration>,
) -> std::io::Result<()> {
    let begun = Instant::now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&SocketAddr::V4(to).into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    reply(&mut lines, begun, replies)?;
    let commands = [
        "HELO bench.example\r\n",
        "MAIL FROM:<a@bench.example>\r\n",
        "RCPT TO:<b@bench.example>\r\n",
        "DATA\r\n",
    ];
    for text in commands.into_iter().chain([message, "QUIT\r\n"]) {
        let begun = Instant::now();
        (&stream).write_all(text.as_bytes())?;
        reply(&mut lines, begun, replies)?;
    }
    Ok(())
}

/// Reads a reply of one line; it must be 2xx or 3xx.
fn reply(
    lines: &mut impl std::io::BufRead,
    begun: Instant,
    replies: &mut Vec<Duration>,
) -> std::io::Result<()> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    replies.push(begun.elapsed());
    if line.starts_with(['2', '3']) { Ok(()) } else { Err(std::io::Error::other(line)) }
}
