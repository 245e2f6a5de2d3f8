//! Sessions with a real GoBGP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::net::IpAddr;
use std::process::Command;

use station::{Daemon, SOON, Station, eventually, free_port, is_installed, run};

struct GoBgp {
    folder: tempfile::TempDir,
    port: u16,
    control: u16,
    _daemon: Daemon,
}

const ADDRESS: &str = "127.0.0.4";

impl GoBgp {
    async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more for the neighbour.
    async fn start_with(more: &str) -> Self {
        let address: IpAddr = ADDRESS.parse().unwrap();
        let (port, control) = (free_port(address), free_port(address));
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            r#"
[global.config]
as = 65066
router-id = "192.0.2.67"
port = {port}
local-address-list = ["{ADDRESS}"]

[[neighbors]]
[neighbors.config]
neighbor-address = "127.0.0.5"
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
        let path = folder.path().join("gobgpd.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("gobgpd");
        command
            .arg("-f")
            .arg(&path)
            .arg("--api-hosts")
            .arg(format!("{ADDRESS}:{control}"))
            .arg("--pprof-disable");
        let daemon = Daemon::start(&mut command, &folder.path().join("log"));
        let gobgp = Self { folder, port, control, _daemon: daemon };
        eventually("GoBGP", || std::net::TcpStream::connect((ADDRESS, gobgp.port)).ok()).await;
        eventually("GoBGP's control port", || std::net::TcpStream::connect((ADDRESS, gobgp.control)).ok())
            .await;
        gobgp
    }

    fn control(&self, words: &str) -> String {
        let port = self.control.to_string();
        let mut arguments = vec!["-u", ADDRESS, "-p", &port];
        arguments.extend(words.split(' '));
        run("gobgp", &arguments)
    }

    fn config(&self) -> String {
        self.config_with("")
    }

    fn config_with(&self, more: &str) -> String {
        format!(
            r#"
[[source]]
kind = "bgp"
peer = "{ADDRESS}"
port = {}
local_address = "127.0.0.5"
local_as = 65500
peer_as = 65066
retry_min = "500ms"
retry_max = "2s"
communities = {{ "65066:666" = "block", "65066:42" = "bypass" }}
{more}
"#,
            self.port
        )
    }
}

#[tokio::test]
async fn communities_fill_tables_and_a_withdrawal_is_there_soon() {
    if !is_installed("gobgpd", "gobgpd") {
        return;
    }
    let gobgp = GoBgp::start().await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    let mut station = Station::start(&gobgp.config());
    station.told(&["block 192.0.2.1/32"]).await;

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
    if !is_installed("gobgpd", "gobgpd") {
        return;
    }
    let gobgp = GoBgp::start().await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    let mut station = Station::start(&gobgp.config());
    station.told(&["block 192.0.2.1/32"]).await;
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
    if !is_installed("gobgpd", "gobgpd") {
        return;
    }
    let gobgp = GoBgp::start_with("auth-password = \"secret\"").await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    let mut station = Station::start(&gobgp.config_with("password = \"secret\""));
    station.told(&["block 192.0.2.1/32"]).await;
}

#[tokio::test]
async fn a_session_that_was_reset_empties_no_table() {
    if !is_installed("gobgpd", "gobgpd") {
        return;
    }
    let gobgp = GoBgp::start().await;
    gobgp.control("global rib add 192.0.2.1/32 community 65066:666");
    let mut station = Station::start(&gobgp.config());
    station.told(&["block 192.0.2.1/32"]).await;
    let row = station.sees("the end of routes", |row| row.installed == 1 && row.stale == 0).await;
    assert!(row.session.unwrap().capabilities.contains(&"graceful-restart"));
    gobgp.control("neighbor 127.0.0.5 reset");
    station.sees("the loss", |row| row.state != "Established" && row.error.is_some()).await;
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    station.calm();
}
