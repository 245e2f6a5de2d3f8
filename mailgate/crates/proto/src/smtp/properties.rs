//! Properties of the grammars: no panic, no dependence on how bytes are split, round trips, an independent oracle.

use bytes::BytesMut;
use mailgate_model::{Address, ForwardPath};
use proptest::prelude::*;

use super::*;

const LIMITS: ContentLimits = ContentLimits { size: 300, line: 40 };

/// Bytes in which ends and false ends are common.
fn tricky() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        3 => Just(b".".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\0".to_vec()),
        4 => proptest::collection::vec(b'a'..=b'z', 0..20),
        1 => Just(b"AUTH ".to_vec()),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Lines as honest clients write them.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec("[.]{0,2}[a-z.]{0,12}", 0..12)
        .prop_map(|lines| lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect())
}

fn cut(wire: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|c| c % (wire.len() + 1)).collect();
    at.extend([0, wire.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| wire[pair[0]..pair[1]].to_vec()).collect()
}

fn decode(pieces: &[Vec<u8>]) -> (Result<Vec<u8>, Flaw>, usize, bool) {
    let mut content = Content::new(LIMITS);
    let mut decoder = DataDecoder::new();
    let (mut consumed, mut ended) = (0, false);
    for piece in pieces {
        let step = decoder.push(piece, &mut content);
        consumed += step.consumed;
        ended = step.ended;
        if ended {
            break;
        }
    }
    (content.finish().map(|bytes| bytes.to_vec()), consumed, ended)
}

fn split(pieces: &[Vec<u8>]) -> Vec<Result<Vec<u8>, Misbehaved>> {
    let mut splitter = LineSplitter::with_limit(30);
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(line) = splitter.next_line(&mut input) {
            found.push(line.map(|line| line.to_vec()));
        }
    }
    found
}

proptest! {
    #[test]
    fn any_split_of_data_gives_the_same_content_and_end(wire in tricky(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
        prop_assert_eq!(decode(&cut(&wire, &cuts)), decode(&[wire]));
    }

    #[test]
    fn data_ends_at_the_first_crlf_dot_crlf_and_nowhere_else(wire in tricky()) {
        let with_start = [b"\r\n", &wire[..]].concat();
        let end = with_start.windows(5).position(|five| five == b"\r\n.\r\n").map(|at| at + 3);
        let (_, consumed, ended) = decode(std::slice::from_ref(&wire));
        prop_assert_eq!(ended, end.is_some());
        prop_assert_eq!(consumed, end.unwrap_or(wire.len()));
    }

    #[test]
    fn accepted_content_has_only_crlf(wire in tricky()) {
        if let (Ok(content), _, true) = decode(&[wire]) {
            let bare = String::from_utf8_lossy(&content).replace("\r\n", "");
            prop_assert!(!bare.contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn decoding_what_was_encoded_gives_it_again(content in lines()) {
        let wire = DataEncoder::new(&content).unwrap().to_vec();
        let whole = wire.len();
        prop_assert_eq!(decode(&[wire]), (Ok(content), whole, true));
    }

    #[test]
    fn an_independent_decoder_agrees_on_honest_content(content in lines()) {
        let wire = DataEncoder::new(&content).unwrap().to_vec();
        let mut oracle = smtp_proto::request::receiver::DataReceiver::new();
        let mut found = Vec::new();
        // It does not take the start for a start of line until it has seen CRLF.
        prop_assert!(!oracle.ingest(&mut b"\r\n".iter(), &mut found));
        found.clear();
        prop_assert!(oracle.ingest(&mut wire.iter(), &mut found));
        prop_assert_eq!(found, content);
    }

    #[test]
    fn any_split_of_input_gives_the_same_lines(wire in tricky(), cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
        prop_assert_eq!(split(&cut(&wire, &cuts)), split(&[wire]));
    }

    #[test]
    fn lines_never_hold_an_end_of_line(wire in tricky()) {
        for line in split(&[wire]).into_iter().flatten() {
            prop_assert!(line.len() <= 28 && !line.contains(&b'\r') && !line.contains(&b'\n'));
        }
    }

    #[test]
    fn no_bytes_make_the_command_parser_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::parse(&line, Charset::Utf8);
    }

    #[test]
    fn no_tail_of_a_known_verb_makes_the_parser_panic(
        verb in "(MAIL FROM:|RCPT TO:|AUTH |BDAT |EHLO |VRFY )", tail in "[<>@:\"\\\\a-c. =;,+\\[\\]ü0-9]{0,60}"
    ) {
        let _ = Command::parse(format!("{verb}{tail}").as_bytes(), Charset::Utf8);
    }

    #[test]
    fn every_address_survives_a_command(local in "[a-z\" @<>\\\\:,]{1,20}", domain in "[a-z]{1,10}(\\.[a-z]{1,5}){0,3}") {
        let quoted: String = local.chars().flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
        let address = Address::parse(&format!("\"{quoted}\"@{domain}")).unwrap();
        let line = format!("RCPT TO:<{address}>");
        let Ok(Command::Rcpt(rcpt)) = Command::parse(line.as_bytes(), Charset::Ascii) else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(rcpt.path, ForwardPath::Address(address));
    }

    #[test]
    fn any_split_of_answers_gives_the_same(wire in "((250|550)[ -][a-z]{0,5}\r\n){0,6}", cuts in proptest::collection::vec(any::<usize>(), 0..10)) {
        let read = |pieces: &[Vec<u8>]| {
            let (mut reader, mut input, mut all) = (AnswerReader::new(), BytesMut::new(), Vec::new());
            for piece in pieces {
                input.extend_from_slice(piece);
                loop {
                    match reader.next_answer(&mut input) {
                        Ok(Some(answer)) => all.push(answer),
                        Ok(None) => break,
                        Err(error) => return (all, Some(error)),
                    }
                }
            }
            (all, None)
        };
        prop_assert_eq!(read(&cut(wire.as_bytes(), &cuts)), read(&[wire.into_bytes()]));
    }

    #[test]
    fn xtext_round_trips(text in "\\PC{0,40}") {
        prop_assert_eq!(xtext::decode(&xtext::encode(&text)), Some(text));
    }
}
