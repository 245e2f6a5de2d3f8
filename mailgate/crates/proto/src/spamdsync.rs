//! The datagrams by which spamd(8) and spamlogd(8) tell each other what they saw: version 1, IPv4 only.
//!
//! A datagram is a header with an HMAC-SHA1 over everything, then events, then an end mark; all integers are big-endian.
//! The protocol knows no deletion, no acknowledgement and no protection against replay: the receiver has to bring its own
//! ([`Guard`]). Start reading at [`Datagram::decode`].

mod guard;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use guard::{Guard, Stale};

/// The longest datagram that spamd(8) sends and takes.
pub const DATAGRAM_LIMIT: usize = 1408;
/// Version, family, counter, length, HMAC, padding.
const HEADER_LENGTH: usize = 30;
/// Where the HMAC stands in the header.
const TAG_AT: usize = 8;
/// Octets of an HMAC-SHA1.
pub const TAG_LENGTH: usize = 20;
/// Type, length, time, address and the three lengths of a grey event.
const GREY_FIXED: usize = 18;
/// A grey event is padded to a multiple of this.
const GREY_ALIGN: usize = 16;
/// Type, length, time, expiry, address.
const ADDRESS_LENGTH: usize = 16;
/// Type and length.
const END_LENGTH: usize = 4;
const VERSION: u8 = 1;
/// AF_INET.
const FAMILY: u8 = 2;
const END: u16 = 0;
const GREY: u16 = 1;
const WHITE: u16 = 2;
const TRAPPED: u16 = 3;

/// Makes and checks the tag of a datagram; the key is with whoever implements it.
pub trait Authenticator {
    /// HMAC-SHA1 over the datagram, whose tag is zero.
    fn tag(&self, datagram: &[u8]) -> [u8; TAG_LENGTH];

    /// Whether `tag` is that of the datagram, compared in constant time.
    fn is_genuine(&self, datagram: &[u8], tag: &[u8; TAG_LENGTH]) -> bool;
}

/// What a peer saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client named a sender and a recipient and was deferred.
    Grey {
        /// The sender's clock, seconds since 1970.
        at: u32,
        /// The client.
        ip: Ipv4Addr,
        /// Reverse-path as said, with angle brackets.
        from: String,
        /// Forward-path as said, with angle brackets.
        to: String,
        /// What the client said at HELO.
        helo: String,
    },
    /// A client may pass.
    White {
        /// The sender's clock, seconds since 1970.
        at: u32,
        /// Until when, by the sender's clock.
        expires: u32,
        /// The client.
        ip: Ipv4Addr,
    },
    /// A client stepped into a trap.
    Trapped {
        /// The sender's clock, seconds since 1970.
        at: u32,
        /// Until when, by the sender's clock.
        expires: u32,
        /// The client.
        ip: Ipv4Addr,
    },
}

impl Event {
    /// The sender's clock, seconds since 1970.
    #[must_use]
    pub fn at(&self) -> u32 {
        match self {
            Self::Grey { at, .. } | Self::White { at, .. } | Self::Trapped { at, .. } => *at,
        }
    }
}

/// One datagram, genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Counted by the sender from its start; spamd ignores it.
    pub counter: u32,
    /// In the order in which they stand.
    pub events: Vec<Event>,
    /// The tag: two datagrams with the same one are the same.
    pub tag: [u8; TAG_LENGTH],
}

/// Why a datagram is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// Not what the header says, or too short or long for one.
    #[error("the length is not that of a datagram of spamd")]
    Length,
    /// Not version 1 for IPv4; greyd's version 2 is another protocol.
    #[error("not version 1 for IPv4")]
    Version,
    /// The tag is not that of our key.
    #[error("the tag is not that of our key")]
    Forged,
    /// An event whose lengths contradict each other, or a text that does not end where it should.
    #[error("an event is malformed")]
    Event,
}

impl Datagram {
    /// Reads a datagram. The tag is checked before anything behind the header is looked at.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn decode(bytes: &[u8], key: &dyn Authenticator) -> Result<Self, Misbehaved> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER_LENGTH>().ok_or(Misbehaved::Length)?;
        let [version, family, c0, c1, c2, c3, l0, l1, ..] = *header;
        if version != VERSION || family != FAMILY {
            return Err(Misbehaved::Version);
        }
        if usize::from(u16::from_be_bytes([l0, l1])) != bytes.len() || bytes.len() > DATAGRAM_LIMIT {
            return Err(Misbehaved::Length);
        }
        let tag: [u8; TAG_LENGTH] =
            bytes.get(TAG_AT..).and_then(|tail| tail.first_chunk()).copied().ok_or(Misbehaved::Length)?;
        let mut bare = bytes.to_vec();
        bare.get_mut(TAG_AT..TAG_AT + TAG_LENGTH).ok_or(Misbehaved::Length)?.fill(0);
        if !key.is_genuine(&bare, &tag) {
            return Err(Misbehaved::Forged);
        }
        let mut events = Vec::new();
        loop {
            let (head, body, after) = event_of(rest).ok_or(Misbehaved::Event)?;
            match head {
                END => break,
                GREY => events.push(grey(body).ok_or(Misbehaved::Event)?),
                WHITE | TRAPPED => events.push(address(head, body).ok_or(Misbehaved::Event)?),
                // A kind that a later version may have: its length says where the next begins.
                _ => {}
            }
            rest = after;
        }
        Ok(Self { counter: u32::from_be_bytes([c0, c1, c2, c3]), events, tag })
    }
}

/// Writes a datagram with one event, as spamd does. `None` when the texts are too long for one or hold a NUL.
#[must_use]
pub fn encode(event: &Event, counter: u32, key: &dyn Authenticator) -> Option<Vec<u8>> {
    let mut out = vec![VERSION, FAMILY];
    out.extend(counter.to_be_bytes());
    out.resize(HEADER_LENGTH, 0);
    match event {
        Event::Grey { at, ip, from, to, helo } => {
            let texts = [from, to, helo];
            let length = GREY_FIXED + texts.iter().map(|text| text.len() + 1).sum::<usize>();
            let length = length.next_multiple_of(GREY_ALIGN);
            if texts.iter().any(|text| text.contains('\0')) || length > DATAGRAM_LIMIT {
                return None;
            }
            let start = out.len();
            out.extend(GREY.to_be_bytes());
            out.extend(u16::try_from(length).ok()?.to_be_bytes());
            out.extend(at.to_be_bytes());
            out.extend(ip.octets());
            for text in texts {
                out.extend(u16::try_from(text.len() + 1).ok()?.to_be_bytes());
            }
            for text in texts {
                out.extend(text.as_bytes());
                out.push(0);
            }
            out.resize(start + length, 0);
        }
        Event::White { at, expires, ip } => put_address(&mut out, WHITE, *at, *expires, *ip),
        Event::Trapped { at, expires, ip } => put_address(&mut out, TRAPPED, *at, *expires, *ip),
    }
    out.extend(END.to_be_bytes());
    out.extend(u16::try_from(END_LENGTH).ok()?.to_be_bytes());
    if out.len() > DATAGRAM_LIMIT {
        return None;
    }
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    out.get_mut(TAG_AT - 2..TAG_AT)?.copy_from_slice(&length);
    let tag = key.tag(&out);
    out.get_mut(TAG_AT..TAG_AT + TAG_LENGTH)?.copy_from_slice(&tag);
    Some(out)
}

fn put_address(out: &mut Vec<u8>, kind: u16, at: u32, expires: u32, ip: Ipv4Addr) {
    out.extend(kind.to_be_bytes());
    out.extend((ADDRESS_LENGTH as u16).to_be_bytes());
    out.extend(at.to_be_bytes());
    out.extend(expires.to_be_bytes());
    out.extend(ip.octets());
}

/// Type, content and what follows of the first event.
fn event_of(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([k0, k1, l0, l1], _) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let (whole, after) = bytes.split_at_checked(length)?;
    Some((u16::from_be_bytes([*k0, *k1]), whole.get(END_LENGTH..)?, after))
}

fn grey(body: &[u8]) -> Option<Event> {
    let (at, rest) = body.split_first_chunk()?;
    let (ip, rest) = rest.split_first_chunk::<4>()?;
    let ([f0, f1, t0, t1, h0, h1], rest) = rest.split_first_chunk()?;
    let (from, rest) = text(rest, [*f0, *f1])?;
    let (to, rest) = text(rest, [*t0, *t1])?;
    let (helo, _padding) = text(rest, [*h0, *h1])?;
    Some(Event::Grey { at: u32::from_be_bytes(*at), ip: Ipv4Addr::from(*ip), from, to, helo })
}

/// A text whose length includes the NUL at its end. What is no UTF-8 is shown as such: clients may say anything.
fn text(bytes: &[u8], length: [u8; 2]) -> Option<(String, &[u8])> {
    let (taken, rest) = bytes.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
    let (end, text) = taken.split_last()?;
    if *end != 0 || text.contains(&0) {
        return None;
    }
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

fn address(kind: u16, body: &[u8]) -> Option<Event> {
    if body.len() != ADDRESS_LENGTH - END_LENGTH {
        return None;
    }
    let (at, rest) = body.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    let (at, expires) = (u32::from_be_bytes(*at), u32::from_be_bytes(*expires));
    Some(if kind == WHITE { Event::White { at, expires, ip } } else { Event::Trapped { at, expires, ip } })
}
