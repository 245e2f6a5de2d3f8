//! Values of the map of routes: where packets to a prefix go.

/// To this host itself: an address of ours.
pub const OWN: u64 = u64::MAX;
/// Out by more interfaces than a value can name.
pub const ANYWHERE: u64 = u64::MAX - 1;
/// Nowhere.
pub const NOWHERE: u64 = 0;
/// Routes at most; a mail host has a handful, and one with the whole table of the Internet routes for others too.
pub const ROUTES: u32 = 65_536;

/// Does this value, none of the special ones, name the interface? It has room for two.
#[must_use]
#[inline(always)]
pub const fn leads_by(value: u64, interface: u32) -> bool {
    value as u32 == interface || (value >> 32) as u32 == interface
}
