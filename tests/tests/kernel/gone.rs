//! The real daemon: what holds when it is gone, and what it says when it lacks a right.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use mailgate_tests::{Daemon, Namespace, Network, until};

use crate::station::{missing, namespace};
use crate::wire::{EVIL, GOOD, HUB, MX, connect, glance};

/// The greeting of the mail server that has port 25.
const FOREIGN: &str = "220 foreign";
/// Longer than nftables goes on redirecting after the last sign of life.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody else's mail server: it greets, no more. Its thread ends with the test.
fn foreign(mx: &Namespace) {
    let listener = mx.within(|| Ok(TcpListener::bind((MX.v4, 25))?)).unwrap();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            let _ = writeln!(peer, "{FOREIGN}\r");
        }
    });
}

/// The first line that a client from here gets; `None` when nobody takes it.
fn greeting(from: &Namespace) -> Option<String> {
    let peer = glance(from, (MX.v4, 25).into())?;
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    BufReader::new(peer).read_line(&mut line).ok()?;
    Some(line.trim_end().to_owned())
}

/// Files about the table in nftables live and die with the namespace.
fn own_run(namespace: &Namespace) {
    namespace
        .within(|| {
            const NOTHING: Option<&str> = None;
            nix::mount::mount(Some("run"), "/run", Some("tmpfs"), nix::mount::MsFlags::empty(), NOTHING)?;
            Ok(())
        })
        .unwrap();
}

fn after_a_kill(backend: &str) {
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil, hub) = (network.node("good").unwrap(), network.node("evil").unwrap(), network.hub());
    own_run(mx);
    foreign(mx);
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "hostname = \"mx.example.org\"\n[net.resolver]\nservers = [\"127.0.0.1:53\"]\n\
         [edge]\nmode = \"classic\"\nbehind = \"foreign\"\n\
         [edge.packet]\ninterfaces = [\"eth0\"]\nbackend = \"{backend}\"\ninstance = \"gone\"\n"
    );
    let mut daemon = Daemon::start(folder.path(), &text, Some(mx)).unwrap();
    let ours = |line: &Option<String>| line.as_ref().is_some_and(|line| !line.contains(FOREIGN));
    until("unknown ones to reach the edge", PATIENCE, || ours(&greeting(hub)).then_some(()))
        .unwrap_or_else(|error| panic!("{backend}: {error:#}: {}", daemon.log()));
    let listed = [("drop", EVIL.v4.to_string()), ("block", GOOD.v4.to_string())];
    for (table, source) in &listed {
        daemon.command(&["table", "add", table, source]).unwrap();
    }
    until("the listed source to be shut out", PATIENCE, || greeting(evil).is_none().then_some(())).unwrap();
    assert!(connect(good, (MX.v4, 25).into()).is_some(), "{backend}: held by the edge");

    daemon.kill();
    assert_eq!(greeting(evil), None, "{backend}: listed, without the daemon");
    until("unknown ones to reach the mail server", PATIENCE, || {
        (greeting(hub).as_deref() == Some(FOREIGN)).then_some(())
    })
    .unwrap();
    assert_eq!(greeting(good), None, "{backend}: a source to be held reaches nobody else");
    assert_eq!(greeting(evil), None, "{backend}: still");

    daemon.begin().unwrap();
    until("the edge to take over again", PATIENCE, || ours(&greeting(hub)).then_some(())).unwrap();
    assert_eq!(greeting(evil), None, "{backend}: after the next start");
    assert!(daemon.stop(), "{}", daemon.log());
    assert_eq!(greeting(evil), None, "{backend}: after a stop in order");
    until("unknown ones to reach the mail server at once", PATIENCE, || {
        (greeting(hub).as_deref() == Some(FOREIGN)).then_some(())
    })
    .unwrap();
}

#[test]
fn after_kill_9_listed_sources_stay_out_and_unknown_ones_reach_the_other_mail_server() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    after_a_kill("ebpf");
    if mailgate_tests::find("nft").is_none() {
        println!("the same with nftables was not tried: nft is not installed");
        return;
    }
    after_a_kill("nft");
}

/// What the daemon logs about the filter when started by this program with these words.
fn said(label: &str, start: &[&str]) -> String {
    let namespace = namespace(label);
    own_run(&namespace);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("mailgate.toml");
    let free: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let text = format!(
        "hostname = \"mx.example.org\"\nstate_dir = {:?}\n[net.resolver]\nservers = [\"127.0.0.1:53\"]\n\
         [smtp.mx]\nlisten = [\"{free}\"]\n[smtp.msa]\nlisten = []\nsubmissions = []\n\
         [access.imap]\nlisten = []\nlisten_tls = []\n\
         [edge.packet]\ninterfaces = [\"v0\"]\ninstance = \"rights\"\n[admin]\ncontrol = {:?}\n",
        folder.path().join("state"),
        folder.path().join("control"),
    );
    std::fs::write(&config, text).unwrap();
    let [program, words @ ..] = start else { panic!("no program") };
    let mut command = Command::new(program);
    command.args(words).arg(Daemon::binary().unwrap()).arg("run").arg("--config").arg(&config);
    let mut running = namespace.start(command, &folder.path().join("log")).unwrap();
    let done = until("the daemon to start", Duration::from_secs(60), || {
        (running.log().contains("started") || running.ended().is_some()).then_some(())
    });
    let log = running.log();
    done.unwrap_or_else(|error| panic!("{error:#}: {log}"));
    running.stop();
    log
}

/// Forbids bpf(2) by a seccomp filter of four instructions (linux/seccomp.h, linux/filter.h), then becomes its arguments:
/// load the number of the call; is it bpf? then EPERM; else allow. Every Debian has perl.
fn without_bpf() -> String {
    let (bpf, prctl) = if cfg!(target_arch = "x86_64") { (321, 157) } else { (280, 167) };
    format!(
        "my $filter = pack('SCCL' x 4, 0x20,0,0,0, 0x15,0,1,{bpf}, 6,0,0,0x00050001, 6,0,0,0x7fff0000); \
         my $program = pack('Sx6P', 4, $filter); \
         syscall({prctl}, 22, 2, $program) == 0 or die \"prctl: $!\"; exec @ARGV or die"
    )
}

#[test]
fn a_seccomp_filter_that_forbids_bpf_is_named_and_the_next_best_backend_is_taken() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    if mailgate_tests::find("perl").is_none() {
        return mailgate_tests::skip("perl is not installed, which forbids itself bpf(2)");
    }
    let log = said("seccomp", &["perl", "-e", &without_bpf(), "--"]);
    let mode =
        if mailgate_tests::find("nft").is_some() { "is a table of nftables" } else { "tables act at accept" };
    let line = log.lines().find(|line| line.contains(mode)).unwrap_or_else(|| panic!("{mode}: {log}"));
    for word in ["a seccomp filter forbids bpf(2), though the capabilities are there", "SystemCallFilter=bpf"]
    {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
}

#[test]
fn a_missing_right_is_named_and_the_next_best_backend_is_taken() -> Result<()> {
    if let Some(reason) = missing() {
        mailgate_tests::skip(reason);
        return Ok(());
    }
    let has_nft = mailgate_tests::find("nft").is_some();
    let cases: [(&str, &[&str], &str, &[&str]); 3] = [
        (
            "nobpf",
            &["setpriv", "--bounding-set", "-bpf,-sys_admin"],
            if has_nft { "nft" } else { "memory" },
            &["lacks CAP_BPF", "AmbientCapabilities=CAP_BPF CAP_NET_ADMIN"],
        ),
        (
            "nonet",
            &["setpriv", "--bounding-set", "-bpf,-sys_admin,-net_admin"],
            "memory",
            &[
                "lacks CAP_BPF and CAP_NET_ADMIN",
                if has_nft { "nft is refused" } else { "nft is not installed" },
            ],
        ),
        (
            "inside",
            &["unshare", "--user", "--map-root-user"],
            "memory",
            &["user namespace", "run it on the host"],
        ),
    ];
    for (label, start, mode, words) in cases {
        let log = said(label, start);
        let line = log
            .lines()
            .find(|line| line.contains("tables act at accept") || line.contains("is a table of nftables"))
            .unwrap_or_else(|| panic!("{label}: {log}"));
        assert!(line.contains(mode), "{label}: expected {mode}: {line}");
        for word in words {
            assert!(line.contains(word), "{label}: {word:?} is missing in: {line}");
        }
        assert!(!Path::new("/sys/fs/bpf/mailgate/rights").exists());
    }
    Ok(())
}
