//! Properties of the whole grammar.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn commands(chunks: &[&[u8]]) -> (Vec<Bytes>, Option<Misbehaved>) {
    let mut reader = Reader::new(Limits { line: 4096, literals: 8 });
    let mut commands = Vec::new();
    for chunk in chunks {
        reader.feed(chunk);
        loop {
            match reader.advance() {
                Ok(Input::Command(command)) => commands.push(command),
                Ok(Input::Discarded) => commands.push(Bytes::from_static(b"(discarded)")),
                Ok(Input::Literal(literal)) if literal.size < 50 => reader.allow(),
                Ok(Input::Literal(_)) => reader.refuse(),
                Ok(Input::More) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

fn session() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("a1 NOOP\r\n".to_owned()),
        Just("a2 LOGIN {2}\r\nme {3+}\r\npw \r\n".to_owned()),
        Just("a3 APPEND x {60+}\r\n".to_owned()),
        Just("a4 SELECT \"a b\"\n".to_owned()),
        "[ -~]{0,30}(\r\n)?",
        "[{}0-9+]{0,6}\r\n",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_of_input_gives_the_same_commands(bytes in session(), cuts in proptest::collection::vec(0_usize..400, 0..12)) {
        let whole = commands(&[&bytes]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut from = 0;
        let chunks: Vec<&[u8]> = cuts.iter().map(|to| { let chunk = &bytes[from..*to]; from = *to; chunk }).collect();
        prop_assert_eq!(commands(&chunks), whole.clone());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(commands(&single), whole);
    }

    #[test]
    fn any_bytes_parse_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&bytes.into());
    }

    #[test]
    fn nearly_commands_parse_without_panic(text in "[a-z0-9]{1,3} (UID )?(FETCH|STORE|SEARCH|LIST|APPEND|COPY|STATUS|ID|LOGIN|AUTHENTICATE) [ -~\r\n{}]{0,60}") {
        let _ = Command::parse(&text.into());
    }
}

#[test]
fn deep_nesting_ends_in_a_refusal_and_not_in_an_overflow() {
    for text in [
        format!("a SEARCH {}ALL", "NOT ".repeat(10_000)),
        format!("a SEARCH {}", "(".repeat(50_000)),
        format!("a SEARCH {}ALL", "OR ALL ".repeat(5_000)),
        format!("a FETCH 1 BODY[{}TEXT]", "1.".repeat(10_000)),
    ] {
        assert!(Command::parse(&text.into()).is_err());
    }
}
