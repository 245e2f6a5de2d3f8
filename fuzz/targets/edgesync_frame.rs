//! Frames do not depend on how the bytes were split; one that is written is read the same; no sequence of frames from a
//! peer breaks a session.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mailgate_proto::edgesync::{Frame, Misbehaved, Replica, Scope, Session, Settings};

const NOW: i64 = 1_700_000_000_000;

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<Misbehaved>) {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match Frame::take(&mut buffer) {
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
    let whole = frames(&[bytes]);
    assert_eq!(whole, frames(&pieces));
    let takes = if first & 1 == 0 { Scope::All } else { Scope::Traps };
    let settings = Settings {
        name: "fuzz".to_owned(),
        takes,
        gives: takes,
        skew: 300_000,
        compares: first & 2 == 0,
        knows: (0, 0),
    };
    let (mut replica, mut session) = (Replica::new(1), Session::new(settings.clone()));
    let hello = Session::new(settings).output(&mut Replica::new(2), NOW).expect("who begins greets");
    session.input(hello, &mut replica, NOW).expect("a greeting is welcome");
    for frame in whole.0 {
        let mut wire = Vec::new();
        frame.put(&mut wire);
        assert_eq!(Frame::take(&mut BytesMut::from(&wire[..])), Ok(Some(frame.clone())));
        if session.input(frame, &mut replica, NOW).is_err() {
            break;
        }
        for _ in 0..20 {
            let Some(frame) = session.output(&mut replica, NOW) else { break };
            let mut wire = Vec::new();
            frame.put(&mut wire);
            assert_eq!(Frame::take(&mut BytesMut::from(&wire[..])), Ok(Some(frame)));
        }
    }
});
