//! Host mode on a host whose administrator sits on the other side of it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use mailgate_tests::{Daemon, Namespace, Network, until};

use socket2::{Domain, Protocol, Socket, Type};

use crate::station::missing;
use crate::wire::{EVIL, GOOD, HUB, MX, connect, glance};

/// Until something that must come has come; a debug build on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(20);

const SSH: u16 = 22;
const WEB: u16 = 8080;
const CLOSED: u16 = 8081;

/// A host with a filter on its interface; `firewall` is the section with its rules.
fn configuration(firewall: &str) -> String {
    let (v4, v6) = (MX.v4, MX.v6);
    format!(
        "hostname = \"mx.example.org\"\n\
         [smtp.mx]\nlisten = [\"{v4}:25\", \"[{v6}]:25\"]\n\
         [smtp.msa]\nlisten = []\nsubmissions = []\n\
         [access.imap]\nlisten = []\nlisten_tls = []\n\
         [edge.packet]\ninterfaces = [\"eth0\"]\ninstance = \"host\"\n\
         {firewall}"
    )
}

/// Rewrites the section in the file of the daemon.
fn rewrite(folder: &std::path::Path, firewall: &str) {
    let file = folder.join("mailgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once("[firewall]").unwrap();
    let (_, tail) = rest.split_once("[admin]").unwrap();
    std::fs::write(&file, format!("{head}{firewall}\n[admin]{tail}")).unwrap();
}

/// Accepts and answers every line with the same line, for ever.
fn echo(on: &Namespace, port: u16) {
    let listeners = on
        .within(move || Ok([TcpListener::bind((MX.v4, port))?, TcpListener::bind((MX.v6, port))?]))
        .unwrap();
    for listener in listeners {
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let Ok(mut writer) = stream.try_clone() else { return };
                    let _ = std::io::copy(&mut &stream, &mut writer);
                });
            }
        });
    }
}

/// Whether a connection still carries something there and back.
fn lives(stream: &mut TcpStream) -> bool {
    let mut back = [0; 5];
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"alive").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"alive"
}

/// Whether somebody reaches a port of the host, by IPv4 and IPv6. Who got no answer tries again, as a busy machine may
/// have been late with it.
fn reaches(from: &Namespace, port: u16) -> [bool; 2] {
    let both: [SocketAddr; 2] = [(MX.v4, port).into(), (MX.v6, port).into()];
    both.map(|to| glance(from, to).or_else(|| glance(from, to)).is_some())
}

const OPEN: [bool; 2] = [true, true];
const SHUT: [bool; 2] = [false, false];

fn network() -> Network {
    Network::new(HUB, &[MX, GOOD, EVIL]).unwrap()
}

#[test]
fn host_mode_that_nobody_confirms_takes_itself_back_even_when_the_daemon_is_killed() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = network();
    let (mx, evil) = (network.node("mx").unwrap(), network.node("evil").unwrap());
    echo(mx, WEB);
    let folder = tempfile::tempdir().unwrap();
    let text = configuration("[firewall]\nadmin_ports = [22]\n");
    let mut daemon = Daemon::start(folder.path(), &text, Some(mx)).unwrap();
    assert_eq!(reaches(evil, WEB), OPEN, "before");

    rewrite(folder.path(), "[firewall]\nadmin_ports = [22]\ndefault = \"drop\"\n");
    let refused = daemon.attempt(&["firewall", "apply"], "").unwrap();
    assert!(
        !refused.status.success() && refused.output.contains("--confirm-within 60s"),
        "{}",
        refused.output
    );
    assert!(refused.output.contains("what no rule names is dropped (host mode)"), "{}", refused.output);
    assert_eq!(reaches(evil, WEB), OPEN, "a refused change changes nothing");

    let said = daemon.command(&["firewall", "apply", "--confirm-within", "6s"]).unwrap();
    assert!(said.contains("in force until"), "{said}");
    assert_eq!(reaches(evil, WEB), SHUT, "in force");
    until("the rules to be taken back", LIMIT, || (reaches(evil, WEB) == OPEN).then_some(())).unwrap();
    until("the daemon to notice", LIMIT, || {
        let shown = daemon.json(&["firewall", "show"]).unwrap();
        (shown["default"] == "pass" && shown["unconfirmed_until"].is_null()).then_some(())
    })
    .unwrap();
    let said = daemon.command(&["firewall", "confirm"]).unwrap();
    assert!(said.contains("no rules wait"), "{said}");

    daemon.command(&["firewall", "apply", "--confirm-within", "6s"]).unwrap();
    assert_eq!(reaches(evil, WEB), SHUT, "in force again");
    daemon.kill();
    until("the kernel to take the rules back alone", LIMIT, || (reaches(evil, WEB) == OPEN).then_some(()))
        .unwrap();
    offline(&daemon, mx, folder.path(), &["firewall", "detach"]);
}

#[test]
fn host_mode_closes_what_no_rule_names_and_keeps_sessions_replies_and_the_administrator() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = network();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    [SSH, WEB, CLOSED].into_iter().for_each(|port| echo(mx, port));
    // The administrator is logged in, somebody else reads something.
    let mut ssh = connect(good, (MX.v4, SSH).into()).unwrap();
    let mut reader = connect(evil, (MX.v6, CLOSED).into()).unwrap();
    assert!(lives(&mut ssh) && lives(&mut reader), "before");

    let rules = "[firewall]\nadmin = [\"203.0.113.0/24\"]\ndefault = \"drop\"\n\
                 [[firewall.rule]]\nname = \"web\"\nports = [8080]\naction = \"pass\"\n";
    let folder = tempfile::tempdir().unwrap();
    // The first start comes with host mode: in force for a while, kept when confirmed.
    let mut daemon = Daemon::start(folder.path(), &configuration(rules), Some(mx)).unwrap();
    let shown = daemon.json(&["firewall", "show"]).unwrap();
    assert!(shown["unconfirmed_until"].is_string(), "{shown:#}");
    let said = daemon.command(&["firewall", "confirm"]).unwrap();
    assert!(said.contains("the rules stay"), "{said}");

    assert_eq!(reaches(evil, CLOSED), SHUT, "no rule names it");
    assert_eq!(reaches(evil, SSH), SHUT, "admin networks are named, this is none");
    assert_eq!(reaches(evil, WEB), OPEN, "a rule names it");
    assert_eq!(reaches(evil, 25), OPEN, "mail is received");
    assert!(lives(&mut ssh) && lives(&mut reader), "live connections go on");
    let again = connect(good, (MX.v4, SSH).into());
    assert!(again.is_some(), "who is logged in may log in a second time");
    evil.within(|| ping(MX.v4.into())).unwrap();
    evil.within(|| ping(MX.v6.into())).unwrap();
    answers_to_questions_of_the_host_come_in(mx, evil);

    // What was confirmed once needs no second confirmation.
    assert!(daemon.stop());
    assert_eq!(reaches(evil, CLOSED), SHUT, "without a daemon");
    daemon.begin().unwrap();
    let shown = daemon.json(&["firewall", "show"]).unwrap();
    assert!(shown["default"] == "drop" && shown["unconfirmed_until"].is_null(), "{shown:#}");
    assert_eq!(reaches(evil, CLOSED), SHUT, "after the restart");

    // What is let in again needs no confirmation.
    rewrite(folder.path(), "[firewall]\nadmin = [\"203.0.113.0/24\"]\n");
    let said = daemon.attempt(&["firewall", "apply", "--dry-run"], "").unwrap();
    assert!(said.output.contains("passes no more"), "{}", said.output);
    daemon.command(&["firewall", "apply", "--yes"]).unwrap();
    assert_eq!(reaches(evil, CLOSED), OPEN, "open again");
    daemon.command(&["firewall", "detach"]).unwrap();
}

/// An echo request and its reply, over a raw socket.
fn ping(to: IpAddr) -> Result<()> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8_u8, 0_u8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    // Type, code, checksum (IPv6: made by the kernel), identifier, number.
    let sum = !(u16::from(request) << 8);
    let [high, low] = sum.to_be_bytes();
    socket.send_to(&[request, 0, high, low, 0, 0, 0, 0], &SocketAddr::new(to, 0).into())?;
    let (heard, _) = until("an echo reply", LIMIT, || {
        socket.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
        let mut packet = [0; 128];
        let read = (&socket).read(&mut packet).ok()?;
        // IPv4 comes with its header of twenty bytes, IPv6 without.
        let from = if to.is_ipv4() { 20 } else { 0 };
        (packet[..read].get(from) == Some(&reply)).then_some(())
    })?;
    Ok(heard)
}

/// TCP and UDP that this host begins.
fn answers_to_questions_of_the_host_come_in(mx: &Namespace, evil: &Namespace) {
    let (tcp, udp) =
        evil.within(|| Ok((TcpListener::bind((EVIL.v4, 443))?, UdpSocket::bind((EVIL.v4, 53))?))).unwrap();
    let server = std::thread::spawn(move || {
        let (mut peer, _) = tcp.accept().unwrap();
        peer.write_all(b"tcp").unwrap();
        drop(peer);
        udp.set_read_timeout(Some(LIMIT)).unwrap();
        let mut question = [0; 16];
        let (read, from) = udp.recv_from(&mut question).unwrap();
        udp.send_to(&question[..read], from).unwrap();
    });
    let heard = mx
        .within(|| {
            let mut text = String::new();
            TcpStream::connect_timeout(&(EVIL.v4, 443).into(), LIMIT)?.read_to_string(&mut text)?;
            // As a resolver asks: from a port of its own, to one server.
            let asks = UdpSocket::bind((MX.v4, 0))?;
            asks.connect((EVIL.v4, 53))?;
            asks.set_read_timeout(Some(LIMIT))?;
            asks.send(b"dns")?;
            let mut answer = [0; 3];
            asks.recv(&mut answer)?;
            Ok((text, answer))
        })
        .unwrap();
    assert_eq!((heard.0.as_str(), &heard.1), ("tcp", b"dns"));
    server.join().unwrap();
}

/// A command inside the host, which has no daemon.
fn offline(daemon: &Daemon<'_>, mx: &Namespace, folder: &std::path::Path, words: &[&str]) -> String {
    let mut command = Command::new(daemon.binary_path());
    command.args(words).arg("--config").arg(folder.join("mailgate.toml"));
    mx.run(command, LIMIT).unwrap().success().unwrap()
}

#[test]
fn without_a_daemon_an_address_is_unblocked_and_the_filter_taken_out() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = network();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    echo(mx, WEB);
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path(), &configuration("[firewall]\n"), Some(mx)).unwrap();
    daemon.command(&["table", "add", "drop", "198.18.0.0/16", "2001:db8::/32"]).unwrap();
    until("the table to act", LIMIT, || (reaches(evil, WEB) == SHUT).then_some(())).unwrap();
    daemon.kill();
    assert_eq!(reaches(evil, WEB), SHUT, "the filter outlives the daemon");
    let said = offline(&daemon, mx, folder.path(), &["firewall", "unblock", &EVIL.v4.to_string()]);
    assert!(said.contains("drop") && said.contains("next start"), "{said}");
    assert_eq!(reaches(evil, WEB), [true, false], "the next packet passes");
    let said = offline(&daemon, mx, folder.path(), &["firewall", "unblock", &EVIL.v6.to_string()]);
    // Neighbour discovery was stopped too, and takes a moment to begin again.
    until(&format!("the other family: {said}"), LIMIT, || (reaches(evil, WEB) == OPEN).then_some(()))
        .unwrap();
    assert_eq!(reaches(good, WEB), SHUT, "nobody else");
    let said = offline(&daemon, mx, folder.path(), &["firewall", "unblock", "203.0.113.9"]);
    assert!(said.contains("no table"), "{said}");

    let would = offline(&daemon, mx, folder.path(), &["firewall", "detach", "--dry-run"]);
    assert!(would.contains("eth0") || would.contains("xdp"), "{would}");
    assert_eq!(reaches(good, WEB), SHUT, "only said");
    offline(&daemon, mx, folder.path(), &["firewall", "detach"]);
    until("the filter to be gone", LIMIT, || (reaches(good, WEB) == OPEN).then_some(())).unwrap();
    let said = offline(&daemon, mx, folder.path(), &["firewall", "detach"]);
    assert!(said.contains("nothing"), "{said}");
}

#[test]
fn the_rule_that_a_test_names_is_the_rule_that_decides() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = network();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    echo(mx, WEB);
    let rules = "[firewall]\n\
                 [[firewall.rule]]\nname = \"few\"\nports = [8080]\naction = \"limit\"\nconnections = 500\n\
                 [[firewall.rule]]\nname = \"no web for them\"\nfrom = [\"bruteforce\"]\nports = [8080]\naction = \"drop\"\n";
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &configuration(rules), Some(mx)).unwrap();
    daemon.command(&["table", "add", "bruteforce", &EVIL.v4.to_string()]).unwrap();
    until("the table to act", LIMIT, || (reaches(evil, WEB) == [false, true]).then_some(())).unwrap();
    assert_eq!(reaches(good, WEB), OPEN);
    let test =
        |address: &str, port: &str| daemon.json(&["firewall", "test", address, "--port", port]).unwrap();
    let said = test(&EVIL.v4.to_string(), "8080");
    assert_eq!((said["result"].as_str(), said["name"].as_str()), (Some("dropped"), Some("no web for them")));
    assert_eq!(said["tables"][0]["prefix"], format!("{}/32", EVIL.v4), "{said:#}");
    assert_eq!(said["limits"].as_array().unwrap().len(), 1, "{said:#}");
    let said = test(&EVIL.v4.to_string(), "9999");
    assert_eq!(said["name"], "table bruteforce", "{said:#}");
    let said = test(&GOOD.v4.to_string(), "8080");
    assert!(said["result"] == "passed" && said["name"].is_null(), "{said:#}");
    let said = test(&MX.v4.to_string(), "8080");
    assert!(said["name"] == "protected" && said["protected"][0]["why"] == "own", "{said:#}");
    let said = test(&GOOD.v4.to_string(), "25");
    assert!(said["result"] == "judged by the edge" && said["on_port_25"] == "greylist", "{said:#}");

    let shown = daemon.json(&["firewall", "show"]).unwrap();
    let row = shown["rules"].as_array().unwrap().iter().find(|row| row["name"] == "no web for them").unwrap();
    assert!(row["packets"].as_u64().unwrap() > 0, "{row:#}");
    assert!(row["origin"].as_str().unwrap().contains("mailgate.toml:"), "{row:#}");
    let dropped = shown["dropped"].as_array().unwrap().iter().find(|row| row["reason"] == "drop").unwrap();
    assert!(dropped["packets"].as_u64() >= row["packets"].as_u64(), "{dropped:#}");
    let text = daemon.command(&["firewall", "show", "-v"]).unwrap();
    assert!(text.contains("drop tcp from <bruteforce> to port 8080  # no web for them"), "{text}");

    let said = daemon.command(&["firewall", "unblock", &EVIL.v4.to_string()]).unwrap();
    assert!(
        said.contains("in table bypass until") && said.contains("but rule \"no web for them\""),
        "{said}"
    );
    daemon.command(&["firewall", "detach"]).unwrap();
}
