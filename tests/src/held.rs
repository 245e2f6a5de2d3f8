//! Clients that the tarpit in the kernel holds: a host with the filter, a host full of listed clients, a bridge between.

pub mod bench;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;
use mailgate_packet::firewall::{Options, RuleSet};
use mailgate_packet::xdp::{Xdp, sys};
use mailgate_packet::{Answers, Config, Mode, PacketFilter as _};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Namespace, Network, Node};

const HUB: Node = node("hub", 53);
/// The host with the filter.
pub const MX: Node = node("mx", 1);
/// The host whose networks are listed.
pub const EVIL: Node = node("evil", 3);
/// What held clients read.
pub const BANNER: &str = "220 mx.example.org ESMTP mailgate\r\n";
/// How long a client waits for a connection or a banner.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one of very many waits for the banner before it speaks.
const AT_ONCE: Duration = Duration::from_secs(1);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

/// The hosts, and the filter of [`MX`] with its tarpit in force.
pub struct Scene {
    /// The wires.
    pub network: Network,
    /// The filter.
    pub filter: Arc<Xdp>,
    /// Keeps the far end of [`MX`]'s cable polling: see [`sys::pass_program`].
    _polling: OwnedFd,
}

impl Scene {
    /// Lays the wires and puts the filter into force: the networks of [`EVIL`] and the documentation networks are held.
    ///
    /// # Errors
    /// When we are not root, or a step fails.
    pub fn new(mode: Mode, answers: Answers) -> Result<Self> {
        let network = Network::new(HUB, &[MX, EVIL])?;
        let polling = polling(network.hub(), MX.label)?;
        let config = Config {
            interfaces: vec!["eth0".into()],
            mode,
            instance: "held".into(),
            answers: Answers { banner: BANNER.into(), ..answers },
            ..Config::default()
        };
        let filter = network.node(MX.label)?.within(move || {
            let filter = Xdp::open(&config, Arc::new(ManualClock::default()))?;
            let options = Options { kernel_tarpit: true, ..Options::default() };
            filter.set_rules(RuleSet { options, ..RuleSet::default() }, None)?;
            Ok(Arc::new(filter))
        })?;
        filter.apply(vec![listed(&["198.18.3.0/24", "203.0.113.0/24", "2001:db8:3::/48"])?])?;
        Ok(Self { network, filter, _polling: polling })
    }

    /// The host with the filter.
    ///
    /// # Errors
    /// Never: it was made with the scene.
    pub fn mx(&self) -> Result<&Namespace> {
        self.network.node(MX.label)
    }

    /// The host of the listed clients.
    ///
    /// # Errors
    /// Never: it was made with the scene.
    pub fn evil(&self) -> Result<&Namespace> {
        self.network.node(EVIL.label)
    }

    /// Takes the filter out of force.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn end(self) -> Result<()> {
        let filter = Arc::clone(&self.filter);
        self.mx()?.within(move || Ok(filter.detach()?))
    }
}

/// Makes an interface of a namespace poll, as long as the result lives: see [`sys::pass_program`].
///
/// # Errors
/// When there is no such interface, or it has a program.
pub fn polling(of: &Namespace, interface: &'static str) -> Result<OwnedFd> {
    of.within(move || {
        let program = sys::pass_program().context("a program that passes")?;
        let index = if_nametoindex(interface)?;
        sys::attach_xdp(program.as_fd(), index, sys::XDP_FLAGS_DRV_MODE).context("a program that passes")
    })
}

/// One table of the action tarpit, with these prefixes; `!` before one makes a hole.
///
/// # Errors
/// When one is none.
pub fn listed(prefixes: &[&str]) -> Result<Change> {
    let name = TableName::parse("block").map_err(|error| anyhow!("{error:?}"))?;
    let mut entries = Vec::new();
    for prefix in prefixes {
        let hole = prefix.strip_prefix('!');
        entries.push(Entry {
            prefix: hole.unwrap_or(prefix).parse()?,
            negated: hole.is_some(),
            expires: None,
        });
    }
    entries.sort_by_key(|entry| entry.prefix);
    let table = Table { name, action: Action::Tarpit, entries: Arc::new(entries.into()) };
    Ok(Change::Reload(Snapshot { tables: vec![table] }))
}

/// A connection from a given address, with its banner read.
///
/// # Errors
/// When it is not made, or no banner comes, in time.
pub fn greeted(source: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let stream = connected(source, to)?;
    banner(&stream, PATIENCE)?;
    Ok(stream)
}

fn connected(source: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE).with_context(|| format!("connecting from {source}"))?;
    Ok(TcpStream::from(socket))
}

fn banner(stream: &TcpStream, patience: Duration) -> Result<()> {
    stream.set_read_timeout(Some(patience))?;
    let mut line = String::new();
    BufReader::with_capacity(128, stream).read_line(&mut line).context("the banner")?;
    ensure!(line == BANNER, "found {line:?}, expected the banner");
    Ok(())
}

/// So many clients in turn from these addresses; each has read the banner and said EHLO. Beside them how many got the
/// banner only then: one that is lost on the way comes again with the answer to the first probe.
///
/// # Errors
/// As [`greeted`].
pub fn clients(sources: &[IpAddr], to: SocketAddr, count: usize) -> Result<(Vec<TcpStream>, usize)> {
    let (mut held, mut again) = (Vec::with_capacity(count), 0);
    for source in sources.iter().cycle().take(count) {
        let mut stream = connected(*source, to)?;
        let at_once = banner(&stream, AT_ONCE).is_ok();
        stream.write_all(b"EHLO client.example\r\n")?;
        if !at_once {
            again += 1;
            banner(&stream, PATIENCE)?;
        }
        held.push(stream);
    }
    Ok((held, again))
}

/// Connections that the stack of a namespace has established, and TCP sockets in use there.
///
/// # Errors
/// When the kernel's figures cannot be read.
pub fn connections(of: &Namespace) -> Result<(u64, u64)> {
    of.within(|| {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
        let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
        let at = names.split_whitespace().position(|name| name == "CurrEstab").context("no CurrEstab")?;
        let established = values.split_whitespace().nth(at).context("no value")?.parse()?;
        let mut in_use = 0;
        for file in ["sockstat", "sockstat6"] {
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
            let line = text.lines().find(|line| line.starts_with("TCP")).context("no TCP")?;
            in_use += line.split_whitespace().nth(2).context("no figure")?.parse::<u64>()?;
        }
        Ok((established, in_use))
    })
}

/// Allows this process as many open files as it may have.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_file_limit() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}
