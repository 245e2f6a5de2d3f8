//! Interfaces: which there are, which names mean them, when that changes, and which XDP programs are on one.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::net::if_::if_nameindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// `RTMGRP_LINK` (rtnetlink(7)): interfaces come, go, or change.
const GROUP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const IFLA_XDP: u16 = 43;
/// Programs of all modes, of the driver, behind it, of the hardware: `IFLA_XDP_PROG_ID` and the three after
/// `IFLA_XDP_FLAGS`.
const IFLA_XDP_PROGRAMS: [u16; 4] = [4, 5, 6, 7];
/// `struct nlmsghdr`, `struct ifinfomsg`, `struct nlattr`.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// Longest answer about one interface that is read; without virtual functions asked for they stay below 2 KiB.
const ANSWER: usize = 32 * 1024;
/// Longest wait for the kernel's answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The interfaces of this network namespace: name and index.
pub(super) fn all() -> io::Result<Vec<(String, u32)>> {
    let found = if_nameindex()?;
    Ok(found.iter().map(|each| (each.name().to_string_lossy().into_owned(), each.index())).collect())
}

/// Whether a name of the configuration means this interface. `*` stands for any characters, `?` for one; loopback is
/// meant only by its own name.
pub(super) fn means(pattern: &str, interface: &str) -> bool {
    if !is_wildcard(pattern) {
        return pattern == interface;
    }
    interface != "lo" && fits(pattern.as_bytes(), interface.as_bytes())
}

/// Whether a name of the configuration may mean several interfaces.
pub(super) fn is_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Names are at most 15 bytes, so trying every length a star can have is quick.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=name.len()).any(|skipped| name.get(skipped..).is_some_and(|name| fits(rest, name)))
        }
        (Some((b'?', rest)), Some((_, name))) => fits(rest, name),
        (Some((letter, rest)), Some((first, name))) => letter == first && fits(rest, name),
        _ => false,
    }
}

/// A socket on which the kernel says that interfaces came, went or changed; of the network namespace of this thread.
pub(super) fn changes() -> io::Result<OwnedFd> {
    netlink(GROUP_LINK)
}

/// Waits until something changed, somebody writes into the pipe, or the time is over; `false` when the pipe has ended.
pub(super) fn wait(changes: BorrowedFd<'_>, pipe: BorrowedFd<'_>, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(changes, PollFlags::POLLIN), PollFd::new(pipe, PollFlags::POLLIN)];
    // An interruption is one look too many, no more.
    let _ = poll(&mut fds, timeout);
    // What they say is not read: the interfaces themselves are looked at. An overrun is a change, too.
    let mut scrap = [0_u8; 4096];
    while recv(changes.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT).is_ok_and(|read| read > 0) {}
    // Nothing to read is an error here, the end is not.
    nix::unistd::read(pipe, &mut scrap) != Ok(0)
}

pub(super) fn netlink(groups: u32) -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Ids of the XDP programs on an interface, whoever attached them.
pub(super) fn programs(index: u32) -> io::Result<Vec<u32>> {
    let socket = netlink(0)?;
    let length = (MESSAGE_HEADER + LINK_HEADER) as u32;
    let mut request = Vec::with_capacity(length as usize);
    request.extend(length.to_ne_bytes());
    request.extend(RTM_GETLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence and sender
    request.extend([0; 4]); // any family, any type
    request.extend(index.to_ne_bytes());
    request.extend([0; 8]); // flags and which of them change
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX))?;
    let mut answer = vec![0; ANSWER];
    let read = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    answer.truncate(read);
    Ok(programs_in(&answer))
}

/// Reads the answer; what is cut or strange holds no program.
fn programs_in(answer: &[u8]) -> Vec<u32> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let attributes = answer.get(MESSAGE_HEADER + LINK_HEADER..).unwrap_or_default();
    if kind != Some(RTM_NEWLINK) {
        return Vec::new();
    }
    let xdp = Attributes(attributes).find(|(kind, _)| *kind == IFLA_XDP);
    let inside = Attributes(xdp.map(|(_, value)| value).unwrap_or_default());
    let mut found: Vec<u32> = inside
        .filter(|(kind, _)| IFLA_XDP_PROGRAMS.contains(kind))
        .filter_map(|(_, value)| value.try_into().ok().map(u32::from_ne_bytes))
        .filter(|id| *id != 0)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// `struct nlattr` one after the other, each at a multiple of four bytes (netlink(7)).
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_at_checked(ATTRIBUTE_HEADER)?;
        let [l0, l1, k0, k1] = header.try_into().ok()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        // The two highest bits are flags.
        let kind = u16::from_ne_bytes([k0, k1]) & 0x3fff;
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_stars_mean_what_a_shell_would_take_them_for() {
        for (pattern, name) in [("eth0", "eth0"), ("eth*", "eth0"), ("eth*", "eth"), ("e?s*0", "ens160")] {
            assert!(means(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("eth0", "eth1"), ("eth?", "eth"), ("eth*", "veth0"), ("*", "lo"), ("e*1", "e10")]
        {
            assert!(!means(pattern, name), "{pattern} {name}");
        }
        assert!(means("lo", "lo"));
    }

    #[test]
    fn an_answer_cut_anywhere_is_read_without_harm() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let inner =
            [attribute(2, &[4]), attribute(5, &77_u32.to_ne_bytes()), attribute(6, &78_u32.to_ne_bytes())];
        let mut answer = vec![0; MESSAGE_HEADER + LINK_HEADER];
        answer[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        answer.extend(attribute(3, b"eth0\0"));
        answer.extend(attribute(IFLA_XDP | 0x8000, &inner.concat()));
        assert_eq!(programs_in(&answer), [77, 78]);
        for length in 0..answer.len() {
            assert!(programs_in(&answer[..length]).len() < 3);
        }
    }

    #[test]
    fn loopback_is_there_and_has_no_program() {
        let (_, index) = all().unwrap().into_iter().find(|(name, _)| name == "lo").unwrap();
        assert_eq!(programs(index).unwrap(), Vec::<u32>::new());
    }
}
