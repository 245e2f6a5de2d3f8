//! A namespace with a veth pair and the filter on one end of it.

use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;
use mailgate_packet::xdp::Xdp;
use mailgate_packet::{Config, Mode, PacketFilter};
use mailgate_tests::Namespace;

/// Why kernel tests cannot run here, if they cannot.
pub(crate) fn missing() -> Option<&'static str> {
    if !mailgate_tests::is_root() {
        Some("not root, so no kernel filter")
    } else if !std::path::Path::new("/sys/fs/bpf").is_dir() {
        Some("this kernel has no BPF file system")
    } else {
        None
    }
}

/// The namespace; `v0` carries the filter, `v1` is its other end.
pub(crate) fn namespace(label: &str) -> Namespace {
    let namespace = Namespace::new(label, None).expect("a namespace");
    namespace.ip("link add v0 type veth peer name v1").expect("a veth pair");
    namespace
}

/// The configuration of tests: port 25 and 2525.
pub(crate) fn config() -> Config {
    Config {
        interfaces: vec!["v0".to_owned()],
        mode: Mode::Native,
        instance: "test".to_owned(),
        reception_ports: vec![25, 2525],
        ..Config::default()
    }
}

/// The filter, opened inside the calling thread's namespace.
pub(crate) fn open(config: &Config) -> Result<Xdp> {
    Ok(Xdp::open(config, Arc::new(ManualClock::default()))?)
}

/// How the filter stands on each interface.
pub(crate) fn ways(filter: &dyn PacketFilter) -> Vec<(String, &'static str)> {
    filter.status().interfaces.iter().map(|each| (each.name.clone(), each.how.name())).collect()
}

/// The folder of the pins of an instance.
pub(crate) fn pins(filter: &dyn PacketFilter) -> std::path::PathBuf {
    filter.status().pins.expect("a folder of pins").into()
}

pub(crate) fn name(text: &str) -> TableName {
    TableName::parse(text).expect("a name")
}

/// `!` in front makes a hole.
pub(crate) fn entry(text: &str) -> Entry {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |text| (true, text));
    let prefix: IpNet =
        text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<std::net::IpAddr>().expect(text)));
    Entry { prefix, negated, expires: None }
}

fn table(text: &str, action: Action, entries: &[&str]) -> Table {
    let mut entries: Vec<Entry> = entries.iter().map(|text| entry(text)).collect();
    entries.sort_by_key(|entry| entry.prefix);
    Table { name: name(text), action, entries: Arc::new(entries.into()) }
}

/// Tables with the names of their actions.
pub(crate) fn tables(bypass: &[&str], drop: &[&str], reject: &[&str], tarpit: &[&str]) -> Change {
    Change::Reload(Snapshot {
        tables: vec![
            table("bypass", Action::Bypass, bypass),
            table("drop", Action::Drop, drop),
            table("reject", Action::Reject, reject),
            table("tarpit", Action::Tarpit, tarpit),
        ],
    })
}
