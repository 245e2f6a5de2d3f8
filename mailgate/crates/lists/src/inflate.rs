//! Unpacking lists, gzip or zstd, within limits.

use std::io::Read;

/// Largest list, packed or not, that can be configured; about ten million lines.
pub(crate) const SIZE_MAX: u64 = 256 * 1024 * 1024;

/// A file that was packed may be packed again by the server that sends it, and that is all.
const LAYERS: usize = 2;

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Unpacks what is packed; what is not comes back as it is.
///
/// # Errors
/// A sentence: what is cut off or broken, or unpacks to more than `limit` bytes.
pub(crate) fn inflate(mut bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, String> {
    for _ in 0..LAYERS {
        if bytes.starts_with(GZIP) {
            let unpacked = read(flate2::read::MultiGzDecoder::new(bytes.as_slice()), limit, "gzip")?;
            bytes = unpacked;
        } else if bytes.starts_with(ZSTD) {
            bytes = unzstd(&bytes, limit)?;
        } else {
            break;
        }
    }
    if bytes.starts_with(GZIP) || bytes.starts_with(ZSTD) {
        return Err(format!("found a list that is packed more than {LAYERS} times, expected fewer"));
    }
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn unzstd(packed: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut rest = packed;
    let mut unpacked = Vec::new();
    // A file may be several frames one after the other.
    while !rest.is_empty() {
        let room = limit.saturating_sub(unpacked.len() as u64);
        let frame = ruzstd::decoding::StreamingDecoder::new(&mut rest);
        let frame = frame.map_err(|error| broken("zstd", &error))?;
        unpacked.append(&mut read(frame, room, "zstd").map_err(|said| over(said, limit))?);
    }
    Ok(unpacked)
}

/// Names the whole limit, not what was left of it.
fn over(said: String, limit: u64) -> String {
    if said.starts_with("found more than") { too_large(limit) } else { said }
}

fn read(packed: impl Read, limit: u64, kind: &str) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    packed.take(limit + 1).read_to_end(&mut unpacked).map_err(|error| broken(kind, &error))?;
    if unpacked.len() as u64 > limit { Err(too_large(limit)) } else { Ok(unpacked) }
}

fn broken(kind: &str, error: &dyn std::fmt::Display) -> String {
    format!("found {kind} that is cut off or broken: {error}")
}

fn too_large(limit: u64) -> String {
    format!("found more than {limit} bytes unpacked, expected at most that")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn packed_lists_are_unpacked_twice_at_most() {
        let text = b"192.0.2.1\n".repeat(1000);
        for packed in [text.clone(), gzip(&text), zstd(&text), gzip(&gzip(&text)), zstd(&gzip(&text))] {
            assert_eq!(inflate(packed, 1 << 20).unwrap(), text);
        }
        assert!(inflate(gzip(&gzip(&gzip(&text))), 1 << 20).unwrap_err().contains("more than 2 times"));
    }

    #[test]
    fn frames_and_members_in_a_row_are_one_list() {
        let (a, b) = (b"192.0.2.1\n".as_slice(), b"192.0.2.2\n".as_slice());
        for pack in [gzip, zstd] {
            assert_eq!(inflate([pack(a), pack(b)].concat(), 100).unwrap(), [a, b].concat());
        }
    }

    #[test]
    fn a_small_file_that_unpacks_to_a_giant_is_refused_without_the_giant() {
        let bomb = vec![0_u8; 4 << 20];
        for packed in [gzip(&bomb), zstd(&bomb)] {
            assert!(packed.len() < 64 << 10);
            assert_eq!(inflate(packed, 1 << 20).unwrap_err(), too_large(1 << 20));
        }
    }

    #[test]
    fn what_is_cut_off_is_no_list_wherever_it_was_cut() {
        let text: Vec<u8> =
            (0..2000_u32).flat_map(|n| format!("10.0.{}.{}\n", n / 250, n % 250).into_bytes()).collect();
        for packed in [gzip(&text), zstd(&text)] {
            for end in (4..packed.len()).step_by(97) {
                let said = inflate(packed[..end].to_vec(), 1 << 20).expect_err("cut off");
                assert!(said.contains("cut off"), "{said}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_bytes_or_a_sentence(mut bytes: Vec<u8>, kind in 0..3) {
            let magic = [&b""[..], GZIP, ZSTD][kind as usize];
            bytes.splice(0..0, magic.iter().copied());
            let _ = inflate(bytes, 1 << 16);
        }
    }
}
