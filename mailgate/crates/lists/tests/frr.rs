//! Sessions with a real FRR.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a test")]

mod station;

use std::net::IpAddr;
use std::process::Command;

use station::{Daemon, Station, alone, eventually, free_port, is_installed};

const BGPD: &str = "/usr/lib/frr/bgpd";

/// A running bgpd without zebra; its commands go through vtysh.
struct Frr {
    folder: tempfile::TempDir,
    address: IpAddr,
    port: u16,
    daemon: Option<Daemon>,
}

impl Frr {
    async fn start(address: &str, more: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut frr = Self { folder, address, port: free_port(address), daemon: None };
        frr.write(more);
        frr.run().await;
        frr
    }

    fn neighbor(&self) -> &'static str {
        if self.address.is_ipv4() { "127.0.0.7" } else { "::1" }
    }

    fn write(&self, more: &str) {
        let neighbor = self.neighbor();
        let config = format!(
            "frr defaults traditional
hostname feed
no ipv6 forwarding
route-map block permit 10
 set community 65066:666
 set large-community 65066:1:666
 set extcommunity rt 65066:666
 set ipv6 next-hop global 2001:db8::66
route-map bypass permit 10
 set community 65066:42
 set ipv6 next-hop global 2001:db8::66
router bgp 65066
 bgp router-id 192.0.2.66
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
 bgp graceful-restart
 timers bgp 3 9
 neighbor {neighbor} remote-as 65500
 neighbor {neighbor} ebgp-multihop 4
 neighbor {neighbor} passive
 neighbor {neighbor} capability extended-nexthop
 {more}
 address-family ipv4 unicast
  network 192.0.2.1/32 route-map block
  neighbor {neighbor} activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:1::/48 route-map block
  neighbor {neighbor} activate
 exit-address-family
"
        );
        std::fs::write(self.folder.path().join("bgpd.conf"), config).unwrap();
    }

    async fn run(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(BGPD);
        // Alone: no zebra, no kernel, root stays root, because the folder is ours.
        command
            .args(["-Z", "-n", "-S", "-A", "127.0.0.1", "-P", "0"])
            .args(["-l", &self.address.to_string(), "-p", &self.port.to_string()])
            .arg("-f")
            .arg(at("bgpd.conf"))
            .arg("-i")
            .arg(at("pid"))
            .arg("--vty_socket")
            .arg(self.folder.path());
        self.daemon = Some(Daemon::start(&mut command, &at("log")));
        eventually("FRR", || std::net::TcpStream::connect((self.address, self.port)).ok()).await;
    }

    fn control(&self, words: &[&str]) -> String {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(self.folder.path()).args(["-d", "bgpd"]);
        for word in words {
            command.args(["-c", word]);
        }
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn configure(&self, words: &[&str]) {
        let mut all = vec!["configure terminal", "router bgp 65066"];
        all.extend(words);
        let said = self.control(&all);
        assert!(!said.contains('%'), "{said}");
    }

    fn config(&self, more: &str) -> String {
        format!(
            r#"
[[source]]
kind = "bgp"
name = "frr"
peer = "{}"
port = {}
local_address = "{}"
local_as = 65500
peer_as = 65066
router_id = "192.0.2.1"
retry_min = "500ms"
retry_max = "2s"
damping_min = "500ms"
damping_max = "2s"
communities = {{ "rt:65066:666" = "block", "neighbor-as:42" = "bypass" }}
{more}
"#,
            self.address,
            self.port,
            self.neighbor()
        )
    }
}

fn frr_is_installed() -> bool {
    let is_there = std::path::Path::new(BGPD).is_file();
    if !is_there {
        println!("skipped: frr is not installed");
    }
    alone();
    is_there && is_installed("vtysh", "frr")
}

const BOTH: [&str; 2] = ["block 192.0.2.1/32", "block 2001:db8:1::/48"];

#[tokio::test]
async fn communities_fill_tables_and_a_withdrawal_is_there_soon() {
    if !frr_is_installed() {
        return;
    }
    let frr = Frr::start("127.0.0.6", "").await;
    let mut station = Station::start(&frr.config(""));
    station.told(&BOTH).await;
    let row = station.sees("the end of routes", |row| row.stale == 0 && row.installed == 2).await;
    let session = row.session.unwrap();
    for capability in
        ["ipv4-unicast", "ipv6-unicast", "route-refresh", "extended-message", "graceful-restart"]
    {
        assert!(session.capabilities.contains(&capability), "{capability}: {session:?}");
    }
    frr.configure(&[
        "address-family ipv4 unicast",
        "network 192.0.2.2/32 route-map bypass",
        "no network 192.0.2.1/32",
    ]);
    let took = station.told(&["bypass 192.0.2.2/32", "block 2001:db8:1::/48"]).await;
    println!("at the edge after {took:?}");
    // What a route carries is shown.
    let rows = station.lists.bgp_rib(Some("frr"), Some("rt:*:666".parse().unwrap()), None, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].communities, ["65066:666", "65066:1:666", "rt:65066:666"]);
    // All of it is asked for anew, and nothing is lost by that.
    station.lists.bgp_refresh("frr").await.unwrap();
    let before = row.received_messages;
    station
        .sees("the answer", |row| row.received_messages > before && row.stale == 0 && row.installed == 2)
        .await;
}

#[tokio::test]
async fn an_ipv6_session_carries_both_families() {
    if !frr_is_installed() {
        return;
    }
    let frr = Frr::start("::1", "").await;
    let mut station = Station::start(&frr.config(""));
    station.told(&BOTH).await;
}

#[tokio::test]
async fn a_signed_session_comes_up_only_with_the_same_key() {
    if !frr_is_installed() {
        return;
    }
    let frr = Frr::start("127.0.0.6", "neighbor 127.0.0.7 password secret").await;
    let wrong = Station::start(&frr.config("password = \"another\""));
    let mut station = Station::start(&frr.config("password = \"secret\""));
    station.told(&BOTH).await;
    assert_ne!(wrong.lists.bgp().await.unwrap()[0].state, "Established");
}

#[tokio::test]
async fn a_restart_of_the_peer_empties_no_table() {
    if !frr_is_installed() {
        return;
    }
    let mut frr = Frr::start("127.0.0.6", "").await;
    let mut station = Station::start(&frr.config(""));
    station.told(&BOTH).await;
    station.sees("the end of routes", |row| row.stale == 0 && row.installed == 2).await;
    frr.daemon = None;
    station.sees("the loss", |row| row.state != "Established" && row.stale == 2).await;
    frr.run().await;
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    station.calm();
}

#[tokio::test]
async fn a_shutdown_is_told_with_its_text() {
    if !frr_is_installed() {
        return;
    }
    let frr = Frr::start("127.0.0.6", "").await;
    let mut station = Station::start(&frr.config(""));
    station.told(&BOTH).await;
    frr.configure(&["neighbor 127.0.0.7 shutdown message until noon"]);
    let row = station.sees("the shutdown", |row| row.state != "Established").await;
    let said = row.error.unwrap();
    assert!(said.contains("administrative shutdown: \"until noon\""), "{said}");
    frr.configure(&["no neighbor 127.0.0.7 shutdown"]);
    station.sees("the new session", |row| row.state == "Established").await;
    station.calm();
}
