//! Step 1. Feeds over BGP with a real BIRD at the other end: poison changes nothing protected and says so, and what this host
//! traps is announced. And a list by HTTP that has to be signed.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailgate_lists::signify::SecretKey;
use mailgate_tests::{Bird, Daemon, Network, Node, Route, Service, Session, SmtpClient, find, lab, until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

const HUB: Node = node("hub", 53);
const MX: Node = node("mx", 25);
const PARTNER: Node = node("partner", 179);
const EVIL: Node = node("evil", 66);

const PATIENCE: Duration = Duration::from_secs(60);

const BLOCK: (u16, u16) = (65_066, 666);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

fn configuration(more: &str) -> String {
    let (mx, hub, partner) = (MX.v4, HUB.v4, PARTNER.v4);
    format!(
        r#"hostname = "mx.example.org"
[net.resolver]
servers = ["{hub}:53"]
[smtp.mx]
listen = ["{mx}:25"]
[edge]
mode = "classic"
[lists.protect]
networks = ["198.51.100.0/24"]
[[lists.source]]
kind = "bgp"
name = "partner"
peer = "{partner}"
local_as = 65500
peer_as = 65066
announces = true
retry_min = "100ms"
retry_max = "1s"
communities = {{ "65066:666" = "block", "65066:42" = "bypass" }}
{more}"#
    )
}

fn bird(network: &Network, folder: &Path, routes: &[Route]) -> Bird {
    let session = Session {
        local: PARTNER.v4.into(),
        local_as: 65_066,
        peer: MX.v4.into(),
        peer_as: 65_500,
        peer_port: 179,
    };
    Bird::start(network.node("partner").unwrap(), folder, session, routes).unwrap()
}

/// What is missing, if anything is.
fn obstacle() -> Option<String> {
    let no_bird = || find("bird").is_none().then(|| "bird is not installed".to_owned());
    lab::obstacle().map(|obstacle| obstacle.to_string()).or_else(no_bird)
}

/// The row of the feed, once it is as wanted.
fn feed(daemon: &Daemon<'_>, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = until(what, PATIENCE, || {
        last = daemon.json(&["lists", "show"]).ok()?.get(0)?.clone();
        is_wanted(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|error| panic!("{error}: {last}\n{}", daemon.log())).0
}

fn refused(row: &Value, reason: &str) -> u64 {
    let rows = row["admission"]["refused"].as_array();
    let found = rows.into_iter().flatten().find(|row| row["reason"] == reason);
    found.and_then(|row| row["entries"].as_u64()).unwrap_or(0)
}

/// So many hosts from this address on, as routes of one name.
fn hosts(name: &str, first: Ipv4Addr, count: u32) -> Route {
    let mut prefix = String::new();
    (0..count).for_each(|n| write!(prefix, "{}/32 ", Ipv4Addr::from(u32::from(first) + n)).unwrap());
    Route { name: name.into(), prefix, community: BLOCK }
}

/// In which tables an address is: the exit code of `table test`.
fn is_listed(daemon: &Daemon<'_>, address: &str) -> bool {
    daemon.attempt(&["table", "test", address], "").unwrap().status.code() == Some(0)
}

#[test]
fn a_poisoned_bird_changes_nothing_protected_and_says_so() {
    if let Some(obstacle) = obstacle() {
        return mailgate_tests::skip(obstacle);
    }
    let network = Network::new(HUB, &[MX, PARTNER]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let route =
        |name: &str, prefix: &str| Route { name: name.into(), prefix: prefix.into(), community: BLOCK };
    let poisons = [
        ("anybody", "0.0.0.0/0", "default-route"),
        ("own", "198.18.25.0/24", "protected"),
        ("customers", "198.51.100.0/24", "protected"),
        ("wide", "198.48.0.0/12", "too-short"),
        ("anybody6", "::/0", "default-route"),
        ("own6", "2001:db8:19::/48", "protected"),
    ];
    let mut routes = vec![
        hosts("good", Ipv4Addr::new(203, 0, 113, 0), 200),
        hosts("jump", Ipv4Addr::new(1, 0, 0, 0), 3000),
    ];
    routes.extend(poisons.iter().map(|(name, prefix, _)| route(name, prefix)));
    let bird = bird(&network, folder.path(), &routes);
    // The feed is known since long, with two hundred entries; a new one may bring what it likes for its first minutes.
    let state = folder.path().join("state/lists");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("admission.state"), "source 1700000000000 200 partner\n").unwrap();
    let mx = network.node("mx").unwrap();
    let daemon = Daemon::start(folder.path(), &configuration(""), Some(mx)).unwrap();
    bird.announce("good").unwrap();
    let installed = |row: &Value| row["admission"]["installed"].as_u64().unwrap_or(0);
    feed(&daemon, "the good routes", |row| installed(row) == 200);
    let nothing_changed = |what: &str| {
        for address in [MX.v4.to_string(), MX.v6.to_string(), "198.51.100.7".into(), "127.0.0.1".into()] {
            assert!(!is_listed(&daemon, &address), "{address} after {what}");
        }
        assert!(is_listed(&daemon, "203.0.113.7"), "as before, after {what}");
    };
    for (name, prefix, reason) in poisons {
        let before = refused(&daemon.json(&["lists", "show"]).unwrap()[0], reason);
        bird.announce(name).unwrap();
        let row = feed(&daemon, prefix, |row| refused(row, reason) == before + 1);
        assert_eq!(installed(&row), 200, "{row}");
        nothing_changed(prefix);
    }
    let shown = daemon.command(&["lists", "show"]).unwrap();
    for words in ["default-route: 2: 0.0.0.0/0", "too-short: 1: 198.48.0.0/12", "protected: 3: "] {
        assert!(shown.contains(&format!("partner: not in a table, {words}")), "{words}: {shown}");
    }
    // More than ten times as many as there were: what is beyond waits, and somebody is told.
    bird.announce("jump").unwrap();
    let row = feed(&daemon, "the freeze", |row| {
        row["state"] == "frozen" && row["admission"]["received"].as_u64() == Some(3206)
    });
    assert_eq!((installed(&row), row["admission"]["waiting"].as_u64()), (2000, Some(1200)), "{row}");
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("frozen") && line.contains("mailgate lists thaw")), "{log}");
    nothing_changed("the jump");
    bird.withdraw("jump").unwrap();
    feed(&daemon, "what was there before", |row| installed(row) == 200);
}

#[test]
fn a_trapped_host_is_announced_to_bird_and_withdrawn_with_its_trap() {
    if let Some(obstacle) = obstacle() {
        return mailgate_tests::skip(obstacle);
    }
    let network = Network::new(HUB, &[MX, PARTNER, EVIL]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bird = bird(&network, folder.path(), &[]);
    let publish = r#"[[lists.publish]]
name = "trapped"
set = "trapped"
peers = ["partner"]
communities = ["65500:666"]
interval = "200ms"
"#;
    let mx = network.node("mx").unwrap();
    let daemon = Daemon::start(folder.path(), &configuration(publish), Some(mx)).unwrap();
    until("the session", PATIENCE, || bird.is_established().then_some(())).unwrap();
    daemon.command(&["grey", "add", "--kind", "trap-address", "trap@example.org"]).unwrap();
    // By hand: never published.
    daemon.command(&["grey", "add", "--kind", "trapped", "203.0.113.9"]).unwrap();
    let to = SocketAddr::from((MX.v4, 25));
    let evil = network.node("evil").unwrap();
    evil.within(move || {
        let mut client = SmtpClient::connect(to)?;
        client.greet("mail.example.net")?;
        client.expect("MAIL FROM:<spam@example.net>", "250")?;
        // Whatever it is answered, and however slowly.
        client.send(b"RCPT TO:<trap@example.org>\r\n")
    })
    .unwrap();
    let host = format!("{}/32", EVIL.v4);
    let knows = |what: &str, is_there: bool| {
        let said = || {
            let said = bird.route(&host).unwrap_or_default();
            (said.contains("(65500,666)") == is_there).then_some(())
        };
        until(what, PATIENCE, said)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", bird.report(), daemon.log()));
    };
    knows("the trapped host at BIRD", true);
    assert!(!bird.route("203.0.113.9/32").unwrap_or_default().contains("65500"), "entered by hand");
    daemon.command(&["grey", "delete", &EVIL.v4.to_string(), "--kind", "trapped"]).unwrap();
    knows("its withdrawal", false);
}

/// Made for these tests, and used nowhere else.
const SECRET: &str = "untrusted comment: signify secret key\nRWRCSwAAAABN4CRDMCnEM52TvA17gs41r+t5rAVE0iQcEjd5zDUeuvHLtVwoPrtXuxjj2u2WMp/aup+FR9CzuNgaa10oWNLv/tY/vd4ujWbINdPGmy6MWfRm7doV3PJwZZsXr9q7Bck=\n";
const PUBLIC: &str =
    "untrusted comment: signify public key\nRWQcEjd5zDUeuv7WP73eLo1myDXTxpsujFn0Zu3aFdzycGWbF6/auwXJ\n";

/// Paths and what stands there.
type Files = Arc<Mutex<Vec<(String, String)>>>;

/// Serves files by name on loopback until the test process ends.
fn serve() -> (SocketAddr, Files) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let files = Files::default();
    let served = Arc::clone(&files);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let asked = lines.next().unwrap_or_default();
            let _ = lines.find(String::is_empty);
            let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = served.lock().unwrap().iter().find(|(name, _)| *name == path).cloned();
            let (status, text) = found.map_or(("404 Not Found", String::new()), |(_, text)| ("200 OK", text));
            let length = text.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all((head + &text).as_bytes());
        }
    });
    (at, files)
}

#[test]
fn a_list_behind_a_url_that_has_to_be_signed_is_taken_only_so() {
    let (at, files) = serve();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("feed.pub"), PUBLIC).unwrap();
    let secret = SecretKey::parse(SECRET.as_bytes()).unwrap();
    let config = format!(
        "[[lists.source]]\nkind = \"url\"\nname = \"feed\"\nurl = \"http://{at}/list.txt\"\ntable = \"block\"\n\
         signed_by = {:?}\n",
        folder.path().join("feed.pub")
    );
    let says = |list: &str, signature: Option<&str>| {
        let mut all = vec![("/list.txt".to_owned(), list.to_owned())];
        all.extend(signature.map(|text| ("/list.txt.sig".to_owned(), text.to_owned())));
        *files.lock().unwrap() = all;
    };
    let one = "203.0.113.1\n203.0.113.2\n";
    says(one, Some(&secret.sign(one.as_bytes())));
    let service = Service::start(&config).unwrap();
    let daemon = &service.daemon;
    feed(daemon, "the signed list", |row| row["state"] == "good" && row["entries"] == 2);
    // Another list: without a signature, with that of the old one, with another's.
    let two = "203.0.113.3\n";
    for (what, signature) in [
        ("no signature", None),
        ("that of the old list", Some(secret.sign(one.as_bytes()))),
        ("something else", Some("<html>not found</html>".to_owned())),
    ] {
        says(two, signature.as_deref());
        let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
        assert_eq!(rows[0]["outcome"], "failed", "{what}: {rows}");
        let row = feed(daemon, what, |row| row["state"] == "failed");
        assert!(row["error"].as_str().is_some_and(|error| error.contains("signature")), "{what}: {row}");
        assert!(is_listed(daemon, "203.0.113.1") && !is_listed(daemon, "203.0.113.3"), "{what}");
    }
    says(two, Some(&secret.sign(two.as_bytes())));
    let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
    assert_eq!(rows[0]["outcome"], "taken", "{rows}");
    assert!(is_listed(daemon, "203.0.113.3") && !is_listed(daemon, "203.0.113.1"));
}

/// A source behind a URL that fills the table `block`.
fn url_source(at: SocketAddr) -> String {
    format!(
        "[[lists.source]]\nkind = \"url\"\nname = \"feed\"\nurl = \"http://{at}/list.txt\"\ntable = \"block\"\n\
         [lists.source.admission]\nfreeze_share = 0\nfreeze_rate = 0\njump = 0\nshrink = 0\n"
    )
}

/// The copy of the only source, and the one that is being written.
fn copies(daemon: &Daemon<'_>) -> Vec<PathBuf> {
    let found = std::fs::read_dir(daemon.state().join("lists/copies"));
    found.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_daemon_killed_while_it_takes_a_list_has_the_old_or_the_new_one_and_never_half() {
    let (at, files) = serve();
    let list = |second: u8| -> String {
        (0..20_000_u16).fold(String::new(), |mut text, n| {
            let [high, low] = n.to_be_bytes();
            writeln!(text, "100.{second}.{high}.{low}").unwrap();
            text
        })
    };
    let says = |text: String| *files.lock().unwrap() = vec![("/list.txt".to_owned(), text)];
    let lists = [list(64), list(65)];
    says(lists[0].clone());
    let mut service = Service::start(&url_source(at)).unwrap();
    let first = |of: usize| format!("100.{}.0.0", 64 + of);
    let last = |of: usize| format!("100.{}.78.31", 64 + of);
    feed(&service.daemon, "the first list", |row| row["entries"] == 20_000);
    let mut held = 0;
    let asked = std::sync::atomic::AtomicBool::new(false);
    // Killed when it was asked to, while it writes, when it has written, and when it says that it is done.
    let is_writing =
        |daemon: &Daemon<'_>| copies(daemon).iter().any(|path| path.extension() == Some("new".as_ref()));
    type IsTime<'a> = &'a dyn Fn(&Daemon<'_>, u64) -> bool;
    let points: [(&str, IsTime<'_>); 4] = [
        ("the order", &|_, _| asked.load(std::sync::atomic::Ordering::Relaxed)),
        ("the writing", &|daemon, _| is_writing(daemon)),
        ("the new copy", &|daemon, before| !is_writing(daemon) && age(daemon) != before),
        ("the end", &|_, _| !asked.load(std::sync::atomic::Ordering::Relaxed)),
    ];
    for (what, is_time) in points {
        let wanted = 1 - held;
        says(lists[wanted].clone());
        let daemon = &service.daemon;
        let (process, before) = (daemon.process().unwrap(), age(daemon));
        std::thread::scope(|scope| {
            asked.store(true, std::sync::atomic::Ordering::Relaxed);
            scope.spawn(|| {
                // It may die before it answers.
                let _ = daemon.attempt(&["lists", "reload", "feed"], "");
                asked.store(false, std::sync::atomic::Ordering::Relaxed);
            });
            // What is over before it was seen is over: the next point is later.
            let over = || !asked.load(std::sync::atomic::Ordering::Relaxed);
            until(what, PATIENCE, || (is_time(daemon, before) || over()).then_some(())).unwrap();
            let process = Pid::from_raw(i32::try_from(process).unwrap());
            nix::sys::signal::kill(process, Signal::SIGKILL).unwrap();
        });
        service.daemon.kill();
        // The feed is gone: what is there comes from the disk.
        files.lock().unwrap().clear();
        service.daemon.begin().unwrap();
        let row = feed(&service.daemon, "the copy", |row| row["entries"] == 20_000);
        let has: Vec<usize> = (0..2).filter(|of| is_listed(&service.daemon, &first(*of))).collect();
        assert!(has.len() == 1 && is_listed(&service.daemon, &last(has[0])), "{what}: {has:?} {row}");
        assert!(!is_listed(&service.daemon, &last(1 - has[0])), "{what}: a mixture");
        held = has[0];
        assert!(what != "the end" || held == wanted, "what was said to be taken is there");
    }
}

/// When the copy was made, in a number that differs from one to the next.
fn age(daemon: &Daemon<'_>) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let copy = copies(daemon).into_iter().find(|path| path.extension() == Some("copy".as_ref()));
    copy.and_then(|path| path.metadata().ok()).map_or(0, |data| data.ino())
}

/// A file system of its own for the state; gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let (source, kind, data) = (Some("none"), Some("tmpfs"), Some("size=24m"));
        nix::mount::mount(source, at, kind, nix::mount::MsFlags::empty(), data).unwrap();
        Self(at.to_owned())
    }

    /// Leaves no room; what it is filled with goes by removing the file.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            match file.write_all(&vec![1; size]) {
                Ok(()) => {}
                Err(_) => size /= 2,
            }
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_changes_no_table_and_a_list_comes_in_when_there_is_room() {
    if !mailgate_tests::is_root() {
        return mailgate_tests::skip("a file system of its own needs root");
    }
    let (at, files) = serve();
    let says = |text: &str| *files.lock().unwrap() = vec![("/list.txt".to_owned(), text.to_owned())];
    let folder = tempfile::tempdir().unwrap();
    let disk = Small::mount(&folder.path().join("state"));
    let config = format!(
        "hostname = \"mx.example.org\"\n[smtp.mx]\nlisten = [\"127.79.1.1:2525\"]\n[smtp.msa]\nlisten = []\nsubmissions = []\n\
         [access.imap]\nlisten = []\nlisten_tls = []\n[net.resolver]\nservers = [\"127.0.0.1:9\"]\n{}",
        url_source(at)
    );
    says("203.0.113.1\n203.0.113.2\n");
    let mut daemon = Daemon::start(folder.path(), &config, None).unwrap();
    feed(&daemon, "the list", |row| row["state"] == "good" && row["entries"] == 2);
    let filler = disk.fill();
    says("203.0.113.3\n203.0.113.4\n203.0.113.5\n");
    let as_before = |daemon: &Daemon<'_>, what: &str| {
        assert!(is_listed(daemon, "203.0.113.1") && !is_listed(daemon, "203.0.113.3"), "{what}");
    };
    let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
    assert_eq!(rows[0]["outcome"], "failed", "{rows}");
    let row = feed(&daemon, "the complaint", |row| row["state"] == "failed");
    assert!(
        row["error"].as_str().is_some_and(|error| error.contains("cannot be kept: No space left")),
        "{row}"
    );
    as_before(&daemon, "with a full disk");
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("cannot be kept")), "{log}");
    // What is entered by hand is acknowledged only when it is kept.
    let done = daemon.attempt(&["table", "add", "block", "203.0.113.77"], "").unwrap();
    assert!(!done.status.success(), "{}", done.output);

    // Killed, without the feed and with room again: the list of before.
    daemon.kill();
    std::fs::remove_file(&filler).unwrap();
    let new = std::mem::take(&mut *files.lock().unwrap());
    daemon.begin().unwrap();
    feed(&daemon, "the copy", |row| row["entries"] == 2);
    as_before(&daemon, "after the restart");
    *files.lock().unwrap() = new;
    let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
    assert_eq!(rows[0]["outcome"], "taken", "{rows}");
    assert!(is_listed(&daemon, "203.0.113.3") && !is_listed(&daemon, "203.0.113.1"));
    assert!(daemon.stop());
}
