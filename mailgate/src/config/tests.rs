use std::path::Path;

use super::*;

#[test]
fn the_embedded_default_has_no_problem_and_listens_on_loopback_only() {
    let mut config = parse("default.toml", DEFAULT).unwrap();
    let ports = std::cell::RefCell::new(Vec::new());
    config.each_port(|port| {
        ports.borrow_mut().push(*port);
        *port
    });
    assert_eq!(*ports.borrow(), [25, 587, 465, 143, 993]);
    let imap = &config.access.imap;
    let smtp =
        config.smtp.mx.listen.iter().chain(&config.smtp.msa.listen).chain(&config.smtp.msa.submissions);
    assert!(smtp.chain(&imap.listen).chain(&imap.listen_tls).all(|address| address.ip().is_loopback()));
}

#[test]
fn every_example_has_no_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(problems) = parse(&name, &text) {
            panic!("{problems}");
        }
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        ["edge-only.toml", "minimal.toml", "mx.toml", "openbsd-stack.toml", "relay-in-front.toml"]
    );
}

/// What stands behind a mark in the examples must be right too: people remove the mark.
#[test]
fn the_commented_keys_of_the_examples_are_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // `#key` is a key, `# words` are words.
        let opened: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let Err(problems) = parse("example", &opened) else { continue };
        let unexpected: Vec<_> = problems
            .problems
            .iter()
            .filter(|problem| !problem.message.contains("expected a PEM file"))
            .collect();
        assert!(unexpected.is_empty(), "{}: {unexpected:?}", path.display());
    }
}

#[test]
fn problems_of_values_are_told_at_the_line_of_their_key() {
    let text = "\
hostname = \"mx.example.org\"
[queue]
retry = []
attempts = 0
[smtp]
received = 3
[smtp.mx]
recipients = 500
[smtp.msa]
recipients = 5
[edge.greylist]
keep_for = \"1m\"
pass_after = \"2m\"
[delivery]
port = 0
[[delivery.route]]
domain = \"*\"
host = \"a b\"
[[lists.source]]
kind = \"file\"
path = \"/x\"
table = \"nowhere\"
[[net.tls.pair]]
certificate = \"/nowhere.pem\"
key = \"/nowhere.key\"
[edge.packet]
instance = \"a b\"
";
    let problems = parse("x.toml", text).unwrap_err();
    let lines: Vec<usize> = problems.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 4, 6, 10, 12, 15, 18, 21, 24, 25, 27], "{problems}");
}

#[test]
fn unknown_keys_are_told_with_their_line_and_what_exists() {
    let problems = parse("x.toml", "[smtp]\nmesage_size = 1\n\n[edge.greylst]\na = 1\n").unwrap_err();
    let lines: Vec<usize> = problems.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 4], "{problems}");
    assert!(problems.to_string().contains("unknown field `mesage_size`, expected one of"), "{problems}");
    assert!(problems.to_string().contains("`greylist`"), "{problems}");
}

#[test]
fn problems_of_firewall_rules_are_told_at_the_line_of_the_rule_and_key() {
    let text = "\
[firewall]
confirm_within = \"0s\"
default = \"deny\"

[[firewall.rule]]
name = \"a\"
from = [\"192.0.2.1\"]
action = \"drop\"

[[firewall.rule]]
name = \"b\"
ports = [\"imapz\"]
action = \"drop\"

[[firewall.rule]]
name = \"c\"
action = \"drop\"
rate = \"fast\"
";
    let problems = parse("x.toml", text).unwrap_err();
    let lines: Vec<usize> = problems.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 7, 12, 18], "what cannot be read, and the rest: {problems}");
    let text = "\
[firewall]
confirm_within = \"0s\"

[[firewall.rule]]
name = \"a\"
from = [\"nowhere\"]
action = \"drop\"

[[firewall.rule]]
name = \"b\"
# what an administrator says about it
action = \"drop\"
flush = true
";
    let problems = parse("x.toml", text).unwrap_err();
    let lines: Vec<usize> = problems.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 6, 13], "what contradicts itself: {problems}");
    assert!(
        problems
            .to_string()
            .contains("x.toml:6: rule \"a\": found table \"nowhere\", expected one of bypass")
    );
}

#[test]
fn what_is_odd_about_the_firewall_keeps_nobody_from_starting() {
    let text = "\
[edge.packet]
interfaces = [\"eth0\"]

[[firewall.rule]]
name = \"web\"
ports = [80]
action = \"pass\"

[[firewall.rule]]
name = \"no web\"
ports = [80]
protocol = \"tcp\"
action = \"drop\"
";
    let config = parse("x.toml", text).unwrap();
    assert_eq!(config.firewall.rule.iter().map(|rule| rule.line).collect::<Vec<_>>(), [4, 9]);
    let told: Vec<(usize, &str)> =
        config.warnings.iter().map(|warning| (warning.line, warning.message.as_str())).collect();
    assert_eq!(
        told,
        [(10, "rule \"no web\": never reached: rule \"web\" before it takes all of its packets")]
    );
}

/// What the rules of the example that follows a pf.conf do, packet by packet.
#[test]
fn the_example_for_people_from_openbsd_decides_as_their_pf_conf_but_for_its_flaws() {
    use mailgate_lists::TableName;
    use mailgate_packet::firewall::{Asked, Effective, Protocol, effective, protocol};
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config/openbsd-stack.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let config = parse("openbsd-stack.toml", &text).unwrap();
    let around = config.surroundings();
    let rules = effective(&config.firewall.rule_set(&around), &around.tables);
    let asked = |words: &str| -> Asked {
        let (name, place) = words.split_once(' ').unwrap();
        let (protocol, place) = (protocol(name).unwrap(), place.parse::<u16>().unwrap());
        let is_icmp = matches!(protocol, Protocol::Icmp | Protocol::Icmp6);
        let (port, icmp_type) = if is_icmp { (0, place as u8) } else { (place, 0) };
        Asked { address: [192, 0, 2, 1].into(), port, protocol, icmp_type, interface: None }
    };
    let fitting = |tables: &str, words: &str, is_limit: bool| -> Option<&Effective> {
        let tables: Vec<_> = tables.split_whitespace().map(|name| TableName::parse(name).unwrap()).collect();
        let mut fitting = rules.iter().filter(|one| asked(words).fits(one, &tables));
        fitting.find(|one| (one.rule.action.name() == "limit") == is_limit)
    };
    for (tables, words, want) in [
        ("", "tcp 25", "greylist"),
        ("bgp_spamd", "tcp 25", "tarpit"),
        ("block", "tcp 25", "tarpit"),
        ("nospamd", "tcp 25", "pass"),
        ("bgp_spamd_bypass bgp_spamd", "tcp 25", "pass"),
        ("bruteforce nospamd", "tcp 25", "drop"),
        // The pf.conf sends these to spamd; whoever is listed must still be able to hand in and read mail.
        ("bgp_spamd", "tcp 587", "pass"),
        ("bgp_spamd", "tcp 465", "pass"),
        ("block bgp_spamd", "tcp 143", "pass"),
        ("block", "tcp 993", "pass"),
        ("", "tcp 587", "pass"),
        ("", "tcp 110", "pass"),
        ("bruteforce", "tcp 993", "drop"),
        ("bruteforce", "icmp 8", "drop"),
        ("", "icmp 8", "pass"),
        ("", "icmp 30", "pass"),
        ("", "icmp 13", "default"),
        ("", "icmp6 135", "pass"),
        ("mx", "udp 8025", "pass"),
        ("", "udp 8025", "default"),
        ("", "tcp 22", "default"),
        ("nospamd", "tcp 22", "default"),
        ("", "tcp 80", "default"),
        ("", "udp 546", "pass"),
    ] {
        let done = fitting(tables, words, false).map_or("default", |one| one.rule.action.name());
        assert_eq!(done, want, "{words} from {tables:?}");
    }
    for (words, count, rate) in [
        ("tcp 143", 50, 50),
        ("tcp 993", 50, 50),
        ("tcp 995", 50, 50),
        ("tcp 587", 50, 25),
        ("tcp 465", 50, 25),
    ] {
        let limit = fitting("", words, true).and_then(|one| one.rule.limit.as_ref()).unwrap();
        assert_eq!(
            (limit.connections, limit.rate.map(|rate| rate.count)),
            (Some(count), Some(rate)),
            "{words}"
        );
        assert!(limit.flush && limit.overload.as_ref().is_some_and(|table| table.as_str() == "bruteforce"));
    }
    assert!(fitting("", "tcp 25", true).is_none());
    let odd: Vec<_> =
        config.warnings.iter().filter(|odd| !odd.message.contains("names no interface")).collect();
    assert!(odd.is_empty(), "{odd:?}");
}
