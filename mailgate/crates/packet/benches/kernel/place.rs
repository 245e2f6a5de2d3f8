//! Namespaces that end with this process, each at the end of a veth pair of its own.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Result;

/// The device inside every place.
pub(crate) const INSIDE: &str = "w1";
/// The second one, where there is one.
pub(crate) const SECOND: &str = "w2";
/// Its hardware address.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The namespaces of this process: a network and a mount namespace with a bpf file system.
pub(crate) struct Home(File);

impl Home {
    /// Moves this process there; before it has threads.
    pub(crate) fn enter() -> Result<Self> {
        const NOTHING: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)?;
        Ok(Self(current()?))
    }
}

/// A network namespace whose only device is the other end of a veth pair at home.
pub(crate) struct Place {
    home: File,
    there: File,
    /// Index of the end at home.
    pub(crate) interface: u32,
}

impl Place {
    /// `outside` names the end at home.
    pub(crate) fn new(home: &Home, outside: &str) -> Result<Self> {
        let home = home.0.try_clone()?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let there = current();
        setns(&home, CloneFlags::CLONE_NEWNET)?;
        let there = there?;
        let mut place = Self { home, there, interface: 0 };
        place.interface = place.cable(outside, INSIDE)?;
        Ok(place)
    }

    /// Lays a veth pair; the index of its end at home.
    pub(crate) fn cable(&self, outside: &str, inside: &str) -> Result<u32> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.there.as_raw_fd());
        ip(&format!("link add {outside} type veth peer name {inside} netns {path}"))?;
        // Nothing but our frames: no address, hence no neighbour discovery.
        ip(&format!("link set {outside} addrgenmode none up"))?;
        let [a, b, c, d, e, f] = MAC;
        self.within(|| {
            ip(&format!("link set {inside} address {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x} addrgenmode none"))?;
            ip(&format!("link set {inside} up"))
        })?;
        Ok(nix::net::if_::if_nametoindex(outside)?)
    }

    /// Does something there with the calling thread.
    pub(crate) fn within<T>(&self, job: impl FnOnce() -> Result<T>) -> Result<T> {
        setns(&self.there, CloneFlags::CLONE_NEWNET)?;
        let done = job();
        setns(&self.home, CloneFlags::CLONE_NEWNET)?;
        done
    }

    /// Packets that the device inside has taken in, whatever was done with them then.
    pub(crate) fn received(&self) -> Result<u64> {
        let text = self.within(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(INSIDE)?.strip_prefix(':'));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)).ok_or("no such device")?;
        Ok(packets.parse()?)
    }
}

fn current() -> Result<File> {
    Ok(File::open("/proc/thread-self/ns/net")?)
}

/// `ip` with these words.
pub(crate) fn ip(words: &str) -> Result<()> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>()).map(drop)
}

/// Runs a program to its end; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let done =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&done.stderr);
        Err(format!("`{program} {}`: {}", arguments.join(" "), said.trim()).into())
    }
}
