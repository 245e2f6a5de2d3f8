//! Step 3: three MXs that share what they learn, each in a namespace of its own, through loss, partition and restart.
#![expect(
    clippy::indexing_slicing,
    reason = "there are three hosts, and a JSON value gives null for what it has not"
)]
#![expect(clippy::print_stdout, reason = "figures of a run")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mailgate_tests::{Daemon, Network, Node, SmtpClient, is_root, run, skip, until};
use serde_json::Value;

/// How many tuples one side learns while it is alone; `MAILGATE_SYNC_DIFFERENCES` says another number for a measurement.
const DIFFERENCES: usize = 2_000;
/// Lines of one import.
const CHUNK: usize = 5_000;
/// The longest that anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, last),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

const HUB: Node = node("hub", 53);
const HOSTS: [Node; 3] = [node("mx1", 11), node("mx2", 12), node("mx3", 13)];

fn key(folder: &Path) -> Result<String> {
    let mut command = Command::new(Daemon::binary()?);
    command.args(["sync", "key", "--state-dir"]).arg(folder.join("state"));
    let printed = run(command, Duration::from_secs(30))?.success()?;
    let line = printed.lines().find(|line| line.starts_with("sha256:")).context("no key")?;
    Ok(line.to_owned())
}

/// An MX whose greylist has a short delay, and nothing else of a mail server; for more of `[edge]`.
pub(super) fn lone_mx(host: Node) -> String {
    format!(
        r#"hostname = "{}.example.org"
[net.resolver]
servers = ["127.0.0.1:9"]
timeout = "1s"
[smtp.mx]
listen = ["0.0.0.0:25"]
[smtp.msa]
listen = []
submissions = []
[access.imap]
listen = []
listen_tls = []
[edge]
mode = "classic"
[edge.greylist]
pass_after = "2s"
"#,
        host.label
    )
}

fn configuration(own: usize, keys: &[String]) -> String {
    let mut text = lone_mx(HOSTS[own]);
    text.push_str("[edge.sync]\nlisten = [\"0.0.0.0:8027\"]\ncompare_every = \"5s\"\n");
    for (other, key) in keys.iter().enumerate().filter(|(other, _)| *other != own) {
        let Node { label, v4, .. } = HOSTS[other];
        text.push_str(&format!(
            "[[edge.sync.peer]]\nname = \"{label}\"\nkey = \"{key}\"\naddress = \"{v4}:8027\"\n"
        ));
    }
    text
}

/// What a host says, without what it alone was told.
fn says(daemon: &Daemon<'_>) -> Result<BTreeSet<String>> {
    let rows = daemon.json(&["grey", "list"])?;
    let rows = rows.as_array().context("no list")?;
    let fields = [
        "kind",
        "network",
        "address",
        "reverse_path",
        "forward_path",
        "first",
        "pass",
        "expires",
        "blocked",
        "passed",
    ];
    // Each host says of a trap address when it heard of it.
    let is_told = |row: &Value, field: &str| field != "first" || row["kind"] != "trap-address";
    let text = |row: &Value, field: &str| {
        row.get(field).filter(|_| is_told(row, field)).map(Value::to_string).unwrap_or_default()
    };
    Ok(rows.iter().map(|row| fields.map(|field| text(row, field)).join(" ")).collect())
}

fn agree(daemons: &[Daemon<'_>]) -> Option<BTreeSet<String>> {
    let all: Vec<_> = daemons.iter().map(says).collect::<Result<_>>().ok()?;
    let (first, rest) = all.split_first()?;
    rest.iter().all(|other| other == first).then(|| first.clone())
}

fn connected(daemon: &Daemon<'_>) -> Option<usize> {
    let status = daemon.json(&["sync", "status"]).ok()?;
    let peers = status.get("peers")?.as_array()?;
    Some(peers.iter().filter(|peer| peer.get("state").is_some_and(|state| state == "connected")).count())
}

fn traffic(daemon: &Daemon<'_>) -> Result<u64> {
    let status = daemon.json(&["sync", "status"])?;
    let peers = status.get("peers").and_then(Value::as_array).context("no peers")?;
    let octets = |peer: &Value, field: &str| peer.get(field).and_then(Value::as_u64).unwrap_or(0);
    Ok(peers.iter().map(|peer| octets(peer, "bytes_sent") + octets(peer, "bytes_received")).sum())
}

/// The code of RCPT for a client that nobody knows, asked at a host.
fn attempt(network: &Network, host: Node) -> Result<u16> {
    network.hub().within(move || {
        let mut client = SmtpClient::connect(SocketAddr::from((host.v4, 25)))?;
        client.greet("client.example")?;
        client.expect("MAIL FROM:<stranger@client.example>", "250")?;
        Ok(client.command("RCPT TO:<nobody@example.org>")?.code)
    })
}

fn nft(network: &Network, label: &str, words: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.arg(words);
    network.node(label)?.run(command, Duration::from_secs(10))?.success().map(drop)
}

#[test]
fn parity_sync_three_mxs_stay_consistent_through_loss_partition_and_restart() {
    if !is_root() {
        return skip("namespaces need root");
    }
    if mailgate_tests::find("nft").is_none() {
        return skip("nft is not installed, which loses the packets");
    }
    let network = Network::new(HUB, &HOSTS).unwrap();
    let folders = [(); 3].map(|()| tempfile::Builder::new().prefix("mailgate-sync").tempdir().unwrap());
    let keys: Vec<String> = folders.iter().map(|folder| key(folder.path()).unwrap()).collect();
    let mut daemons: Vec<Daemon<'_>> = (0..3)
        .map(|own| {
            let inside = network.node(HOSTS[own].label).unwrap();
            Daemon::start(folders[own].path(), &configuration(own, &keys), Some(inside)).unwrap()
        })
        .collect();
    if let Err(error) = scenario(&network, &mut daemons) {
        let logs: Vec<String> = daemons.iter().map(Daemon::log).collect();
        panic!("{error:#}\n{}", logs.join("\n--------\n"));
    }
}

fn scenario(network: &Network, daemons: &mut [Daemon<'_>]) -> Result<()> {
    until("everybody to be connected with everybody", PATIENCE, || {
        daemons.iter().all(|daemon| connected(daemon) == Some(2)).then_some(())
    })?;

    // One tries at the first MX, comes again at the second, and is known at the third.
    ensure!(attempt(network, HOSTS[0])? == 451);
    until("the tuple everywhere", PATIENCE, || agree(daemons).filter(|rows| rows.len() == 1))?;
    until("a retry at another MX to pass", PATIENCE, || {
        attempt(network, HOSTS[1]).ok().filter(|code| *code != 451)
    })?;
    let rows = until("the pass everywhere, the tuple nowhere", PATIENCE, || {
        agree(daemons).filter(|rows| rows.iter().all(|row| row.contains("passed")) && !rows.is_empty())
    })?;
    println!("a retry at another MX passes and is known everywhere: {:?}", rows.0);

    // One packet of four is lost in each direction.
    nft(network, HOSTS[0].label, "add table ip loss")?;
    for (chain, hook) in [("in", "input"), ("out", "output")] {
        nft(
            network,
            HOSTS[0].label,
            &format!("add chain ip loss {chain} {{ type filter hook {hook} priority 0; }}"),
        )?;
        nft(
            network,
            HOSTS[0].label,
            &format!("add rule ip loss {chain} tcp sport 8027 numgen random mod 4 == 0 drop"),
        )?;
        nft(
            network,
            HOSTS[0].label,
            &format!("add rule ip loss {chain} tcp dport 8027 numgen random mod 4 == 0 drop"),
        )?;
    }
    for (daemon, address) in daemons.iter().zip(["203.0.113.1", "203.0.113.2", "203.0.113.3"]) {
        daemon.command(&["grey", "add", address, "--kind", "trapped"])?;
    }
    let lossy = until("three traps everywhere in spite of loss", PATIENCE, || {
        agree(daemons).filter(|rows| rows.len() == 4)
    })?;
    println!("three changes with one of four packets lost: {:.1} s", lossy.1.as_secs_f64());
    nft(network, HOSTS[0].label, "delete table ip loss")?;

    partition(network, daemons)
}

/// The third MX is alone; both sides change and delete, one is killed and starts again.
fn partition(network: &Network, daemons: &mut [Daemon<'_>]) -> Result<()> {
    let count = std::env::var("MAILGATE_SYNC_DIFFERENCES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(DIFFERENCES);
    network.hub().ip(&format!("link set dev {} down", HOSTS[2].label))?;
    daemons[0].command(&["grey", "delete", "203.0.113.1"])?;
    daemons[0].command(&["grey", "add", "203.0.113.2", "--kind", "passed"])?;
    daemons[1].command(&["grey", "add", "trap@example.org", "--kind", "trap-address"])?;
    daemons[2].command(&["grey", "add", "198.51.100.9", "--kind", "trapped"])?;
    until("the two to agree", PATIENCE, || agree(&daemons[..2]).filter(|rows| rows.len() == 4))?;
    daemons[1].kill();
    daemons[0].command(&["grey", "delete", "203.0.113.3"])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let lines: Vec<String> = (0..count)
        .map(|number| {
            let ip = Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap_or(0));
            format!(
                "GREY|{ip}|mail.example.com|<news-letter@example.com>|<person@example.org>|{now}|{}|{}|1|0",
                now + 1500,
                now + 14_400
            )
        })
        .collect();
    for chunk in lines.chunks(CHUNK) {
        daemons[2].command_with(&["grey", "import", "-"], &chunk.join("\n"))?;
    }
    daemons[1].begin()?;
    let before = traffic(&daemons[2])?;
    network.hub().ip(&format!("link set dev {} up", HOSTS[2].label))?;
    let healed = Instant::now();
    // 10.0.0.0/8 tuples, and besides: one passed by greylisting, one by command, one trapped, one trap address.
    let wanted = count + 4;
    until("as many keys everywhere", PATIENCE, || {
        let keys = |daemon: &Daemon<'_>| daemon.json(&["sync", "status"]).ok()?.get("keys")?.as_u64();
        let all: Option<Vec<u64>> = daemons.iter().map(keys).collect();
        all?.iter().all(|keys| *keys == wanted as u64).then_some(())
    })?;
    let counted = healed.elapsed();
    let rows =
        until("the three to agree", PATIENCE, || agree(daemons).filter(|rows| rows.len() == wanted))?.0;
    let octets = traffic(&daemons[2])? - before;
    println!(
        "{count} differences after a partition: level after {:.1} s, {octets} octets at the one that was alone, {:.0} for each tuple and peer",
        counted.as_secs_f64(),
        octets as f64 / (count as f64 * 2.0)
    );
    let has = |text: &str| rows.iter().any(|row| row.contains(text));
    ensure!(!has("203.0.113.1/32") && !has("203.0.113.3/32"), "what was deleted came back");
    ensure!(
        rows.iter().any(|row| row.contains("203.0.113.2/32") && row.contains("passed")),
        "the later command holds"
    );
    ensure!(has("198.51.100.9/32") && has("trap@example.org"));
    Ok(())
}
