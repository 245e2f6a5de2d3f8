//! Tables from the command line, as a user of pfctl knows them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use mailgate_tests::{Service, until};

/// What `table show` prints, line by line.
fn shown(service: &Service, table: &str) -> Vec<String> {
    let text = service.daemon.command(&["table", "show", table]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_verbs_of_pfctl_do_what_they_do_there() {
    let service = Service::start("").unwrap();
    let table = |words: &[&str]| {
        let words: Vec<&str> = std::iter::once("table").chain(words.iter().copied()).collect();
        service.daemon.command(&words).unwrap()
    };
    assert_eq!(
        table(&["add", "-v", "block", "192.0.2.1", "!192.0.2.2", "192.0.2.1", "2001:db8::/32"]),
        "A 192.0.2.1\nA !192.0.2.2\nX 192.0.2.1\nA 2001:db8::/32\n3/4 addresses added. 1 named twice.\n"
    );
    assert_eq!(
        table(&["delete", "--dry-run", "block", "192.0.2.1"]),
        "1/1 addresses deleted. (dry run: nothing was changed)\n"
    );
    assert_eq!(shown(&service, "block"), ["192.0.2.1", "!192.0.2.2", "2001:db8::/32"]);
    assert_eq!(table(&["delete", "block", "192.0.2.1", "192.0.2.9"]), "1/2 addresses deleted.\n");

    // What one table shows, another takes.
    let text = table(&["show", "block"]) + "198.51.100.0/24 # a comment\n";
    let words = ["table", "replace", "-v", "drop", "-f", "-"];
    assert_eq!(
        service.daemon.command_with(&words, &text).unwrap(),
        "A !192.0.2.2\nA 2001:db8::/32\nA 198.51.100.0/24\n3 addresses added.\n"
    );
    let refused = service.daemon.attempt(&words, "203.0.113.1\nmail.example\n203.0.113.0/33\n").unwrap();
    assert_eq!(refused.status.code(), Some(65));
    assert!(refused.output.contains("line:2: found \"mail.example\""), "{}", refused.output);
    assert!(refused.output.contains("nothing was changed"), "{}", refused.output);
    assert_eq!(shown(&service, "drop").len(), 3);
    assert_eq!(service.daemon.command_with(&words[..6], &text).unwrap(), "no changes.\n");

    let test = |words: &[&str]| {
        let words: Vec<&str> = ["table", "test"].into_iter().chain(words.iter().copied()).collect();
        let done = service.daemon.attempt(&words, "").unwrap();
        (done.status.code(), done.output)
    };
    let (code, text) = test(&["198.51.100.7", "2001:db8::7"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("drop         drop     198.51.100.0/24 from manual\n"), "{text}");
    assert!(text.ends_with("2/2 addresses match.\n"), "{text}");
    assert_eq!(test(&["198.51.100.7", "192.0.2.2"]).0, Some(2), "the second is only in a hole");
    assert_eq!(test(&["203.0.113.1"]).0, Some(1));
    assert_eq!(test(&["--table", "block", "198.51.100.7"]).0, Some(1), "it is in another table");

    assert_eq!(table(&["flush", "drop"]), "3 addresses deleted.\n");
    assert_eq!(shown(&service, "drop"), [""; 0]);
    let unknown = service.daemon.attempt(&["table", "show", "blok"], "").unwrap();
    assert!(unknown.output.contains("found table blok, expected one of bypass, block"), "{}", unknown.output);
}

#[test]
fn a_table_that_counts_shows_its_counts_and_one_that_does_not_says_so() {
    let more = "[[lists.table]]\nname = \"counted\"\naction = \"drop\"\ncounters = true\n\
                [[lists.table]]\nname = \"private\"\naction = \"drop\"\nentries = [\"10.0.0.0/8\", \"!10.1.0.0/16\"]\n\
                readonly = true\n";
    let service = Service::start(more).unwrap();
    service.daemon.command(&["table", "add", "counted", "192.0.2.1", "--expires", "1h"]).unwrap();
    let text = service.daemon.command(&["table", "show", "-v", "counted"]).unwrap();
    for wanted in [
        "192.0.2.1\n\tfrom     manual\n\tadded    2",
        "\texpires  2",
        "\tcleared  2",
        "hits     [ Packets: 0 ",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in {text}");
    }
    let text = service.daemon.command(&["table", "show", "-v", "private"]).unwrap();
    assert!(text.contains("10.0.0.0/8\n\tfrom     config\n"), "{text}");
    assert!(text.contains("table private does not count hits; counters = true"), "{text}");
    assert!(!text.contains("Packets"), "{text}");
    let refused = service.daemon.attempt(&["table", "add", "private", "192.0.2.1"], "").unwrap();
    assert!(refused.output.contains("table private is readonly in the configuration"), "{}", refused.output);

    assert_eq!(
        service.daemon.command(&["table", "zero", "-v", "counted", "192.0.2.1"]).unwrap(),
        "Z 192.0.2.1\n1/1 addresses cleared.\n"
    );
    let idle = service.daemon.attempt(&["table", "expire", "block", "--idle", "1h"], "").unwrap();
    assert!(idle.output.contains("table block does not count hits"), "{}", idle.output);
    let expire = |age: &[&str]| {
        let words: Vec<&str> =
            ["table", "expire", "counted"].into_iter().chain(age.iter().copied()).collect();
        service.daemon.command(&words).unwrap()
    };
    assert_eq!(expire(&["3600"]), "0/1 addresses expired.\n");
    assert_eq!(expire(&["--idle", "1h"]), "0/1 addresses expired.\n");
    assert_eq!(expire(&["--older", "0s"]), "1/1 addresses expired.\n");

    let rows = service.daemon.json(&["table", "list"]).unwrap();
    let row = |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!((row("private")["entries"].as_u64(), &row("private")["readonly"]), (Some(2), &true.into()));
    assert_eq!((&row("counted")["packets"], &row("block")["packets"]), (&0.into(), &serde_json::Value::Null));
}

#[test]
fn kill_9_loses_no_entry_that_was_acknowledged() {
    let mut service = Service::start("").unwrap();
    for round in 0..3_u8 {
        for host in 0..5_u8 {
            let address = format!("192.0.{round}.{host}");
            service.daemon.command(&["table", "add", "bruteforce", &address, "--expires", "24h"]).unwrap();
        }
        service.daemon.command(&["table", "delete", "bruteforce", &format!("192.0.{round}.0")]).unwrap();
        let before = service.daemon.json(&["table", "show", "bruteforce"]).unwrap();
        service.daemon.kill();
        service.daemon.begin().unwrap();
        let after = service.daemon.json(&["table", "show", "bruteforce"]).unwrap();
        assert_eq!(after, before, "origin, age and end are the same");
        assert_eq!(after.as_array().unwrap().len(), 4 * (usize::from(round) + 1));
    }
}

#[test]
fn a_table_of_30000_entries_is_listed_whole_or_as_far_as_asked() {
    const ALL: usize = 30_000;
    let service = Service::start("").unwrap();
    let mut text = String::new();
    for n in 0..ALL {
        writeln!(text, "{}", Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap() * 256)).unwrap();
    }
    let file = service.folder().join("many.txt");
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let said = service.daemon.command(&["table", "replace", "drop", "--file", file]).unwrap();
    assert_eq!(said, "30000 addresses added.\n");
    assert_eq!(service.daemon.command(&["table", "show", "drop"]).unwrap(), text, "a pipe gets all of them");
    let some = service.daemon.command(&["table", "show", "drop", "--limit", "20"]).unwrap();
    assert!(some.starts_with("10.0.0.0\n10.0.1.0\n"), "{some}");
    assert!(some.ends_with("29980 of 30000 entries are left out; --limit 0 prints all of them\n"), "{some}");
    let rows = service.daemon.json(&["table", "show", "drop"]).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), ALL);
    assert_eq!(rows[ALL - 1]["prefix"], "10.117.47.0/32");
    assert_eq!(service.daemon.json(&["table", "show", "bypass"]).unwrap().as_array().unwrap().len(), 0);
}

#[test]
fn files_of_a_table_are_read_and_one_beyond_the_limit_keeps_the_last_good_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("block.txt");
    std::fs::write(&file, "198.51.100.1\n198.51.100.2\n198.51.100.3\n198.51.100.4\n").unwrap();
    let more = format!(
        "[lists]\nentries_limit = 5\n[[lists.table]]\nname = \"block\"\naction = \"tarpit\"\nfiles = [{file:?}]\n"
    );
    let service = Service::start(&more).unwrap();
    assert_eq!(shown(&service, "block").len(), 4);
    assert!(service.daemon.log().contains("four fifths of lists.entries_limit"), "{}", service.daemon.log());
    let refused =
        service.daemon.attempt(&["table", "add", "drop", "198.51.100.1", "198.51.100.2"], "").unwrap();
    assert!(
        refused.output.contains("found 2 more entries, expected at most 1: all tables together hold 4 of"),
        "{}",
        refused.output
    );
    std::fs::write(
        &file,
        "198.51.100.1\n198.51.100.2\n198.51.100.3\n198.51.100.4\n198.51.100.5\n198.51.100.6\n",
    )
    .unwrap();
    let (error, _) = until("the file to be refused", Duration::from_secs(20), || {
        let sources = service.daemon.json(&["lists", "show"]).unwrap();
        sources[0]["error"].as_str().map(str::to_owned)
    })
    .unwrap();
    assert!(error.contains("found more than 5 entries") && error.contains("lists.entries_limit"), "{error}");
    assert_eq!(shown(&service, "block").len(), 4);
}
