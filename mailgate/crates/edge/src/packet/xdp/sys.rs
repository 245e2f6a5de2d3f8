//! The few commands of bpf(2) that the loader's library has no call for.
#![expect(unsafe_code, reason = "bpf(2); every attribute points to memory that outlives the call")]

mod query;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

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
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const MAP_GET_FD_BY_ID: libc::c_int = 14;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

const MAP_TYPE_ARRAY: u32 = 2;
const F_MMAPABLE: u32 = 0x400;
const F_INNER_MAP: u32 = 0x1000;
const ATTACH_SK_LOOKUP: u32 = 36;
const ATTACH_XDP: u32 = 37;
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

/// A new array for a generation: `lines` values of `bytes`, to be mapped, to be put into an array of maps.
///
/// # Errors
/// Those of bpf(2).
pub fn generation_map(name: &str, bytes: u32, lines: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::new()
        .word(0, MAP_TYPE_ARRAY)
        .word(4, 4)
        .word(8, bytes)
        .word(12, lines)
        .word(16, F_MMAPABLE | F_INNER_MAP);
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

/// What a link is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOn {
    /// Index of an interface.
    Interface(u32),
    /// Inode of a network namespace.
    Namespace(u32),
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
