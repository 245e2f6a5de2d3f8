//! What we announce, with BIRD at the other end.

#![allow(clippy::unwrap_used, reason = "a test")]

mod station;

use std::process::Command;

use ipnet::IpNet;
use mailgate_lists::Config;
use station::{Daemon, Station, eventually, free_port, is_installed, run};

const LISTS: &str = r#"
[[publish]]
name = "trapped"
set = "trapped"
peers = ["bird"]
communities = ["65500:666", "65500:1:666"]
[[publish]]
name = "passed"
set = "passed"
peers = ["bird"]
communities = ["65500:42"]
"#;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn bird_takes_what_we_announce_with_its_communities_and_lets_go_of_what_we_withdraw() {
    if !is_installed("bird", "bird") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let port = free_port("127.0.0.4".parse().unwrap());
    let bird = format!(
        "router id 192.0.2.66;\nprotocol device {{ }}\nprotocol bgp mailgate {{\n  local 127.0.0.4 port {port} as 65066;\n  \
         neighbor 127.0.0.5 as 65500;\n  multihop 2;\n  passive;\n  strict bind yes;\n  error wait time 1, 1;\n  \
         ipv4 {{ import all; export none; }};\n  ipv6 {{ import all; export none; }};\n}}\n"
    );
    std::fs::write(at("bird.conf"), bird).unwrap();
    let mut command = Command::new("bird");
    command.arg("-f").arg("-c").arg(at("bird.conf")).arg("-s").arg(at("ctl")).arg("-P").arg(at("pid"));
    let _bird = Daemon::start(&mut command, &at("log"));
    eventually("BIRD's control socket", || std::os::unix::net::UnixStream::connect(at("ctl")).ok()).await;
    let config = format!(
        "{LISTS}[[source]]\nkind = \"bgp\"\nname = \"bird\"\npeer = \"127.0.0.4\"\nport = {port}\nlocal_address = \"127.0.0.5\"\n\
         local_as = 65500\npeer_as = 65066\nrouter_id = \"192.0.2.1\"\nretry_min = \"500ms\"\nannounces = true\n\
         next_hop_v6 = \"2001:db8::1\"\ncommunities = {{ \"65066:666\" = \"block\" }}\n"
    );
    let lists: Config = toml::from_str(&config).unwrap();
    let station = Station::start(&config);
    let [trapped, passed] = &lists.publish[..] else { panic!("{lists:?}") };
    station.lists.announce(trapped, nets(&["192.0.2.1/32", "192.0.2.2/32", "2001:db8:7::/64"]));
    station.lists.announce(passed, nets(&["192.0.2.2/32", "192.0.2.3/32"]));
    let ask = |words: &str| {
        let socket = at("ctl");
        let mut arguments = vec!["-s", socket.to_str().unwrap()];
        arguments.extend(words.split(' '));
        run("birdc", &arguments)
    };
    let shown = |prefix: &str| ask(&format!("show route all for {prefix}"));
    eventually("all four routes", || {
        let all = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "2001:db8:7::/64"];
        all.iter()
            .all(|prefix| {
                Command::new("birdc")
                    .arg("-s")
                    .arg(at("ctl"))
                    .args(["show", "route", prefix])
                    .output()
                    .is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("mailgate"))
            })
            .then_some(())
    })
    .await;
    let first = shown("192.0.2.1/32");
    assert!(first.contains("(65500,666)") && first.contains("(65500, 1, 666)"), "{first}");
    assert!(first.contains("BGP.as_path: 65500"), "{first}");
    let both = shown("192.0.2.2/32");
    assert!(both.contains("(65500,666)") && both.contains("(65500,42)"), "{both}");
    assert!(!shown("192.0.2.3/32").contains("65500,666"));

    station.lists.announce(trapped, nets(&["192.0.2.2/32"]));
    eventually("the withdrawals", || {
        let text = ask("show route");
        (!text.contains("192.0.2.1/32") && !text.contains("2001:db8:7::/64")).then_some(())
    })
    .await;
    station.lists.announce(passed, Vec::new());
    eventually("the community of one list is gone", || {
        (!shown("192.0.2.2/32").contains("(65500,42)")).then_some(())
    })
    .await;
    assert!(shown("192.0.2.2/32").contains("(65500,666)"));
}
