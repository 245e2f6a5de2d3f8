//! The edge alone, in front of a real Postfix that has port 25 and is never told of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mailgate_tests::{Daemon, Dns, Namespace, Network, Node, Postfix, SmtpClient, Sockets, lab, until};

const HUB: Node = node("hub", 53);
const MX: Node = node("mx", 25);
/// In the bypass table.
const FRIEND: Node = node("friend", 42);
/// Unknown.
const STRANGER: Node = node("stranger", 10);
/// In the block table.
const SPAMMER: Node = node("spammer", 66);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

/// Time of one wait; everything here takes milliseconds, except Postfix's beginning and a machine that does much besides.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name that only Postfix greets with.
const POSTFIX: &str = "ESMTP Postfix";
/// The Postfix setting with which it lets us say who the client is.
const XCLIENT: &str = "smtpd_authorized_xclient_hosts = 127.0.0.1\n";

/// Why this cannot run here.
fn missing() -> Option<String> {
    if !cfg!(feature = "ebpf") {
        return Some("built without the kernel filter (cargo xtask setup, cargo xtask test)".into());
    }
    lab::obstacle().map(|obstacle| obstacle.to_string())
}

/// Everything around the daemon. Fields are dropped in this order.
struct World {
    postfix: Postfix,
    network: Network,
    _dns: Dns,
    folder: tempfile::TempDir,
}

impl World {
    /// Postfix with these additions, before anything of ours has started.
    fn new(main: &str, master: &str) -> World {
        let folder = tempfile::Builder::new().prefix("mailgate-edge").tempdir().unwrap();
        // Postfix gives up root on its way down there.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let network = Network::new(HUB, &[MX, FRIEND, STRANGER, SPAMMER]).unwrap();
        let sockets = network.hub().within(|| {
            Sockets::bind(&[(HUB.v4, 53).into(), (HUB.v6, 53).into(), (Ipv4Addr::LOCALHOST, 53).into()])
        });
        let dns = Dns::start(sockets.unwrap()).unwrap();
        for (host, node) in [("mx.example.org", MX), ("mail.example.net", STRANGER)] {
            dns.host(host, node.v4.into()).unwrap();
            dns.host(host, node.v6.into()).unwrap();
        }
        let mx = network.node("mx").unwrap();
        let postfix =
            Postfix::start_with(mx, folder.path(), "mx.example.org", "example.org", main, master).unwrap();
        World { postfix, network, _dns: dns, folder }
    }

    /// The daemon with these lines in `[edge.foreign]` and `[edge.packet]`.
    fn daemon(&self, foreign: &str, packet: &str) -> Daemon<'_> {
        self.daemon_with(foreign, packet, "")
    }

    /// The same with these in `[edge.greylist]`, too.
    fn daemon_with(&self, foreign: &str, packet: &str, greylist: &str) -> Daemon<'_> {
        let text = format!(
            r#"
hostname = "mx.example.org"
[net.resolver]
servers = ["{}:53"]
[edge]
mode = "classic"
behind = "foreign"
[edge.foreign]
{foreign}
[edge.greylist]
pass_after = "1s"
{greylist}
[edge.packet]
interfaces = ["eth0"]
{packet}
"#,
            HUB.v4
        );
        let daemon = Daemon::start(self.folder.path(), &text, Some(self.node("mx"))).unwrap();
        assert!(daemon.log().contains("The tables act in the kernel"), "{}", daemon.log());
        for (table, node) in [("bypass", FRIEND), ("block", SPAMMER)] {
            daemon.command(&["table", "add", table, &node.v4.to_string(), &node.v6.to_string()]).unwrap();
        }
        daemon
    }

    fn node(&self, label: &str) -> &Namespace {
        self.network.node(label).unwrap()
    }

    /// A connection to port 25 and its greeting.
    fn greeted(&self, from: &Node, to: IpAddr) -> Result<(SmtpClient, String)> {
        self.node(from.label).within(move || {
            let mut client = SmtpClient::connect(SocketAddr::new(to, 25))?;
            let greeting = client.reply()?.text();
            Ok((client, greeting))
        })
    }

    /// Waits until connections from there are greeted by Postfix itself.
    fn reaches_postfix(&self, from: &Node, to: IpAddr) {
        let mut last = String::new();
        let reached = until("the greeting of Postfix", PATIENCE, || {
            last = self.greeted(from, to).map_or_else(|error| error.to_string(), |(_, greeting)| greeting);
            last.contains(POSTFIX).then_some(())
        });
        reached.unwrap_or_else(|error| panic!("{error}; last heard from {to}: {last}"));
    }

    /// Waits until connections from there meet the edge, greylister or tarpit.
    fn meets_edge(&self, from: &Node, to: IpAddr) {
        let from = self.node(from.label);
        let met = until("another greeting than that of Postfix", PATIENCE, || {
            let heard = from.within(move || {
                let mut client = SmtpClient::connect(SocketAddr::new(to, 25))?;
                // The first octets: a whole line of Postfix and of the greylister, one octet of the tarpit.
                Ok(String::from_utf8_lossy(&client.receive()?).into_owned())
            });
            heard.is_ok_and(|text| !text.is_empty() && !text.contains(POSTFIX)).then_some(())
        });
        met.unwrap();
    }

    /// Whether the kernel refuses to connect them.
    fn is_cut_off(&self, from: &Node, to: IpAddr) -> bool {
        const UNANSWERED: Duration = Duration::from_millis(700);
        let connected = self.node(from.label).within(move || {
            Ok(std::net::TcpStream::connect_timeout(&SocketAddr::new(to, 25), UNANSWERED).is_ok())
        });
        !connected.unwrap()
    }

    /// Waits for the message with this word; it as delivered.
    fn delivered(&self, word: &str) -> String {
        let found = until("the message in Postfix's mailbox", PATIENCE, || {
            let texts = self.postfix.delivered().into_iter().filter_map(|path| fs::read_to_string(path).ok());
            texts.into_iter().find(|text| text.contains(word))
        });
        found.unwrap_or_else(|error| panic!("{error}\n{}", self.postfix.log())).0
    }
}

/// Both families of one host.
fn families(node: &Node) -> [IpAddr; 2] {
    [IpAddr::V4(node.v4), IpAddr::V6(node.v6)]
}

/// Waits until the daemon has looked at what Postfix offers and hands over so.
fn hands_over(daemon: &Daemon<'_>, way: &str) {
    let mut last = None;
    let known = until("the hand-over", PATIENCE, || {
        let status = daemon.json(&["status"]).ok()?;
        last = Some(status.get("foreign").cloned());
        let foreign = status.get("foreign")?;
        let waits = foreign.get("reason").is_some_and(|reason| reason == "it has not answered yet");
        (foreign.get("handover")? == way && !waits).then_some(())
    });
    known.unwrap_or_else(|error| panic!("{error}; last status: {last:?}\n{}", daemon.log()));
}

const FROM: &str = "sender@example.net";
const TO: &str = "someone@example.org";

/// EHLO to RCPT; the client and the reply to RCPT.
fn attempt(client: SmtpClient) -> Result<(SmtpClient, mailgate_tests::SmtpReply)> {
    attempt_of(client, FROM)
}

fn attempt_of(mut client: SmtpClient, sender: &str) -> Result<(SmtpClient, mailgate_tests::SmtpReply)> {
    client.expect("EHLO mail.example.net", "250")?;
    client.expect(&format!("MAIL FROM:<{sender}> SIZE=100 BODY=8BITMIME"), "250")?;
    let reply = client.command(&format!("RCPT TO:<{TO}>"))?;
    Ok((client, reply))
}

/// Tries until the greylister passes this; the session in which it did.
fn pass(world: &World, from: &Node, to: IpAddr) -> (SmtpClient, mailgate_tests::SmtpReply) {
    let begun = Instant::now();
    let mut first = true;
    until("the greylister to pass", PATIENCE, || {
        let (client, greeting) = world.greeted(from, to).unwrap();
        assert!(!greeting.contains(POSTFIX), "it should meet the edge: {greeting}");
        let (client, reply) = attempt(client).unwrap();
        if reply.text().contains("greylisted") {
            first = false;
            assert_eq!(reply.code, 451);
            return None;
        }
        assert!(!first && begun.elapsed() >= Duration::from_millis(900), "at first contact: {reply}");
        Some((client, reply))
    })
    .unwrap()
    .0
}

/// Tries once and waits until a retry would pass. The daemon is asked that without another attempt, so that the time
/// of passing cannot fall between two commands of one session.
fn may_come_again(world: &World, daemon: &Daemon<'_>, sender: &str) {
    let (client, greeting) = world.greeted(&STRANGER, MX.v4.into()).unwrap();
    assert!(!greeting.contains(POSTFIX), "it should meet the edge: {greeting}");
    let (_, reply) = attempt_of(client, sender).unwrap();
    assert!(reply.code == 451 && reply.text().contains("greylisted"), "{reply}");
    delay_is_over(daemon, sender);
}

/// Waits until a retry of the stranger would pass.
fn delay_is_over(daemon: &Daemon<'_>, sender: &str) {
    let ip = STRANGER.v4.to_string();
    let mut last = None;
    let passes = until("the end of the delay", PATIENCE, || {
        let words = ["grey", "simulate", "--ip", &ip, "--from", sender, "--to", TO];
        let said = last.insert(daemon.json(&words).ok()?);
        (said.get("result")? == "accepted").then_some(())
    });
    passes.unwrap_or_else(|error| panic!("{error}; last answer: {last:?}"));
}

/// The rest of a message whose RCPT was accepted.
fn content(client: &mut SmtpClient, word: &str) -> Result<()> {
    client.expect("DATA", "354")?;
    client.send(format!("Subject: {word}\r\n\r\nA line.\r\n..and a dot\r\n").as_bytes())?;
    let reply = client.command(".")?;
    ensure!(reply.code == 250, "{reply}");
    client.expect("QUIT", "221").map(drop)
}

#[test]
fn known_sources_reach_postfix_itself_and_listed_ones_the_tarpit() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new("", "");
    let mut daemon = world.daemon("", "");
    for (n, to) in families(&MX).into_iter().enumerate() {
        let (client, greeting) = world.greeted(&FRIEND, to).unwrap();
        assert!(greeting.contains(POSTFIX), "{greeting}");
        let (mut client, reply) = attempt(client).unwrap();
        assert_eq!(reply.code, 250, "{reply}");
        let word = format!("from-a-friend-{n}");
        content(&mut client, &word).unwrap();
        let address = families(&FRIEND)[n];
        let message = world.delivered(&word);
        let prefix = if address.is_ipv6() { "IPv6:" } else { "" };
        assert!(message.contains(&format!("[{prefix}{address}]")), "its own address: {message}");
        assert!(world.postfix.log().contains(&format!("connect from unknown[{address}]")));

        let heard = world.node(SPAMMER.label).within(move || {
            let mut client = SmtpClient::connect(SocketAddr::new(to, 25))?;
            client.set_patience(Duration::from_millis(1500))?;
            client.receive()
        });
        assert!(heard.unwrap().len() <= 2, "a byte a second");
    }
    assert!(world.postfix.log().lines().all(|line| !line.contains(&SPAMMER.v4.to_string())));
    // What mail servers have, this daemon has not.
    for words in [["queue", "list"], ["account", "list"]] {
        let refused = daemon.attempt(&words, "").unwrap().success().unwrap_err().to_string();
        assert!(refused.contains("the edge alone"), "{refused}");
    }
    println!("memory of the edge alone: {:?} MiB", daemon.memory().unwrap());
    assert!(daemon.stop());
}

#[test]
fn a_stranger_that_qualifies_goes_on_in_postfix_on_the_same_connection() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new(XCLIENT, "");
    let daemon = world.daemon("", "");
    hands_over(&daemon, "xclient");
    for (n, to) in families(&MX).into_iter().enumerate() {
        let (mut client, reply) = pass(&world, &STRANGER, to);
        assert_eq!(reply.code, 250, "{reply}");
        // Everybody may send to those whom Postfix serves, and to nobody else, whatever it thinks of the edge itself.
        let relay = client.command("RCPT TO:<victim@example.com>").unwrap();
        assert!(relay.code == 454 || relay.code == 554, "{relay}");
        assert!(relay.text().contains("Relay access denied"), "{relay}");
        let word = format!("from-a-stranger-{n}");
        content(&mut client, &word).unwrap();
        let message = world.delivered(&word);
        let address = families(&STRANGER)[n];
        let prefix = if address.is_ipv6() { "IPv6:" } else { "" };
        assert!(
            message.contains(&format!("from mail.example.net (mail.example.net [{prefix}{address}])")),
            "{message}"
        );
        assert!(message.contains("\n.and a dot\n") && message.matches("Received:").count() == 1, "{message}");
        world.reaches_postfix(&STRANGER, to);
    }
    // It learned from the kernel's side too: after a restart nobody waits again.
    drop(daemon);
    let daemon = world.daemon("", "");
    for to in families(&MX) {
        world.reaches_postfix(&STRANGER, to);
        assert!(!world.is_cut_off(&STRANGER, to));
    }
    daemon.command(&["grey", "delete", &STRANGER.v4.to_string()]).unwrap();
    world.meets_edge(&STRANGER, MX.v4.into());
    world.reaches_postfix(&STRANGER, MX.v6.into());
    // What was learned ends where a list begins; what the administrator said does not.
    daemon.command(&["table", "add", "block", &STRANGER.v6.to_string()]).unwrap();
    world.meets_edge(&STRANGER, MX.v6.into());
    daemon.command(&["grey", "add", "--kind", "passed", &STRANGER.v6.to_string()]).unwrap();
    world.reaches_postfix(&STRANGER, MX.v6.into());
    daemon.command(&["grey", "add", "--kind", "trapped", &STRANGER.v6.to_string()]).unwrap();
    world.meets_edge(&STRANGER, MX.v6.into());
}

#[test]
fn without_xclient_nobody_is_taken_for_a_program_of_the_host() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new("", "");
    let daemon = world.daemon("", "");
    hands_over(&daemon, "defer");
    let (mut client, reply) = pass(&world, &STRANGER, MX.v4.into());
    assert_eq!((reply.code, reply.text().contains("connect again")), (451, true), "{reply}");
    client.expect("DATA", "554").unwrap();
    client.expect("QUIT", "221").unwrap();
    // The next connection does not come by the edge, and what Postfix sees is the client.
    world.reaches_postfix(&STRANGER, MX.v4.into());
    let (client, _) = world.greeted(&STRANGER, MX.v4.into()).unwrap();
    let (mut client, reply) = attempt(client).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    content(&mut client, "directly").unwrap();
    assert!(world.delivered("directly").contains(&format!("(mail.example.net [{}])", STRANGER.v4)));
    let sent = world.postfix.log().matches("status=sent").count();
    daemon.command(&["grey", "delete", &STRANGER.v4.to_string()]).unwrap();
    drop(daemon);
    // Even when told to: this Postfix relays for 127.0.0.1.
    let daemon = world.daemon("handover = \"plain\"", "");
    hands_over(&daemon, "defer");
    let status = daemon.command(&["status"]).unwrap();
    assert!(daemon.log().contains("it would relay for strangers"), "{status}\n{}", daemon.log());
    assert_eq!(world.postfix.log().matches("status=sent").count(), sent, "{}", world.postfix.log());
}

#[test]
fn the_proxy_protocol_tells_a_listener_of_its_own_who_the_client_is() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let master = "127.0.0.1:10025 inet n - n - - smtpd\n  -o smtpd_upstream_proxy_protocol=haproxy\n";
    let world = World::new("", master);
    let daemon = world.daemon("handover = \"proxy\"\naddress = \"127.0.0.1:10025\"", "");
    hands_over(&daemon, "proxy");
    for (n, to) in families(&MX).into_iter().enumerate() {
        let (mut client, reply) = pass(&world, &STRANGER, to);
        assert_eq!(reply.code, 250, "{reply}");
        let relay = client.command("RCPT TO:<victim@example.com>").unwrap();
        assert!(relay.text().contains("Relay access denied"), "{relay}");
        let word = format!("by-proxy-{n}");
        content(&mut client, &word).unwrap();
        let address = families(&STRANGER)[n];
        assert!(world.delivered(&word).contains(&format!("{address}]")));
    }
    drop(daemon);
    // A listener that does not know the protocol ends such sessions: nobody is let in as a program of the host.
    let daemon = world.daemon("handover = \"proxy\"\naddress = \"127.0.0.1:25\"", "");
    hands_over(&daemon, "defer");
}

#[test]
fn tls_begins_with_the_edge_and_later_with_postfix_alike() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new(XCLIENT, "");
    let daemon = world.daemon("", "");
    hands_over(&daemon, "xclient");
    let to = IpAddr::V4(MX.v4);
    let (_, reply) = attempt(world.greeted(&STRANGER, to).unwrap().0).unwrap();
    assert_eq!(reply.code, 451, "{reply}");
    let passed = until("the greylister to pass inside TLS", PATIENCE, || {
        let (mut client, _) = world.greeted(&STRANGER, to).unwrap();
        let offered = client.expect("EHLO mail.example.net", "250").unwrap();
        assert!(offered.lines.iter().any(|line| line == "STARTTLS"), "{offered}");
        client.start_tls("mx.example.org").unwrap();
        let (client, reply) = attempt(client).unwrap();
        (reply.code == 250).then_some(client)
    });
    let (mut client, _) = passed.unwrap();
    content(&mut client, "inside-tls").unwrap();
    world.delivered("inside-tls");

    // A session in the clear that was handed over may begin TLS with Postfix itself.
    daemon.command(&["grey", "delete", &STRANGER.v4.to_string()]).unwrap();
    world.meets_edge(&STRANGER, to);
    let (mut client, reply) = pass(&world, &STRANGER, to);
    assert_eq!(reply.code, 250, "{reply}");
    client.expect("RSET", "250").unwrap();
    client.start_tls("mx.example.org").unwrap();
    let (mut client, reply) = attempt(client).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    content(&mut client, "tls-with-postfix").unwrap();
    assert!(world.delivered("tls-with-postfix").contains("with ESMTPS "));
}

#[test]
fn the_edge_promises_what_postfix_keeps() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let own =
        "message_size_limit = 123456\nsmtputf8_enable = no\nsmtpd_discard_ehlo_keywords = chunking, dsn\n";
    let world = World::new(&format!("{XCLIENT}{own}"), "");
    let daemon = world.daemon("", "");
    hands_over(&daemon, "xclient");
    let (mut client, _) = world.greeted(&STRANGER, MX.v4.into()).unwrap();
    let offered = client.expect("EHLO mail.example.net", "250").unwrap();
    assert_eq!(
        offered.lines,
        ["mx.example.org", "PIPELINING", "SIZE 123456", "8BITMIME", "ENHANCEDSTATUSCODES", "STARTTLS"]
    );
    client.expect(&format!("MAIL FROM:<{FROM}> SIZE=123457"), "552").unwrap();
}

#[test]
fn pipelined_commands_come_over_in_their_order_and_a_refusal_of_mail_is_heard() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let refusing = "smtpd_delay_reject = no\nsmtpd_sender_restrictions = inline:{ {bad@example.net = REJECT no-such-sender} }\n";
    let world =
        World::new(&format!("{XCLIENT}{}", refusing.replace("inline:", "check_sender_access inline:")), "");
    let daemon = world.daemon("", "");
    hands_over(&daemon, "xclient");
    let to = IpAddr::V4(MX.v4);
    may_come_again(&world, &daemon, FROM);
    let (mut client, greeting) = world.greeted(&STRANGER, to).unwrap();
    assert!(!greeting.contains(POSTFIX), "{greeting}");
    let all = format!(
        "EHLO mail.example.net\r\nMAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nRCPT TO:<other@example.org>\r\nDATA\r\n"
    );
    client.send(all.as_bytes()).unwrap();
    let codes: Vec<u16> = (0..5).map(|_| client.reply().unwrap().code).collect();
    assert_eq!(codes, [250, 250, 250, 250, 354]);
    client.send(b"Subject: pipelined\r\n\r\nx\r\n.\r\nQUIT\r\n").unwrap();
    assert_eq!((client.reply().unwrap().code, client.reply().unwrap().code), (250, 221));
    world.delivered("Subject: pipelined");

    daemon.command(&["grey", "delete", &STRANGER.v4.to_string()]).unwrap();
    world.meets_edge(&STRANGER, to);
    may_come_again(&world, &daemon, "bad@example.net");
    let (mut client, _) = world.greeted(&STRANGER, to).unwrap();
    let all = format!(
        "EHLO mail.example.net\r\nMAIL FROM:<bad@example.net>\r\nRCPT TO:<{TO}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n"
    );
    client.send(all.as_bytes()).unwrap();
    let replies: Vec<_> = (0..5).map(|_| client.reply().unwrap()).collect();
    assert!(replies[2].text().contains("no-such-sender") && replies[2].code == 554, "{replies:?}");
    assert_eq!((replies[3].code, replies[4].code), (503, 503), "{replies:?}");
}

#[test]
fn when_the_daemon_is_killed_mail_flows_and_listed_sources_stay_out() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new("", "");
    let mut daemon = world.daemon("", "");
    for to in families(&MX) {
        world.meets_edge(&STRANGER, to);
        assert!(!world.is_cut_off(&SPAMMER, to), "the tarpit takes it");
    }
    daemon.kill();
    for (n, to) in families(&MX).into_iter().enumerate() {
        world.reaches_postfix(&STRANGER, to);
        let (mut client, reply) = attempt(world.greeted(&STRANGER, to).unwrap().0).unwrap();
        assert_eq!(reply.code, 250, "{reply}");
        let word = format!("without-the-daemon-{n}");
        content(&mut client, &word).unwrap();
        world.delivered(&word);
        assert!(world.is_cut_off(&SPAMMER, to), "listed");
        world.reaches_postfix(&FRIEND, to);
    }
    daemon.begin().unwrap();
    for to in families(&MX) {
        world.meets_edge(&STRANGER, to);
        assert!(!world.is_cut_off(&SPAMMER, to), "the tarpit again");
        world.reaches_postfix(&FRIEND, to);
    }
}

#[test]
fn when_the_daemon_is_killed_strangers_wait_if_the_administrator_says_so() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new("", "");
    let mut daemon = world.daemon("", "[firewall]\non_daemon_down = \"drop\"");
    daemon.command(&["grey", "add", "--kind", "passed", &STRANGER.v6.to_string()]).unwrap();
    world.meets_edge(&STRANGER, MX.v4.into());
    world.reaches_postfix(&STRANGER, MX.v6.into());
    daemon.kill();
    assert!(world.is_cut_off(&STRANGER, MX.v4.into()), "unknown");
    assert!(!world.is_cut_off(&STRANGER, MX.v6.into()), "passed");
    for to in families(&MX) {
        world.reaches_postfix(&FRIEND, to);
        assert!(world.is_cut_off(&SPAMMER, to), "listed");
    }
}

/// One message in a session that the edge began; the reply to its content.
fn letter(world: &World, from: IpAddr, to: &str, word: &str) -> (SmtpClient, mailgate_tests::SmtpReply) {
    let mx = if from.is_ipv6() { IpAddr::V6(MX.v6) } else { IpAddr::V4(MX.v4) };
    let (mut client, greeting) = world.greeted(&STRANGER, mx).unwrap();
    assert!(!greeting.contains(POSTFIX), "it should meet the edge: {greeting}");
    client.expect("EHLO mail.example.net", "250").unwrap();
    client.expect(&format!("MAIL FROM:<{FROM}>"), "250").unwrap();
    client.expect(&format!("RCPT TO:<{to}>"), "250").unwrap();
    client.expect("DATA", "354").unwrap();
    // More than is read before the decision.
    let body = "0123456789 abcdefghijklmnopqrstuvwxyz\r\n".repeat(6000);
    client
        .send(
            format!("Message-ID: <{word}@example.net>\r\nSubject: {word}\r\n\r\n{body}..a dot\r\n")
                .as_bytes(),
        )
        .unwrap();
    let reply = client.command(".").unwrap();
    (client, reply)
}

#[test]
fn a_message_that_comes_again_from_another_address_goes_on_in_postfix_in_the_middle_of_its_content() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new(XCLIENT, "");
    let daemon = world.daemon_with("", "", "decide = \"data\"");
    hands_over(&daemon, "xclient");
    let (first, second) = (IpAddr::V4(STRANGER.v4), IpAddr::V6(STRANGER.v6));
    for (to, word) in [("victim@example.com", "to-another"), (TO, "to-ours")] {
        let (mut client, reply) = letter(&world, first, to, word);
        assert!(reply.code == 451 && reply.text().contains("greylisted"), "{reply}");
        client.expect("QUIT", "221").unwrap();
    }
    assert!(world.postfix.delivered().is_empty());
    delay_is_over(&daemon, FROM);

    let (mut client, reply) = letter(&world, second, TO, "to-ours");
    assert_eq!(reply.code, 250, "{reply}");
    assert!(reply.text().contains("queued as"), "the answer is that of Postfix: {reply}");
    client.expect("QUIT", "221").unwrap();
    let message = world.delivered("Subject: to-ours");
    assert!(message.contains(&format!("(mail.example.net [IPv6:{second}])")), "{message:.2000}");
    assert_eq!(message.matches("0123456789 abc").count(), 6000);
    assert!(message.contains("\n.a dot\n"));
    let why = daemon.command(&["why", "to-ours@example.net"]).unwrap();
    assert!(why.contains("same-message") && why.contains("first-attempt"), "{why}");

    // A refusal is heard after the content, and the session goes on. What passed is its /64.
    daemon.command(&["grey", "delete", "2001:db8:a::/64"]).unwrap();
    world.meets_edge(&STRANGER, MX.v6.into());
    let (mut client, reply) = letter(&world, second, "victim@example.com", "to-another");
    assert!(matches!(reply.code, 454 | 554) && reply.text().contains("Relay access denied"), "{reply}");
    client.expect(&format!("MAIL FROM:<{FROM}>"), "250").unwrap();
    client.expect(&format!("RCPT TO:<{TO}>"), "250").unwrap();
    content(&mut client, "after-a-refusal").unwrap();
    world.delivered("after-a-refusal");
    assert_eq!(world.postfix.delivered().len(), 2);
}

#[test]
fn without_xclient_a_message_that_comes_again_costs_its_sender_one_more_connection() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let world = World::new("", "");
    let daemon = world.daemon_with("", "", "decide = \"data\"");
    hands_over(&daemon, "defer");
    let (first, second) = (IpAddr::V4(STRANGER.v4), IpAddr::V6(STRANGER.v6));
    let (mut client, reply) = letter(&world, first, TO, "again");
    assert!(reply.code == 451 && reply.text().contains("greylisted"), "{reply}");
    client.expect("QUIT", "221").unwrap();
    delay_is_over(&daemon, FROM);

    // From another address it is known by its content, and the session lives on after it.
    let (mut client, reply) = letter(&world, second, TO, "again");
    assert!(reply.code == 451 && reply.text().contains("connect again"), "{reply}");
    client.expect("QUIT", "221").unwrap();
    world.reaches_postfix(&STRANGER, MX.v6.into());
    // From the first one already by its recipient.
    let (client, greeting) = world.greeted(&STRANGER, MX.v4.into()).unwrap();
    assert!(!greeting.contains(POSTFIX), "it should meet the edge: {greeting}");
    let (_, reply) = attempt(client).unwrap();
    assert!(reply.code == 451 && reply.text().contains("connect again"), "{reply}");
    world.reaches_postfix(&STRANGER, MX.v4.into());
    assert!(world.postfix.delivered().is_empty(), "nothing came by the edge itself");

    let (client, _) = world.greeted(&STRANGER, MX.v6.into()).unwrap();
    let (mut client, reply) = attempt(client).unwrap();
    assert_eq!(reply.code, 250, "{reply}");
    content(&mut client, "third-and-last").unwrap();
    world.delivered("third-and-last");
}
