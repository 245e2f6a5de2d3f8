//! Datagrams of spamd: the same bytes behind a right tag; what is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_proto::spamdsync::{Authenticator, Datagram, TAG_LENGTH, encode};

/// Every tag is right: the fuzzer is to reach what stands behind it.
struct Open;

impl Authenticator for Open {
    fn tag(&self, _: &[u8]) -> [u8; TAG_LENGTH] {
        [0; TAG_LENGTH]
    }
    fn is_genuine(&self, _: &[u8], _: &[u8; TAG_LENGTH]) -> bool {
        true
    }
}

fuzz_target!(|data: &[u8]| {
    // Beside real datagrams the events alone, or most inputs would die at the header.
    let mut bare = vec![1, 2, 0, 0, 0, 0];
    bare.extend(u16::try_from(data.len() + 30).unwrap_or(u16::MAX).to_be_bytes());
    bare.resize(30, 0);
    bare.extend_from_slice(data);
    for bytes in [data, &bare[..]] {
        let Ok(datagram) = Datagram::decode(bytes, &Open) else { continue };
        for event in datagram.events {
            let Some(wire) = encode(&event, datagram.counter, &Open) else { continue };
            let again = Datagram::decode(&wire, &Open).expect("what we write can be read");
            assert_eq!(again.events, [event]);
        }
    }
});
