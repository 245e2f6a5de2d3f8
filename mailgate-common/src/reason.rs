//! Why a packet or a new connection met its end: each reason is a counter.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal $kind:ident,)+) => {
        /// Why a packet passed or did not; the index in the map of reasons. Each packet counts under exactly one reason
        /// of [`Kind::Passed`] or [`Kind::Dropped`], each steered connection under one of [`Kind::Steered`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word shown to people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What becomes of it.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }
        }
    };
}

/// What becomes of a packet or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The packet goes on to the stack.
    Passed,
    /// The packet ends here, answered or not.
    Dropped,
    /// The listener of a new connection was chosen, or the connection was refused there.
    Steered,
    /// Something that is counted besides.
    Noted,
}

reasons! {
    /// Neither IPv4 nor IPv6 (ARP and so on).
    NotIp = "not-ip" Passed,
    /// No rule says anything, and the default is to pass.
    Unruled = "unruled" Passed,
    /// A rule passes it.
    Passed = "pass" Passed,
    /// To reception from a source that no table holds: the edge judges it.
    Greylisted = "greylist" Passed,
    /// To reception from a source that the edge will hold.
    Tarpitted = "tarpit" Passed,
    /// A rule would end it, but it belongs to a live connection or answers a question of ours.
    Established = "established" Passed,
    /// There are no rules yet.
    NoRules = "no-rules" Passed,
    /// A rule drops it.
    Dropped = "drop" Dropped,
    /// A rule rejects it: a RST goes back.
    Rejected = "reject" Dropped,
    /// Held in the kernel.
    Held = "tarpit-kernel" Dropped,
    /// A new connection that is answered with a SYN cookie.
    Cookie = "syn-cookie" Dropped,
    /// No rule says anything, and the default is to drop.
    DefaultDropped = "default-drop" Dropped,
    /// Shorter than the headers it announces.
    Short = "short" Dropped,
    /// A header that contradicts itself: length, version (RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1).
    BadHeader = "bad-header" Dropped,
    /// TCP flags that no honest stack sends together.
    BadFlags = "bad-flags" Dropped,
    /// Data in a SYN without the fast open option (RFC 7413).
    SynData = "syn-data" Dropped,
    /// Port 0.
    ZeroPort = "zero-port" Dropped,
    /// Source and destination are the same (LAND).
    Land = "land" Dropped,
    /// A fragment of TCP; path MTU discovery makes them needless.
    Fragment = "fragment" Dropped,
    /// A first fragment too short for the transport header, or a later one that would overlap it (RFC 1858).
    TinyFragment = "tiny-fragment" Dropped,
    /// IPv6 extension headers out of order or more than the filter follows (RFC 8200 §4.1).
    Extensions = "extensions" Dropped,
    /// A source address that cannot come from this side: loopback, multicast, broadcast, unspecified (RFC 6890).
    Martian = "martian" Dropped,
    /// One of our own addresses as source of a packet that came in.
    OwnSource = "own-source" Dropped,
    /// The way back to the source does not lead through this interface (RFC 3704).
    ReversePath = "reverse-path" Dropped,
    /// A new connection given to reception.
    SteeredReception = "steered-reception" Steered,
    /// A new connection given to the edge.
    SteeredEdge = "steered-edge" Steered,
    /// A new connection left to whoever is bound, because no listener was there to take it.
    SteeredNowhere = "steered-nowhere" Steered,
    /// A new connection refused because its listener is gone and its source is listed, or the settings say so.
    SteerRefused = "steer-refused" Steered,
    /// A new connection refused because its source has as many as it may.
    Limited = "limited" Steered,
    /// A source went over a limit.
    Overloaded = "overload" Noted,
    /// An event that found the ring buffer full or came too often.
    EventLost = "event-lost" Noted,
    /// A reply of the filter (RST, SYN-ACK) that its rate limit kept back.
    ReplyCapped = "reply-capped" Noted,
}

impl Reason {
    /// How many there are, rounded up: the size of the map, so that a new reason does not change its shape.
    pub const ROOM: u32 = 64;

    /// The reason with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

const _: () = assert!(Reason::ALL.len() <= Reason::ROOM as usize);
