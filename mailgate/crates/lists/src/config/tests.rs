use super::*;

fn read(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

const PEER: &str = r#"
[[source]]
kind = "bgp"
peer = "192.0.2.66"
local_as = 65500
peer_as = 65066
communities = { "65066:666" = "block", "65066:1:42" = "bypass", blackhole = "drop" }
"#;

#[test]
fn the_four_standard_tables_exist_and_can_be_changed() {
    let config = read(
        "[[table]]\nname = \"block\"\naction = \"reject\"\n[[table]]\nname = \"own\"\naction = \"bypass\"\n",
    );
    let tables: Vec<_> =
        config.tables().into_iter().map(|table| (table.name.to_string(), table.action)).collect();
    let want = [
        ("bypass", Action::Bypass),
        ("block", Action::Reject),
        ("drop", Action::Drop),
        ("bruteforce", Action::Drop),
        ("own", Action::Bypass),
    ];
    assert_eq!(tables, want.map(|(name, action)| (name.to_owned(), action)));
    assert_eq!(config.problems(), [""; 0]);
}

#[test]
fn a_peer_needs_little() {
    let config = read(PEER);
    assert_eq!(config.problems(), [""; 0]);
    let [SourceConfig::Bgp(peer)] = &config.source[..] else { panic!("{config:?}") };
    assert_eq!((peer.port, peer.admission.shortest_v4), (179, None));
    assert_eq!(peer.communities.len(), 3);
    assert_eq!(config.source[0].name(), "192.0.2.66");
}

#[test]
fn what_contradicts_itself_is_told_all_at_once() {
    struct Case {
        more: &'static str,
        want: &'static str,
    }
    for Case { more, want } in [
        Case { more: "hold_time = \"2s\"", want: "expected 0s or 3s to 65535s" },
        Case { more: "admission = { shortest_v4 = 33 }", want: "expected 1 to 32" },
        Case { more: "admission = { shortest_v6 = 0 }", want: "expected 1 to 128" },
        Case { more: "local_address = \"::1\"", want: "expected the same" },
        Case { more: "router_id = \"0.0.0.0\"", want: "RFC 6286" },
        Case { more: "retry_min = \"1h\"", want: "not longer than retry_max" },
        Case {
            more: "[[source]]\nkind = \"file\"\npath = \"x\"\ntable = \"blok\"",
            want: "found table blok",
        },
        Case {
            more: "[[source]]\nkind = \"file\"\nname = \"192.0.2.66\"\npath = \"x\"\ntable = \"block\"",
            want: "twice",
        },
    ] {
        let problems = read(&format!("{PEER}{more}\n")).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(want), "{problems:?}");
    }
    let both = read(&format!("{PEER}hold_time = \"1s\"\nadmission = {{ shortest_v4 = 0 }}\n"));
    assert_eq!(both.problems().len(), 2);
}

#[test]
fn unknown_keys_and_kinds_are_refused() {
    for text in [
        "[[source]]\nkind = \"file\"\npath = \"x\"\ntable = \"block\"\ncolour = 1\n",
        "[[source]]\nkind = \"carrier-pigeon\"\n",
        "[[table]]\nname = \"Block\"\naction = \"drop\"\n",
        "[[table]]\nname = \"block\"\naction = \"smile\"\n",
        "colour = 1\n",
    ] {
        assert!(toml::from_str::<Config>(text).is_err(), "{text}");
    }
}

#[test]
fn the_example_list_is_read_without_complaint() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/lists/block.txt");
    let list = crate::parse_list("block.txt", &std::fs::read(path).unwrap());
    assert_eq!((list.entries.len(), list.refused), (5, 0), "{:?}", list.problems);
}
