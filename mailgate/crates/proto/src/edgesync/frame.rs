//! Frames: a length of four octets, a type, the rest. Integers are big-endian or, where most are small, LEB128.

use super::record::{Body, Key, Kind, Origin, Record, Stamp, State};
use super::session::Scope;
use super::{FRAME_LIMIT, KEY_LIMIT};

/// What this protocol is called on the wire; the last octet is its version.
const MAGIC: [u8; 4] = *b"MGS\x01";
/// Digests of one level.
pub(super) const FAN: usize = 256;
/// Keys in one part of a comparison, and keys wanted of it: 16 KiB.
pub(super) const PART_LIMIT: usize = 1000;
/// Octets of a name or a sentence of a peer.
const TEXT_LIMIT: usize = 255;
/// Octets of a number in LEB128.
const NUMBER_LIMIT: usize = 10;

/// Who speaks, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name of the host, for people.
    pub name: String,
    /// Another number after each start.
    pub incarnation: u64,
    /// The sender's clock, milliseconds since 1970.
    pub now: i64,
    /// What it wants of us.
    pub takes: Scope,
    /// What it gives us.
    pub gives: Scope,
    /// Our incarnation as it knows it, 0 for none.
    pub knows: u64,
    /// What it has of our log of that incarnation.
    pub has: u64,
}

/// Why a session is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The clocks are too far apart.
    Clock,
    /// There is another connection between these two already.
    Twice,
    /// What came was not understood.
    Protocol,
    /// The daemon ends.
    Goodbye,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of each side.
    Hello(Hello),
    /// States of keys; `log` is how far the sender's log is told with them, 0 when they are not of the log.
    Records {
        /// Position in the sender's log.
        log: u64,
        /// At least one, except to tell a position.
        records: Vec<Record>,
    },
    /// So much of the receiver's log has arrived; also says that the sender lives, and what time it has.
    Alive {
        /// Position in the receiver's log.
        has: u64,
        /// The sender's clock.
        now: i64,
    },
    /// A comparison begins: digests of all, in 256 groups.
    Groups(Vec<u64>),
    /// Digests of the 256 leaves of one group that differs.
    Leaves(u8, Vec<u64>),
    /// No other group differs.
    LeavesEnd,
    /// What the sender has in a range of hashes: hash and version, ascending.
    Part {
        /// First hash of the range.
        from: u64,
        /// Last hash of the range.
        upto: u64,
        /// Hash and version.
        has: Vec<(u64, u64)>,
    },
    /// Answer to a part, after the records that the sender of the part lacks: hashes that are wanted.
    Want(Vec<u64>),
    /// The session ends.
    Refuse(Refusal),
}

/// How a peer broke the protocol or its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// A frame longer than [`FRAME_LIMIT`], or empty.
    #[error("a frame of {0} octets")]
    Length(usize),
    /// Bytes that are no frame.
    #[error("a malformed frame")]
    Malformed,
    /// Another protocol or a version that we do not speak.
    #[error("not this protocol, or another version of it")]
    Version,
    /// A frame that may not come now.
    #[error("a frame that nobody asked for")]
    Unexpected,
    /// Its clock is too far from ours; milliseconds ahead of us.
    #[error("its clock is {} s {} ours", .0.abs() / 1000, if *.0 > 0 { "ahead of" } else { "behind" })]
    Clock(i64),
    /// It ended the session.
    #[error("the peer ended the session: {0:?}")]
    Refused(Refusal),
}

impl Frame {
    /// Splits the first whole frame off `buffer` and reads it; `None` while it is not complete.
    ///
    /// # Errors
    /// When it is too long or malformed; the stream is of no use any more.
    pub fn take(buffer: &mut bytes::BytesMut) -> Result<Option<Self>, Misbehaved> {
        let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > FRAME_LIMIT {
            return Err(Misbehaved::Length(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let whole = buffer.split_to(4 + length);
        let mut reader = Reader(whole.get(4..).unwrap_or_default());
        let frame = reader.frame()?;
        if reader.0.is_empty() { Ok(Some(frame)) } else { Err(Misbehaved::Malformed) }
    }

    /// Appends the frame with its length.
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        self.put_body(out);
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&length);
        }
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                out.push(1);
                out.extend(MAGIC);
                for value in [hello.incarnation, hello.now.cast_unsigned(), hello.knows, hello.has] {
                    out.extend(value.to_be_bytes());
                }
                out.extend([hello.takes, hello.gives].map(|scope| match scope {
                    Scope::All => 1_u8,
                    Scope::Traps => 2,
                }));
                let name: String = hello.name.chars().filter(|c| !c.is_control()).take(60).collect();
                put_text(out, &name);
            }
            Self::Records { log, records } => {
                out.push(2);
                put_number(out, *log);
                records.iter().for_each(|record| put_record(out, record));
            }
            Self::Alive { has, now } => {
                out.push(3);
                out.extend(has.to_be_bytes());
                out.extend(now.to_be_bytes());
            }
            Self::Groups(digests) => {
                out.push(4);
                digests.iter().for_each(|digest| out.extend(digest.to_be_bytes()));
            }
            Self::Leaves(group, digests) => {
                out.extend([5, *group]);
                digests.iter().for_each(|digest| out.extend(digest.to_be_bytes()));
            }
            Self::LeavesEnd => out.push(6),
            Self::Part { from, upto, has } => {
                out.push(7);
                out.extend(from.to_be_bytes());
                out.extend(upto.to_be_bytes());
                for (hash, version) in has {
                    out.extend(hash.to_be_bytes());
                    out.extend(version.to_be_bytes());
                }
            }
            Self::Want(hashes) => {
                out.push(8);
                hashes.iter().for_each(|hash| out.extend(hash.to_be_bytes()));
            }
            Self::Refuse(refusal) => out.extend([
                9,
                match refusal {
                    Refusal::Clock => 1,
                    Refusal::Twice => 2,
                    Refusal::Protocol => 3,
                    Refusal::Goodbye => 4,
                },
            ]),
        }
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// Small numbers of both signs are short.
fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

const HAS_BODY: u8 = 1;
const IS_ADMIN: u8 = 2;
const HAS_UNTIL: u8 = 4;
const STATE_SHIFT: u8 = 4;

pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    out.push(record.key.kind.0);
    put_text(out, &record.key.text);
    put_number(out, record.stamp.0);
    let mut flags = if record.until == 0 { 0 } else { HAS_UNTIL };
    if let Some(body) = &record.body {
        flags |= HAS_BODY | (body.state as u8) << STATE_SHIFT;
        flags |= if body.origin == Origin::Admin { IS_ADMIN } else { 0 };
    }
    out.push(flags);
    if record.until != 0 {
        put_signed(out, record.until);
    }
    if let Some(body) = &record.body {
        put_signed(out, body.first);
        put_signed(out, body.pass.wrapping_sub(body.first));
        put_signed(out, body.expires.wrapping_sub(body.first));
        put_number(out, u64::from(body.blocked));
        put_number(out, u64::from(body.passed));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn frame(&mut self) -> Result<Frame, Misbehaved> {
        let kind = self.octet()?;
        Ok(match kind {
            1 => Frame::Hello(self.hello()?),
            2 => {
                let log = self.number()?;
                let mut records = Vec::new();
                while !self.0.is_empty() {
                    records.push(self.record()?);
                }
                Frame::Records { log, records }
            }
            3 => Frame::Alive { has: self.word()?, now: self.word()?.cast_signed() },
            4 => Frame::Groups(self.digests()?),
            5 => Frame::Leaves(self.octet()?, self.digests()?),
            6 => Frame::LeavesEnd,
            7 => {
                let (from, upto) = (self.word()?, self.word()?);
                let mut has = Vec::new();
                while !self.0.is_empty() {
                    has.push((self.word()?, self.word()?));
                }
                let ascends = has.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
                let inside = has.iter().all(|(hash, _)| (from..=upto).contains(hash));
                if from > upto || has.len() > PART_LIMIT || !ascends || !inside {
                    return Err(Misbehaved::Malformed);
                }
                Frame::Part { from, upto, has }
            }
            8 => {
                let mut hashes = Vec::new();
                while !self.0.is_empty() {
                    hashes.push(self.word()?);
                }
                if hashes.len() > PART_LIMIT {
                    return Err(Misbehaved::Malformed);
                }
                Frame::Want(hashes)
            }
            9 => Frame::Refuse(match self.octet()? {
                1 => Refusal::Clock,
                2 => Refusal::Twice,
                4 => Refusal::Goodbye,
                _ => Refusal::Protocol,
            }),
            _ => return Err(Misbehaved::Malformed),
        })
    }

    fn hello(&mut self) -> Result<Hello, Misbehaved> {
        let Some((magic, rest)) = self.0.split_first_chunk() else { return Err(Misbehaved::Malformed) };
        if *magic != MAGIC {
            return Err(Misbehaved::Version);
        }
        self.0 = rest;
        let (incarnation, now) = (self.word()?, self.word()?.cast_signed());
        let (knows, has) = (self.word()?, self.word()?);
        let mut scope = || match self.octet()? {
            1 => Ok(Scope::All),
            2 => Ok(Scope::Traps),
            _ => Err(Misbehaved::Malformed),
        };
        let (takes, gives) = (scope()?, scope()?);
        let name = self.text(TEXT_LIMIT)?.chars().filter(|c| !c.is_control()).collect();
        Ok(Hello { name, incarnation, now, takes, gives, knows, has })
    }

    fn digests(&mut self) -> Result<Vec<u64>, Misbehaved> {
        (0..FAN).map(|_| self.word()).collect()
    }

    fn record(&mut self) -> Result<Record, Misbehaved> {
        let kind = Kind(self.octet()?);
        let text = self.text(KEY_LIMIT)?.into();
        let stamp = Stamp(self.number()?);
        let flags = self.octet()?;
        let until = if flags & HAS_UNTIL == 0 { 0 } else { self.signed()? };
        let body = if flags & HAS_BODY == 0 {
            None
        } else {
            let state = match flags >> STATE_SHIFT {
                0 => State::Grey,
                1 => State::Passed,
                2 => State::Trapped,
                _ => return Err(Misbehaved::Malformed),
            };
            let origin = if flags & IS_ADMIN == 0 { Origin::Learned } else { Origin::Admin };
            let first = self.signed()?;
            let pass = first.wrapping_add(self.signed()?);
            let expires = first.wrapping_add(self.signed()?);
            let small = |number: u64| u32::try_from(number).map_err(|_| Misbehaved::Malformed);
            let (blocked, passed) = (small(self.number()?)?, small(self.number()?)?);
            Some(Body { origin, state, first, pass, expires, blocked, passed })
        };
        Ok(Record { key: Key { kind, text }, stamp, until, body })
    }

    fn octet(&mut self) -> Result<u8, Misbehaved> {
        let (octet, rest) = self.0.split_first().ok_or(Misbehaved::Malformed)?;
        self.0 = rest;
        Ok(*octet)
    }

    fn word(&mut self) -> Result<u64, Misbehaved> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Misbehaved::Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*word))
    }

    fn number(&mut self) -> Result<u64, Misbehaved> {
        let mut number = 0_u64;
        for place in 0..NUMBER_LIMIT {
            let octet = self.octet()?;
            let bits = u64::from(octet & 0x7f);
            let shifted = bits << (7 * place);
            if shifted >> (7 * place) != bits {
                return Err(Misbehaved::Malformed);
            }
            number |= shifted;
            if octet & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Misbehaved::Malformed)
    }

    fn signed(&mut self) -> Result<i64, Misbehaved> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn text(&mut self, limit: usize) -> Result<&str, Misbehaved> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Misbehaved::Malformed);
        }
        let (text, rest) = self.0.split_at_checked(length).ok_or(Misbehaved::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Misbehaved::Malformed)
    }
}
