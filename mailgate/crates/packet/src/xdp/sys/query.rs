//! Questions about programs and links that are already in the kernel.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{
    Attr, LINK_CREATE, LINK_TYPE_CGROUP, LINK_TYPE_NETNS, LINK_TYPE_XDP, LINK_UPDATE, LinkOn,
    OBJ_GET_INFO_BY_FD,
};

const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;

/// Maps of one program that are asked for at most.
const MAPS: usize = 64;

/// What a link holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    /// Id of its program.
    pub program: u32,
    /// Where it is attached; `None` when it is detached, its interface or namespace is gone, or it is of another kind.
    pub on: Option<LinkOn>,
}

/// What the kernel tells about a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its id.
    pub id: u32,
    /// Its name, at most 15 bytes; may be empty.
    pub name: String,
    /// Checksum of its instructions, as `bpftool` shows it.
    pub tag: String,
    /// Who loaded it.
    pub uid: u32,
    /// Ids of its maps.
    pub maps: Vec<u32>,
}

fn info(object: BorrowedFd<'_>, mut into: Attr) -> io::Result<Attr> {
    Attr::new()
        .fd(0, object)
        .word(4, size_of::<Attr>() as u32)
        .address(8, std::ptr::from_mut(&mut into))
        .call(OBJ_GET_INFO_BY_FD)?;
    Ok(into)
}

/// `struct bpf_link_info`: type at byte 0, program at 8, the union at 16.
///
/// # Errors
/// Those of bpf(2).
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let info = info(link, Attr::new())?;
    let on = match (info.field(0), info.field(16)) {
        (LINK_TYPE_CGROUP, low) => Some(LinkOn::Group(u64::from(low) | u64::from(info.field(20)) << 32)),
        (_, 0) => None,
        (LINK_TYPE_XDP, index) => Some(LinkOn::Interface(index)),
        (LINK_TYPE_NETNS, inode) => Some(LinkOn::Namespace(inode)),
        _ => None,
    };
    Ok(LinkInfo { program: info.field(8), on })
}

/// `struct bpf_prog_info`: id at byte 4, tag at 8, uid at 48, maps at 52 and 56, name at 64.
///
/// # Errors
/// Those of bpf(2).
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut maps = [0_u32; MAPS];
    let info = info(program, Attr::new().word(52, MAPS as u32).address(56, maps.as_mut_ptr()))?;
    let bytes = |from: usize, count: usize| {
        (from..from + count).step_by(4).flat_map(|at| info.field(at).to_ne_bytes()).collect::<Vec<u8>>()
    };
    let name = bytes(64, 16).into_iter().take_while(|byte| *byte != 0).collect::<Vec<u8>>();
    Ok(ProgramInfo {
        id: info.field(4),
        name: String::from_utf8_lossy(&name).into_owned(),
        tag: bytes(8, 8).iter().map(|byte| format!("{byte:02x}")).collect(),
        uid: info.field(48),
        maps: maps.into_iter().take(info.field(52) as usize).collect(),
    })
}

/// The program with this id.
///
/// # Errors
/// Those of bpf(2); without CAP_SYS_ADMIN always `EPERM`.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    Attr::new().word(0, id).call_for_fd(PROG_GET_FD_BY_ID)
}

/// What the link that is pinned here holds.
///
/// # Errors
/// Those of bpf(2).
pub fn pinned_link(pin: &Path) -> io::Result<LinkInfo> {
    link_info(super::open_pin(pin)?.as_fd())
}

/// Puts a program into a pinned link, with no moment in which neither the old nor the new one runs.
///
/// # Errors
/// Those of bpf(2).
pub fn update_link(pin: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = super::open_pin(pin)?;
    Attr::new().fd(0, link.as_fd()).fd(4, program).call(LINK_UPDATE).map(drop)
}

/// Drops every packet that comes in by an interface, behind XDP, until the descriptor is closed. Two instructions:
/// return `TC_ACT_SHOT`.
///
/// # Errors
/// Those of bpf(2); `EINVAL` before Linux 6.6, which has no such links.
pub fn shut(interface: u32) -> io::Result<OwnedFd> {
    // `r0 = 2; exit` as struct bpf_insn: opcode, registers, offset, immediate.
    let mut program = [0_u8; 16];
    for (at, byte) in [(0, 0xb7), (4, 2), (8, 0x95)] {
        if let Some(to) = program.get_mut(at) {
            *to = byte;
        }
    }
    // Little-endian machines store the immediate's low byte first, others last.
    if cfg!(target_endian = "big") {
        program.swap(4, 7);
    }
    let loaded = Attr::new()
        .word(0, PROG_TYPE_SCHED_CLS)
        .word(4, 2)
        .address(8, program.as_slice())
        .address(16, c"Dual MIT/GPL".as_ptr())
        .call_for_fd(PROG_LOAD)?;
    Attr::new().fd(0, loaded.as_fd()).word(4, interface).word(8, ATTACH_TCX_INGRESS).call_for_fd(LINK_CREATE)
}
