//! Content on disk: lines end in LF there, as every program that reads Maildirs expects, and in CRLF on the wire.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use crate::Error;

/// Largest file that is read into memory. Far above any message limit; a file beyond it was put there by hand.
const READ_LIMIT: u64 = 512 * 1024 * 1024;

/// Lines are gathered up to this many octets for one write.
const WRITE_SIZE: usize = 64 * 1024;

/// What goes to disk, and how long it is on the wire.
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) wire_size: u64,
}

/// LF instead of CRLF where reading gives the same bytes again; else (a CR before a CRLF) as it is.
pub(super) fn to_stored(wire: &Bytes) -> Stored {
    let mut bytes = Vec::with_capacity(wire.len());
    let mut rest: &[u8] = wire;
    while let Some(at) = find(rest, b'\n') {
        let (line, tail) = rest.split_at(at);
        match line.strip_suffix(b"\r") {
            Some(line) if line.last() == Some(&b'\r') => {
                return Stored { bytes: wire.clone(), wire_size: wire_size(wire) };
            }
            Some(line) => bytes.extend_from_slice(line),
            None => bytes.extend_from_slice(line),
        }
        bytes.push(b'\n');
        rest = tail.get(1..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    let wire_size = wire_size(&bytes);
    Stored { bytes: bytes.into(), wire_size }
}

/// A message on its way to disk in pieces, each of which ends with its line, so that large ones are not copied.
pub(super) struct Outgoing<'a> {
    pieces: &'a [Bytes],
    form: Form,
    /// Octets on disk.
    pub(super) size: u64,
    /// Octets on the wire.
    pub(super) wire_size: u64,
}

/// How lines end on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they came: a CR before a CRLF would not come back otherwise.
    AsIs,
    /// In LF.
    Lf,
}

impl<'a> Outgoing<'a> {
    /// Looks through the pieces once.
    pub(super) fn new(pieces: &'a [Bytes]) -> Self {
        let (mut size, mut wire_size) = (0, 0);
        for line in pieces.iter().flat_map(|piece| piece.split_inclusive(|byte| *byte == b'\n')) {
            size += line.len() as u64;
            if line.ends_with(b"\r\r\n") {
                let size = pieces.iter().map(|piece| piece.len() as u64).sum();
                let wire_size = pieces.iter().map(|piece| self::wire_size(piece)).sum();
                return Self { pieces, form: Form::AsIs, size, wire_size };
            }
            match (line.ends_with(b"\r\n"), line.ends_with(b"\n")) {
                (true, _) => size -= 1,
                (false, true) => wire_size += 1,
                (false, false) => {}
            }
            wire_size += line.len() as u64;
        }
        Self { pieces, form: Form::Lf, size, wire_size }
    }

    fn write_to(&self, file: &mut impl Write) -> io::Result<()> {
        for piece in self.pieces {
            match self.form {
                Form::AsIs => file.write_all(piece)?,
                Form::Lf => {
                    for line in piece.split_inclusive(|byte| *byte == b'\n') {
                        match line.strip_suffix(b"\r\n") {
                            Some(text) => {
                                file.write_all(text)?;
                                file.write_all(b"\n")?;
                            }
                            None => file.write_all(line)?,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Length with every bare LF counted as CRLF.
pub(super) fn wire_size(stored: &[u8]) -> u64 {
    let mut size = stored.len() as u64;
    let mut previous = 0;
    for byte in stored {
        if *byte == b'\n' && previous != b'\r' {
            size += 1;
        }
        previous = *byte;
    }
    size
}

/// Every bare LF as CRLF.
pub(super) fn to_wire(stored: Vec<u8>) -> Bytes {
    let size = usize::try_from(wire_size(&stored)).unwrap_or(stored.len());
    if size == stored.len() {
        return stored.into();
    }
    let mut wire = Vec::with_capacity(size);
    let mut rest: &[u8] = &stored;
    while let Some(at) = find(rest, b'\n') {
        let (line, tail) = rest.split_at(at);
        wire.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        wire.extend_from_slice(b"\r\n");
        rest = tail.get(1..).unwrap_or_default();
    }
    wire.extend_from_slice(rest);
    wire.into()
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// Reads a message file whole.
pub(super) fn read(file: File) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > READ_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 512 MiB"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a new file that only its owner may read, and makes its content durable.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    new_durable(path, |file| file.write_all(bytes))
}

/// The same for a message in pieces.
pub(super) fn write_pieces_durably(path: &Path, outgoing: &Outgoing<'_>) -> Result<(), Error> {
    new_durable(path, |file| {
        let mut buffered = io::BufWriter::with_capacity(WRITE_SIZE, file);
        outgoing.write_to(&mut buffered)?;
        buffered.flush()
    })
}

fn new_durable(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), Error> {
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()
        })
        .map_err(|error| {
            // A half written file is of no use to anyone.
            let _ = fs::remove_file(path);
            Error::io("writing", path, &error)
        })
}

/// Makes the entries of a directory durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| Error::io("syncing", path, &error))
}

/// Makes a directory with its parents, for its owner only; no complaint when it exists.
pub(super) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("creating", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_lf_on_disk_and_in_crlf_on_the_wire() {
        let stored = to_stored(&Bytes::from_static(b"a\r\n\r\nb\r\nc"));
        assert_eq!((&*stored.bytes, stored.wire_size), (&b"a\n\nb\nc"[..], 9));
        assert_eq!(&*to_wire(b"a\n\nb\r\nc".to_vec()), b"a\r\n\r\nb\r\nc");
    }

    proptest::proptest! {
        #[test]
        fn what_has_no_bare_lf_comes_back_unchanged(text in "([ab\r]|\r\n){0,30}") {
            let wire = Bytes::from(text);
            let stored = to_stored(&wire);
            proptest::prop_assert_eq!(stored.wire_size, wire.len() as u64);
            proptest::prop_assert_eq!(to_wire(stored.bytes.to_vec()), wire);
        }

        #[test]
        fn pieces_are_written_as_the_whole_would_be(
            head in "([ab\r]{0,3}\r\n){0,3}",
            text in proptest::collection::vec(proptest::sample::select(b"ab\r\n\0".to_vec()), 0..40),
        ) {
            let whole = to_stored(&Bytes::from([head.as_bytes(), &text].concat()));
            let pieces = [Bytes::from(head), Bytes::from(text)];
            let outgoing = Outgoing::new(&pieces);
            let mut written = Vec::new();
            outgoing.write_to(&mut written).unwrap();
            proptest::prop_assert_eq!(&written[..], &whole.bytes[..]);
            proptest::prop_assert_eq!((outgoing.size, outgoing.wire_size), (written.len() as u64, whole.wire_size));
        }

        #[test]
        fn the_announced_size_is_the_size_read(bytes in proptest::collection::vec(proptest::sample::select(b"ab\r\n\0".to_vec()), 0..40)) {
            let stored = to_stored(&Bytes::from(bytes));
            proptest::prop_assert_eq!(to_wire(stored.bytes.to_vec()).len() as u64, stored.wire_size);
        }
    }
}
