//! One process per instance: a lock on the folder of its pins (or on a file, where there is no bpf file system) that
//! ends with the process, however it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::Error;

/// Attempts against somebody who removes and makes the file at the same moment.
const ATTEMPTS: u32 = 5;

/// Held while it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _held: Flock<File>,
}

impl Lock {
    /// Locks what is at `path`, a folder that exists or a file, which is made.
    ///
    /// # Errors
    /// [`Error::Held`] with the process that has it; [`Error::Kernel`] when it cannot be opened.
    pub(super) fn take(path: &Path, instance: &str) -> Result<Self, Error> {
        let failed = |source| Error::kernel(format!("lock {}", path.display()), source);
        for _ in 0..ATTEMPTS {
            let file = if path.is_dir() {
                File::open(path)
            } else {
                File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
            };
            let file = file.map_err(failed)?;
            let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => held,
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => return Err(held(&file, instance)),
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // Its holder may have removed it between our opening and locking; then it guards nothing.
            let same = |there: fs::Metadata| held.metadata().is_ok_and(|here| here.ino() == there.ino());
            if fs::metadata(path).is_ok_and(same) {
                return Ok(Self { _held: held });
            }
        }
        Err(failed(io::Error::other("it is removed again and again")))
    }
}

/// Says who has the lock of this file.
fn held(file: &File, instance: &str) -> Error {
    let process = file.metadata().ok().and_then(|metadata| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        holder(&locks, metadata.dev(), metadata.ino())
    });
    let process = process.map(|id| (id, command(id).unwrap_or_default()));
    Error::Held { instance: instance.to_owned(), process }
}

/// Name of a process, at most 15 bytes (proc(5)).
pub(super) fn command(process: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/comm")).ok().map(|name| name.trim().to_owned())
}

/// The process with a lock of flock(2) on this inode, in the words of /proc/locks (proc(5)):
/// `1: FLOCK  ADVISORY  WRITE 1234 00:1b:5678 0 EOF`.
fn holder(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    locks.lines().find_map(|line| {
        // A waiting process has an arrow after the number.
        let mut words = line.split_whitespace().skip(1);
        let [kind, _, _, process, place] = std::array::from_fn(|_| words.next().unwrap_or_default());
        let (on, number) = place.rsplit_once(':')?;
        let fits = kind == "FLOCK" && on == device && number.parse() == Ok(inode);
        // 0 and negative numbers stand for processes that this namespace cannot see.
        fits.then(|| process.parse().ok()).flatten().filter(|process| *process > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_take_it_hears_who_has_it_and_the_end_of_the_first_frees_it() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("file"), folder.path().to_owned()] {
            let first = Lock::take(&path, "mx").unwrap();
            let error = Lock::take(&path, "mx").unwrap_err();
            let Error::Held { process: Some((process, _)), .. } = &error else { panic!("{error}") };
            assert_eq!(*process, std::process::id());
            assert!(error.to_string().contains("\"mx\" is in use by process"), "{error}");
            drop(first);
            Lock::take(&path, "mx").unwrap();
        }
    }

    #[test]
    fn only_the_lock_of_this_very_file_names_its_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:1b:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 00:1b:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 00:1b:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 08:01:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 15 00:1b:77 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 0 00:1b:79 0 EOF\n";
        assert_eq!(holder(locks, 0x1b, 77), Some(15));
        assert_eq!(holder(locks, 0x1b, 78), Some(12));
        assert_eq!(holder(locks, 0x1b, 79), None, "of another process namespace");
        assert_eq!(holder(locks, 0x1b, 80), None);
    }
}
