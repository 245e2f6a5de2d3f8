//! Commands do not depend on how the bytes were split, and none panics.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mailgate_proto::imap::{Command, Input, Limits, Misbehaved, Reader};

/// Larger literals are refused.
const LITERAL: u64 = 64;

fn commands(pieces: &[&[u8]]) -> (Vec<Bytes>, Option<Misbehaved>) {
    let mut reader = Reader::new(Limits { line: 1000, literals: 4 });
    let mut found = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.advance() {
                Ok(Input::Command(command)) => found.push(command),
                Ok(Input::Discarded) => found.push(Bytes::from_static(b"discarded")),
                Ok(Input::Literal(literal)) if literal.size <= LITERAL => reader.allow(),
                Ok(Input::Literal(_)) => reader.refuse(),
                Ok(Input::More) => break,
                Err(misbehaved) => return (found, Some(misbehaved)),
            }
        }
    }
    (found, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*first).max(1)).collect();
    let (whole, _) = commands(&[bytes]);
    let (split, _) = commands(&pieces);
    // A line without end is refused earlier when it comes in pieces; what came before is the same.
    let common = whole.len().min(split.len());
    assert_eq!(whole[..common], split[..common]);
    for command in whole {
        let _ = Command::parse(&command);
    }
});
