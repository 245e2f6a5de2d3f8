//! Commands about maps.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::Pod;

use super::{Attr, OBJ_GET_INFO_BY_FD};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;
const MAP_TYPE_ARRAY: u32 = 2;
const F_MMAPABLE: u32 = 0x400;

/// A new array of one value of `bytes`, to be mapped, to be put into an array of maps.
///
/// # Errors
/// Those of bpf(2).
pub fn value_map(name: &str, bytes: u32) -> io::Result<OwnedFd> {
    let mut attr =
        Attr::new().word(0, MAP_TYPE_ARRAY).word(4, 4).word(8, bytes).word(12, 1).word(16, F_MMAPABLE);
    // `map_name`: 15 bytes and a zero, at byte 28.
    for (n, chunk) in name.as_bytes().chunks(4).take(4).enumerate() {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        attr = attr.word(28 + 4 * n, u32::from_ne_bytes(word));
    }
    attr.call_for_fd(MAP_CREATE)
}

/// Sets one value. The slices have the sizes of the map.
///
/// # Errors
/// Those of bpf(2).
pub fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    Attr::new().fd(0, map).address(8, key).address(16, value).call(MAP_UPDATE_ELEM).map(drop)
}

/// Puts a map into an array of maps.
///
/// # Errors
/// Those of bpf(2).
pub fn map_update_fd(map: BorrowedFd<'_>, key: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
    map_update(map, &key.to_ne_bytes(), &inner.as_raw_fd().to_ne_bytes())
}

/// Puts maps into an array of maps, from place `first` on.
///
/// The kernel waits once for the packets that may still see what was there, not for each map (from Linux 6.8 on).
///
/// # Errors
/// Those of bpf(2).
pub fn map_update_fds(map: BorrowedFd<'_>, first: u32, inner: &[OwnedFd]) -> io::Result<()> {
    let keys: Vec<u32> = (first..).take(inner.len()).collect();
    let values: Vec<i32> = inner.iter().map(|fd| fd.as_raw_fd()).collect();
    match batch(MAP_UPDATE_BATCH, map, &keys, Some(&values)) {
        // Before 5.19 there are no batches for this kind of map.
        Err(error) if lacks_batches(&error) => {
            keys.iter().zip(inner).try_for_each(|(key, inner)| map_update_fd(map, *key, inner.as_fd()))
        }
        done => done,
    }
}

/// Removes the maps at these places of an array of maps; each has to hold one.
///
/// # Errors
/// Those of bpf(2).
pub fn map_delete_all(map: BorrowedFd<'_>, places: std::ops::Range<u32>) -> io::Result<()> {
    let keys: Vec<u32> = places.collect();
    match batch::<_, u32>(MAP_DELETE_BATCH, map, &keys, None) {
        Err(error) if lacks_batches(&error) => keys.iter().try_for_each(|key| map_delete(map, *key)),
        done => done,
    }
}

fn lacks_batches(error: &io::Error) -> bool {
    /// The kernel's own, not told to programs by name.
    const ENOTSUPP: libc::c_int = 524;
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}

/// Sets one value; key and value are of the map's sizes.
///
/// # Errors
/// Those of bpf(2).
pub fn map_set<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    Attr::new()
        .fd(0, map)
        .address(8, std::ptr::from_ref(key))
        .address(16, std::ptr::from_ref(value))
        .call(MAP_UPDATE_ELEM)
        .map(drop)
}

/// Sets many values, by one call; `keys` and `values` are equally many, of the map's sizes.
///
/// # Errors
/// Those of bpf(2).
pub fn map_update_batch<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()> {
    if keys.len() != values.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    batch(MAP_UPDATE_BATCH, map, keys, Some(values))
}

/// `attr.batch`: keys at byte 16, values at 24, their number at 32, the map at 36.
fn batch<K: Pod, V: Pod>(
    command: libc::c_int,
    map: BorrowedFd<'_>,
    keys: &[K],
    values: Option<&[V]>,
) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(keys.len()).map_err(io::Error::other)?;
    let mut attr = Attr::new().address(16, keys).word(32, count).fd(36, map);
    if let Some(values) = values {
        attr = attr.address(24, values);
    }
    attr.call(command).map(drop)
}

/// Removes one value; fine when there is none.
///
/// # Errors
/// Those of bpf(2).
pub fn map_delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let key = key.to_ne_bytes();
    match Attr::new().fd(0, map).address(8, &key).call(MAP_DELETE_ELEM) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        done => done.map(drop),
    }
}

/// A value of four bytes (of an array of maps: the id of the map there); `None` when there is none.
///
/// # Errors
/// Those of bpf(2).
pub fn map_lookup_u32(map: BorrowedFd<'_>, key: u32) -> io::Result<Option<u32>> {
    let key = key.to_ne_bytes();
    let mut value = [0_u8; 4];
    match Attr::new().fd(0, map).address(8, &key).address(16, value.as_mut_ptr()).call(MAP_LOOKUP_ELEM) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        done => done.map(|_| Some(u32::from_ne_bytes(value))),
    }
}

/// A value of eight bytes; `None` when there is none.
///
/// # Errors
/// Those of bpf(2).
pub fn map_lookup_u64(map: BorrowedFd<'_>, key: u32) -> io::Result<Option<u64>> {
    let key = key.to_ne_bytes();
    let mut value = [0_u8; 8];
    match Attr::new().fd(0, map).address(8, &key).address(16, value.as_mut_ptr()).call(MAP_LOOKUP_ELEM) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        done => done.map(|_| Some(u64::from_ne_bytes(value))),
    }
}

/// Reads one value, of the map's size; `false` when there is none.
///
/// # Errors
/// Those of bpf(2).
pub fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    match Attr::new().fd(0, map).address(8, key).address(16, value.as_mut_ptr()).call(MAP_LOOKUP_ELEM) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        done => done.map(|_| true),
    }
}

/// The key behind `key`, or the first one; `false` at the end. Keys have the map's size.
///
/// # Errors
/// Those of bpf(2).
pub fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let mut attr = Attr::new().fd(0, map).address(16, next.as_mut_ptr());
    if let Some(key) = key {
        attr = attr.address(8, key);
    }
    match attr.call(MAP_GET_NEXT_KEY) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        done => done.map(|_| true),
    }
}

/// The id of a map.
///
/// # Errors
/// Those of bpf(2).
pub fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = Attr::new();
    Attr::new()
        .fd(0, map)
        .word(4, size_of::<Attr>() as u32)
        .address(8, std::ptr::from_mut(&mut info))
        .call(OBJ_GET_INFO_BY_FD)?;
    // struct bpf_map_info: type at 0, id at 4.
    Ok(info.field(4))
}

/// All keys of a hash map with keys of `N` bytes; keys that come and go meanwhile may be missed.
///
/// # Errors
/// Those of bpf(2).
pub fn map_keys<const N: usize>(map: BorrowedFd<'_>) -> io::Result<Vec<[u8; N]>> {
    let mut keys: Vec<[u8; N]> = Vec::new();
    let mut next = [0; N];
    while map_next_key(map, keys.last().map(<[u8; N]>::as_slice), &mut next)? {
        keys.push(next);
    }
    Ok(keys)
}

/// Removes the value of a key; fine when there is none.
///
/// # Errors
/// Those of bpf(2).
pub fn map_delete_key(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    match Attr::new().fd(0, map).address(8, key).call(MAP_DELETE_ELEM) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done.map(drop),
    }
}

/// The map with this id.
///
/// # Errors
/// Those of bpf(2).
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    Attr::new().word(0, id).call_for_fd(MAP_GET_FD_BY_ID)
}
