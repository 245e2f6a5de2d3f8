//! Response policy zones as text: the triggers that speak of addresses, `rpz-ip` and `rpz-client-ip`.
//!
//! The owner's name has the length first and the address backwards: `24.0.2.0.192.rpz-ip` is 192.0.2.0/24; of IPv6 the
//! groups, with `zz` for `::`. A record's data says what to do: `rpz-passthru.` makes a hole, `rpz-tcp-only.` is passed
//! over, everything else lists. Zones come as files or by HTTP; there is no zone transfer here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Collector, lines};
use crate::prefix::{Sense, canonical, quoted};

/// Labels that come right after the address.
const TRIGGERS: [&[u8]; 2] = [b"rpz-ip", b"rpz-client-ip"];

/// Labels of the address at most: length, eight groups.
const LABELS: usize = 9;

/// Reads the text. Names of hosts and other triggers are passed over: they say nothing of addresses.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    let mut is_inside = false;
    for (number, line) in raw_lines(text) {
        if collector.is_full() {
            break;
        }
        let line = line.split(|byte| *byte == b';').next().unwrap_or_default();
        // A record over several lines is a SOA; no record of ours is.
        let was_inside = is_inside;
        is_inside = (is_inside || line.contains(&b'(')) && !line.contains(&b')');
        let has_owner = line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
        if was_inside || !has_owner || line.starts_with(b"$") {
            continue;
        }
        let mut words = super::words(line);
        let owner = words.next().unwrap_or_default();
        let Some(address) = of_trigger(owner) else { continue };
        let Some(sense) = sense(words) else { continue };
        match prefix(address) {
            Some(prefix) => collector.entry(sense, prefix, None),
            None => {
                let found = quoted(owner);
                collector.problem(number, &format!("found {found}, expected such as 24.0.2.0.192.rpz-ip"));
            }
        }
    }
}

/// Leading white space counts here: it stands for the owner of the line before.
fn raw_lines(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    lines(text).map(|(number, _)| number).zip(text.split(|byte| *byte == b'\n'))
}

/// What stands before the trigger's label.
fn of_trigger(owner: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    for label in owner.split(|byte| *byte == b'.') {
        if from > 0 && TRIGGERS.iter().any(|trigger| label.eq_ignore_ascii_case(trigger)) {
            return owner.get(..from - 1);
        }
        from += label.len() + 1;
    }
    None
}

/// What the record's data makes of the trigger; `None` when it lists nothing.
fn sense<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Sense> {
    let mut is_alias = false;
    for word in words {
        let is_numeric = word.first().is_some_and(u8::is_ascii_digit) && !is_alias;
        let lower = word.get(..word.len().min(64)).unwrap_or_default().to_ascii_lowercase();
        match lower.as_slice() {
            b"in" | b"ch" | b"hs" if !is_alias => {}
            _ if is_numeric => {}
            b"cname" if !is_alias => is_alias = true,
            b"rpz-passthru." | b"rpz-passthru" if is_alias => return Some(Sense::Hole),
            b"rpz-tcp-only." | b"rpz-tcp-only" if is_alias => return None,
            _ => return Some(Sense::Listed),
        }
    }
    None
}

/// `24.0.2.0.192` or `48.zz.8.db8.2001`.
fn prefix(text: &[u8]) -> Option<IpNet> {
    let text = std::str::from_utf8(text).ok()?;
    let labels: Vec<&str> = text.split('.').take(LABELS + 1).collect();
    let (length, groups) = labels.split_first()?;
    if length.len() > 3 || !length.bytes().all(|byte| byte.is_ascii_digit()) || groups.len() >= LABELS {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let address = match groups {
        [a, b, c, d] if !groups.contains(&"zz") => IpAddr::V4(v4([d, c, b, a])?),
        _ => IpAddr::V6(v6(groups)?),
    };
    let net = IpNet::new(address, length).ok()?;
    (length > 0 && net.network() == address).then(|| canonical(net))
}

fn v4(octets: [&str; 4]) -> Option<Ipv4Addr> {
    // The parser of the library refuses leading zeros, as the other formats do.
    octets.join(".").parse().ok()
}

fn v6(groups: &[&str]) -> Option<Ipv6Addr> {
    let gap = groups.iter().position(|group| group.eq_ignore_ascii_case("zz"));
    let group = |text: &&str| (text.len() <= 4).then(|| u16::from_str_radix(text, 16).ok()).flatten();
    let mut all = [0_u16; 8];
    match gap {
        None if groups.len() == 8 => {
            for (slot, text) in all.iter_mut().zip(groups.iter().rev()) {
                *slot = group(text)?;
            }
        }
        // `zz` stands for one zero group or more.
        Some(at) if groups.len() <= 8 => {
            let (low, high) = groups.split_at(at);
            let high = high.get(1..).unwrap_or_default();
            for (slot, text) in all.iter_mut().zip(high.iter().rev()) {
                *slot = group(text)?;
            }
            for (slot, text) in all.iter_mut().rev().zip(low) {
                *slot = group(text)?;
            }
        }
        _ => return None,
    }
    Some(all.into())
}
