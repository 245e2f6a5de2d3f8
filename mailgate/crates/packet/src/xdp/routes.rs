//! The kernel's routes, mirrored into a map of the filter (rtnetlink(7)).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use mailgate_common::route::{ANYWHERE, NOWHERE, OWN, ROUTES};
use nix::sys::socket::{MsgFlags, recv, send};

use super::super::Error;
use super::device::{Attributes, netlink};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 1 | 0x300;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
/// Types of routes: to a host or network, to ourselves, and the three that end.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const ENDS: [u8; 3] = [6, 7, 8];
/// A route that the kernel made of another one for a single destination.
const CLONED: u32 = 0x200;
/// `struct nlmsghdr`, `struct rtmsg`, `struct rtnexthop`.
const MESSAGE_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const HOP: usize = 8;
/// Bytes of one answer; the kernel fills 32 KiB at most.
const ANSWER: usize = 64 * 1024;
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// A prefix of IPv6, or of IPv4 mapped into it: length and address.
type Prefix = (u32, u128);

/// The map and what it holds.
pub(super) struct Mirror {
    map: LpmTrie<MapData, [u8; 16], u64>,
    held: HashMap<Prefix, u64>,
    socket: OwnedFd,
}

impl Mirror {
    /// Of the network namespace of this thread. What an earlier daemon mirrored is replaced at the first look.
    pub(super) fn open(map: Map) -> Result<Self, Error> {
        let map = LpmTrie::try_from(map).map_err(super::refused)?;
        let socket = netlink(0).map_err(|source| Error::kernel("asking for routes", source))?;
        let held = map.iter().filter_map(Result::ok);
        let held =
            held.map(|(key, value)| ((key.prefix_len(), u128::from_be_bytes(key.data())), value)).collect();
        Ok(Self { map, held, socket })
    }

    /// Makes the map what the routes are now.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        let failed = |source| Error::kernel("mirroring the routes", source);
        let routes = self.dump().map_err(failed)?;
        let refused =
            |error: aya::maps::MapError| Error::kernel("mirroring the routes", io::Error::other(error));
        for (prefix, value) in routes.iter().filter(|(prefix, value)| self.held.get(*prefix) != Some(value)) {
            self.map.insert(&key(*prefix), value, 0).map_err(refused)?;
        }
        for prefix in self.held.keys().filter(|prefix| !routes.contains_key(*prefix)) {
            // One that is gone already is what is wanted.
            let _ = self.map.remove(&key(*prefix));
        }
        self.held = routes;
        Ok(())
    }

    fn dump(&self) -> io::Result<HashMap<Prefix, u64>> {
        // Without a default route everything else leads nowhere; and IPv4 must not meet that of IPv6.
        let mut routes = HashMap::from([((0, 0), NOWHERE), (mapped(0, 0), NOWHERE)]);
        for family in FAMILIES {
            self.ask(family)?;
            while self.answer(&mut routes)? {}
        }
        if routes.len() > ROUTES as usize {
            let text =
                format!("found {} routes, at most {ROUTES} are mirrored: set urpf = \"off\"", routes.len());
            return Err(io::Error::other(text));
        }
        Ok(routes)
    }

    fn ask(&self, family: u8) -> io::Result<()> {
        let length = MESSAGE_HEADER + ROUTE_HEADER;
        let mut request = Vec::with_capacity(length);
        request.extend((length as u32).to_ne_bytes());
        request.extend(RTM_GETROUTE.to_ne_bytes());
        request.extend(DUMP.to_ne_bytes());
        request.extend([0; 8]); // sequence and sender
        request.push(family);
        request.resize(length, 0);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        Ok(())
    }

    /// Reads one answer; whether more follow.
    fn answer(&self, routes: &mut HashMap<Prefix, u64>) -> io::Result<bool> {
        let mut answer = vec![0; ANSWER];
        let read = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(read);
        let mut rest = answer.as_slice();
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(false),
                NLMSG_ERROR => return Err(io::Error::other("the kernel does not tell its routes")),
                RTM_NEWROUTE => note(body, routes),
                _ => {}
            }
            rest = after;
        }
        Ok(true)
    }
}

fn key((length, address): Prefix) -> Key<[u8; 16]> {
    Key::new(length, address.to_be_bytes())
}

fn mapped(length: u32, address: u32) -> Prefix {
    (96 + length, 0xffff << 32 | u128::from(address))
}

/// Type and body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(MESSAGE_HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Takes a route into the mirror; one that is cut or strange is left out. Several of one prefix, of whatever table,
/// lead by all of their interfaces.
fn note(body: &[u8], routes: &mut HashMap<Prefix, u64>) {
    let Some((prefix, value)) = route(body) else { return };
    routes.entry(prefix).and_modify(|held| *held = both(*held, value)).or_insert(value);
}

fn route(body: &[u8]) -> Option<(Prefix, u64)> {
    let [family, length] = body.get(..2)?.try_into().ok()?;
    let kind = *body.get(7)?;
    let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
    let attributes = || Attributes(body.get(ROUTE_HEADER..).unwrap_or_default());
    let value_of = |wanted| attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let address = value_of(RTA_DST).unwrap_or_default();
    let prefix = match (i32::from(family), address.len()) {
        (libc::AF_INET, 0 | 4) => {
            let address = address.try_into().map_or(0, u32::from_be_bytes);
            mapped(length.into(), address)
        }
        (libc::AF_INET6, 0 | 16) => (length.into(), address.try_into().map_or(0, u128::from_be_bytes)),
        _ => return None,
    };
    let value = match kind {
        _ if flags & CLONED != 0 => return None,
        LOCAL => OWN,
        kind if ENDS.contains(&kind) => NOWHERE,
        UNICAST => {
            let one = value_of(RTA_OIF).and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes);
            let several = hops(value_of(RTA_MULTIPATH).unwrap_or_default());
            one.into_iter().chain(several).map(u64::from).fold(NOWHERE, both)
        }
        _ => return None,
    };
    Some((prefix, value))
}

/// Interfaces of a route with several hops.
fn hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some(hop) = bytes.get(..HOP) {
        let (length, index) = (hop.get(..2), hop.get(4..8));
        let length = length.and_then(|length| length.try_into().ok()).map_or(0, u16::from_ne_bytes);
        found.extend(index.and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes));
        bytes = bytes.get(usize::from(length).max(HOP).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// One value for two.
fn both(one: u64, other: u64) -> u64 {
    match (one, other) {
        (OWN, _) | (_, OWN) => OWN,
        (NOWHERE, value) | (value, NOWHERE) => value,
        (one, other) if one == other => one,
        (one, other) if one <= u64::from(u32::MAX) && other <= u64::from(u32::MAX) => one | other << 32,
        _ => ANYWHERE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_routes_of_one_prefix_lead_by_all_their_interfaces() {
        assert_eq!(both(NOWHERE, 3), 3);
        assert_eq!(both(3, 3), 3);
        assert_eq!(both(3, 4), 3 | 4 << 32);
        assert_eq!(both(3 | 4 << 32, 5), ANYWHERE);
        assert_eq!(both(OWN, 3), OWN);
    }

    #[test]
    fn cut_and_strange_routes_are_left_out() {
        let whole = [
            &[2, 24, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0][..],
            &[8, 0, 1, 0, 192, 0, 2, 0],
            &[8, 0, 4, 0, 7, 0, 0, 0],
        ];
        let whole = whole.concat();
        assert_eq!(route(&whole), Some((mapped(24, 0xc000_0200), 7)));
        for cut in 0..whole.len() {
            // Without its interface it leads nowhere; without its address it is another one, but nothing else happens.
            let _ = route(&whole[..cut]);
        }
        assert_eq!(
            route(&[&[2, 24, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0][..], &[6, 0, 1, 0, 192, 0]].concat()),
            None
        );
    }
}
