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
    assert_eq!(names, ["edge-only.toml", "minimal.toml", "mx.toml", "openbsd-stack.toml"]);
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
