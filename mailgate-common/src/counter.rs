//! What the kernel filter counts.

/// Index of a counter in the map of counters (one u64 per processor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Packets with an IPv4 or IPv6 header that were looked up.
    Seen = 0,
    /// Packets whose source no table holds.
    Unlisted = 1,
    /// Packets dropped.
    Dropped = 2,
    /// Packets of bypassed sources.
    Bypassed = 3,
    /// Packets to reception from sources that are refused at accept.
    Rejected = 4,
    /// Packets to reception from sources that will be held.
    Tarpitted = 5,
    /// Packets from listed sources to destinations their tables say nothing about.
    OutOfScope = 6,
    /// Frames that are neither IPv4 nor IPv6 (ARP and so on); always passed.
    NotIp = 7,
    /// Frames too short for the headers they announce; passed, the stack drops them.
    Truncated = 8,
    /// New connections given to reception.
    SteeredReception = 9,
    /// New connections given to the edge.
    SteeredEdge = 10,
    /// New connections left to whoever is bound, because no listener was there to take them.
    SteeredNowhere = 11,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 12;

    /// All, with the names shown to people.
    pub const ALL: [(Self, &'static str); Self::COUNT as usize] = [
        (Self::Seen, "seen"),
        (Self::Unlisted, "unlisted"),
        (Self::Dropped, "dropped"),
        (Self::Bypassed, "bypassed"),
        (Self::Rejected, "rejected"),
        (Self::Tarpitted, "tarpitted"),
        (Self::OutOfScope, "out-of-scope"),
        (Self::NotIp, "not-ip"),
        (Self::Truncated, "truncated"),
        (Self::SteeredReception, "steered-reception"),
        (Self::SteeredEdge, "steered-edge"),
        (Self::SteeredNowhere, "steered-nowhere"),
    ];
}
