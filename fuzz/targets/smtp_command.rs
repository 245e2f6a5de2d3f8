//! Lines do not depend on how the bytes were split, and no command panics.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mailgate_proto::smtp::{Charset, Command, LineSplitter, Misbehaved, reply};

fn lines(pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, Misbehaved>> {
    let mut splitter = LineSplitter::commands();
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

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let whole = lines(&[bytes]);
    let size = usize::from(*first).max(1);
    let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
    assert_eq!(whole, lines(&pieces));
    for line in whole {
        match line {
            Ok(line) => {
                for charset in [Charset::Ascii, Charset::Utf8] {
                    match Command::parse(&line, charset) {
                        Ok(command) => assert!(!command.verb().is_empty()),
                        Err(misbehaved) => drop(reply::refusal(&misbehaved).to_wire()),
                    }
                }
            }
            Err(misbehaved) => drop(reply::refusal(&misbehaved).to_wire()),
        }
    }
});
