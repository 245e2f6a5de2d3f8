//! Telling the MTA who the client is: XCLIENT (Postfix `XCLIENT_README`) and the PROXY protocol, version 2 (HAProxy's
//! `proxy-protocol.txt`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use mailgate_model::Client;
use mailgate_net::{LookupError, Reverse};
use mailgate_proto::smtp::{Answer, xtext};

/// A name longer than this is no name (RFC 1035 §2.3.4).
const NAME_LIMIT: usize = 255;

/// The attributes of XCLIENT that an answer to EHLO offers, upper case; `None` without one that tells the address.
pub(super) fn xclient_offer(answer: &Answer) -> Option<Vec<String>> {
    let words = answer.lines.iter().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("XCLIENT")).map(|_| words)
    })?;
    let attributes: Vec<String> = words.map(str::to_ascii_uppercase).collect();
    attributes.iter().any(|attribute| attribute == "ADDR").then_some(attributes)
}

/// The line that makes the MTA take us for `client`.
pub(super) fn xclient(client: &Client, names: &Result<Reverse, LookupError>, offered: &[String]) -> String {
    let name = |of: fn(&Reverse) -> &Option<String>| match names {
        Ok(reverse) => of(reverse)
            .as_deref()
            .filter(|name| name.len() <= NAME_LIMIT)
            .map_or_else(|| "[UNAVAILABLE]".to_owned(), xtext::encode),
        Err(_) => "[TEMPUNAVAIL]".to_owned(),
    };
    let mut line = "XCLIENT".to_owned();
    for (attribute, value) in [
        ("NAME", name(|reverse| &reverse.confirmed)),
        ("REVERSE_NAME", name(|reverse| &reverse.said)),
        ("ADDR", address(client.ip())),
        ("PORT", client.peer.port().to_string()),
        ("DESTADDR", address(client.local.ip())),
        ("DESTPORT", client.local.port().to_string()),
    ] {
        if offered.iter().any(|offered| offered == attribute) {
            line.push_str(&format!(" {attribute}={value}"));
        }
    }
    line
}

fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("IPV6:{ip}"),
    }
}

/// A server that does not know the protocol finds an SMTP command to end the session in here.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Header of a connection for `client`; of one for ourselves without.
pub(super) fn proxy_header(client: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some((from, to)) = client else {
        // Version 2, command LOCAL; no addresses.
        header.extend_from_slice(&[0x20, 0, 0, 0]);
        return header;
    };
    header.push(0x21);
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend_from_slice(&[0x11, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        (from, to) => {
            header.extend_from_slice(&[0x21, 0, 36]);
            header.extend_from_slice(&v6(from).octets());
            header.extend_from_slice(&v6(to).octets());
        }
    }
    header.extend_from_slice(&from.port().to_be_bytes());
    header.extend_from_slice(&to.port().to_be_bytes());
    header
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, local: &str) -> Client {
        Client::new(peer.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn xclient_says_what_is_offered_and_nothing_else() {
        let answer = |line: &str| Answer {
            code: 250,
            status: None,
            lines: vec!["mx.example.org".into(), line.into(), "SIZE 1".into()],
        };
        let offer = xclient_offer(&answer("XCLIENT NAME ADDR proto PORT reverse_name")).unwrap();
        let names = Ok(Reverse { said: Some("b.example".into()), confirmed: Some("a.example".into()) });
        assert_eq!(
            xclient(&client("192.0.2.1:40000", "192.0.2.25:25"), &names, &offer),
            "XCLIENT NAME=a.example REVERSE_NAME=b.example ADDR=192.0.2.1 PORT=40000"
        );
        let all = xclient_offer(&answer("xclient ADDR NAME DESTADDR DESTPORT")).unwrap();
        assert_eq!(
            xclient(&client("[2001:db8::1]:1", "[2001:db8::25]:25"), &Ok(Reverse::default()), &all),
            "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 DESTADDR=IPV6:2001:db8::25 DESTPORT=25"
        );
        let failed = Err(LookupError::Temporary("a test".into()));
        assert!(
            xclient(&client("192.0.2.1:1", "192.0.2.25:25"), &failed, &all).contains("NAME=[TEMPUNAVAIL]")
        );
        // A name is a stranger's text: it ends no attribute and no line.
        let odd = Ok(Reverse { said: None, confirmed: Some("a b+c=d\r\nRSET".into()) });
        let line = xclient(&client("192.0.2.1:1", "192.0.2.25:25"), &odd, &all);
        assert!(line.contains("NAME=a+20b+2Bc+3Dd+0D+0ARSET ADDR=192.0.2.1"), "{line}");
    }

    #[test]
    fn an_offer_without_the_address_is_none() {
        let answer = |lines: &[&str]| Answer {
            code: 250,
            status: None,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(xclient_offer(&answer(&["mx", "XCLIENT NAME HELO"])), None);
        assert_eq!(xclient_offer(&answer(&["mx", "PIPELINING", "XFORWARD ADDR"])), None);
        assert_eq!(xclient_offer(&answer(&["XCLIENT ADDR"])), None, "the first line is a name");
    }

    #[test]
    fn the_proxy_header_is_that_of_the_specification() {
        let header =
            proxy_header(Some(("192.0.2.1:258".parse().unwrap(), "198.51.100.2:25".parse().unwrap())));
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 0, 25]);
        let header =
            proxy_header(Some(("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:25".parse().unwrap())));
        assert_eq!((header.len(), &header[12..16]), (16 + 36, [0x21, 0x21, 0, 36].as_slice()));
        assert_eq!(proxy_header(None)[12..], [0x20, 0, 0, 0]);
    }
}
