//! Networks of the configuration.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize as _, Deserializer};

/// Networks as people write them: an address is a network of one. For `deserialize_with`.
///
/// # Errors
/// As [`network`].
pub fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| network(text).map_err(serde::de::Error::custom)).collect()
}

/// Reads an address or a CIDR prefix; host bits are cleared, mapped addresses are those they map.
///
/// # Errors
/// A sentence with what was found and what was expected.
pub fn network(text: &str) -> Result<IpNet, String> {
    let wrong = || {
        let found: String = text.chars().take(60).collect();
        format!("found {found:?}, expected an address or prefix such as 192.0.2.1 or 2001:db8::/32")
    };
    let network = match text.trim().parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => text.trim().parse::<IpNet>().map_err(|_| wrong())?.trunc(),
    };
    match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(ip), length) if network.addr().is_ipv6() => {
            IpNet::new(ip.into(), length.checked_sub(96).ok_or_else(wrong)?).map_err(|_| wrong())
        }
        _ => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_people_write_them() {
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.1/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), want);
        }
        for text in ["", "x", "192.0.2.1/33", "192.0.2"] {
            assert!(network(text).unwrap_err().contains("expected an address"), "{text}");
        }
    }
}
