//! Sessions with a real BIRD.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use station::{Daemon, SOON, Station, alone, eventually, free_port, is_installed, run};

/// A route of the feed: prefix and the lower half of its community.
type Route = (&'static str, u16);

struct Bird {
    folder: tempfile::TempDir,
    address: IpAddr,
    port: u16,
    daemon: Option<Daemon>,
}

impl Bird {
    async fn start(address: &str, routes: &[Route]) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut bird = Self { folder, address, port: free_port(address), daemon: None };
        bird.write(routes, "");
        bird.run().await;
        bird
    }

    async fn run(&mut self) {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(at("bird.conf")).arg("-s").arg(at("ctl")).arg("-P").arg(at("pid"));
        self.daemon = Some(Daemon::start(&mut command, &at("log")));
        let control = at("ctl");
        eventually("BIRD's control socket", || std::os::unix::net::UnixStream::connect(&control).ok()).await;
    }

    fn write(&self, routes: &[Route], more: &str) {
        // From another loopback address in IPv4; there is only one in IPv6.
        let neighbor = if self.address.is_ipv4() { "127.0.0.3" } else { "::1" };
        let (address, port) = (self.address, self.port);
        let mut families = [String::new(), String::new()];
        for (prefix, low) in routes {
            let family = usize::from(prefix.contains(':'));
            writeln!(
                families[family],
                "  route {prefix} blackhole {{ bgp_community.add((65066,{low})); bgp_large_community.add((65066,1,{low})); }};"
            )
            .unwrap();
        }
        let [v4, v6] = families;
        let config = format!(
            "router id 192.0.2.66;
protocol device {{ }}
protocol static feed4 {{
  ipv4;
{v4}}}
protocol static feed6 {{
  ipv6;
{v6}}}
protocol bgp mailgate {{
  local {address} port {port} as 65066;
  neighbor {neighbor} as 65500;
  multihop 2;
  passive;
  strict bind yes;
  # Otherwise BIRD refuses us for a minute after each error.
  error wait time 1, 1;
  {more}
  ipv4 {{ import none; export all; next hop address 192.0.2.66; }};
  ipv6 {{ import none; export all; next hop address 2001:db8::66; }};
}}
"
        );
        std::fs::write(self.folder.path().join("bird.conf"), config).unwrap();
    }

    fn control(&self, words: &str) -> String {
        let socket = self.folder.path().join("ctl");
        let mut arguments = vec!["-s", socket.to_str().unwrap()];
        arguments.extend(words.split(' '));
        run("birdc", &arguments)
    }

    /// Makes these the routes of the feed.
    fn announce(&self, routes: &[Route]) {
        self.write(routes, "");
        let said = self.control("configure");
        assert!(said.contains("Reconfigured") || said.contains("Reconfiguration"), "{said}");
    }

    /// Our configuration for it.
    fn config(&self, more: &str) -> String {
        let local = if self.address.is_ipv4() { "127.0.0.3" } else { "::1" };
        format!(
            r#"
[[source]]
kind = "bgp"
name = "bird"
peer = "{}"
port = {}
local_address = "{local}"
local_as = 65500
peer_as = 65066
router_id = "192.0.2.1"
retry_min = "500ms"
retry_max = "2s"
communities = {{ "65066:666" = "block", "65066:1:42" = "bypass" }}
{more}
"#,
            self.address, self.port
        )
    }
}

fn bird_is_installed() -> bool {
    alone();
    is_installed("bird", "bird")
}

#[tokio::test]
async fn communities_fill_tables_and_a_withdrawal_is_there_soon() {
    if !bird_is_installed() {
        return;
    }
    let bird =
        Bird::start("127.0.0.2", &[("192.0.2.1/32", 666), ("2001:db8:1::/48", 666), ("192.0.2.2/32", 42)])
            .await;
    let mut station = Station::start(&bird.config(""));
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48", "bypass 192.0.2.2/32"]).await;
    let row = station.sees("the session", |row| row.installed == 3).await;
    assert_eq!((row.state, row.received, row.accepted), ("Established", 3, 3));

    bird.announce(&[("192.0.2.1/32", 42), ("192.0.2.9/32", 666), ("0.0.0.0/0", 666)]);
    let took = station.told(&["bypass 192.0.2.1/32", "block 192.0.2.9/32"]).await;
    println!("at the edge after {took:?}");
    assert!(took < SOON, "{took:?}");

    bird.announce(&[]);
    let took = station.told(&[]).await;
    println!("at the edge after {took:?}");
    assert!(took < SOON, "{took:?}");

    let said = bird.control("show protocols all mailgate");
    assert!(said.contains("Established"), "{said}");
    let received: Vec<_> = said.lines().filter(|line| line.contains("Import updates")).collect();
    assert!(
        received.iter().all(|line| line.split_whitespace().nth(2) == Some("0")),
        "nothing is announced: {received:?}"
    );
}

#[tokio::test]
async fn an_ipv6_session_carries_both_families() {
    if !bird_is_installed() {
        return;
    }
    let bird = Bird::start("::1", &[("192.0.2.1/32", 666), ("2001:db8:1::/48", 666)]).await;
    let mut station = Station::start(&bird.config(""));
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48"]).await;
}

#[tokio::test]
async fn a_silent_bird_loses_the_session_but_not_its_entries_and_is_taken_up_again() {
    if !bird_is_installed() {
        return;
    }
    let bird = Bird::start("127.0.0.2", &[("192.0.2.1/32", 666), ("192.0.2.2/32", 666)]).await;
    let mut station = Station::start(&bird.config("hold_time = \"3s\""));
    let both = ["block 192.0.2.1/32", "block 192.0.2.2/32"];
    station.told(&both).await;
    bird.daemon.as_ref().unwrap().signal("STOP");
    let row = station.sees("the end of the hold time", |row| row.stale == 2).await;
    assert_eq!(row.error.as_deref(), Some("heard nothing for the hold time"));
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 2, "the last set is held");
    bird.daemon.as_ref().unwrap().signal("CONT");
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    bird.announce(&[("192.0.2.2/32", 666)]);
    station.told(&["block 192.0.2.2/32"]).await;
}

#[tokio::test]
async fn a_bird_that_was_killed_comes_back_with_other_routes() {
    if !bird_is_installed() {
        return;
    }
    let mut bird = Bird::start("127.0.0.2", &[("192.0.2.1/32", 666), ("2001:db8:1::/48", 666)]).await;
    let mut station = Station::start(&bird.config(""));
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48"]).await;
    bird.daemon = None;
    station.sees("the loss", |row| row.stale == 2).await;
    bird.write(&[("192.0.2.1/32", 666), ("192.0.2.3/32", 666)], "");
    bird.run().await;
    station.told(&["block 192.0.2.1/32", "block 192.0.2.3/32"]).await;
}

#[tokio::test]
async fn a_shutdown_is_told_with_its_text() {
    if !bird_is_installed() {
        return;
    }
    let bird = Bird::start("127.0.0.2", &[("192.0.2.1/32", 666)]).await;
    let mut station = Station::start(&bird.config(""));
    station.told(&["block 192.0.2.1/32"]).await;
    let socket = bird.folder.path().join("ctl");
    run("birdc", &["-s", socket.to_str().unwrap(), "disable", "mailgate", "\"until noon\""]);
    let row = station.sees("the shutdown", |row| row.state != "Established").await;
    let said = row.error.unwrap();
    assert!(said.contains("administrative shutdown: \"until noon\""), "{said}");
    bird.control("enable mailgate");
    station.sees("the new session", |row| row.state == "Established").await;
}

#[tokio::test]
async fn more_prefixes_than_allowed_end_the_session() {
    if !bird_is_installed() {
        return;
    }
    let routes = [("192.0.2.1/32", 666), ("192.0.2.2/32", 666), ("192.0.2.3/32", 666)];
    let bird = Bird::start("127.0.0.2", &routes).await;
    let station = Station::start(&bird.config("max_prefix = 2"));
    let row = station.sees("the end", |row| row.error.is_some() && row.stale > 0).await;
    assert_eq!(row.error.as_deref(), Some("cease: maximum number of prefixes reached"));
}

#[tokio::test]
async fn a_bird_without_long_as_numbers_or_capabilities_is_understood() {
    if !bird_is_installed() {
        return;
    }
    for more in ["enable as4 no;", "capabilities off;"] {
        let bird = Bird::start("127.0.0.2", &[("192.0.2.1/32", 666)]).await;
        bird.write(&[("192.0.2.1/32", 666)], more);
        // Without capabilities a session has IPv4 alone.
        if more.starts_with("capabilities") {
            let path = bird.folder.path().join("bird.conf");
            let config = std::fs::read_to_string(&path).unwrap();
            let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("  ipv6 {")).collect();
            std::fs::write(&path, config.join("\n")).unwrap();
        }
        bird.control("configure");
        let mut station = Station::start(&bird.config(""));
        station.told(&["block 192.0.2.1/32"]).await;
    }
}

#[tokio::test]
async fn fifty_thousand_routes_come_and_go() {
    if !bird_is_installed() {
        return;
    }
    let bird = Bird::start("127.0.0.2", &[]).await;
    let mut station = Station::start(&bird.config(""));
    station.sees("the session", |row| row.state == "Established").await;
    let empty = std::fs::read_to_string(bird.folder.path().join("bird.conf")).unwrap();
    let mut routes = String::new();
    for n in 0..50_000_u32 {
        let host = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        writeln!(routes, "  route {host}/32 blackhole {{ bgp_community.add((65066,666)); }};").unwrap();
    }
    let full = empty.replacen("  ipv4;\n", &format!("  ipv4;\n{routes}"), 1);
    std::fs::write(bird.folder.path().join("bird.conf"), full).unwrap();
    bird.control("configure");
    let took = station.told_count(50_000).await;
    println!("50,000 routes from BIRD to the edge's channel: {took:?} after `configure`");
    std::fs::write(bird.folder.path().join("bird.conf"), empty).unwrap();
    bird.control("configure");
    let took = station.told_count(0).await;
    println!("50,000 withdrawals: {took:?} after `configure`");
}

#[test]
fn the_example_configuration_is_understood() {
    if !bird_is_installed() {
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/bgp/bird.conf");
    run("bird", &["-p", "-c", path]);
}

#[tokio::test]
async fn a_signed_session_that_checks_ttl_comes_up_and_without_the_key_it_does_not() {
    if !bird_is_installed() {
        return;
    }
    for address in ["127.0.0.2", "::1"] {
        let bird = Bird::start(address, &[]).await;
        bird.write(&[("192.0.2.1/32", 666)], "password \"secret\"; ttl security on;");
        bird.control("configure");
        let mut station = Station::start(&bird.config("password = \"secret\"\nttl_security = 2"));
        station.told(&["block 192.0.2.1/32"]).await;
        drop(station);
        let wrong = Station::start(&bird.config("password = \"another\"\nttl_security = 2"));
        wrong.sees("the wait", |row| row.state == "Connect").await;
        let mut right = Station::start(&bird.config("password = \"secret\"\nttl_security = 2"));
        right.told(&["block 192.0.2.1/32"]).await;
        assert_ne!(wrong.lists.bgp().await.unwrap()[0].state, "Established");
    }
}

#[tokio::test]
async fn a_restart_of_bird_empties_no_table_and_all_is_asked_for_anew() {
    if !bird_is_installed() {
        return;
    }
    let routes = [("192.0.2.1/32", 666), ("2001:db8:1::/48", 666)];
    let mut bird = Bird::start("127.0.0.2", &routes).await;
    bird.write(&routes, "graceful restart on; enable extended messages on;");
    bird.control("configure");
    let mut station = Station::start(&bird.config(""));
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48"]).await;
    let row = station.sees("the end of routes", |row| row.stale == 0 && row.installed == 2).await;
    let session = row.session.unwrap();
    for capability in ["enhanced-route-refresh", "extended-message", "graceful-restart"] {
        assert!(session.capabilities.contains(&capability), "{session:?}");
    }
    station.lists.bgp_refresh("bird").await.unwrap();
    station
        .sees("the answer", |now| now.received_messages > row.received_messages + 2 && now.stale == 0)
        .await;
    bird.daemon = None;
    station.sees("the loss", |row| row.state != "Established" && row.stale == 2).await;
    bird.run().await;
    station.sees("the new session", |row| row.state == "Established" && row.stale == 0).await;
    station.calm();
}

#[tokio::test]
async fn both_sides_connect_and_one_session_stays() {
    if !bird_is_installed() {
        return;
    }
    let bird = Bird::start("127.0.0.2", &[("192.0.2.1/32", 666)]).await;
    let port = free_port("127.0.0.3".parse().unwrap());
    // BIRD connects too, to where we listen.
    let path = bird.folder.path().join("bird.conf");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config
        .replace("  passive;\n", "")
        .replace("neighbor 127.0.0.3 as", &format!("neighbor 127.0.0.3 port {port} as"));
    std::fs::write(
        &path,
        config.replace("error wait time 1, 1;", "error wait time 1, 1; connect delay time 0;"),
    )
    .unwrap();
    bird.control("configure");
    let mut station =
        Station::start(&bird.config(&format!("mode = \"both\"\nlisten = \"127.0.0.3:{port}\"")));
    station.told(&["block 192.0.2.1/32"]).await;
    let row = station.sees("the session", |row| row.state == "Established" && row.installed == 1).await;
    println!("opened by {}", row.session.unwrap().opened_by);
}
