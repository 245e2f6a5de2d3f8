//! Network namespaces joined by a bridge, without a name anywhere in the system.
//!
//! Each namespace is held by a thread of ours and by what was started from it. When the process ends, however it ends,
//! the children are killed by the kernel, and with the last of them namespace, interfaces and pins are gone.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Finished, Running, process};

type Job = Box<dyn FnOnce() + Send>;

/// One namespace: network and mounts of its own, with its own `/sys/fs/bpf`.
#[derive(Debug)]
pub struct Namespace {
    label: String,
    handle: File,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// A new namespace with loopback up; `resolver` becomes its only name server.
    ///
    /// # Errors
    /// When we are not root or the kernel refuses.
    pub fn new(label: &str, resolver: Option<IpAddr>) -> Result<Namespace> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, readiness) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("netns {label}")).spawn(move || {
            let _ = ready.send(enter(resolver));
            while let Ok(job) = work.recv() {
                job();
            }
        })?;
        let handle = readiness
            .recv()
            .map_err(|_| anyhow!("the thread of namespace {label} died"))?
            .with_context(|| format!("namespace {label}"))?;
        let namespace = Namespace { label: label.to_owned(), handle, jobs: Some(jobs), thread: Some(thread) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its label, for messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A path that `ip link … netns PATH` understands, as long as this value lives.
    fn path(&self) -> PathBuf {
        Path::new("/proc")
            .join(std::process::id().to_string())
            .join("fd")
            .join(self.handle.as_raw_fd().to_string())
    }

    /// Lays a cable to another namespace; both ends are still down.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn cable(&self, to: &Namespace, here: &str, there: &str) -> Result<()> {
        let path = to.path();
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", path.display())).map(drop)
    }

    /// Runs `job` inside; sockets it makes stay inside, wherever they are used.
    ///
    /// # Errors
    /// Those of `job`; also when it panics.
    pub fn within<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (give, take) = mpsc::channel();
        let job: Job = Box::new(move || {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = give.send(done.unwrap_or_else(|_| Err(anyhow!("panicked"))));
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| anyhow!("namespace {} is closed", self.label))?;
        jobs.send(job).map_err(|_| anyhow!("the thread of namespace {} died", self.label))?;
        take.recv().map_err(|_| anyhow!("the thread of namespace {} died", self.label))?
    }

    /// Runs a program to its end inside.
    ///
    /// # Errors
    /// When it cannot be started or does not end within `limit`.
    pub fn run(&self, command: Command, limit: Duration) -> Result<Finished> {
        self.within(move || process::run(command, limit)).with_context(|| format!("in {}", self.label))
    }

    /// Starts a program inside; it ends at the latest with this namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: Command, log: &Path) -> Result<Running> {
        let log = log.to_path_buf();
        self.within(move || process::start(&command, &log)).with_context(|| format!("in {}", self.label))
    }

    /// `ip` with these words, inside.
    ///
    /// # Errors
    /// When `ip` is missing or refuses.
    pub fn ip(&self, words: &str) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(words.split_whitespace());
        self.run(command, Duration::from_secs(30))?.success().with_context(|| format!("ip {words}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None; // ends the loop, thereby the thread, thereby what it started
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into new namespaces; a handle of the network's.
fn enter(resolver: Option<IpAddr>) -> Result<File> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("unshare (needs root)")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).context("private mounts")?;
    // Pins made inside live and die with this mount. A kernel without BPF has no such folder, and needs none.
    if Path::new("/sys/fs/bpf").is_dir() {
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)
            .context("bpf file system")?;
    }
    if let Some(resolver) = resolver {
        let file = tempfile::NamedTempFile::new()?;
        // Everybody reads resolv.conf, also a peer that gave up root.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        std::fs::write(file.path(), format!("nameserver {resolver}\noptions timeout:2 attempts:1\n"))?;
        let target = std::fs::canonicalize("/etc/resolv.conf").context("/etc/resolv.conf")?;
        // The mount keeps the file alive after its name is gone.
        mount(Some(file.path()), &target, NOTHING, MsFlags::MS_BIND, NOTHING).context("resolv.conf")?;
    }
    File::open("/proc/thread-self/ns/net").context("handle of the namespace")
}

/// Where a namespace is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its label, also the name of the bridge's end of its cable.
    pub label: &'static str,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// Namespaces on one bridge; every address reaches every other directly, whatever its prefix.
#[derive(Debug)]
pub struct Network {
    hub: Namespace,
    nodes: Vec<(Node, Namespace)>,
}

impl Network {
    /// Lays the cables. `hub` is the bridge's own node; its address is the name server of all.
    ///
    /// # Errors
    /// When we are not root, or `ip` refuses.
    pub fn new(hub: Node, nodes: &[Node]) -> Result<Network> {
        let resolver = Some(IpAddr::V4(hub.v4));
        let centre = Namespace::new(hub.label, None)?;
        centre.ip("link add name eth0 type bridge mcast_snooping 0")?;
        address(&centre, hub)?;
        let mut network = Network { hub: centre, nodes: Vec::new() };
        for node in nodes {
            let namespace = Namespace::new(node.label, resolver)?;
            let path = namespace.path();
            network.hub.ip(&format!(
                "link add name {} type veth peer name eth0 netns {}",
                node.label,
                path.display()
            ))?;
            network.hub.ip(&format!("link set dev {} master eth0 up", node.label))?;
            address(&namespace, *node)?;
            network.nodes.push((*node, namespace));
        }
        Ok(network)
    }

    /// The bridge's namespace.
    #[must_use]
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    /// The namespace with this label.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, label: &str) -> Result<&Namespace> {
        let found = self.nodes.iter().find(|(node, _)| node.label == label);
        found.map(|(_, namespace)| namespace).ok_or_else(|| anyhow!("no node {label}"))
    }
}

/// Gives `eth0` its addresses and makes everything else its neighbour.
fn address(namespace: &Namespace, node: Node) -> Result<()> {
    namespace.ip(&format!("address add {}/24 dev eth0", node.v4))?;
    namespace.ip(&format!("address add {}/64 dev eth0 nodad", node.v6))?;
    namespace.ip("link set eth0 up")?;
    namespace.ip("route add default dev eth0")?;
    namespace.ip("-6 route add default dev eth0")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn node(label: &'static str, last: u8) -> Node {
        let third = u16::from(last);
        Node {
            label,
            v4: Ipv4Addr::new(198, 18, last, last),
            v6: Ipv6Addr::new(0x2001, 0xdb8, third, 0, 0, 0, 0, 1),
        }
    }

    #[test]
    fn two_namespaces_talk_over_the_bridge_by_both_families() {
        if !crate::is_root() {
            return crate::skip("namespaces need root");
        }
        let (a, b) = (node("a", 10), node("b", 20));
        let network = Network::new(node("hub", 53), &[a, b]).unwrap();
        for address in [IpAddr::V4(a.v4), IpAddr::V6(a.v6)] {
            let listener =
                network.node("a").unwrap().within(move || Ok(TcpListener::bind((address, 25))?)).unwrap();
            let mut there = network
                .node("b")
                .unwrap()
                .within(move || {
                    Ok(TcpStream::connect_timeout(&(address, 25).into(), Duration::from_secs(5))?)
                })
                .unwrap();
            let (mut here, peer) = listener.accept().unwrap();
            assert!(peer.ip() == IpAddr::V4(b.v4) || peer.ip() == IpAddr::V6(b.v6), "{peer}");
            there.write_all(b"x").unwrap();
            drop(there);
            let mut text = String::new();
            here.read_to_string(&mut text).unwrap();
            assert_eq!(text, "x");
        }
    }

    #[test]
    fn a_child_ends_with_its_namespace() {
        if !crate::is_root() {
            return crate::skip("namespaces need root");
        }
        let namespace = Namespace::new("short", None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut child = namespace.start(command, &folder.path().join("log")).unwrap();
        assert!(child.ended().is_none());
        drop(namespace);
        crate::until("the child to be killed", Duration::from_secs(30), || child.ended()).unwrap();
    }
}
