//! The few commands of bpf(2) that the loader's library has no call for.
#![expect(unsafe_code, reason = "bpf(2); every attribute points to memory that outlives the call")]

mod query;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;

pub use query::{
    LinkInfo, ProgramInfo, link_info, pinned_link, program_by_id, program_info, shut, update_link,
};

/// In the driver (linux/if_link.h).
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Behind the driver.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

const MAP_TYPE_ARRAY: u32 = 2;
const F_MMAPABLE: u32 = 0x400;
const ATTACH_SK_LOOKUP: u32 = 36;
const ATTACH_XDP: u32 = 37;
const ATTACH_SOCK_OPS: u32 = 3;
const LINK_TYPE_CGROUP: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const LINK_TYPE_XDP: u32 = 6;
const LINK_TYPE_NETNS: u32 = 5;

/// `union bpf_attr` as words; no command here uses more.
#[repr(C, align(8))]
struct Attr([u32; 32]);

impl Attr {
    const fn new() -> Self {
        Self([0; 32])
    }

    /// Sets the 32-bit field at byte `at`.
    fn word(mut self, at: usize, value: u32) -> Self {
        if let Some(word) = self.0.get_mut(at / 4) {
            *word = value;
        }
        self
    }

    /// Sets the 64-bit field at byte `at` to an address.
    fn address<T: ?Sized>(self, at: usize, value: *const T) -> Self {
        let address = (value.cast::<u8>()) as u64;
        let [low, high] = [address as u32, (address >> 32) as u32];
        let (first, second) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        self.word(at, first).word(at + 4, second)
    }

    fn fd(self, at: usize, fd: BorrowedFd<'_>) -> Self {
        self.word(at, fd.as_raw_fd().cast_unsigned())
    }

    fn field(&self, at: usize) -> u32 {
        self.0.get(at / 4).copied().unwrap_or(0)
    }

    /// Asks the kernel. Callers keep everything alive that the attribute points to.
    fn call(&mut self, command: libc::c_int) -> io::Result<libc::c_long> {
        // SAFETY: the attribute is as long as said, zeroed where unused; see the module's reason.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(self), size_of::<Self>()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
    }

    fn call_for_fd(mut self, command: libc::c_int) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
    }
}

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

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens what is pinned at a path.
///
/// # Errors
/// Those of bpf(2).
pub fn open_pin(at: &Path) -> io::Result<OwnedFd> {
    let at = path(at)?;
    Attr::new().address(0, at.as_ptr()).call_for_fd(OBJ_GET)
}

/// Pins a map, program or link.
///
/// # Errors
/// Those of bpf(2).
pub fn pin(object: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let at = path(at)?;
    Attr::new().address(0, at.as_ptr()).fd(8, object).call(OBJ_PIN).map(drop)
}

/// Attaches an XDP program; the link, which detaches when its last descriptor and pin are gone.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_xdp(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).word(4, interface).word(8, ATTACH_XDP).word(12, flags).call_for_fd(LINK_CREATE)
}

/// Attaches an sk_lookup program to a network namespace.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_sk_lookup(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).fd(4, namespace).word(8, ATTACH_SK_LOOKUP).call_for_fd(LINK_CREATE)
}

/// Attaches a sock_ops program to a control group (v2), beside those of others.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_sock_ops(program: BorrowedFd<'_>, group: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).fd(4, group).word(8, ATTACH_SOCK_OPS).call_for_fd(LINK_CREATE)
}

/// The cookie of the network namespace of the calling thread; the kernel gives no other one the same.
///
/// # Errors
/// Those of socket(2) and getsockopt(2); kernels before 5.14 have no such cookie.
pub fn namespace_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the value is as long as said and outlives the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut size,
        )
    };
    if done == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// What a link is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOn {
    /// Index of an interface.
    Interface(u32),
    /// Inode of a network namespace.
    Namespace(u32),
    /// Number of a control group, which is the inode of its folder.
    Group(u64),
}

/// Takes the program of a pinned link out of force at once; the last descriptor's end alone would do it some time
/// later. Does nothing for other pins.
pub fn detach(pin: &Path) {
    if let Ok(link) = open_pin(pin) {
        // Refused when the interface or namespace is gone: then nothing is attached any more.
        let _ = Attr::new().fd(0, link.as_fd()).call(LINK_DETACH);
    }
}

/// Runs a program on a packet (or, with a context, on that) `repeat` times: its result, and nanoseconds per run.
///
/// # Errors
/// Those of bpf(2).
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &mut [u8],
    repeat: u32,
) -> io::Result<(u32, u32)> {
    let mut attr = Attr::new().fd(0, program).word(32, repeat);
    if !packet.is_empty() {
        attr = attr.word(8, packet.len() as u32).address(16, packet);
    }
    if !context.is_empty() {
        attr = attr.word(40, context.len() as u32).address(48, context.as_mut_ptr());
    }
    attr.call(PROG_TEST_RUN)?;
    Ok((attr.field(4), attr.field(36)))
}

/// Bytes that a frame may have after a program changed it, in [`reply_to`].
const REPLY_LIMIT: usize = 2048;

/// Runs a program once on a packet: its result, and the packet as the program left it.
///
/// # Errors
/// Those of bpf(2).
pub fn reply_to(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let mut after = vec![0; REPLY_LIMIT];
    let mut attr = Attr::new()
        .fd(0, program)
        .word(8, packet.len() as u32)
        .word(12, REPLY_LIMIT as u32)
        .address(16, packet)
        .address(24, after.as_mut_ptr())
        .word(32, 1);
    attr.call(PROG_TEST_RUN)?;
    after.truncate(attr.field(12) as usize);
    Ok((attr.field(4), after))
}

/// An XDP program that passes everything. A veth device sends what XDP answers only to a peer that polls, and it polls
/// when it has a program: this one, where there is no other. For tests and measurements.
///
/// # Errors
/// Those of bpf(2).
pub fn pass_program() -> io::Result<OwnedFd> {
    // r0 = XDP_PASS; exit (linux/bpf.h: opcode, registers, offset, immediate).
    const INSTRUCTIONS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    Attr::new()
        .word(0, PROG_TYPE_XDP)
        .word(4, INSTRUCTIONS.len() as u32)
        .address(8, &INSTRUCTIONS)
        .address(16, c"GPL".as_ptr())
        .call_for_fd(PROG_LOAD)
}
