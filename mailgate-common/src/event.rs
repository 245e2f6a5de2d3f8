//! What the filter tells user space about single packets.

/// Bytes of a packet that an event carries: Ethernet, two tags, IPv6, TCP with options. A power of two, so that the
/// kernel's verifier sees the bound.
pub const SNAP: usize = 128;

/// One packet, as it lies in the ring buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// The tables that held the source.
    pub set: u64,
    /// Number of the interface.
    pub interface: u32,
    /// [`crate::Act`] as a number.
    pub act: u32,
    /// [`crate::Reason`] as a number.
    pub reason: u32,
    /// Number of the rule, or [`crate::NO_RULE`].
    pub rule: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of it in `snap`.
    pub snapped: u32,
    /// The beginning of the frame, zeros behind.
    pub snap: [u8; SNAP],
}

impl Event {
    /// From the bytes of the ring, in this machine's order.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; EVENT_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
            u32::from_ne_bytes(word)
        };
        let long = |at: usize| {
            let mut long = [0; 8];
            long.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
            u64::from_ne_bytes(long)
        };
        let mut snap = [0; SNAP];
        snap.iter_mut().zip(bytes.iter().skip(40)).for_each(|(to, from)| *to = *from);
        Self {
            time: long(0),
            set: long(8),
            interface: word(16),
            act: word(20),
            reason: word(24),
            rule: word(28),
            length: word(32),
            snapped: word(36),
            snap,
        }
    }
}

/// Bytes of an event.
pub const EVENT_BYTES: usize = size_of::<Event>();

const _: () = assert!(EVENT_BYTES == 40 + SNAP);

/// Bits of the setting that switches the trace on.
pub mod trace {
    /// Packets of rules with `log`, and dropped ones.
    pub const LOGGED: u64 = 1;
    /// Every packet.
    pub const ALL: u64 = 2;
}
