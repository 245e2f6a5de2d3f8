//! Every format with what real lists look like, and what must hold for all of them.

use proptest::prelude::*;

use super::*;
use crate::prefix::{Key as _, Packed as _};

/// The entries, IPv4 first, with `!` before holes.
fn shown(set: &PrefixSet) -> Vec<String> {
    let sign = |sense: Sense| if sense == Sense::Hole { "!" } else { "" };
    let v4 = set.v4.iter().map(|entry| format!("{}{}", sign(entry.sense()), entry.key().prefix()));
    let v6 = set.v6.iter().map(|entry| format!("{}{}", sign(entry.sense()), entry.key().prefix()));
    v4.chain(v6).collect()
}

fn said(parsed: &Parsed, address: &str) -> Vec<String> {
    parsed.notes.of(address.parse().unwrap()).into_iter().map(str::to_owned).collect()
}

struct Case {
    name: &'static str,
    text: &'static str,
    format: Format,
    want: &'static [&'static str],
    refused: usize,
}

const CASES: &[Case] = &[
    Case {
        name: "plain lines, ranges, holes and both families",
        text: "# head\n192.0.2.1\n198.51.100.0/24 # why\n203.0.113.4-203.0.113.7\n!198.51.100.7\n2001:db8::/32\nnope\n",
        format: Format::Plain,
        want: &["192.0.2.1/32", "198.51.100.0/24", "!198.51.100.7/32", "203.0.113.4/30", "2001:db8::/32"],
        refused: 1,
    },
    Case {
        name: "a FireHOL netset",
        text: "#\n# firehol_level1\n#\n# Category        : attacks\n#\n192.0.2.0/24\n198.51.100.7\n",
        format: Format::Plain,
        want: &["192.0.2.0/24", "198.51.100.7/32"],
        refused: 0,
    },
    Case {
        name: "Spamhaus DROP text",
        text: "; Spamhaus DROP List 2026/11/21 - (c) 2026 The Spamhaus Project SLU\n; Last-Modified: x\n192.0.2.0/24 ; SBL256893\n198.51.100.0/25 ; SBL1\n",
        format: Format::Drop,
        want: &["192.0.2.0/24", "198.51.100.0/25"],
        refused: 0,
    },
    Case {
        name: "Spamhaus DROP JSON, with another number of records than it says",
        text: "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL9\",\"rir\":\"apnic\"}\n{\"cidr\":\"2001:db8::/29\",\"sblid\":\"SBL8\",\"rir\":\"ripencc\"}\n{\"type\":\"metadata\",\"timestamp\":1738947360,\"size\":3,\"records\":3,\"copyright\":\"(c)\"}\n",
        format: Format::DropJson,
        want: &["192.0.2.0/24", "2001:db8::/29"],
        refused: 1,
    },
    Case {
        name: "ipset save",
        text: "create bad hash:net family inet hashsize 1024 maxelem 65536 comment\nadd bad 192.0.2.0/24 timeout 300 comment \"a b\"\nadd bad 192.0.2.7 nomatch\nadd bad 198.51.100.1-198.51.100.2\nadd ports 192.0.2.9,tcp:25\ncreate six hash:ip family inet6\nadd six 2001:db8::1\nCOMMIT\n",
        format: Format::Ipset,
        want: &["192.0.2.0/24", "!192.0.2.7/32", "198.51.100.1/32", "198.51.100.2/32", "2001:db8::1/128"],
        refused: 1,
    },
    Case {
        name: "nft list ruleset, several sets, one of ports",
        text: "table inet filter {\n\tset bad {\n\t\ttype ipv4_addr\n\t\tflags interval,timeout\n\t\tauto-merge\n\t\telements = { 192.0.2.0/24, 198.51.100.1-198.51.100.2,\n\t\t\t     203.0.113.9 timeout 1d expires 3h4m comment \"a, } b\",\n\t\t\t     203.0.113.10 counter packets 0 bytes 0 }\n\t}\n\tset ports {\n\t\ttype inet_service\n\t\telements = { 22, 25 }\n\t}\n\tset six {\n\t\ttype ipv6_addr\n\t\telements = { 2001:db8::/48 }\n\t}\n\tchain in {\n\t\tip saddr { 10.0.0.1, 10.0.0.2 } drop\n\t}\n}\n",
        format: Format::Nft,
        want: &[
            "192.0.2.0/24",
            "198.51.100.1/32",
            "198.51.100.2/32",
            "203.0.113.9/32",
            "203.0.113.10/32",
            "2001:db8::/48",
        ],
        refused: 0,
    },
    Case {
        name: "nft add element",
        text: "add element inet filter bad { 192.0.2.1, 192.0.2.2 . 25, nope }\n",
        format: Format::Nft,
        want: &["192.0.2.1/32"],
        refused: 2,
    },
    Case {
        name: "a response policy zone",
        text: "$TTL 60\n$ORIGIN rpz.example.org.\n@ IN SOA ns.example.org. a.example.org. (\n  1 ; serial\n  3600 600 86400 60 )\n  IN NS ns.example.org.\n24.0.2.0.192.rpz-ip CNAME .\n32.7.2.0.192.rpz-ip 60 IN CNAME rpz-passthru.\n32.8.100.51.198.rpz-client-ip.rpz.example.org. IN CNAME rpz-drop.\n48.zz.1.db8.2001.rpz-ip IN A 127.0.0.2\n128.1.zz.db8.2001.rpz-ip CNAME *.\n32.9.100.51.198.rpz-ip CNAME rpz-tcp-only.\nbad.example.com CNAME .\n24.1.2.0.192.rpz-ip CNAME .\n",
        format: Format::Rpz,
        want: &["192.0.2.0/24", "!192.0.2.7/32", "198.51.100.8/32", "2001:db8::1/128", "2001:db8:1::/48"],
        refused: 1,
    },
    Case {
        name: "rbldnsd, combined",
        text: "$SOA 3600 ns.example.org. a.example.org. 0 600 300 86400 300\n$NS 3600 ns.example.org\n$DATASET ip4set @\n$1 See http://bl.example.org/?\n:127.0.0.2:$1$ 100%\n192.0.2.1\n192.0.2.8/29 :3:own text\n10.1\n!10.1.2\n198.51.100.1-9\n172.16-172.31 ; private\n$DATASET dnset x\nexample.com\n$DATASET ip6trie @\n2001:db8::/32 :2:six\n#$DATASET generic @\nwww A 127.0.0.1\n",
        format: Format::Rbldnsd,
        want: &[
            "10.1.0.0/16",
            "!10.1.2.0/24",
            "172.16.0.0/12",
            "192.0.2.1/32",
            "192.0.2.8/29",
            "198.51.100.1/32",
            "198.51.100.2/31",
            "198.51.100.4/30",
            "198.51.100.8/31",
            "2001:db8::/32",
        ],
        refused: 0,
    },
    Case {
        name: "the whole of a folder of traps, as spamd-setup reads it",
        text: "# traps\n192.0.2.1 some text that does not matter\n192.0.2.4 - 192.0.2.7\n192.0.2.9\t-\t192.0.2.8 reversed\n255.255.255.254-255.255.255.255\n2001:db8::1 six\n198.51.100.0/24;x\n",
        format: Format::Spamd,
        want: &["192.0.2.1/32", "192.0.2.4/30", "198.51.100.0/24", "255.255.255.254/31", "2001:db8::1/128"],
        refused: 1,
    },
];

#[test]
fn lists_are_read_as_their_makers_write_them() {
    for Case { name, text, format, want, refused } in CASES {
        let parsed = parse(*format, "list", text.as_bytes(), 100);
        assert_eq!(shown(&parsed.set), *want, "{name}: {:?}", parsed.problems);
        assert_eq!(parsed.refused, *refused, "{name}: {:?}", parsed.problems);
    }
}

#[test]
fn formats_are_found_out_and_pages_are_not_taken_for_lists() {
    for Case { name, text, format, .. } in CASES {
        // A list of spamd looks like any other until its first odd line.
        let want = if *format == Format::Spamd { Format::Plain } else { *format };
        assert_eq!(detect::format(text.as_bytes()), want, "{name}");
        assert_eq!(strange(text.as_bytes()), None, "{name}");
    }
    for (text, want) in [
        ("<!DOCTYPE html><html>", "an HTML or XML page"),
        ("\u{feff}\n <?xml version=\"1.0\"?>", "an HTML or XML page"),
        ("{\"error\":\"rate limited\"}", "a JSON document"),
        ("[]", "a JSON document"),
        ("GIF89a\0\0", "binary data"),
    ] {
        assert_eq!(strange(text.as_bytes()), Some(want), "{text}");
    }
    assert_eq!(strange(b""), None);
}

#[test]
fn what_lists_say_of_entries_is_kept() {
    let of = |name: &str| {
        let case = CASES.iter().find(|case| case.name.starts_with(name)).unwrap();
        parse(case.format, "list", case.text.as_bytes(), 100)
    };
    assert_eq!(said(&of("Spamhaus DROP text"), "192.0.2.9"), ["SBL256893"]);
    assert_eq!(said(&of("Spamhaus DROP JSON"), "2001:db8::9"), ["SBL8"]);
    assert_eq!(said(&of("ipset save"), "192.0.2.9"), ["a b"]);
    assert_eq!(said(&of("nft list"), "203.0.113.9"), ["a, } b"]);
    let rbldnsd = of("rbldnsd");
    assert_eq!(said(&rbldnsd, "192.0.2.1"), ["See http://bl.example.org/?%A 100%%"]);
    assert_eq!(said(&rbldnsd, "192.0.2.9"), ["own text"]);
    assert_eq!(said(&rbldnsd, "2001:db8::1"), ["six"]);
}

#[test]
fn entries_of_rpz_are_backwards_and_exact() {
    for (owner, want) in [
        ("8.0.0.0.10.rpz-ip", Some("10.0.0.0/8")),
        ("128.57.zz.2.0.db8.2001.rpz-ip", None),
        ("128.57.zz.2.db8.2001.rpz-ip", Some("2001:db8:2::57/128")),
        ("64.0.0.0.0.4.3.2.2001.rpz-ip", Some("2001:2:3:4::/64")),
        ("16.zz.2001.RPZ-IP", Some("2001::/16")),
        ("33.1.2.0.192.rpz-ip", None),
        ("0.0.0.0.0.rpz-ip", None),
        ("24.1.2.0.192.rpz-ip", None),
        ("32.1.2.0.0192.rpz-ip", None),
        ("64.zz.zz.1.rpz-ip", None),
        ("128.1.2.3.4.5.6.7.8.9.rpz-ip", None),
        ("x.zz.1.rpz-ip", None),
    ] {
        let parsed = parse(Format::Rpz, "zone", format!("{owner} CNAME .\n").as_bytes(), 100);
        let want: Vec<&str> = want.into_iter().collect();
        let found = shown(&parsed.set);
        if owner.starts_with("128.57.zz.2.0.") {
            // `zz` for one or more groups: this one is valid as well.
            assert_eq!(found, ["2001:db8:0:2::57/128"], "{owner}");
        } else {
            assert_eq!(found, want, "{owner}: {:?}", parsed.problems);
        }
    }
}

#[test]
fn ranges_become_the_fewest_prefixes_up_to_the_ends_of_the_families() {
    for (text, want) in [
        ("0.0.0.0-255.255.255.255", &["0.0.0.0/0"][..]),
        ("255.255.255.255-255.255.255.255", &["255.255.255.255/32"]),
        ("192.0.2.1-192.0.2.2", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["::/0"]),
        ("2001:db8:: - 2001:db8::1", &["2001:db8::/127"]),
    ] {
        let found: Vec<String> =
            Span::parse(text.as_bytes()).unwrap().prefixes().map(|p| p.to_string()).collect();
        assert_eq!(found, want, "{text}");
    }
    for text in ["192.0.2.2-192.0.2.1", "192.0.2.1-::1", "192.0.2.1-", "-", "a-b"] {
        assert!(Span::parse(text.as_bytes()).is_err(), "{text}");
    }
}

/// Ranges of a small world, which are easy to check one by one.
fn small_range() -> impl Strategy<Value = (u8, u8)> {
    (any::<u8>(), any::<u8>()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn span(at: u8, (first, last): (u8, u8)) -> Span {
    Span::V4([at, at, at, first].into(), [at, at, at, last].into())
}

proptest! {
    #[test]
    fn white_takes_out_exactly_what_it_names(
        black in prop::collection::vec(small_range(), 0..6),
        white in prop::collection::vec(small_range(), 0..6),
        at in prop::sample::select(vec![0_u8, 10, 255]),
    ) {
        let mut sweep = Sweep::default();
        // In any order: what is taken out may come before what it is taken out of.
        white.iter().for_each(|range| sweep.subtract(span(at, *range)));
        black.iter().for_each(|range| sweep.add(span(at, *range)));
        let left = sweep.done();
        for octet in 0..=u8::MAX {
            let inside = |ranges: &[(u8, u8)]| ranges.iter().any(|(a, b)| (*a..=*b).contains(&octet));
            let address = std::net::Ipv4Addr::from([at, at, at, octet]);
            let found = left.iter().filter(|span| match span {
                Span::V4(first, last) => (*first..=*last).contains(&address),
                Span::V6(..) => false,
            });
            prop_assert_eq!(found.count(), usize::from(inside(&black) && !inside(&white)), "{}", address);
        }
    }

    #[test]
    fn any_bytes_are_read_in_any_format_without_panic(text: Vec<u8>, at in 0..FORMATS.len()) {
        let parsed = parse(FORMATS[at], "x", &text, 100_000);
        prop_assert!(parsed.problems.len() <= PROBLEMS_SHOWN);
        let _ = strange(&text);
        let _ = spamd_conf::parse(&text);
    }

    #[test]
    fn pieces_of_lists_in_any_order_are_read_without_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40),
        at in 0..FORMATS.len(),
    ) {
        let text = pieces.concat();
        let parsed = parse(FORMATS[at], "x", text.as_bytes(), 100_000);
        // What was read is in canonical form: writing and reading it again gives the same.
        let written: String = shown(&parsed.set).iter().map(|entry| format!("{entry}\n")).collect();
        prop_assert_eq!(parse(Format::Plain, "x", written.as_bytes(), 100_000).set, parsed.set);
        let _ = spamd_conf::parse(text.as_bytes());
    }

    #[test]
    fn the_order_of_lines_makes_no_difference(
        entries in prop::collection::btree_set((any::<u32>(), 1_u8..=32, any::<bool>()), 1..30),
        seed: u64,
        at in 0..WRITTEN.len(),
    ) {
        let (format, write) = WRITTEN[at];
        let net = |(bits, length, _): &(u32, u8, bool)| {
            ipnet::Ipv4Net::new((*bits).into(), *length).unwrap().trunc()
        };
        let mut lines: Vec<String> = entries.iter().map(|entry| write(net(entry), entry.2)).collect();
        let read = |lines: &[String]| parse(format, "x", lines.concat().as_bytes(), 100_000);
        let one = read(&lines);
        prop_assert_eq!(one.refused, 0, "{:?}", one.problems);
        // A rotation and a swap are enough to bring any two lines into the other order.
        let by = usize::try_from(seed % 1000).unwrap() % lines.len();
        lines.rotate_left(by);
        lines.reverse();
        let two = read(&lines);
        prop_assert_eq!(&one.set, &two.set);
        prop_assert_eq!(&one.notes, &two.notes);
        // And what was written is what was read.
        let mut want: Vec<String> = entries.iter().map(|entry| net(entry).to_string()).collect();
        want.sort();
        want.dedup();
        let mut found: Vec<String> = shown(&one.set).iter().map(|e| e.trim_start_matches('!').to_owned()).collect();
        found.sort();
        prop_assert_eq!(found, want);
    }
}

const FORMATS: [Format; 9] = [
    Format::Auto,
    Format::Drop,
    Format::DropJson,
    Format::Ipset,
    Format::Nft,
    Format::Plain,
    Format::Rbldnsd,
    Format::Rpz,
    Format::Spamd,
];

type Write = fn(ipnet::Ipv4Net, bool) -> String;

/// How each format writes an entry, with a hole or a note where it has such.
const WRITTEN: [(Format, Write); 8] = [
    (Format::Plain, |net, hole| format!("{}{net}\n", if hole { "!" } else { "" })),
    (Format::Drop, |net, odd| format!("{net} ; SBL{}\n", u8::from(odd))),
    (Format::DropJson, |net, odd| format!("{{\"cidr\":\"{net}\",\"sblid\":\"SBL{}\"}}\n", u8::from(odd))),
    (Format::Ipset, |net, hole| format!("add x {net}{}\n", if hole { " nomatch" } else { " comment \"c\"" })),
    (Format::Nft, |net, _| format!("add element inet t s {{ {net} }}\n")),
    (Format::Rpz, |net, hole| {
        let [a, b, c, d] = net.network().octets();
        let target = if hole { "rpz-passthru." } else { "." };
        format!("{}.{d}.{c}.{b}.{a}.rpz-ip CNAME {target}\n", net.prefix_len())
    }),
    (Format::Rbldnsd, |net, hole| if hole { format!("!{net}\n") } else { format!("{net} :2:text $\n") }),
    (Format::Spamd, |net, _| format!("{} - {} x\n", net.network(), net.broadcast())),
];

const PIECES: [&str; 44] = [
    "192.0.2.1",
    "/24",
    "/33",
    "10",
    ".",
    ":",
    "::",
    "2001:db8::",
    "-",
    "!",
    "#",
    ";",
    "\n",
    " ",
    "\t",
    "$",
    "$1 x",
    "$DATASET ",
    "ip4set ",
    "ip6trie ",
    "{",
    "}",
    ",",
    "=",
    "\"",
    "\\",
    "elements",
    "set ",
    "type ",
    "add ",
    "element ",
    "create ",
    "nomatch",
    "comment ",
    "rpz-ip",
    ".rpz-ip",
    "zz",
    " CNAME ",
    "rpz-passthru.",
    "(",
    ")",
    "{\"cidr\":\"10.0.0.0/8\"}",
    "all:",
    ":black:msg=\"a\":",
];

const SHIPPED: &str = "# the file as it is shipped, with its quirks\n\
all:\\\n\t:uatraps:nixspam:mine:override:\n\n\
uatraps:\\\n\t:black:\\\n\t:msg=\"Your address %A has sent mail to a spamtrap\\n\\\n\twithin the last 24 hours\":\\\n\
\t:method=http:\\\n\t:file=www.openbsd.org/spamd/traplist.gz\n\n\
nixspam:\\\n\t:black:\\\n\t:msg=\"See http://www.heise.de/ix/nixspam/dnsbl_en/ for details\":\\\n\
\t:method=https:\\\n\t:file=lists.example.org/nixspam.gz:\n\
mine:\\\n\t:black:\\\n\t:msg=/etc/mail/mine.txt:\\\n\t:method=exec:\\\n\t:file=\"/usr/local/bin/feed --of=a:b x\":\n\
#override:\\\n#\t:white:\n\
override:\\\n\t:white:\\\n\t:file=/var/db/override.txt:\n";

#[test]
fn a_spamd_conf_is_read_unchanged() {
    use spamd_conf::{Message, Method};
    let conf = spamd_conf::parse(SHIPPED.as_bytes()).unwrap();
    let names: Vec<_> = conf.black.iter().map(|black| black.list.name.as_str()).collect();
    assert_eq!(names, ["uatraps", "nixspam", "mine"]);
    let [uatraps, nixspam, mine] = &conf.black[..] else { panic!() };
    let text = "Your address %A has sent mail to a spamtrap\nwithin the last 24 hours";
    assert_eq!(uatraps.message, Message::Text(text.to_owned()));
    assert_eq!(uatraps.list.method, Method::Url("http://www.openbsd.org/spamd/traplist.gz".to_owned()));
    assert!(uatraps.list.is_dead && !nixspam.list.is_dead);
    let text = "See http://www.heise.de/ix/nixspam/dnsbl_en/ for details";
    assert_eq!(nixspam.message, Message::Text(text.to_owned()));
    assert_eq!(nixspam.list.method, Method::Url("https://lists.example.org/nixspam.gz".to_owned()));
    assert_eq!(mine.message, Message::File("/etc/mail/mine.txt".to_owned()));
    let words = ["/usr/local/bin/feed", "--of=a:b", "x"].map(str::to_owned).to_vec();
    assert_eq!(mine.list.method, Method::Exec(words));
    assert_eq!(mine.white.len(), 1, "white follows its black");
    assert_eq!(mine.white[0].method, Method::File("/var/db/override.txt".to_owned()));
    assert_eq!(conf.warnings.len(), 1, "{:?}", conf.warnings);
    assert!(conf.warnings[0].contains("uatraps: the list has been shut down"), "{:?}", conf.warnings);
}

#[test]
fn parity_in_all_a_w_b_white_belongs_to_the_black_before_it_and_before_any_black_to_none() {
    let text = "all:W:A:W:B:\nA:black:msg=\"a\":file=/a:\nB:black:msg=\"b\":file=/b:\nW:white:file=/w:\n";
    let conf = spamd_conf::parse(text.as_bytes()).unwrap();
    let white: Vec<usize> = conf.black.iter().map(|black| black.white.len()).collect();
    assert_eq!(white, [1, 0]);
    assert!(conf.warnings[0].contains("has no effect"), "{:?}", conf.warnings);
}

#[test]
fn what_is_wrong_with_a_spamd_conf_is_told() {
    for (text, want) in [
        ("a:black:msg=\"x\":file=/x:\n", "found no record `all`"),
        ("all:a:\n", "found a in `all`, expected a record a"),
        ("all:a:\na:black:file=/x:\n", "a: found no msg"),
        ("all:a:\na:black:msg=\"x\":\n", "a: found no file"),
        ("all:a:\na:msg=\"x\":file=/x:\n", "expected one of them"),
        ("all:a:\na:black:msg=\"x\":method=ftp:file=/x:\n", "method=ftp"),
        ("all:a:\na:black:msg=\"x\":method=smoke:file=/x:\n", "smoke"),
        ("all:a:\na:tc=a:\n", "found no file"),
    ] {
        let said = spamd_conf::parse(text.as_bytes()).unwrap_err();
        assert!(said.contains(want), "{text}: {said}");
    }
}

#[test]
fn parity_escapes_of_messages_are_those_of_spamd_and_last_characters_stay() {
    for (given, want) in [
        (r#""a\"b""#, "a\"b"),
        (r#""a\nb""#, "a\nb"),
        (r#""a\\b""#, "a\\b"),
        (r#""%A %%""#, "%A %%"),
        (r#""ends with A""#, "ends with A"),
        (r#""ends with n""#, "ends with n"),
    ] {
        assert_eq!(spamd_conf::unquoted(given), want, "{given}");
    }
}
