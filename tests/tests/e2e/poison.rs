//! Step 1. Feeds that were poisoned: nothing protected changes, mail goes on, and the refusal is said in the log and by
//! `lists show`.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use mailgate_tests::{Feeder, Service, until};
use serde_json::Value;

/// A network of ours, and whom the clients of the tests come from.
const PROTECTED: [&str; 3] = ["198.51.100.7", "198.51.100.255", "127.0.0.1"];

const PATIENCE: Duration = Duration::from_secs(60);

const BLOCK: (u16, u16) = (65_066, 666);

/// What a poisoned feed says, and what it is refused for.
const POISONS: [(&str, &str); 5] = [
    ("0.0.0.0/0", "default-route"),
    ("198.51.100.0/24", "protected"),
    ("198.51.100.7/32", "protected"),
    ("127.0.0.0/24", "protected"),
    ("198.48.0.0/12", "too-short"),
];

/// So many hosts from this address on, one to a line.
fn hosts(first: Ipv4Addr, count: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", Ipv4Addr::from(u32::from(first) + n)).unwrap();
        text
    })
}

fn good() -> String {
    hosts(Ipv4Addr::new(203, 0, 113, 0), 200)
}

/// As list programs do it: written beside and renamed.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// The row of the feed, once it is as wanted.
fn feed(service: &Service, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = until(what, PATIENCE, || {
        let rows = service.daemon.json(&["lists", "show"]).ok()?;
        last = rows.get(0)?.clone();
        is_wanted(&last).then(|| last.clone())
    });
    match found {
        Ok((row, _)) => row,
        Err(error) => panic!("{error}: {last}\n{}", service.daemon.log()),
    }
}

fn installed(row: &Value) -> u64 {
    row["admission"]["installed"].as_u64().unwrap()
}

/// How many entries are refused for this reason.
fn refused(row: &Value, reason: &str) -> u64 {
    let rows = row["admission"]["refused"].as_array().unwrap();
    rows.iter().find(|row| row["reason"] == reason).map_or(0, |row| row["entries"].as_u64().unwrap())
}

/// No table holds who is protected, and the others' entries are as before.
fn nothing_changed(service: &Service) {
    for address in PROTECTED.into_iter().map(str::to_owned).chain(own_address().map(|own| own.to_string())) {
        let done = service.daemon.attempt(&["table", "test", &address], "").unwrap();
        assert_eq!(done.status.code(), Some(1), "{address}: {}", done.output);
    }
    let done = service.daemon.attempt(&["table", "test", "203.0.113.7"], "").unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", done.output);
}

/// The address of this host towards others, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn said(service: &Service, words: &[&str]) {
    let log = service.daemon.log();
    let is_said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(is_said, "{words:?} is not in a line of\n{log}");
}

#[test]
fn a_poisoned_file_changes_nothing_protected_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.txt");
    put(&path, &good());
    let config = format!(
        "[lists.protect]\nnetworks = [\"198.51.100.0/24\"]\n[[lists.source]]\nkind = \"file\"\nname = \"feed\"\n\
         path = {:?}\ntable = \"block\"\n[lists.source.admission]\nshortest_v4 = 24\nmax_entries = 1000000\n\
         freeze_share = 20\njump = 10\nshrink = 90\n",
        path.to_str().unwrap()
    );
    let mut service = Service::start(&config).unwrap();
    feed(&service, "the good list", |row| installed(row) == 200);
    service.serves("before").unwrap();
    let own = own_address().map(|own| (format!("{own}/32"), "protected"));
    let poisons = POISONS.map(|(prefix, reason)| (prefix.to_owned(), reason));
    for (prefix, reason) in poisons.into_iter().chain(own) {
        put(&path, &format!("{}{prefix}\n", good()));
        let row = feed(&service, &prefix, |row| {
            refused(row, reason) == 1 && row.to_string().contains(&format!("\"{prefix}\""))
        });
        assert_eq!((installed(&row), row["refused"].as_u64()), (200, Some(1)), "{prefix}: {row}");
        nothing_changed(&service);
        let shown = service.daemon.command(&["lists", "show"]).unwrap();
        assert!(shown.contains(&format!("feed: not in a table, {reason}: 1: {prefix}")), "{shown}");
        said(&service, &["refused", reason, &prefix]);
    }
    service.serves("during").unwrap();

    // Ten times as many, then back to what it was; then the same again, and somebody believes it.
    let jumped = good() + &hosts(Ipv4Addr::new(1, 0, 0, 0), 3000);
    put(&path, &jumped);
    let row = feed(&service, "the freeze", |row| row["state"] == "frozen");
    assert_eq!((installed(&row), row["admission"]["waiting"].as_u64()), (200, Some(3000)), "{row}");
    let shown = service.daemon.command(&["lists", "show"]).unwrap();
    assert!(shown.contains("found 3200 entries, expected at most 2000"), "{shown}");
    said(&service, &["frozen", "feed", "mailgate lists thaw"]);
    nothing_changed(&service);
    put(&path, &good());
    feed(&service, "the end of the freeze", |row| row["state"] == "good");
    put(&path, &jumped);
    feed(&service, "the second freeze", |row| row["state"] == "frozen");
    let done = service.daemon.command(&["lists", "thaw", "feed"]).unwrap();
    assert_eq!(done.trim_end(), "feed is believed: 3000 entries taken");
    feed(&service, "the believed list", |row| installed(row) == 3200 && row["state"] == "good");
    let again = service.daemon.attempt(&["lists", "thaw", "feed"], "").unwrap();
    assert!(again.output.contains("source feed is not frozen"), "{}", again.output);
    let unknown = service.daemon.attempt(&["lists", "thaw", "fed"], "").unwrap();
    assert!(unknown.output.contains("found source \"fed\", expected one of feed"), "{}", unknown.output);
}

#[test]
fn every_host_of_a_slash_eight_is_refused_as_a_whole_in_bounded_time_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.txt");
    put(&path, &good());
    let config = format!(
        "[lists.protect]\nnetworks = [\"198.51.100.0/24\"]\n[[lists.source]]\nkind = \"file\"\nname = \"feed\"\n\
         path = {:?}\ntable = \"block\"\n",
        path.to_str().unwrap()
    );
    let mut service = Service::start(&config).unwrap();
    feed(&service, "the good list", |row| installed(row) == 200);
    let before = service.daemon.memory().unwrap();
    {
        let file = fs::File::create(path.with_extension("new")).unwrap();
        let mut file = BufWriter::new(file);
        for n in 0..1 << 24 {
            writeln!(file, "{}", Ipv4Addr::from(0x0100_0000 + n)).unwrap();
        }
        file.flush().unwrap();
    }
    fs::rename(path.with_extension("new"), &path).unwrap();
    let began = Instant::now();
    let row = feed(&service, "the refusal", |row| row["state"] == "failed");
    let took = began.elapsed();
    let error = row["error"].as_str().unwrap();
    assert!(
        error.contains("found more than 5000000 entries, expected at most that: nothing was taken"),
        "{error}"
    );
    assert_eq!(installed(&row), 200);
    let after = service.daemon.memory().unwrap();
    println!("16.7 M lines refused after {took:?}; {before:?}, then {after:?} (MiB)");
    assert!(after.peak < before.peak + 400, "{after:?} after {before:?}");
    nothing_changed(&service);
    service.serves("afterwards").unwrap();
}

#[test]
fn a_poisoned_peer_changes_nothing_protected_and_says_so() {
    let feeder = Feeder::start(65_066).unwrap();
    let config = format!(
        "[lists.protect]\nnetworks = [\"198.51.100.0/24\"]\n[[lists.source]]\nkind = \"bgp\"\nname = \"feed\"\n\
         peer = \"127.0.0.1\"\nport = {}\nlocal_as = 65500\npeer_as = 65066\nmax_prefix = 20000\n\
         communities = {{ \"65066:666\" = \"block\", \"65066:42\" = \"bypass\" }}\n\
         [lists.source.admission]\nmax_entries = 10000\n",
        feeder.address().unwrap().port()
    );
    let mut service = Service::start(&config).unwrap();
    let mut feeding = feeder.session().unwrap();
    feeding.announce_hosts(Ipv4Addr::new(203, 0, 113, 0), 200, BLOCK).unwrap();
    feed(&service, "the good routes", |row| installed(row) == 200);
    let own = own_address().map(|own| (format!("{own}/32"), "protected"));
    let poisons = POISONS.map(|(prefix, reason)| (prefix.to_owned(), reason));
    for (received, (prefix, reason)) in (201..).zip(poisons.into_iter().chain(own)) {
        feeding.announce(&[&prefix], BLOCK).unwrap();
        let row = feed(&service, &prefix, |row| row["admission"]["received"].as_u64() == Some(received));
        assert!(refused(&row, reason) > 0, "{prefix}: {row}");
        assert_eq!(installed(&row), 200, "{prefix}: {row}");
        nothing_changed(&service);
    }
    let shown = service.daemon.command(&["lists", "show"]).unwrap();
    assert!(shown.contains("feed: not in a table, default-route: 1: 0.0.0.0/0"), "{shown}");
    assert!(shown.contains("feed: not in a table, protected: "), "{shown}");
    for word in ["default-route", "protected", "too-short"] {
        said(&service, &["refused", word]);
    }
    service.serves("during").unwrap();

    // Every host of 1/8, until the session ends.
    let before = service.daemon.memory().unwrap();
    let began = Instant::now();
    // The other side hangs up in the middle, which is what is wanted.
    let _ = feeding.announce_hosts(Ipv4Addr::new(1, 0, 0, 0), 1 << 24, BLOCK);
    assert_eq!(feeding.notification().unwrap(), (6, 1), "Cease, maximum number of prefixes (RFC 4486 §4)");
    let row = feed(&service, "the end of the session", |row| row["error"].is_string());
    let after = service.daemon.memory().unwrap();
    println!("1/8 as host routes ended after {:?}; {before:?}, then {after:?} (MiB)", began.elapsed());
    assert!(installed(&row) <= 10_000, "{row}");
    assert!(refused(&row, "too-many") > 0, "{row}");
    assert!(after.peak < before.peak + 200, "{after:?} after {before:?}");
    nothing_changed(&service);
    service.serves("afterwards").unwrap();
}
