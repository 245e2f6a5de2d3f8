//! The rules in memory, and which of them concern a packet.
//!
//! A rule is a bit. Each condition of a packet (its tables, its port, its interface) names the set of rules that it
//! satisfies; their intersection is the set of rules that match, and its lowest bit is the first of them. So a packet
//! costs the same whether there are two rules or sixty-four.
//!
//! Memory is one block of words, replaced as a whole. In the kernel it is the only value of an array, so that it is
//! looked up once per packet.

use crate::packet::{ICMP, ICMP6, TCP, UDP};

/// Rules at most: the bits of a word.
pub const RULES: u32 = 64;
/// The number of "no rule": the default decided.
pub const NO_RULE: u32 = RULES;
/// Interfaces that rules can name.
pub const INTERFACES: u32 = 64;
/// Ports that can be answered with SYN cookies.
pub const COOKIE_PORTS: u32 = 4;
/// Ports where mail is received, at most.
pub const RECEPTION_PORTS: u32 = 8;

/// Memory that holds a ruleset.
pub trait Words {
    /// Word `at`; 0 beyond [`RULESET_WORDS`].
    fn word(&self, at: u32) -> u64;
}

/// The first words.
pub mod head {
    /// Version of the layout; anything else is no ruleset.
    pub const MAGIC_WORD: u32 = 0;
    /// Value of [`MAGIC_WORD`]: "mgrules", with the version in the last byte.
    pub const MAGIC: u64 = 0x6d67_7275_6c65_7301;
    /// Number of the ruleset; rises.
    pub const NUMBER: u32 = 1;
    /// What is switched on: see [`super::option`].
    pub const OPTIONS: u32 = 2;
    /// Rules without a condition on tables, and those that only name tables to be absent from.
    pub const BASE: u32 = 3;
    /// Rules that end the search; the others are limits.
    pub const TERMINAL: u32 = 4;
    /// Rules whose packets are logged.
    pub const LOG: u32 = 5;
    /// Tables that count per entry.
    pub const COUNTED: u32 = 6;
    /// Ports answered with SYN cookies: four of 16 bits, 0 for none.
    pub const COOKIES: u32 = 7;
    /// Rules of each action, in the order of [`crate::Action`]: pass, drop, reject, tarpit, greylist.
    pub const ACTIONS: u32 = 8;
    /// Reception ports: two words of four each, 0 for none.
    pub const RECEPTION: u32 = 13;
}

/// Bits of [`head::OPTIONS`].
pub mod option {
    /// What no rule concerns is dropped instead of passed.
    pub const DEFAULT_DROP: u64 = 1;
    /// Some rule names an interface.
    pub const INTERFACES: u64 = 1 << 1;
    /// Packets that no honest peer sends are dropped.
    pub const SCRUB: u64 = 1 << 2;
    /// Sources that cannot come in are dropped.
    pub const MARTIANS: u64 = 1 << 3;
    /// Sources without any way back are dropped.
    pub const REVERSE_PATH_LOOSE: u64 = 1 << 4;
    /// Sources whose way back is another interface are dropped.
    pub const REVERSE_PATH_STRICT: u64 = 1 << 5;
    /// Listed sources of a tarpit rule are held in the kernel.
    pub const TARPIT: u64 = 1 << 6;
    /// Some rule is a limit.
    pub const LIMITS: u64 = 1 << 7;
    /// Without the edge, unknown sources are refused at reception instead of left to whoever is bound.
    pub const DOWN_DROPS: u64 = 1 << 8;
    /// Our own addresses as source are dropped (the routes are mirrored).
    pub const OWN_SOURCE: u64 = 1 << 9;
}

const TABLES: u32 = 16;
const PLACES: u32 = TABLES + 128;
const PROTOCOLS: u32 = PLACES + 4 * INTERFACES;
const ICMP_TYPES: u32 = PROTOCOLS + 256;
const ICMP6_TYPES: u32 = ICMP_TYPES + 256;
const LIMITS: u32 = ICMP6_TYPES + 256;
const TCP_PORTS: u32 = 2048;
const UDP_PORTS: u32 = TCP_PORTS + 65_536;
/// Words of a ruleset.
pub const RULESET_WORDS: u32 = UDP_PORTS + 65_536;
/// Words of a limit.
pub const LIMIT_WORDS: u32 = 4;

const _: () = assert!(LIMITS + RULES * LIMIT_WORDS <= TCP_PORTS);

/// Index of the word of the rules that want table `bit`; the next word has those that want it absent.
#[must_use]
#[inline(always)]
pub const fn table_word(bit: u32) -> u32 {
    TABLES + (bit & 63) * 2
}

/// Index of the first of four words of interface place `n`: number of the interface, rules that it satisfies.
#[must_use]
#[inline(always)]
pub const fn interface_word(n: u32) -> u32 {
    PLACES + (n & (INTERFACES - 1)) * 4
}

/// Index of the word of a protocol other than TCP, UDP and ICMP.
#[must_use]
#[inline(always)]
pub const fn protocol_word(protocol: u8) -> u32 {
    PROTOCOLS + protocol as u32
}

/// Index of the word of an ICMP type.
#[must_use]
#[inline(always)]
pub const fn icmp_word(protocol: u8, kind: u8) -> u32 {
    (if protocol == ICMP6 { ICMP6_TYPES } else { ICMP_TYPES }) + kind as u32
}

/// Index of the first of the four words of the limit of a rule.
#[must_use]
#[inline(always)]
pub const fn limit_word(rule: u32) -> u32 {
    LIMITS + (rule & (RULES - 1)) * LIMIT_WORDS
}

/// Index of the word of a destination port.
#[must_use]
#[inline(always)]
pub const fn port_word(protocol: u8, port: u16) -> u32 {
    (if protocol == UDP { UDP_PORTS } else { TCP_PORTS }) + port as u32
}

/// Is this a ruleset of this layout?
#[inline(always)]
pub fn is_ruleset<W: Words>(rules: &W) -> bool {
    rules.word(head::MAGIC_WORD) == head::MAGIC
}

/// Is mail received on this port?
#[inline(always)]
pub fn is_reception<W: Words>(rules: &W, port: u16) -> bool {
    let mut found = false;
    for n in 0..RECEPTION_PORTS {
        let ports = rules.word(head::RECEPTION + n / 4);
        found |= port != 0 && (ports >> (16 * (n % 4))) as u16 == port;
    }
    found
}

/// What rules look at, besides tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// IANA protocol number.
    pub protocol: u8,
    /// Destination port of TCP and UDP.
    pub port: u16,
    /// Type of an ICMP message.
    pub kind: u8,
    /// Whether port or type are known; later fragments have none.
    pub known: bool,
    /// Number of the interface the packet came in by.
    pub interface: u32,
}

impl Facts {
    /// Those of a new TCP connection to a local port.
    #[must_use]
    #[inline(always)]
    pub const fn connection(port: u16, interface: u32) -> Self {
        Self { protocol: TCP, port, kind: 0, known: true, interface }
    }
}

/// The rules that concern a packet whose source is in the tables of `set`: bit n is rule n.
#[inline(always)]
pub fn matching<W: Words>(rules: &W, set: u64, facts: &Facts) -> u64 {
    let at = match facts.protocol {
        TCP | UDP if facts.known => port_word(facts.protocol, facts.port),
        ICMP | ICMP6 if facts.known => icmp_word(facts.protocol, facts.kind),
        _ => protocol_word(facts.protocol),
    };
    let mut matched = rules.word(at);
    if matched == 0 {
        return 0;
    }
    let (mut wanted, mut unwanted) = (rules.word(head::BASE), 0);
    let mut rest = set;
    // At most as often as there are tables; the bound is for the kernel's verifier.
    for _ in 0..64 {
        if rest == 0 {
            break;
        }
        let at = table_word(lowest(rest));
        wanted |= rules.word(at);
        unwanted |= rules.word(at + 1);
        rest &= rest - 1;
    }
    matched &= wanted & !unwanted;
    if rules.word(head::OPTIONS) & option::INTERFACES != 0 {
        matched &= of_interface(rules, facts.interface);
    }
    matched
}

/// The rules that an interface satisfies: those of its place, or of one of the three behind it.
#[inline(always)]
fn of_interface<W: Words>(rules: &W, interface: u32) -> u64 {
    for n in 0..INTERFACE_TRIES {
        let at = interface_word(interface.wrapping_add(n));
        if rules.word(at) == interface as u64 {
            return rules.word(at + 1);
        }
    }
    rules.word(OTHER_INTERFACES)
}

/// Places that are tried for an interface.
pub const INTERFACE_TRIES: u32 = 4;
/// Index of the word of the rules that an interface satisfies which no rule names.
pub const OTHER_INTERFACES: u32 = 15;

/// Number of the lowest rule of a set that is not empty.
#[must_use]
#[inline(always)]
pub const fn first_rule(matched: u64) -> u32 {
    lowest(matched)
}

/// Place of the lowest bit of a word that is not 0.
///
/// The kernel's machine has no instruction for it, and what the compiler makes of it there is a chain of two dozen. One
/// product tells all single bits apart by its top six bits instead.
#[must_use]
#[inline(always)]
const fn lowest(word: u64) -> u32 {
    if cfg!(target_arch = "bpf") { lowest_by_sequence(word) } else { word.trailing_zeros() }
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "six bits are below 64")]
const fn lowest_by_sequence(word: u64) -> u32 {
    PLACE_OF[((word & word.wrapping_neg()).wrapping_mul(SEQUENCE) >> 58) as usize] as u32
}

/// A de Bruijn sequence: any six bits of it, one behind the other, are found there once.
const SEQUENCE: u64 = 0x0218_a392_cd3d_5dbf;

/// For the top six bits of [`SEQUENCE`] shifted up by n: n.
#[expect(clippy::indexing_slicing, reason = "six bits are below 64; the compiler runs it")]
static PLACE_OF: [u8; 64] = {
    let mut places = [0; 64];
    let mut n = 0;
    while n < 64 {
        places[(SEQUENCE << n >> 58) as usize] = n as u8;
        n += 1;
    }
    places
};

/// The limits that hold for a new connection: those before the first rule that ends the search, so that what passes
/// without conditions has no limit either.
#[inline(always)]
pub fn limit_rules<W: Words>(rules: &W, set: u64, facts: &Facts) -> u64 {
    if rules.word(head::OPTIONS) & option::LIMITS == 0 {
        return 0;
    }
    let matched = matching(rules, set, facts);
    let terminal = rules.word(head::TERMINAL);
    let ends = matched & terminal;
    let before = if ends == 0 { u64::MAX } else { (ends & ends.wrapping_neg()) - 1 };
    matched & !terminal & before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_every_word_is_found_without_an_instruction_for_it() {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for n in 0..6400 {
            word = word.wrapping_mul(0xd134_2543_de82_ef95) | 1;
            let shifted = word << (n % 64);
            assert_eq!(lowest_by_sequence(shifted), shifted.trailing_zeros(), "{shifted:x}");
        }
    }
}
