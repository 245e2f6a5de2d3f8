//! Replies of other MTAs do not depend on how the bytes were split; what they offer is read without panic.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mailgate_proto::smtp::{Answer, AnswerReader, Misbehaved, Offered, xtext};

fn answers(pieces: &[&[u8]]) -> (Vec<Answer>, Option<Misbehaved>) {
    let (mut reader, mut input, mut found) = (AnswerReader::new(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match reader.next_answer(&mut input) {
                Ok(Some(answer)) => found.push(answer),
                Ok(None) => break,
                Err(misbehaved) => return (found, Some(misbehaved)),
            }
        }
    }
    (found, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*first).max(1)).collect();
    let (found, misbehaved) = answers(&[bytes]);
    assert_eq!((&found, &misbehaved), (&answers(&pieces).0, &answers(&pieces).1));
    for answer in found {
        let _ = Offered::from_answer(&answer);
        assert!(!answer.one_line().contains(['\r', '\n']));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        // Control characters are refused: they end up in header fields.
        let want = (!text.chars().any(char::is_control)).then_some(text);
        assert_eq!(xtext::decode(&xtext::encode(text)).as_deref(), want);
        if let Some(decoded) = xtext::decode(text) {
            assert!(!decoded.chars().any(char::is_control), "{decoded:?}");
        }
    }
});
