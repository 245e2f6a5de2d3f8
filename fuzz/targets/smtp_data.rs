//! Content does not depend on how the bytes were split, and what is sent on decodes to itself: nothing is smuggled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_proto::smtp::{ChunkReceiver, Content, ContentLimits, DataDecoder, DataEncoder, Flaw};

const LIMITS: ContentLimits = ContentLimits { size: 4096, line: 200 };

fn decode(pieces: &[&[u8]]) -> (Result<Vec<u8>, Flaw>, usize, bool) {
    let (mut content, mut decoder) = (Content::new(LIMITS), DataDecoder::new());
    let (mut consumed, mut ended) = (0, false);
    for piece in pieces {
        let step = decoder.push(piece, &mut content);
        consumed += step.consumed;
        ended = step.ended;
        if ended {
            break;
        }
        assert_eq!(step.consumed, piece.len(), "what is no end is taken whole");
    }
    (content.finish().map(|bytes| bytes.to_vec()), consumed, ended)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let size = usize::from(*first).max(1);
    let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
    let (content, consumed, ended) = decode(&[bytes]);
    let (split_content, split_consumed, split_ended) = decode(&pieces);
    assert_eq!((ended, consumed), (split_ended, split_consumed));
    if ended {
        assert_eq!(content, split_content);
        assert!(bytes[..consumed].ends_with(b"\r\n.\r\n") || consumed == 3, "only CRLF . CRLF ends");
        if let Ok(content) = content {
            again(&content);
        }
    }
    let mut content = Content::new(LIMITS);
    let mut chunk = ChunkReceiver::new(bytes.len() as u64);
    for piece in pieces {
        chunk.push(piece, &mut content);
    }
    assert!(chunk.is_complete());
    if let Ok(content) = content.finish() {
        again(&content);
    }
});

fn again(content: &[u8]) {
    if content.is_empty() {
        return;
    }
    let wire = DataEncoder::new(content).expect("what was accepted can be sent on").to_vec();
    let (again, consumed, ended) = decode(&[&wire]);
    // A line that was as long as allowed may be one longer with its dot; content is checked without it.
    assert_eq!((again.as_deref(), consumed, ended), (Ok(content), wire.len(), true));
}
