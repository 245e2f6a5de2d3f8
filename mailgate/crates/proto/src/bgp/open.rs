//! The OPEN message and its capabilities.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::cursor::Cursor;
use super::{AS_TRANS, Families, Family, Misbehaved, Restart, TooLong};

/// The version of the protocol.
const VERSION: u8 = 4;

/// The optional parameter that holds capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;

/// Says in place of a length and of a type that lengths have two bytes (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN (RFC 4271 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The AS as far as it fits, see [`asn`](Self::asn).
    pub my_as: u16,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// The BGP identifier.
    pub identifier: Ipv4Addr,
    /// What the speaker can do.
    pub capabilities: Vec<Capability>,
}

/// Something a speaker can do (RFC 5492).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// Several paths for one prefix: AFI, SAFI, and 1 for receiving, 2 for sending, 3 for both (RFC 7911 §4).
    AddPath(Vec<(u16, u8, u8)>),
    /// Marked route refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// Messages of up to 65535 bytes (RFC 8654 §3).
    ExtendedMessage,
    /// AS numbers of four bytes; the speaker's own (RFC 6793).
    FourOctetAs(u32),
    /// Keeping routes over a restart (RFC 4724); without families, only End-of-RIB marks.
    GracefulRestart {
        /// Four bits: restarting, and RFC 8538's N.
        flags: u8,
        /// Seconds, below 4096.
        time: u16,
        /// AFI, SAFI and flags of each family.
        families: Vec<(u16, u8, u8)>,
    },
    /// A family besides or instead of IPv4 unicast: AFI and SAFI (RFC 4760 §8).
    Multiprotocol(u16, u8),
    /// Asking for all routes anew (RFC 2918).
    RouteRefresh,
    /// Anything else, or one of the above with a length it should not have.
    Unknown {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

impl Open {
    /// An OPEN of ours.
    #[must_use]
    pub fn new(asn: u32, hold_time: u16, identifier: Ipv4Addr, capabilities: Vec<Capability>) -> Self {
        Self { my_as: u16::try_from(asn).unwrap_or(AS_TRANS), hold_time, identifier, capabilities }
    }

    /// The speaker's AS (RFC 6793 §4.1).
    #[must_use]
    pub fn asn(&self) -> u32 {
        self.four_octet_as().unwrap_or(u32::from(self.my_as))
    }

    /// The AS of the capability; `None` when the speaker knows two bytes only.
    #[must_use]
    pub fn four_octet_as(&self) -> Option<u32> {
        self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        })
    }

    /// Whether the speaker takes part in a family; one that names none takes part in IPv4 unicast (RFC 4760 §8).
    #[must_use]
    pub fn speaks(&self, family: Family) -> bool {
        let (afi, safi) = family.codes();
        let mut named = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Multiprotocol(afi, safi) => Some((*afi, *safi)),
            _ => None,
        });
        let mut named = named.by_ref().peekable();
        match named.peek() {
            None => family == Family::Ipv4Unicast,
            Some(_) => named.any(|other| other == (afi, safi)),
        }
    }

    /// Whether the speaker would send several paths for the prefixes of a family (RFC 7911 §4).
    #[must_use]
    pub fn sends_paths(&self, family: Family) -> bool {
        let (afi, safi) = family.codes();
        let sends = |capability: &Capability| match capability {
            Capability::AddPath(families) => {
                families.iter().any(|(a, s, mode)| (*a, *s) == (afi, safi) && matches!(mode, 2 | 3))
            }
            _ => false,
        };
        // RFC 7911 §4 does not foresee several; what any of them says counts.
        self.capabilities.iter().any(sends)
    }

    /// What the speaker says of keeping routes over a restart; of several capabilities the last (RFC 4724 §3).
    #[must_use]
    pub fn restart(&self) -> Option<Restart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart { flags, time, families } => {
                let is = |wanted: Family, bit: u8| {
                    let (afi, safi) = wanted.codes();
                    families.iter().any(|(a, s, flags)| (*a, *s) == (afi, safi) && flags & bit == bit)
                };
                Some(Restart {
                    is_restarting: flags & 8 != 0,
                    over_notification: flags & 4 != 0,
                    time: Duration::from_secs((*time).into()),
                    families: Families::filter(|family| is(family, 0)),
                    preserved: Families::filter(|family| is(family, 0x80)),
                })
            }
            _ => None,
        })
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, Misbehaved> {
        let mut cursor = Cursor::new(body);
        let version = cursor.u8().ok_or(Misbehaved::MalformedOpen)?;
        if version != VERSION {
            return Err(Misbehaved::BadVersion(version));
        }
        Self::read_rest(cursor)?.ok_or(Misbehaved::MalformedOpen)
    }

    fn read_rest(mut cursor: Cursor<'_>) -> Result<Option<Self>, Misbehaved> {
        let (Some(my_as), Some(hold_time), Some(identifier)) = (cursor.u16(), cursor.u16(), cursor.u32())
        else {
            return Ok(None);
        };
        let Some(parameters) = Parameters::read(cursor) else { return Ok(None) };
        let mut capabilities = Vec::new();
        let Parameters { mut cursor, wide } = parameters;
        while !cursor.is_empty() {
            let Some(kind) = cursor.u8() else { return Ok(None) };
            let length = if wide { cursor.u16() } else { cursor.u8().map(u16::from) };
            let Some(value) = length.and_then(|length| cursor.take(usize::from(length))) else {
                return Ok(None);
            };
            if kind != CAPABILITIES {
                return Err(Misbehaved::UnsupportedParameter(kind));
            }
            let Some(more) = read_capabilities(value) else { return Ok(None) };
            capabilities.extend(more);
        }
        Ok(Some(Self { my_as, hold_time, identifier: Ipv4Addr::from(identifier), capabilities }))
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), TooLong> {
        bytes.push(VERSION);
        bytes.extend(self.my_as.to_be_bytes());
        bytes.extend(self.hold_time.to_be_bytes());
        bytes.extend(self.identifier.octets());
        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            capability.write(&mut capabilities)?;
        }
        if capabilities.is_empty() {
            bytes.push(0);
            return Ok(());
        }
        let length = u16::try_from(capabilities.len()).map_err(|_| TooLong)?;
        // Type and length of the one parameter have to fit as well.
        if let Some(Ok(short)) = length.checked_add(2).map(u8::try_from)
            && short != EXTENDED
        {
            bytes.extend([short, CAPABILITIES, short - 2]);
        } else {
            let whole = length.checked_add(3).ok_or(TooLong)?;
            bytes.extend([EXTENDED, EXTENDED]);
            bytes.extend(whole.to_be_bytes());
            bytes.push(CAPABILITIES);
            bytes.extend(length.to_be_bytes());
        }
        bytes.extend(capabilities);
        Ok(())
    }
}

/// The optional parameters, in either form.
struct Parameters<'a> {
    cursor: Cursor<'a>,
    /// Lengths have two bytes.
    wide: bool,
}

impl<'a> Parameters<'a> {
    /// `None` when the length is not that of what follows.
    fn read(mut cursor: Cursor<'a>) -> Option<Self> {
        let length = cursor.u8()?;
        let mut ahead = cursor;
        // RFC 9072 §2: the type decides, the length should be 255 but need not.
        if length != 0 && ahead.u8() == Some(EXTENDED) {
            let length = ahead.u16()?;
            return (usize::from(length) == ahead.len()).then_some(Self { cursor: ahead, wide: true });
        }
        (usize::from(length) == cursor.len()).then_some(Self { cursor, wide: false })
    }
}

fn read_capabilities(value: &[u8]) -> Option<Vec<Capability>> {
    let mut cursor = Cursor::new(value);
    let mut capabilities = Vec::new();
    while !cursor.is_empty() {
        let code = cursor.u8()?;
        let length = cursor.u8()?;
        capabilities.push(Capability::read(code, cursor.take(usize::from(length))?));
    }
    Some(capabilities)
}

impl Capability {
    fn read(code: u8, value: &[u8]) -> Self {
        Self::read_known(code, value).unwrap_or_else(|| Self::Unknown { code, value: value.to_vec() })
    }

    fn read_known(code: u8, value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let capability = match code {
            1 => {
                let afi = cursor.u16()?;
                // A reserved byte, which is ignored (RFC 4760 §8).
                let [_, safi] = cursor.array()?;
                Self::Multiprotocol(afi, safi)
            }
            2 => Self::RouteRefresh,
            6 => Self::ExtendedMessage,
            64 => {
                let head = cursor.u16()?;
                let mut families = Vec::new();
                while !cursor.is_empty() {
                    families.push((cursor.u16()?, cursor.u8()?, cursor.u8()?));
                }
                Self::GracefulRestart { flags: (head >> 12) as u8, time: head & 0x0fff, families }
            }
            65 => Self::FourOctetAs(cursor.u32()?),
            69 => {
                let mut families = Vec::new();
                while !cursor.is_empty() {
                    families.push((cursor.u16()?, cursor.u8()?, cursor.u8()?));
                }
                Self::AddPath(families)
            }
            70 => Self::EnhancedRouteRefresh,
            _ => return None,
        };
        cursor.is_empty().then_some(capability)
    }

    fn write(&self, bytes: &mut Vec<u8>) -> Result<(), TooLong> {
        let mut value = Vec::new();
        let code = match self {
            Self::Multiprotocol(afi, safi) => {
                value.extend(afi.to_be_bytes());
                value.extend([0, *safi]);
                1
            }
            Self::RouteRefresh => 2,
            Self::ExtendedMessage => 6,
            Self::GracefulRestart { flags, time, families } => {
                value.extend((u16::from(*flags) << 12 | time & 0x0fff).to_be_bytes());
                for (afi, safi, flags) in families {
                    value.extend(afi.to_be_bytes());
                    value.extend([*safi, *flags]);
                }
                64
            }
            Self::FourOctetAs(asn) => {
                value.extend(asn.to_be_bytes());
                65
            }
            Self::AddPath(families) => {
                for (afi, safi, mode) in families {
                    value.extend(afi.to_be_bytes());
                    value.extend([*safi, *mode]);
                }
                69
            }
            Self::EnhancedRouteRefresh => 70,
            Self::Unknown { code, value: unknown } => {
                value.extend(unknown);
                *code
            }
        };
        bytes.push(code);
        bytes.push(u8::try_from(value.len()).map_err(|_| TooLong)?);
        bytes.extend(value);
        Ok(())
    }
}
