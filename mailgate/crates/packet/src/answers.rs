//! What the kernel filter answers by itself: RSTs, the tarpit in the kernel, SYN cookies.

use std::net::SocketAddr;

use mailgate_model::Domain;
use serde::{Deserialize, Serialize};

/// Caps on what the filter sends, and what its tarpit says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answers {
    /// SYN-ACKs and banners a second that the tarpit in the kernel sends to one IPv4 address or IPv6 /64, whose packets
    /// may be forged; ten seconds' worth at once. Default `50`. Example: `10`.
    pub replies_per_source: u32,
    /// Packets a second that the tarpit in the kernel sends on each processor, to all. Default `50000`. Example: `5000`.
    pub replies: u32,
    /// RSTs a second on each processor; what is over is dropped. Default `5000`. Example: `200`.
    pub resets: u32,
    /// Connections held by the tarpit in the kernel that are written down at most, the last ones, for 140 bytes of kernel
    /// memory each. Holding does not need it. Default 0: none. Example: `131072`.
    pub recorded: u32,
    /// First line of the tarpit, with its end: that of the edge.
    #[serde(skip)]
    pub banner: String,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            replies_per_source: 50,
            replies: 50_000,
            resets: 5_000,
            recorded: 0,
            banner: "220 localhost ESMTP\r\n".to_owned(),
        }
    }
}

impl Answers {
    /// The same, with the banner of this host.
    #[must_use]
    pub fn greeting_as(self, hostname: &Domain) -> Self {
        Self { banner: mailgate_proto::smtp::reply::greeting(hostname).to_wire(), ..self }
    }
}

/// How one of the programs that answer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answerer {
    /// `reject`, `tarpit` or `cookie`.
    pub name: &'static str,
    /// Whether packets reach it.
    pub state: State,
    /// Why not, or what is amiss.
    pub reason: Option<String>,
}

/// Whether packets reach a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Yes, as soon as a rule asks for it.
    Ready,
    /// The kernel does not take it.
    Missing,
}

/// A connection that the tarpit in the kernel holds, or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HeldConnection {
    /// Who.
    pub peer: SocketAddr,
    /// Where to.
    pub here: SocketAddr,
    /// When it was greeted, nanoseconds of the monotonic clock.
    pub first: u64,
    /// When it was answered last.
    pub last: u64,
    /// Replies: the banner, and acknowledgments with a closed window.
    pub replies: u64,
    /// Bytes of data that came and were not taken.
    pub bytes: u64,
}
