use super::*;

const NESTED: &str = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\npreamble\r\n--A\r\n\r\nfirst\r\n\
    --A\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=\"B\"\r\n\r\n\
    --B\r\nContent-Type: text/plain\r\n\r\nplain\r\n--B\r\nContent-Type: text/html\r\n\r\n<b>\r\n--B--\r\nepilogue\r\n\
    --A\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n--A--\r\nafter\r\n";

fn body<'a>(content: &'a str, structure: &Structure, numbers: &[u32]) -> &'a str {
    &content[structure.part(structure.find(numbers).unwrap()).unwrap().body.clone()]
}

#[test]
fn parts_are_found_by_their_numbers() {
    let structure = Structure::parse(NESTED.as_bytes());
    for (numbers, want) in [(&[1][..], "first"), (&[2, 1], "plain"), (&[2, 2], "<b>"), (&[3], "aGk=")] {
        assert_eq!(body(NESTED, &structure, numbers), want, "{numbers:?}");
    }
    let inner = body(NESTED, &structure, &[2]);
    assert!(inner.starts_with("Subject: inner\r\n") && inner.ends_with("epilogue"));
    for numbers in [&[4][..], &[1, 1], &[2, 3], &[0], &[3, 1], &[2, 1, 1]] {
        assert_eq!(structure.find(numbers), None, "{numbers:?}");
    }
    assert_eq!(structure.find(&[]), Some(0));
}

#[test]
fn a_message_without_structure_has_one_part() {
    let plain = "A: b\r\n\r\nhello\r\n";
    let structure = Structure::parse(plain.as_bytes());
    assert_eq!(body(plain, &structure, &[1]), "hello\r\n");
    assert_eq!((structure.find(&[2]), structure.find(&[1, 1])), (None, None));
    let wrapped = "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\nhello";
    let structure = Structure::parse(wrapped.as_bytes());
    assert_eq!(body(wrapped, &structure, &[1]), "A: b\r\n\r\nhello");
    assert_eq!(body(wrapped, &structure, &[1, 1]), "hello");
}

#[test]
fn broken_multiparts_keep_their_bytes() {
    let unclosed =
        "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nX: y\r\n\r\none\r\n--A\r\nno header end";
    let structure = Structure::parse(unclosed.as_bytes());
    assert_eq!(body(unclosed, &structure, &[1]), "one");
    assert_eq!(body(unclosed, &structure, &[2]), "");
    let empty = Structure::parse(b"Content-Type: multipart/mixed; boundary=A\r\n\r\nnothing");
    assert_eq!(empty.parts[0].kind, Kind::Multipart(vec![]));
    let none = Structure::parse(b"Content-Type: multipart/mixed\r\n\r\n--\r\n");
    assert_eq!(none.parts[0].kind, Kind::Leaf);
    let outer_ends_inner = "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Type: multipart/mixed; \
        boundary=AB\r\n\r\n--AB\r\n\r\nx\r\n--A\r\n\r\ny\r\n--A--\r\n";
    let structure = Structure::parse(outer_ends_inner.as_bytes());
    assert_eq!(body(outer_ends_inner, &structure, &[1, 1]), "x");
    assert_eq!(body(outer_ends_inner, &structure, &[2]), "y");
}

#[test]
fn bombs_of_nested_messages_and_many_parts_end_at_the_limits() {
    let bomb = "Content-Type: message/rfc822\r\n\r\n".repeat(40_000);
    let structure = Structure::parse(bomb.as_bytes());
    assert_eq!(structure.parts.len(), DEPTH_LIMIT + 1);
    let mut many = String::from("Content-Type: multipart/mixed; boundary=A\r\n\r\n");
    many.push_str(&"--A\r\n\r\nx\r\n".repeat(20_000));
    let structure = Structure::parse(many.as_bytes());
    assert_eq!(structure.parts.len(), PART_LIMIT);
    let mut deep = String::new();
    for level in 0..20_000 {
        deep.push_str(&format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"));
    }
    assert_eq!(Structure::parse(deep.as_bytes()).parts.len(), DEPTH_LIMIT + 1);
}

/// `mail-parser` is an independent implementation; where both understand a message they must agree on the leaves.
#[test]
fn leaves_lie_where_another_implementation_finds_them() {
    let parsed = mail_parser::MessageParser::default().parse(NESTED.as_bytes()).unwrap();
    let ours = Structure::parse(NESTED.as_bytes());
    let theirs: Vec<_> = parsed
        .parts
        .iter()
        .filter(|part| !part.is_multipart() && !matches!(part.body, mail_parser::PartType::Message(_)))
        .map(|part| NESTED[part.offset_body as usize..part.offset_end as usize].to_owned())
        .collect();
    let leaves: Vec<_> = ours
        .parts
        .iter()
        .filter(|part| part.kind == Kind::Leaf)
        .map(|part| NESTED[part.body.clone()].to_owned())
        .filter(|text| !matches!(text.as_str(), "plain" | "<b>"))
        .collect();
    assert_eq!(theirs, leaves);
}

proptest::proptest! {
    #[test]
    fn any_message_parses_and_all_ranges_lie_within(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "Content-Type: multipart/mixed; boundary=A\r\n", "Content-Type: multipart/digest; boundary=B\r\n",
        "Content-Type: message/rfc822\r\n", "--A\r\n", "--B\r\n", "--A--\r\n", "--B--\r\n", "\r\n", "text\r\n", "x",
    ]), 0..40)) {
        let content = pieces.concat();
        let structure = Structure::parse(content.as_bytes());
        for part in &structure.parts {
            proptest::prop_assert!(part.header.start <= part.header.end && part.header.end <= part.body.start);
            proptest::prop_assert!(part.body.start <= part.body.end && part.body.end <= content.len());
        }
    }

    #[test]
    fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Structure::parse(&bytes);
    }
}
