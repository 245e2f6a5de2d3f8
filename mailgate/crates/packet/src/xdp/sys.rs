//! The few commands of bpf(2) that the loader's library has no call for.
#![expect(unsafe_code, reason = "bpf(2); every attribute points to memory that outlives the call")]

mod map;
mod query;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub use map::{
    map_by_id, map_delete, map_delete_all, map_delete_key, map_id, map_keys, map_lookup, map_lookup_u32,
    map_lookup_u64, map_next_key, map_set, map_update, map_update_batch, map_update_fd, map_update_fds,
    value_map,
};
pub use query::{
    LinkInfo, ProgramInfo, link_info, pinned_link, program_by_id, program_info, shut, update_link,
};

/// In the driver (linux/if_link.h).
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Behind the driver.
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;

const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

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
