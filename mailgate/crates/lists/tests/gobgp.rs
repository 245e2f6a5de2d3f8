//! Sessions with a real GoBGP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use station::{Daemon, SOON, Station, V6, alone, eventually, free_port, is_installed, run};

struct GoBgp {
    folder: tempfile::TempDir,
    /// Its address, and ours.
    addresses: [&'static str; 2],
    port: u16,
    control: u16,
    daemon: Option<Daemon>,
}

const V4: [&str; 2] = ["127.0.0.4", "127.0.0.5"];

fn gobgp_is_installed() -> bool {
    is_installed("gobgpd", "gobgpd")
}

impl GoBgp {
    /// With more for the neighbour.
    async fn start_at(addresses: [&'static str; 2], more: &str) -> Self {
        let address: IpAddr = addresses[0].parse().unwrap();
        let (port, control) = (free_port(address), free_port(address));
        let folder = tempfile::tempdir().unwrap();
        let mut gobgp = Self { folder, addresses, port, control, daemon: None };
        gobgp.run(more).await;
        gobgp
    }

    async fn run(&mut self, more: &str) {
        let ([address, neighbor], port) = (self.addresses, self.port);
        let config = format!(
            r#"
[global.config]
as = 65066
router-id = "192.0.2.67"
port = {port}
local-address-list = ["{address}"]

[[neighbors]]
[neighbors.config]
neighbor-address = "{neighbor}"
peer-as = 65500
{more}
[neighbors.graceful-restart.config]
enabled = true
restart-time = 20
notification-enabled = true
[neighbors.transport.config]
passive-mode = true
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"#
        );
        let path = self.folder.path().join("gobgpd.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("gobgpd");
        let api = SocketAddr::new(address.parse().unwrap(), self.control);
        command.arg("-f").arg(&path).arg("--api-hosts").arg(api.to_string()).arg("--pprof-disable");
        self.daemon = Some(Daemon::start(&mut command, &self.folder.path().join("log")));
        let connects = |port| TcpStream::connect(SocketAddr::new(address.parse().unwrap(), port)).ok();
        eventually("GoBGP", || connects(self.port)).await;
        eventually("GoBGP's control port", || connects(self.control)).await;
    }

    fn control(&self, words: &str) -> String {
        let port = self.control.to_string();
        let mut arguments = vec!["-u", self.addresses[0], "-p", &port];
        arguments.extend(words.split(' '));
        run("gobgp", &arguments)
    }

    fn config_with(&self, more: &str) -> String {
        let ([peer, local], port) = (self.addresses, self.port);
        format!(
            r#"
[[source]]
kind = "bgp"
peer = "{peer}"
port = {port}
local_address = "{local}"
local_as = 65500
peer_as = 65066
router_id = "192.0.2.5"
retry_min = "500ms"
retry_max = "2s"
communities = {{ "65066:666" = "block", "65066:42" = "bypass" }}
{more}
"#
        )
    }
}

/// Both sides with one blocked host; more for the neighbour of either. `None` without GoBGP.
async fn begun(theirs: &str, ours: &str) -> Option<(GoBgp, Station)> {
    if !gobgp_is_installed() {
        return None;
    }
    alone();
    let gobgp = GoBgp::start_at(V4, theirs).await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    let mut station = Station::start(&gobgp.config_with(ours));
    station.told(&["block 192.0.2.1/32"]).await;
    Some((gobgp, station))
}

#[tokio::test]
async fn communities_fill_tables_and_a_withdrawal_is_there_soon() {
    let Some((gobgp, mut station)) = begun("", "").await else { return };

    gobgp.control("global rib add 2001:db8:1::/48 nexthop 2001:db8::67 community 65066:42 -a ipv6");
    let took = station.told(&["block 192.0.2.1/32", "bypass 2001:db8:1::/48"]).await;
    println!("at the edge after {took:?}");
    assert!(took < SOON, "{took:?}");
    gobgp.control("global rib add 192.0.2.1/32 community 65066:42");
    let took = station.told(&["bypass 192.0.2.1/32", "bypass 2001:db8:1::/48"]).await;
    println!("at the edge after {took:?}");
    assert!(took < SOON, "{took:?}");

    gobgp.control("global rib del 192.0.2.1/32");
    gobgp.control("global rib del 2001:db8:1::/48 -a ipv6");
    let took = station.told(&[]).await;
    println!("at the edge after {took:?}");
    assert!(took < SOON, "{took:?}");

    let said = gobgp.control("neighbor 127.0.0.5");
    assert!(said.contains("ESTABLISHED") || said.contains("established"), "{said}");
}

#[tokio::test]
async fn a_session_that_was_shut_down_comes_back_and_holds_its_entries_meanwhile() {
    let Some((gobgp, station)) = begun("", "").await else { return };
    gobgp.control("neighbor 127.0.0.5 disable");
    let row = station.sees("the shutdown", |row| row.state != "Established").await;
    assert_eq!(row.installed, 1);
    let said = row.error.unwrap();
    assert!(said.contains("cease: administrative shutdown"), "{said} ({})", gobgp.folder.path().display());
    gobgp.control("neighbor 127.0.0.5 enable");
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
}

#[tokio::test]
async fn a_signed_session_comes_up() {
    begun("auth-password = \"secret\"", "password = \"secret\"").await;
}

#[tokio::test]
async fn a_session_that_was_reset_empties_no_table() {
    let Some((gobgp, mut station)) = begun("", "").await else { return };
    let row = station.sees("the end of routes", |row| row.installed == 1 && row.stale == 0).await;
    assert!(row.session.unwrap().capabilities.contains(&"graceful-restart"));
    gobgp.control("neighbor 127.0.0.5 reset");
    station.sees("the loss", |row| row.state != "Established" && row.error.is_some()).await;
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    station.calm();
}

#[tokio::test]
async fn an_ipv6_session_carries_both_families() {
    if !gobgp_is_installed() {
        return;
    }
    if !alone() {
        // On the loopback of a host there is one address of IPv6, and GoBGP wants two.
        println!("skipped: a network namespace of its own needs root");
        return;
    }
    let gobgp = GoBgp::start_at(V6, "auth-password = \"secret\"").await;
    gobgp.control("global rib add 192.0.2.1/32 nexthop 192.0.2.67 community 65066:666");
    gobgp.control("global rib add 2001:db8:1::/48 nexthop 2001:db8::67 community 65066:666 -a ipv6");
    let mut station = Station::start(&gobgp.config_with("password = \"secret\""));
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48"]).await;
    gobgp.control("global rib del 2001:db8:1::/48 -a ipv6");
    station.told(&["block 192.0.2.1/32"]).await;
}

#[tokio::test]
async fn a_restart_of_gobgp_empties_no_table() {
    let Some((mut gobgp, mut station)) = begun("", "").await else { return };
    station.sees("the end of routes", |row| row.installed == 1 && row.stale == 0).await;
    gobgp.daemon = None;
    station.sees("the loss", |row| row.state != "Established" && row.stale == 1).await;
    // It keeps nothing over a restart: its routes come before its neighbour may.
    gobgp.run("admin-down = true").await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    gobgp.control("neighbor 127.0.0.5 enable");
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    assert_eq!(station.lists.bgp().await.unwrap()[0].installed, 1);
    station.calm();
}
