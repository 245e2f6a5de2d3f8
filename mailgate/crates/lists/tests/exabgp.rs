//! Sessions with a real ExaBGP, which connects to us.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;

use station::{Daemon, Station, alone, free_port, is_installed};

struct ExaBgp {
    folder: tempfile::TempDir,
    /// Ours.
    address: IpAddr,
    port: u16,
    daemon: Option<Daemon>,
}

impl ExaBgp {
    /// Ready to connect to `address`.
    fn new(address: &str, more: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let exabgp =
            Self { folder: tempfile::tempdir().unwrap(), address, port: free_port(address), daemon: None };
        let orders = exabgp.folder.path().join("orders");
        std::fs::write(&orders, "").unwrap();
        let (port, local, orders) = (exabgp.port, exabgp.theirs(), orders.display());
        let config = format!(
            "process feed {{
  run /usr/bin/tail -n +1 -F {orders};
  encoder text;
}}
neighbor {address} {{
  router-id 192.0.2.68;
  local-address {local};
  local-as 65066;
  peer-as 65500;
  hold-time 9;
  connect {port};
  {more}
  capability {{
    graceful-restart 20;
    route-refresh enable;
    add-path send/receive;
    extended-message enable;
  }}
  family {{
    ipv4 unicast;
    ipv6 unicast;
  }}
  api {{
    processes [ feed ];
  }}
}}
"
        );
        std::fs::write(exabgp.folder.path().join("exabgp.conf"), config).unwrap();
        exabgp
    }

    fn theirs(&self) -> &'static str {
        if self.address.is_ipv4() { "127.0.0.8" } else { "::1" }
    }

    fn run(&mut self) {
        let mut command = Command::new("exabgp");
        command
            .arg(self.folder.path().join("exabgp.conf"))
            .env("exabgp.daemon.drop", "false")
            .env("exabgp.api.cli", "false")
            .env("exabgp.api.ack", "false")
            .env("exabgp.tcp.delay", "0")
            .env("exabgp.daemon.user", "root");
        self.daemon = Some(Daemon::start(&mut command, &self.folder.path().join("log")));
    }

    fn order(&self, text: &str) {
        let path = self.folder.path().join("orders");
        writeln!(std::fs::OpenOptions::new().append(true).open(path).unwrap(), "{text}").unwrap();
    }

    /// Two routes, one in each family.
    fn announce(&self) {
        self.order("announce route 192.0.2.1/32 next-hop 192.0.2.68 community [65066:666]");
        self.order("announce route 2001:db8:1::/48 next-hop 2001:db8::68 large-community [65066:1:666]");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn config(&self, more: &str) -> String {
        format!(
            r#"
[[source]]
kind = "bgp"
name = "exabgp"
peer = "{}"
mode = "passive"
listen = "{}"
local_as = 65500
peer_as = 65066
router_id = "192.0.2.1"
retry_min = "500ms"
retry_max = "2s"
damping_min = "500ms"
damping_max = "1s"
communities = {{ "65066:666" = "block", "65066:1:666" = "block", "65066:42" = "drop" }}
{more}
"#,
            self.theirs(),
            std::net::SocketAddr::new(self.address, self.port),
        )
    }
}

const BOTH: [&str; 2] = ["block 192.0.2.1/32", "block 2001:db8:1::/48"];

fn exabgp_is_installed() -> bool {
    alone();
    is_installed("exabgp", "exabgp")
}

#[tokio::test]
async fn communities_fill_tables_and_withdrawals_empty_them() {
    if !exabgp_is_installed() {
        return;
    }
    let mut exabgp = ExaBgp::new("127.0.0.9", "");
    let mut station = Station::start(&exabgp.config("add_path = true"));
    exabgp.run();
    exabgp.announce();
    station.told(&BOTH).await;
    let row = station.sees("the session", |row| row.installed == 2).await;
    let session = row.session.unwrap();
    assert_eq!(session.opened_by, "neighbour");
    for capability in
        ["ipv6-unicast", "add-path-ipv4", "add-path-ipv6", "extended-message", "enhanced-route-refresh"]
    {
        assert!(session.capabilities.contains(&capability), "{capability}: {session:?}\n{}", exabgp.log());
    }
    // Two paths of one prefix: it leaves a table when the last path does.
    exabgp.order(
        "announce route 192.0.2.7/32 next-hop 192.0.2.68 path-information 0.0.0.1 community [65066:666]",
    );
    exabgp.order(
        "announce route 192.0.2.7/32 next-hop 192.0.2.69 path-information 0.0.0.2 community [65066:42]",
    );
    station.told(&[BOTH[0], BOTH[1], "block 192.0.2.7/32", "drop 192.0.2.7/32"]).await;
    exabgp.order(
        "withdraw route 192.0.2.7/32 next-hop 192.0.2.68 path-information 0.0.0.1 community [65066:666]",
    );
    station.told(&[BOTH[0], BOTH[1], "drop 192.0.2.7/32"]).await;
    exabgp.order(
        "withdraw route 192.0.2.7/32 next-hop 192.0.2.69 path-information 0.0.0.2 community [65066:42]",
    );
    exabgp.order("withdraw route 192.0.2.1/32 next-hop 192.0.2.68 community [65066:666]");
    let took = station.told(&["block 2001:db8:1::/48"]).await;
    println!("at the edge after {took:?}");
}

#[tokio::test]
async fn an_ipv6_session_carries_both_families() {
    if !exabgp_is_installed() {
        return;
    }
    let mut exabgp = ExaBgp::new("::1", "");
    let mut station = Station::start(&exabgp.config(""));
    exabgp.run();
    exabgp.announce();
    station.told(&BOTH).await;
}

#[tokio::test]
async fn a_signed_session_comes_up_only_with_the_same_key() {
    if !exabgp_is_installed() {
        return;
    }
    let mut exabgp = ExaBgp::new("127.0.0.9", "md5-password \"secret\";");
    let mut station = Station::start(&exabgp.config("password = \"secret\""));
    exabgp.run();
    exabgp.announce();
    station.told(&BOTH).await;
    let mut other = ExaBgp::new("127.0.0.10", "md5-password \"another\";");
    let refused = Station::start(&other.config("password = \"secret\""));
    other.run();
    // The first goes on speaking meanwhile.
    let before = station.sees("a message", |row| row.received_messages > 0).await.received_messages;
    station.sees("more messages", |row| row.received_messages > before + 1).await;
    assert_eq!(refused.lists.bgp().await.unwrap()[0].state, "Active");
}

#[tokio::test]
async fn a_restart_of_the_peer_empties_no_table() {
    if !exabgp_is_installed() {
        return;
    }
    let mut exabgp = ExaBgp::new("127.0.0.9", "");
    let mut station = Station::start(&exabgp.config(""));
    exabgp.run();
    exabgp.announce();
    station.told(&BOTH).await;
    station.sees("both", |row| row.installed == 2).await;
    exabgp.daemon = None;
    station.sees("the loss", |row| row.state != "Established" && row.stale == 2).await;
    exabgp.run();
    station.sees("the new session", |row| row.state == "Established" && row.installed == 2).await;
    station.calm();
}

#[tokio::test]
async fn a_peer_that_ends_the_session_says_why() {
    if !exabgp_is_installed() {
        return;
    }
    let mut exabgp = ExaBgp::new("127.0.0.9", "");
    // With graceful restart it ends sessions without a word.
    let path = exabgp.folder.path().join("exabgp.conf");
    let config = std::fs::read_to_string(&path).unwrap().replace("graceful-restart 20;", "");
    std::fs::write(&path, config).unwrap();
    let mut station = Station::start(&exabgp.config(""));
    exabgp.run();
    exabgp.announce();
    station.told(&BOTH).await;
    exabgp.order(&format!("neighbor {} teardown 2", exabgp.address));
    let row = station.sees("the end", |row| row.state != "Established").await;
    let said = row.error.unwrap();
    assert!(said.contains("administrative shutdown"), "{said}\n{}", exabgp.log());
    assert_eq!(row.installed, 2, "what it said stays");
}
