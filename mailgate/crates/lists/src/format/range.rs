//! Ranges of addresses, and the prefixes that make them up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use crate::prefix::{canonical, quoted};

/// All addresses from one to another of the same family, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Span {
    /// From the first to the last.
    ///
    /// # Errors
    /// A sentence when they are in the wrong order or of different families.
    pub(crate) fn new(first: IpAddr, last: IpAddr) -> Result<Self, String> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Ok(Self::V4(first, last)),
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Ok(Self::V6(first, last)),
            (first, last) if first.is_ipv4() == last.is_ipv4() => {
                Err(format!("found a range from {first} down to {last}, expected the lower address first"))
            }
            (first, last) => {
                Err(format!("found a range from {first} to {last}, expected addresses of one family"))
            }
        }
    }

    /// The addresses of a prefix.
    pub(crate) fn of(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(net) => Self::V4(net.network(), net.broadcast()),
            IpNet::V6(net) => Self::V6(net.network(), net.broadcast()),
        }
    }

    /// Reads `a-b`, with or without white space around the dash.
    ///
    /// # Errors
    /// A sentence with what was found and what was expected.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let wrong = || format!("found {}, expected a range such as 192.0.2.1-192.0.2.9", quoted(text));
        let at = text.iter().position(|byte| *byte == b'-').ok_or_else(wrong)?;
        let (first, rest) = text.split_at(at);
        let last = rest.get(1..).unwrap_or_default();
        let read = |text: &[u8]| address(text.trim_ascii()).ok_or_else(wrong);
        Self::new(read(first)?, read(last)?)
    }

    /// The fewest prefixes that hold exactly these addresses, at most 62 of IPv4 and 254 of IPv6.
    pub(crate) fn prefixes(self) -> impl Iterator<Item = IpNet> {
        let (v4, v6) = match self {
            Self::V4(first, last) => (Some(Ipv4Subnets::new(first, last, 0)), None),
            Self::V6(first, last) => (None, Some(Ipv6Subnets::new(first, last, 0))),
        };
        let v4 = v4.into_iter().flatten().map(|net: Ipv4Net| IpNet::V4(net));
        let v6 = v6.into_iter().flatten().map(|net: Ipv6Net| IpNet::V6(net));
        v4.chain(v6).map(canonical)
    }
}

/// An address without anything around it.
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    /// The longest text of an address: IPv6 with embedded IPv4.
    const LONGEST: usize = 45;
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST)?;
    text.parse().ok()
}

/// What is in one set of ranges and not in another: a sweep over their edges. What spamd-setup(8) does with black and
/// white lists, except that a range may end at the last address there is, and that IPv6 counts.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    v4: Vec<(u128, i64, i64)>,
    v6: Vec<(u128, i64, i64)>,
}

impl Sweep {
    /// Puts a range in.
    pub(crate) fn add(&mut self, span: Span) {
        self.edges(span, 1, 0);
    }

    /// Takes a range out, whether it was put in before or will be.
    pub(crate) fn subtract(&mut self, span: Span) {
        self.edges(span, 0, 1);
    }

    fn edges(&mut self, span: Span, black: i64, white: i64) {
        let (edges, first, last) = match span {
            Span::V4(first, last) => {
                (&mut self.v4, u128::from(u32::from(first)), u128::from(u32::from(last)))
            }
            Span::V6(first, last) => (&mut self.v6, u128::from(first), u128::from(last)),
        };
        edges.push((first, black, white));
        // A range up to the last IPv6 address needs no end.
        if let Some(end) = last.checked_add(1) {
            edges.push((end, -black, -white));
        }
    }

    /// What is left, as ranges.
    pub(crate) fn done(self) -> Vec<Span> {
        let v4 = |first: u128, last: u128| {
            let address = |bits: u128| Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX));
            Span::V4(address(first), address(last))
        };
        let v6 = |first: u128, last: u128| Span::V6(first.into(), last.into());
        let mut spans = swept(self.v4, v4);
        spans.extend(swept(self.v6, v6));
        spans
    }
}

fn swept(mut edges: Vec<(u128, i64, i64)>, span: impl Fn(u128, u128) -> Span) -> Vec<Span> {
    edges.sort_unstable();
    let (mut spans, mut black, mut white, mut began) = (Vec::new(), 0_i64, 0_i64, None);
    let mut edges = edges.into_iter().peekable();
    while let Some((at, more_black, more_white)) = edges.next() {
        black += more_black;
        white += more_white;
        if edges.peek().is_some_and(|(next, ..)| *next == at) {
            continue;
        }
        let is_in = black > 0 && white == 0;
        match (began, is_in) {
            (None, true) => began = Some(at),
            (Some(first), false) => {
                spans.push(span(first, at - 1));
                began = None;
            }
            _ => {}
        }
    }
    spans.extend(began.map(|first| span(first, u128::MAX)));
    spans
}
