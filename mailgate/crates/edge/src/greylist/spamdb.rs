//! Entries as people and scripts see them: serialisable, and in the text of spamdb(8).

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::{ForwardPath, ReversePath, Timestamp};
use mailgate_store::greylist::{Grey, Identity, Kind, Origin, Peer, PeerKind, Row, Said};
use serde::{Deserialize, Serialize};

use crate::identity;

/// One entry of the greylist; fields that its kind does not have are left out. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The client, or its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<IpNet>,
    /// Who gave a network its standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Who a deferred client is taken for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Name said by a deferred client at HELO or EHLO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Reverse-path of a deferred attempt, as said, without angle brackets; empty for the null path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_path: Option<String>,
    /// Forward-path of a deferred attempt as said, or the trap address; without angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_path: Option<String>,
    /// The first contact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// Deferred: from when on a retry passes. Passed and trapped: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Timestamp>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Attempts deferred, or hits of a trap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<u32>,
    /// Messages accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<u32>,
}

impl Entry {
    fn bare(kind: Kind) -> Self {
        Self {
            kind,
            network: None,
            origin: None,
            identity: None,
            helo: None,
            reverse_path: None,
            forward_path: None,
            first: None,
            pass: None,
            expires: None,
            blocked: None,
            passed: None,
        }
    }
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        match row {
            Row::Grey { tuple, said, grey } => Self {
                network: identity::as_network(&tuple.client).or(said.ip.map(IpNet::from)),
                identity: Some(tuple.client),
                helo: Some(said.helo),
                reverse_path: Some(said.reverse_path),
                forward_path: Some(said.forward_path),
                first: Some(grey.first),
                pass: Some(grey.pass),
                expires: Some(grey.expires),
                blocked: Some(grey.blocked),
                passed: Some(grey.passed),
                ..Self::bare(Kind::Grey)
            },
            Row::Peer { network, peer } => Self {
                network: Some(network),
                origin: Some(peer.origin),
                first: Some(peer.first),
                pass: Some(peer.pass),
                expires: Some(peer.expires),
                blocked: Some(peer.blocked),
                passed: Some(peer.passed),
                ..Self::bare(match peer.kind {
                    PeerKind::Passed => Kind::Passed,
                    PeerKind::Trapped => Kind::Trapped,
                })
            },
            Row::TrapAddress { address, added } => {
                Self { forward_path: Some(address), first: Some(added), ..Self::bare(Kind::TrapAddress) }
            }
        }
    }
}

/// The line that spamdb(8) prints, without a line end. A client that is a network and not an address is printed as CIDR,
/// which spamd does not know. `None` for a tuple of a message, which stands beside that of its client.
pub(crate) fn line(row: &Row) -> Option<String> {
    Some(match row {
        Row::Grey { tuple, .. } if matches!(tuple.client, Identity::Message(_)) => return None,
        Row::Grey { tuple, said, grey } => format!(
            "GREY|{}|{}|<{}>|<{}>|{}|{}|{}|{}|{}",
            // spamd knows addresses only; an entry of before has none.
            match said.ip {
                Some(ip) => ip.to_string(),
                None => identity::as_network(&tuple.client).map_or_else(|| tuple.client.to_string(), client),
            },
            said.helo,
            said.reverse_path,
            said.forward_path,
            grey.first.secs(),
            // Until a tuple passes, spamd sets this to its end.
            grey.expires.secs(),
            grey.expires.secs(),
            grey.blocked,
            grey.passed
        ),
        Row::Peer { network, peer } if peer.kind == PeerKind::Passed => format!(
            "WHITE|{}|||{}|{}|{}|{}|{}",
            client(*network),
            peer.first.secs(),
            peer.pass.secs(),
            peer.expires.secs(),
            peer.blocked,
            peer.passed
        ),
        Row::Peer { network, peer } => format!("TRAPPED|{}|{}", client(*network), peer.expires.secs()),
        Row::TrapAddress { address, .. } => format!("SPAMTRAP|{address}"),
    })
}

fn client(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// One line of a dump as read; keys are not normalised yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Grey { ip: IpAddr, said: Said, reverse: ReversePath, forward: ForwardPath, grey: Grey },
    Peer { network: IpNet, peer: Peer },
    TrapAddress(String),
}

/// Reads one line that spamdb(8) printed; `now` is when a trapped host counts as trapped, which is not printed.
pub(crate) fn parse(line: &str, now: Timestamp) -> Result<Read, String> {
    let wrong = |expected: &str| {
        let found: String = line.chars().take(80).collect();
        format!("found {found:?}, expected {expected}")
    };
    let (kind, rest) = line.split_once('|').ok_or_else(|| wrong("GREY|, WHITE|, TRAPPED| or SPAMTRAP|"))?;
    match kind {
        "GREY" => {
            grey(rest).ok_or_else(|| wrong("GREY|address|helo|<from>|<to>|first|pass|expire|blocked|passed"))
        }
        "WHITE" => white(rest).ok_or_else(|| wrong("WHITE|address|||first|pass|expire|blocked|passed")),
        "TRAPPED" => trapped(rest, now).ok_or_else(|| wrong("TRAPPED|address|expire")),
        "SPAMTRAP" => {
            let address = rest.trim_start_matches('<').trim_end_matches('>');
            if address.contains('@') {
                Ok(Read::TrapAddress(address.to_owned()))
            } else {
                Err(wrong("SPAMTRAP|user@domain"))
            }
        }
        _ => Err(wrong("GREY, WHITE, TRAPPED or SPAMTRAP in front")),
    }
}

fn grey(rest: &str) -> Option<Read> {
    let (ip, rest) = rest.split_once('|')?;
    // What the client said may hold the separator; the brackets and the numbers at the end cannot be mistaken.
    let (helo, rest) = rest.split_once("|<")?;
    let (reverse_path, rest) = rest.split_once(">|<")?;
    let (forward_path, numbers) = rest.rsplit_once(">|")?;
    let mut numbers = numbers.split('|');
    let (first, _pass, expires) = (time(numbers.next()?)?, time(numbers.next()?)?, time(numbers.next()?)?);
    let (blocked, passed) = (count(numbers.next()?)?, count(numbers.next()?)?);
    let ip = mailgate_packet::network(ip).ok()?.addr();
    let reverse = ReversePath::try_from(reverse_path.to_owned()).ok()?;
    let forward = ForwardPath::try_from(forward_path.to_owned()).ok()?;
    let said = Said {
        ip: Some(ip),
        helo: helo.to_owned(),
        reverse_path: reverse_path.to_owned(),
        forward_path: forward_path.to_owned(),
    };
    numbers.next().is_none().then_some(Read::Grey {
        ip,
        said,
        reverse,
        forward,
        // From when on it passes is a matter of our timings, and set by the caller.
        grey: Grey { first, pass: first, expires, blocked, passed },
    })
}

fn white(rest: &str) -> Option<Read> {
    let mut fields = rest.split('|');
    let network = mailgate_packet::network(fields.next()?).ok()?;
    let empty = fields.next()?.is_empty() && fields.next()?.is_empty();
    let peer = Peer {
        kind: PeerKind::Passed,
        origin: Origin::Learned,
        first: time(fields.next()?)?,
        pass: time(fields.next()?)?,
        expires: time(fields.next()?)?,
        blocked: count(fields.next()?)?,
        passed: count(fields.next()?)?,
    };
    (empty && fields.next().is_none()).then_some(Read::Peer { network, peer })
}

fn trapped(rest: &str, now: Timestamp) -> Option<Read> {
    let (network, expires) = rest.split_once('|')?;
    let network = mailgate_packet::network(network).ok()?;
    let peer = Peer {
        kind: PeerKind::Trapped,
        origin: Origin::Learned,
        first: now,
        pass: now,
        expires: time(expires)?,
        blocked: 1,
        passed: 0,
    };
    Some(Read::Peer { network, peer })
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_secs)
}

/// spamd counts below zero mean a kind there; here a count is a count.
fn count(text: &str) -> Option<u32> {
    text.parse::<i64>().ok().map(|count| u32::try_from(count.max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use mailgate_store::greylist::Tuple;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn lines_that_are_none_are_refused_with_what_was_expected() {
        for (text, expected) in [
            ("", "GREY|, WHITE|"),
            ("BLACK|192.0.2.1", "in front"),
            ("WHITE|192.0.2.1|1|2|3|4|5", "WHITE|address|||"),
            ("WHITE|nonsense|||1|2|3|4|5", "WHITE|address|||"),
            ("GREY|192.0.2.1|helo|a|b|1|2|3|4|5", "GREY|address"),
            ("GREY|192.0.2.1|helo|<a@b>|<c@d>|1|2|3|4", "GREY|address"),
            ("TRAPPED|192.0.2.1", "TRAPPED|address"),
            ("SPAMTRAP|nobody", "SPAMTRAP|user@domain"),
        ] {
            let error = parse(text, NOW).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_clients_say_may_hold_the_separator() {
        let read = parse("GREY|192.0.2.1|a|b|<\"x|y\"@b.org>|<c|d@e.org>|1|2|3|4|0", NOW).unwrap();
        let Read::Grey { said, .. } = read else { panic!() };
        assert_eq!((said.helo.as_str(), said.forward_path.as_str()), ("a|b", "c|d@e.org"));
    }

    proptest::proptest! {
        #[test]
        fn every_line_we_print_reads_back(
            bits in proptest::num::u128::ANY, v6 in proptest::bool::ANY, times in proptest::array::uniform3(0_i64..4_000_000_000),
            helo in "[a-z0-9.|-]{1,20}", local in "[A-Za-z0-9=+|-]{1,20}", counts in proptest::array::uniform2(0_u32..u32::MAX),
        ) {
            let ip: IpAddr = if v6 { std::net::Ipv6Addr::from_bits(bits | 1 << 127).into() }
                else { std::net::Ipv4Addr::from_bits(bits as u32).into() };
            let [first, pass, expires] = times.map(Timestamp::from_secs);
            let [blocked, passed] = counts;
            let path = format!("{local}@x.org");
            let said = Said { ip: Some(ip), helo, reverse_path: path.clone(), forward_path: path.clone() };
            let tuple = Tuple { client: ip.into(), reverse_path: path.clone(), forward_path: path };
            let grey = Grey { first, pass: first, expires, blocked, passed };
            match parse(&line(&Row::Grey { tuple, said: said.clone(), grey }).unwrap(), NOW).unwrap() {
                Read::Grey { ip: got, said: got_said, grey: got_grey, .. } =>
                    proptest::prop_assert_eq!((got, got_said, got_grey), (ip, said, grey)),
                other => proptest::prop_assert!(false, "{:?}", other),
            }
            let peer = Peer { kind: PeerKind::Passed, origin: Origin::Learned, first, pass, expires, blocked, passed };
            let row = Row::Peer { network: ip.into(), peer };
            proptest::prop_assert_eq!(parse(&line(&row).unwrap(), NOW).unwrap(), Read::Peer { network: ip.into(), peer });
        }

        #[test]
        fn no_line_makes_the_parser_panic(text in "(GREY|WHITE|TRAPPED|SPAMTRAP)?\\|?\\PC{0,60}") {
            let _ = parse(&text, NOW);
        }
    }
}
