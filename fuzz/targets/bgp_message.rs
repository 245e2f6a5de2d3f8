//! Frames do not depend on how the bytes were split; a message that is written is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_proto::bgp::{AsWidth, Families, Framer, Message, Misbehaved, Relation, Session};

fn frames(pieces: &[&[u8]]) -> (Vec<bytes::Bytes>, Option<Misbehaved>) {
    let (mut framer, mut found) = (Framer::default(), Vec::new());
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.take() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(misbehaved) => return (found, Some(misbehaved)),
            }
        }
    }
    (found, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*first >> 2).max(1)).collect();
    let (whole, misbehaved) = frames(&[bytes]);
    let (split, split_misbehaved) = frames(&pieces);
    assert_eq!((&whole, misbehaved.is_some()), (&split, split_misbehaved.is_some()));
    let session = Session {
        as_width: if first & 1 == 0 { AsWidth::Two } else { AsWidth::Four },
        relation: if first & 2 == 0 { Relation::External } else { Relation::Internal },
        families: Families::ALL,
        add_path: Families::filter(|_| first & 4 != 0),
        extended: first & 8 != 0,
        ..Session::default()
    };
    // Beside real frames the body alone, or most inputs would die at the marker.
    let mut bare = vec![0xff; 16];
    let length = u16::try_from(bytes.len() + 18).unwrap_or(u16::MAX);
    bare.extend(length.to_be_bytes());
    bare.extend_from_slice(bytes);
    for frame in whole.iter().map(|frame| &frame[..]).chain([&bare[..]]) {
        let Ok(message) = Message::decode(frame, &session) else { continue };
        let Ok(written) = message.encode(&session) else { continue };
        let again = Message::decode(&written, &session).expect("what we write can be read");
        let twice = again.encode(&session).expect("and written");
        assert_eq!(written, twice);
    }
});
