use mailgate_lists::{Action as Meaning, TableName};

use super::*;

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

/// A mail host with the tables of the pf.conf that the example follows.
fn around() -> Surroundings {
    let tables = [
        ("bypass", Meaning::Bypass),
        ("block", Meaning::Tarpit),
        ("drop", Meaning::Drop),
        ("bruteforce", Meaning::Drop),
        ("nospamd", Meaning::Bypass),
        ("refused", Meaning::Reject),
    ];
    Surroundings {
        tables: tables.map(|(text, meaning)| (name(text), meaning)).to_vec(),
        interfaces: vec!["eth0".to_owned()],
        reception: vec![25],
        services: vec![143, 587],
        counted: Vec::new(),
    }
}

fn read(text: &str) -> Config {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn findings(text: &str) -> Vec<(Option<usize>, &'static str, Severity, String)> {
    let findings = read(text).findings(&around());
    findings.into_iter().map(|found| (found.rule, found.key, found.severity, found.message)).collect()
}

fn words(text: &str) -> Vec<String> {
    let rules = effective(&read(text).rule_set(&around()), &around().tables);
    let said =
        |one: &Effective| format!("{} | {} | {}", one.origin.words("f", &[7, 0]), one.rule.name, one.words());
    rules.iter().map(said).collect()
}

#[test]
fn without_a_section_the_tables_mean_what_their_actions_say_and_strangers_go_to_the_edge() {
    assert_eq!(
        words(""),
        [
            "protected | protected | pass everything from protected networks",
            "table bypass | table bypass | pass everything from <bypass>",
            "table nospamd | table nospamd | pass everything from <nospamd>",
            "table drop | table drop | drop everything from <drop>",
            "table bruteforce | table bruteforce | drop everything from <bruteforce>",
            "table refused | table refused | reject tcp from <refused> to port 25 (smtp)",
            "table block | table block | hold (tarpit) tcp from <block> to port 25 (smtp)",
            "built-in | reception | to the edge (greylist) tcp from anywhere to port 25 (smtp)",
        ]
    );
    assert_eq!(findings(""), []);
}

#[test]
fn rules_of_the_file_come_first_and_are_said_in_words() {
    let said = words(
        r#"
        [[rule]]
        name = "reading"
        ports = ["imap", "pop3-pop3"]
        action = "limit"
        connections = 50
        rate = "50/5s"
        overload = "bruteforce"
        flush = true
        log = true
        [[rule]]
        name = "no ping of death"
        protocol = "icmp6"
        icmp_types = ["echo"]
        from = ["!nospamd", "!bypass"]
        interfaces = ["eth0"]
        action = "drop"
        [[rule]]
        name = "spamd sync"
        protocol = "udp"
        from = ["nospamd"]
        ports = [8025, "9000-9010"]
        action = "pass"
        "#,
    );
    assert_eq!(
        said[1..4],
        [
            "f:7 | reading | limit tcp from anywhere to ports 143 (imap), 110 (pop3): at most 50 connections and 50 new \
             ones in 5s per /32 (IPv6 /64); who exceeds that goes into <bruteforce> and loses its connections, logged",
            "f | no ping of death | drop icmp6 type 128 from anywhere but <nospamd> or <bypass> on eth0",
            "f | spamd sync | pass udp from <nospamd> to ports 8025 (spamd), 9000-9010",
        ]
    );
    assert_eq!(said.len(), 11);
}

#[test]
fn host_mode_lets_in_what_a_host_needs_and_its_own_services() {
    let said = words("default = \"drop\"");
    assert_eq!(
        said[1..6],
        [
            "table bypass | table bypass | pass tcp from <bypass> to port 25 (smtp)",
            "table nospamd | table nospamd | pass tcp from <nospamd> to port 25 (smtp)",
            "table drop | table drop | drop everything from <drop> but not <bypass> or <nospamd>",
            "table bruteforce | table bruteforce | drop everything from <bruteforce> but not <bypass> or <nospamd>",
            "table refused | table refused | reject tcp from <refused> to port 25 (smtp)",
        ]
    );
    assert_eq!(
        said[8..],
        [
            "built-in | icmp | pass icmp types 0,3,4,8,11,12,30 from anywhere",
            "built-in | icmp6 | pass icmp6 from anywhere",
            "built-in | dhcp | pass udp from anywhere to ports 68 (bootpc), 546 (dhcpv6-client)",
            "built-in | services | pass tcp from anywhere to ports 143 (imap), 587 (submission)",
            "built-in | admin | pass tcp from anywhere to port 22 (ssh)",
        ]
    );
    let said = words("default = \"drop\"\nadmin = [\"192.0.2.0/24\"]");
    assert!(
        !said.iter().any(|words| words.contains("| admin |")),
        "protected networks need no open port: {said:?}"
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_its_rule_and_key() {
    let found = findings(
        r#"
        confirm_within = "2h"
        admin = ["0.0.0.0/0"]
        syn_cookies = ["1-100"]
        [[rule]]
        name = "a"
        from = ["nowhere", "block", "!block"]
        ports = [25]
        protocol = "icmp"
        action = "drop"
        [[rule]]
        name = "a"
        action = "limit"
        flush = true
        interfaces = ["a b"]
        [[rule]]
        name = "c"
        action = "tarpit"
        protocol = "udp"
        icmp_types = [8]
        rate = "5/1s"
        [[rule]]
        name = "d"
        action = "limit"
        connections = 0
        overload = "bypass"
        [[rule]]
        name = ""
        action = "pass"
        protocol = "icmp"
        icmp_types = ["too-big"]
        "#,
    );
    let keys: Vec<_> = found
        .iter()
        .filter(|(.., severity, _)| *severity == Severity::Error)
        .map(|(rule, key, ..)| (*rule, *key))
        .collect();
    assert_eq!(
        keys,
        [
            (None, "confirm_within"),
            (None, "admin"),
            (None, "syn_cookies"),
            (Some(0), "from"),
            (Some(0), "from"),
            (Some(0), "ports"),
            (Some(1), "name"),
            (Some(1), "interfaces"),
            (Some(1), "interfaces"),
            (Some(1), "action"),
            (Some(1), "flush"),
            (Some(2), "icmp_types"),
            (Some(2), "protocol"),
            (Some(2), "rate"),
            (Some(2), "ports"),
            (Some(3), "connections"),
            (Some(3), "overload"),
            (Some(4), "name"),
            (Some(4), "icmp_types"),
        ],
        "{found:#?}"
    );
    assert!(found.iter().all(|(.., message)| message.contains("found")), "{found:#?}");
}

#[test]
fn what_is_odd_is_a_warning() {
    let odd = |text: &str| -> Vec<String> {
        let found = findings(text);
        assert!(found.iter().all(|(.., severity, _)| *severity == Severity::Warning), "{found:?}");
        found.into_iter().map(|(.., message)| message).collect()
    };
    let rule = |words: &str| format!("[[rule]]\nname = \"r\"\n{words}\n");
    let closes = odd(&rule("ports = [\"1-1024\"]\naction = \"drop\""));
    assert!(closes[0].contains("closes admin port 22"), "{closes:?}");
    assert!(
        closes[1..].iter().any(|said| said.contains("table refused, which is never reached")),
        "{closes:?}"
    );
    let smtps = odd(&rule("ports = [465]\naction = \"greylist\""));
    assert!(smtps[0].contains("port 465 is not among edge.packet.reception_ports"), "{smtps:?}");
    let elsewhere = odd(&rule("interfaces = [\"wg0\"]\naction = \"pass\""));
    assert_eq!(elsewhere, ["rule \"r\": interface \"wg0\" is not filtered: edge.packet.interfaces has eth0"]);
    let open = odd("default = \"drop\"");
    assert!(open[0].contains("stay open to everybody"), "{open:?}");
    assert_eq!(odd("default = \"drop\"\nadmin = [\"192.0.2.1\"]"), Vec::<String>::new());
}

#[test]
fn a_rule_behind_one_that_takes_all_of_its_packets_is_never_reached() {
    let never = |first: &str, second: &str| {
        let text = format!("[[rule]]\nname = \"first\"\n{first}\n[[rule]]\nname = \"second\"\n{second}\n");
        let found = findings(&text);
        found
            .iter()
            .any(|(rule, .., said)| *rule == Some(1) && said.contains("never reached: rule \"first\""))
    };
    let covered = [
        (
            "from = [\"block\", \"drop\"]\naction = \"drop\"",
            "from = [\"drop\"]\nports = [25]\naction = \"pass\"",
        ),
        (
            "ports = [\"20-30\"]\nprotocol = \"tcp\"\naction = \"pass\"",
            "ports = [25]\nprotocol = \"tcp\"\naction = \"drop\"",
        ),
        ("ports = [443]\naction = \"pass\"", "ports = [443]\nprotocol = \"tcp\"\naction = \"drop\""),
        (
            "from = [\"!block\"]\nports = [443]\naction = \"pass\"",
            "from = [\"!block\", \"!drop\"]\nports = [443]\naction = \"drop\"",
        ),
        (
            "protocol = \"icmp\"\naction = \"pass\"",
            "protocol = \"icmp\"\nicmp_types = [8]\naction = \"drop\"",
        ),
    ];
    for (first, second) in covered {
        assert!(never(first, second), "{first} / {second}");
    }
    let reached = [
        ("ports = [443]\naction = \"limit\"\nconnections = 5", "ports = [443]\naction = \"drop\""),
        ("from = [\"drop\"]\naction = \"drop\"", "from = [\"block\", \"drop\"]\naction = \"drop\""),
        ("from = [\"block\"]\naction = \"pass\"", "ports = [80]\naction = \"drop\""),
        ("from = [\"block\", \"!drop\"]\naction = \"pass\"", "from = [\"block\"]\naction = \"drop\""),
        ("ports = [443]\naction = \"pass\"", "ports = [443]\nprotocol = \"udp\"\naction = \"drop\""),
        ("interfaces = [\"eth0\"]\nports = [80]\naction = \"pass\"", "ports = [80]\naction = \"drop\""),
        ("ports = [80]\naction = \"pass\"", "protocol = \"icmp\"\naction = \"drop\""),
    ];
    for (first, second) in reached {
        assert!(!never(first, second), "{first} / {second}");
    }
}

#[test]
fn tables_share_a_rule_where_there_are_too_many_and_beyond_that_it_is_said() {
    let mut many = around();
    many.tables.extend((0..60).map(|n| (name(&format!("feed{n}")), Meaning::Tarpit)));
    let rules = effective(&Config::default().rule_set(&many), &many.tables);
    assert_eq!(rules.len(), 6, "{rules:?}");
    assert!(rules[4].words().contains("<block>, <feed0>"), "{rules:?}");
    let rules: String = (0..62)
        .map(|n| format!("[[rule]]\nname = \"{n}\"\nports = [{}]\naction = \"pass\"\n", 1000 + n))
        .collect();
    let found = read(&rules).findings(&around());
    let said = &found.last().unwrap().message;
    assert!(
        said.contains(
            "found 68 rules (62 in the file, 4 derived from tables, 2 built in), expected at most 64"
        ),
        "{said}"
    );
}
