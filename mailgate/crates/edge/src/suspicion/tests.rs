use super::*;

fn config() -> SuspicionConfig {
    SuspicionConfig::default()
}

fn ourselves() -> Ourselves {
    Ourselves {
        hostname: Domain::parse("mx.example.org").unwrap(),
        address: Some("198.51.100.25".parse().unwrap()),
    }
}

fn client() -> Facts<'static> {
    Facts {
        helo: "mail.sender.example",
        reverse_path: "a@sender.example",
        forward_path: "b@example.org",
        reverse: Reverse::Confirmed("mail.sender.example"),
        helo_leads: HeloLeads::Here,
        spf: Spf::Pass,
        ..Facts::of("192.0.2.1".parse().unwrap())
    }
}

fn reasons(facts: &Facts<'_>) -> Vec<&'static str> {
    weigh(&config(), &ourselves(), facts).findings.iter().map(|finding| finding.reason.word()).collect()
}

fn points(facts: &Facts<'_>) -> i32 {
    weigh(&config(), &ourselves(), facts).points
}

#[test]
fn every_fact_has_its_reason() {
    let good = client();
    let literal = "[192.0.2.1]";
    let cases: &[(&str, Facts<'_>, &[&str])] = &[
        ("a good server", good, &["spf-pass"]),
        ("nothing known", Facts::of(good.ip), &[]),
        ("no name", Facts { reverse: Reverse::None, ..good }, &["no-reverse", "spf-pass"]),
        (
            "a name that lies",
            Facts { reverse: Reverse::Unconfirmed("x.example"), ..good },
            &["reverse-unconfirmed", "spf-pass"],
        ),
        (
            "a subscriber",
            Facts { reverse: Reverse::Confirmed("p1.dyn.isp.example"), ..good },
            &["dynamic-name", "spf-pass"],
        ),
        (
            "made of the address",
            Facts { reverse: Reverse::Confirmed("ip-192-0-2-1.isp.example"), ..good },
            &["generic-name", "spf-pass"],
        ),
        ("its own literal", Facts { helo: literal, ..good }, &["helo-literal", "spf-pass"]),
        ("another literal", Facts { helo: "[192.0.2.2]", ..good }, &["helo-other-literal", "spf-pass"]),
        (
            "an address without brackets",
            Facts { helo: "192.0.2.2", ..good },
            &["helo-other-literal", "spf-pass"],
        ),
        ("a bare name", Facts { helo: "localhost", ..good }, &["helo-bare", "spf-pass"]),
        ("our name", Facts { helo: "MX.example.org.", ..good }, &["helo-ours", "spf-pass"]),
        ("our address", Facts { helo: "[198.51.100.25]", ..good }, &["helo-ours", "spf-pass"]),
        (
            "a name that does not exist",
            Facts { helo_leads: HeloLeads::Nowhere, ..good },
            &["helo-unresolvable", "spf-pass"],
        ),
        (
            "a relative of its name",
            Facts { helo: "out.sender.example", helo_leads: HeloLeads::Elsewhere, ..good },
            &["spf-pass"],
        ),
        (
            "a stranger's name",
            Facts { helo: "mail.other.example", helo_leads: HeloLeads::Elsewhere, ..good },
            &["helo-mismatch", "spf-pass"],
        ),
        (
            "early",
            Facts { early_talk: true, early_pipelining: true, ..good },
            &["early-talk", "early-pipelining", "spf-pass"],
        ),
        ("spf fail", Facts { spf: Spf::Fail, ..good }, &["spf-fail"]),
        ("spf softfail", Facts { spf: Spf::Softfail, ..good }, &["spf-softfail"]),
        ("no spf", Facts { spf: Spf::None, ..good }, &["spf-none"]),
        ("a broken spf", Facts { spf: Spf::Permerror, ..good }, &["spf-permerror"]),
        ("a grey table", Facts { grey_table: true, ..good }, &["spf-pass", "grey-table"]),
    ];
    for (name, facts, want) in cases {
        assert_eq!(reasons(facts), *want, "{name}");
    }
    let tables = [TableName::parse("one").unwrap(), TableName::parse("two").unwrap()];
    let listed = Facts { score_tables: &tables, ..good };
    assert_eq!(
        points(&listed) - points(&Facts { score_tables: &tables[..1], ..good }),
        3,
        "each table counts"
    );
}

#[test]
fn a_dns_that_does_not_answer_makes_nobody_suspicious() {
    let late = Facts { reverse: Reverse::Late, helo_leads: HeloLeads::Late, spf: Spf::Late, ..client() };
    assert_eq!(points(&late), 0);
}

#[test]
fn lists_speak_for_and_against() {
    let hit = |zone: &str, points, trust| Hit { zone: zone.into(), points, trust };
    let bad = [hit("zen.spamhaus.org", 6, None)];
    let good = [hit("list.dnswl.org", 0, Some(Trust::Medium))];
    let low = [hit("list.dnswl.org", 0, Some(Trust::Low)), hit("list.dnswl.org", 0, Some(Trust::None))];
    let nameless = Facts { reverse: Reverse::None, spf: Spf::None, ..client() };
    assert_eq!(points(&Facts { zones: &bad, ..nameless }), 11);
    let vouched = weigh(&config(), &ourselves(), &Facts { zones: &good, ..nameless });
    assert!(vouched.vouched && vouched.points == 0, "{vouched:?}");
    let known = weigh(&config(), &ourselves(), &Facts { zones: &low, ..nameless });
    assert!(!known.vouched && known.points == 3, "{known:?}");
}

#[test]
fn no_single_shortcoming_of_a_mail_server_reaches_the_threshold() {
    let good = client();
    for facts in [
        Facts { reverse: Reverse::None, ..good },
        Facts { reverse: Reverse::Unconfirmed("x.example"), spf: Spf::None, ..good },
        Facts { reverse: Reverse::Confirmed("ip-192-0-2-1.isp.example"), spf: Spf::None, ..good },
        Facts { helo: "localhost", spf: Spf::None, ..good },
        Facts { helo_leads: HeloLeads::Nowhere, spf: Spf::None, ..good },
        // A forwarder.
        Facts { spf: Spf::Fail, ..good },
    ] {
        assert!(points(&facts) < config().grey_at, "{facts:?}");
    }
    let bot = Facts {
        reverse: Reverse::Confirmed("192-0-2-1.dynamic.isp.example"),
        helo: "mail.bank.example",
        helo_leads: HeloLeads::Nowhere,
        spf: Spf::Softfail,
        ..good
    };
    assert!(points(&bot) >= config().strong_at, "{}", points(&bot));
}

#[test]
fn the_best_proof_comes_first_and_the_null_path_is_proved_by_helo() {
    let names = |facts: &Facts<'_>| -> Vec<String> {
        weigh(&config(), &ourselves(), facts).identities.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(&client()), ["spf:sender.example", "rdns:sender.example", "192.0.2.0/24"]);
    assert_eq!(names(&Facts { spf: Spf::None, ..client() }), ["rdns:sender.example", "192.0.2.0/24"]);
    let bounce = Facts { reverse_path: "", helo: "out.pool.example", ..client() };
    assert_eq!(names(&bounce)[0], "spf:pool.example");
    let bare = Facts { spf: Spf::None, reverse: Reverse::None, ..client() };
    assert_eq!(names(&bare), ["192.0.2.0/24"]);
}

#[test]
fn points_can_be_set() {
    let mut config = config();
    config.points.insert(Reason::NoReverse, 0);
    let facts = Facts { reverse: Reverse::None, spf: Spf::None, ..client() };
    assert_eq!(weigh(&config, &ourselves(), &facts).points, 1);
    config.points.insert(Reason::Local, 3);
    config.strong_at = 1;
    assert_eq!(config.problems().len(), 2, "{:?}", config.problems());
    assert!(
        toml::from_str::<SuspicionConfig>(
            "points = { no-reverse = 2 }\nzones = [{ zone = \"zen.spamhaus.org\" }]"
        )
        .is_ok()
    );
    assert!(toml::from_str::<SuspicionConfig>("points = { nonsense = 2 }").is_err());
}

proptest::proptest! {
    #[test]
    fn no_words_of_a_stranger_make_it_panic(helo in "\\PC{0,40}", from in "\\PC{0,40}", name in "\\PC{0,40}", bits: u32) {
        let facts = Facts {
            helo: &helo,
            reverse_path: &from,
            reverse: Reverse::Confirmed(&name),
            ..Facts { ip: std::net::Ipv4Addr::from_bits(bits).into(), ..client() }
        };
        let weighed = weigh(&config(), &ourselves(), &facts);
        proptest::prop_assert!(!weighed.identities.is_empty() && weighed.points >= 0);
    }
}
