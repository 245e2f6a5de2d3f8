//! One packet in words.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use mailgate_common::packet::{ICMP, ICMP6, TCP, UDP, flags};
use mailgate_common::{Address, Family, Fragment, Packet, parse};
use mailgate_packet::xdp::Labels;
use mailgate_packet::xdp::trace::Traced;
use serde_json::{Value, json};

use crate::admin::{self, Answer, Call};
use crate::config::Place;

/// What numbers stand for, as far as a daemon or the pins tell.
#[derive(Debug, Default)]
pub(super) struct Names {
    tables: Vec<String>,
    rules: Vec<String>,
}

impl Names {
    /// Asks the daemon; when there is none, what it left beside the pins.
    pub(super) fn ask(place: &Place, left: impl FnOnce() -> Labels) -> Self {
        let strings = |value: Option<&Value>| -> Vec<String> {
            let rows = value.and_then(Value::as_array).into_iter().flatten();
            rows.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let Some(status) = answer(place, &Call::Status) else {
            let Labels { tables, rules } = left();
            return Self { tables, rules };
        };
        Self {
            tables: strings(status.pointer("/filter/tables")),
            rules: strings(status.pointer("/filter/rules")),
        }
    }
}

fn answer(place: &Place, call: &Call) -> Option<Value> {
    let control = place.control().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    match runtime.block_on(admin::ask(&control, call)).ok()? {
        Answer::Done(value) => Some(value),
        Answer::Failed(_) => None,
    }
}

/// An address of a packet.
pub(super) fn address(address: Address) -> IpAddr {
    let whole = u128::from(address.high) << 64 | u128::from(address.low);
    IpAddr::V6(Ipv6Addr::from_bits(whole)).to_canonical()
}

/// A packet as it is shown.
pub(super) struct Told {
    time: Duration,
    interface: String,
    verdict: String,
    tables: Vec<String>,
    rule: Option<String>,
    reason: &'static str,
    act: &'static str,
    packet: String,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    length: u32,
}

impl Told {
    pub(super) fn of(event: &Traced, names: &Names) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let parsed = parse(&event.snap.as_slice()).ok();
        let named =
            |names: &[String], n: u32| names.get(n as usize).cloned().unwrap_or_else(|| n.to_string());
        let tables: Vec<String> =
            (0..64).filter(|n| event.set >> n & 1 == 1).map(|n| named(&names.tables, n)).collect();
        let rule = event.rule.map(|n| named(&names.rules, n));
        let reason = event.reason.name();
        let mut verdict = reason.to_owned();
        if let Some(rule) = &rule {
            verdict.push_str(&format!(" (rule {rule})"));
        }
        if !tables.is_empty() {
            verdict.push_str(&format!(" [{}]", tables.join(" ")));
        }
        Self {
            time: now.saturating_sub(event.ago),
            interface: interface(event.interface),
            verdict,
            tables,
            rule,
            reason,
            act: event.act.name(),
            packet: parsed.map_or_else(|| "no IP packet".to_owned(), |packet| words(&packet)),
            source: parsed.map(|packet| address(packet.source)),
            destination: parsed.map(|packet| address(packet.destination)),
            length: event.length,
        }
    }

    /// When it came, since 1970.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// Where it came in.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// What was done and why.
    pub(super) fn verdict(&self) -> &str {
        &self.verdict
    }

    /// `false` when nobody reads any more.
    pub(super) fn print(&self, json: bool) -> bool {
        use std::io::Write as _;
        let text = if json { self.json().to_string() } else { self.line() };
        writeln!(std::io::stdout(), "{text}").is_ok()
    }

    fn line(&self) -> String {
        let seconds = self.time.as_secs() % 86_400;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!(
            "{hours:02}:{minutes:02}:{:02}.{:06} {} {}: {}, length {}",
            seconds % 60,
            self.time.subsec_micros(),
            self.interface,
            self.verdict,
            self.packet,
            self.length
        )
    }

    fn json(&self) -> Value {
        json!({
            "time": self.time.as_secs_f64(),
            "interface": self.interface,
            "act": self.act,
            "reason": self.reason,
            "rule": self.rule,
            "tables": self.tables,
            "source": self.source,
            "destination": self.destination,
            "packet": self.packet,
            "length": self.length,
        })
    }
}

/// The name of an interface, or its number when it is gone.
fn interface(number: u32) -> String {
    let name = nix::net::if_::if_indextoname(number).ok();
    name.and_then(|name| name.into_string().ok()).unwrap_or_else(|| number.to_string())
}

/// As tcpdump(8) would say it.
fn words(packet: &Packet) -> String {
    let ends = |port: u16, end: Address| match packet.protocol {
        TCP | UDP if packet.transport_read => format!("{}.{port}", address(end)),
        _ => address(end).to_string(),
    };
    let what = match packet.protocol {
        _ if packet.fragment == Fragment::Later => format!("part at {}", u32::from(packet.offset) * 8),
        TCP => format!("tcp {} {}", letters(packet.flags), packet.payload),
        UDP => "udp".to_owned(),
        ICMP => format!("icmp type {}", packet.kind),
        ICMP6 => format!("icmp6 type {}", packet.kind),
        other => format!("protocol {other}"),
    };
    let family = if packet.family == Family::V6 { "IP6" } else { "IP" };
    let from = ends(packet.source_port, packet.source);
    let to = ends(packet.destination_port, packet.destination);
    format!("{family} {from} > {to}: {what}")
}

/// Flags as tcpdump(8) abbreviates them.
fn letters(set: u8) -> String {
    let known = [
        (flags::FIN, 'F'),
        (flags::SYN, 'S'),
        (flags::RST, 'R'),
        (flags::PSH, 'P'),
        (flags::ACK, '.'),
        (flags::URG, 'U'),
    ];
    let letters: String =
        known.iter().filter(|(flag, _)| set & flag != 0).map(|(_, letter)| letter).collect();
    if letters.is_empty() { "none".to_owned() } else { letters }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_segment_is_told_as_tcpdump_would() {
        let mut packet = Packet::EMPTY;
        packet.protocol = TCP;
        packet.transport_read = true;
        packet.source = Address::from_v4(Ipv4Addr::new(192, 0, 2, 77).into());
        packet.destination = Address::from_v4(Ipv4Addr::new(198, 51, 100, 1).into());
        (packet.source_port, packet.destination_port) = (40_000, 25);
        packet.flags = flags::SYN | flags::ACK;
        assert_eq!(words(&packet), "IP 192.0.2.77.40000 > 198.51.100.1.25: tcp S. 0");
        packet.fragment = Fragment::Later;
        packet.offset = 185;
        assert_eq!(words(&packet), "IP 192.0.2.77.40000 > 198.51.100.1.25: part at 1480");
    }
}
