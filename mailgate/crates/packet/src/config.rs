//! `[edge.packet]`.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::firewall::{RuleSet, Unknown};

/// The kernel filter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Interfaces whose packets are filtered. Default: none, then the tables act at accept. Example: `["eth0"]`.
    pub interfaces: Vec<String>,
    /// What filters: `"ebpf"` (our programs in the kernel), `"nft"` (a table of nftables), `"memory"` (at accept), or
    /// `"auto"`, the first of these that can be had. Default `"auto"`. Example: `"nft"`.
    pub backend: Backend,
    /// How the filter is attached. Default `"auto"`. Example: `"native"`.
    pub mode: Mode,
    /// Name of the folder under `pin_dir` (1 to 32 of `a-z A-Z 0-9 - _`), so that several daemons can live on one host.
    /// Default `"default"`. Example: `"lab"`.
    pub instance: String,
    /// Folder on a bpf file system for pinned maps and links; mounted there when `/sys/fs/bpf` has none. Default
    /// `"/sys/fs/bpf/mailgate"`. Example: `"/run/mailgate/bpf"`.
    pub pin_dir: PathBuf,
    /// Ports where mail is received: tables with actions reject and tarpit, and the choice of the listener, act on
    /// these. Default `[25]`, at most 8. Example: `[25, 2525]`.
    pub reception_ports: Vec<u16>,
    /// Whether connections through the loopback interface are given to the listeners too. Default `false`, so that
    /// local programs reach whoever is bound. Example: `true`.
    pub steer_loopback: bool,
    /// Sources of which packets and bytes are counted at most, the last ones; 120 bytes of kernel memory each. Default 0:
    /// no table counts. Example: `262144`.
    pub counted_sources: u32,
    /// Control group (version 2) whose sockets limits count; only those in our network namespace do. Default: the root of
    /// the hierarchy, all programs of the host. Example: `"/sys/fs/cgroup/system.slice"`.
    pub control_group: Option<PathBuf>,
    /// `[edge.packet.answers]`: what the filter answers by itself.
    pub answers: super::Answers,
    /// Bytes that the tables may take, compiled (kernel memory) and as they are kept for changes, of both families; a
    /// change of tables that needs more is refused before it begins, and the verdicts of before stay. While whole
    /// tables are exchanged, those of before take theirs besides. Default 512 MiB: three times what a million hosts
    /// of each family need, and never what a feed gone wrong would; the same on every host, so that a
    /// configuration that is accepted on one is accepted on all. Example: `134217728`.
    pub memory_limit: u64,
    /// Folder for the files that say that a table of nftables is in use; not a key, tests have their own.
    #[serde(skip, default = "run_dir")]
    pub run_dir: PathBuf,
    /// Whether the kernel acts on behaviour, because the mail server is another program; not a key of its own.
    #[serde(skip)]
    pub behaviour: Option<Unknown>,
    /// The local networks of `[edge]`, which no table keeps out; not a key of its own.
    #[serde(skip)]
    pub local: Vec<IpNet>,
}

/// What filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The first of the others that can be had.
    #[default]
    Auto,
    /// Our programs in the kernel, or the tables act at accept.
    Ebpf,
    /// A table of nftables, or the tables act at accept.
    Nft,
    /// The tables act at accept.
    Memory,
}

/// How the filter is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver if it can, else generic with a warning.
    #[default]
    Auto,
    /// Behind the driver: every interface can, at about twice the cost per dropped packet.
    Generic,
    /// In the driver or not at all.
    Native,
    /// Not in the kernel: tables act at accept.
    Off,
}

fn run_dir() -> PathBuf {
    PathBuf::from("/run/mailgate")
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            backend: Backend::Auto,
            mode: Mode::Auto,
            run_dir: run_dir(),
            instance: "default".to_owned(),
            pin_dir: PathBuf::from("/sys/fs/bpf/mailgate"),
            reception_ports: vec![25],
            steer_loopback: false,
            counted_sources: 0,
            memory_limit: Self::MEMORY_LIMIT,
            control_group: None,
            answers: super::Answers::default(),
            behaviour: None,
            local: Vec::new(),
        }
    }
}

impl Config {
    /// Default of [`Config::memory_limit`].
    pub const MEMORY_LIMIT: u64 = 512 << 20;

    /// Longest name of an instance.
    pub const INSTANCE_LIMIT: usize = 32;

    /// The rules that follow from this alone: those of tables and of the reception ports.
    #[must_use]
    pub fn rules(&self) -> RuleSet {
        RuleSet { reception_ports: self.reception_ports.clone(), ..RuleSet::default() }
    }

    /// The folder of this instance's pins.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.pin_dir.join(&self.instance)
    }

    /// Whether the instance can be the name of a folder.
    #[must_use]
    pub fn instance_fits(&self) -> bool {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=Self::INSTANCE_LIMIT).contains(&self.instance.len()) && self.instance.bytes().all(fits)
    }

    /// `Err` with the reason when the configuration itself keeps the filter out of the kernel.
    pub(super) fn refuses_kernel(&self) -> Result<(), String> {
        if self.mode == Mode::Off || self.backend == Backend::Memory {
            Err("it is switched off (mode = \"off\" or backend = \"memory\")".to_owned())
        } else if self.interfaces.is_empty() {
            Err("no interfaces are configured".to_owned())
        } else if !self.instance_fits() {
            Err(format!("found instance {:?}, expected 1 to 32 of a-z A-Z 0-9 - _", self.instance))
        } else {
            Ok(())
        }
    }
}
