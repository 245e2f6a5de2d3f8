//! Keys: prefixes in few bytes, in the order of [`IpNet`].

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Sense, order};

/// A prefix packed into something that sorts as [`IpNet`] does and compares in one or two instructions.
pub(crate) trait Key: Copy + Ord + std::hash::Hash + 'static {
    /// The key with what a set says of it.
    type Packed: Packed<Key = Self>;

    /// The prefix again.
    fn prefix(self) -> IpNet;

    /// The key of a prefix of this family.
    fn of_net(net: IpNet) -> Option<Self>;

    /// Bits of the prefix.
    fn length(self) -> u8;
}

/// A key with its sense and an epoch, in as little memory as that takes: a list of five million lines is five million
/// of these.
pub(crate) trait Packed: Copy + Ord + Send + Sync + 'static {
    /// What it is the packed form of.
    type Key: Key<Packed = Self>;

    /// Of epoch zero.
    fn new(key: Self::Key, sense: Sense) -> Self;

    /// The prefix.
    fn key(self) -> Self::Key;

    /// What is said of it.
    fn sense(self) -> Sense;

    /// A number of the owner's choice.
    fn epoch(self) -> u16;

    /// The same with another epoch.
    fn of_epoch(self, epoch: u16) -> Self;

    /// Brings them into their order.
    fn sort(entries: &mut Vec<Self>) {
        if !entries.is_sorted() {
            entries.sort_unstable();
        }
    }
}

/// IPv4: address in bits 8 to 39, length in bits 0 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key4(u64);

/// IPv6: address, then length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key6([u64; 2], u8);

impl Key4 {
    /// Packs a prefix whose host bits are zero.
    pub(crate) fn of(net: Ipv4Net) -> Self {
        Self(u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len()))
    }

    /// Address and length.
    pub(crate) fn bits(self) -> (u32, u8) {
        ((self.0 >> 8) as u32, self.0 as u8)
    }

    /// The prefix of an address and a length; `None` when the length is none, or bits are set beyond it.
    #[inline]
    pub(crate) fn of_bits(address: u32, length: u8) -> Option<Self> {
        let beyond = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        (length <= 32 && address & beyond == 0).then(|| Self(u64::from(address) << 8 | u64::from(length)))
    }
}

impl Key6 {
    /// Packs a prefix whose host bits are zero.
    pub(crate) fn of(net: Ipv6Net) -> Self {
        let bits = u128::from(net.addr());
        Self([(bits >> 64) as u64, bits as u64], net.prefix_len())
    }

    /// Address and length.
    pub(crate) fn bits(self) -> (u128, u8) {
        let [high, low] = self.0;
        (u128::from(high) << 64 | u128::from(low), self.1)
    }
}

impl Key for Key4 {
    type Packed = Packed4;

    fn prefix(self) -> IpNet {
        let net = Ipv4Net::new(Ipv4Addr::from((self.0 >> 8) as u32), self.0 as u8);
        IpNet::V4(net.unwrap_or_default())
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net {
            IpNet::V4(net) => Some(Self::of(net)),
            IpNet::V6(_) => None,
        }
    }

    fn length(self) -> u8 {
        self.0 as u8
    }
}

impl Key for Key6 {
    type Packed = Packed6;

    fn prefix(self) -> IpNet {
        let (address, length) = self.bits();
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(address), length).unwrap_or_default())
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(Self::of(net)),
        }
    }

    fn length(self) -> u8 {
        self.1
    }
}

/// What stands below the address of a packed key: length in bits 24 to 31, sense in bit 16, epoch in bits 0 to 15.
fn tail(length: u8, sense: Sense) -> u32 {
    u32::from(length) << 24 | u32::from(sense == Sense::Listed) << 16
}

fn sense_of(tail: u32) -> Sense {
    if tail >> 16 & 1 == 1 { Sense::Listed } else { Sense::Hole }
}

/// IPv4 in eight bytes: address, then [`tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packed4(u64);

/// IPv6 in twenty-four bytes: address, then [`tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packed6([u64; 2], u32);

impl Packed for Packed4 {
    type Key = Key4;

    fn new(key: Key4, sense: Sense) -> Self {
        Self(key.0 >> 8 << 32 | u64::from(tail(key.length(), sense)))
    }

    fn key(self) -> Key4 {
        Key4(self.0 >> 32 << 8 | self.0 >> 24 & 0xff)
    }

    fn sense(self) -> Sense {
        sense_of(self.0 as u32)
    }

    fn epoch(self) -> u16 {
        self.0 as u16
    }

    fn of_epoch(self, epoch: u16) -> Self {
        Self(self.0 & !0xffff | u64::from(epoch))
    }

    fn sort(entries: &mut Vec<Self>) {
        order::sort(entries, |entry| entry.0);
    }
}

impl Packed for Packed6 {
    type Key = Key6;

    fn new(key: Key6, sense: Sense) -> Self {
        Self(key.0, tail(key.length(), sense))
    }

    fn key(self) -> Key6 {
        Key6(self.0, (self.1 >> 24) as u8)
    }

    fn sense(self) -> Sense {
        sense_of(self.1)
    }

    fn epoch(self) -> u16 {
        self.1 as u16
    }

    fn of_epoch(self, epoch: u16) -> Self {
        Self(self.0, self.1 & !0xffff | u32::from(epoch))
    }
}

/// A set of prefixes as a file brings it; sorted and without duplicates after [`sort`](Self::sort).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet {
    pub(crate) v4: Vec<Packed4>,
    pub(crate) v6: Vec<Packed6>,
    /// Most entries, if that is limited.
    limit: Option<usize>,
    is_overfull: bool,
}

impl PrefixSet {
    /// A set that takes no more than `limit` entries, duplicates included until it is sorted.
    pub(crate) fn limited(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// The same, with memory for so many entries of IPv4 taken at once.
    pub(crate) fn with_room(mut self, entries: usize) -> Self {
        self.v4.reserve(entries.min(self.room()));
        self
    }

    /// How many more entries it takes.
    pub(crate) fn room(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.len()))
    }

    /// From sorted parts without duplicates.
    pub(crate) fn of(v4: Vec<Packed4>, v6: Vec<Packed6>) -> Self {
        Self { v4, v6, ..Self::default() }
    }

    /// Whether there was more than it takes; who fills it may stop then.
    pub(crate) fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Adds without keeping the order; call [`sort`](Self::sort) at the end.
    pub(crate) fn push(&mut self, prefix: IpNet, sense: Sense) {
        match prefix {
            IpNet::V4(net) => self.push_packed(Packed4::new(Key4::of(net), sense)),
            IpNet::V6(_) if self.room() == 0 => self.is_overfull = true,
            IpNet::V6(net) => self.v6.push(Packed6::new(Key6::of(net), sense)),
        }
    }

    /// The same for an entry of IPv4 that is packed already.
    #[inline]
    pub(crate) fn push_packed(&mut self, entry: Packed4) {
        if self.room() == 0 {
            self.is_overfull = true;
        } else {
            self.v4.push(entry);
        }
    }

    /// Takes over what another set holds, behind its own; who asks knows that there is room.
    pub(crate) fn append(&mut self, mut other: Self) {
        fn family<P>(to: &mut Vec<P>, from: &mut Vec<P>) {
            if to.is_empty() {
                std::mem::swap(to, from);
            } else {
                to.append(from);
            }
        }
        family(&mut self.v4, &mut other.v4);
        family(&mut self.v6, &mut other.v6);
        self.is_overfull |= other.is_overfull;
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Prefixes of both families.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Sorts, drops duplicates and spare memory. A prefix that is both listed and a hole is a hole: the milder reading.
    pub(crate) fn sort(&mut self) {
        fn tidy<P: Packed>(entries: &mut Vec<P>) {
            P::sort(entries);
            entries.dedup_by_key(|entry| entry.key());
            entries.shrink_to_fit();
        }
        tidy(&mut self.v4);
        tidy(&mut self.v6);
    }
}
