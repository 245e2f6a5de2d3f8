//! The listing of sources under limits.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use mailgate_common::limit::{SourceKey, UNIT};
use serde::Serialize;

use super::{Accounting, Policy};

/// Bits before an IPv4 address that is mapped.
const MAPPED_BITS: u32 = 96;

/// A source under a limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceRow {
    /// The network that counts as one source.
    pub network: IpNet,
    /// Name of the rule.
    pub rule: String,
    /// Connections now.
    pub connections: u64,
    /// Connections allowed; `None` for any number.
    pub connections_allowed: Option<u32>,
    /// Connections within the window, decaying (pf.conf(5), `max-src-conn-rate`).
    pub rate: f64,
    /// Rate allowed; `None` for any.
    pub rate_allowed: Option<u32>,
    /// Seconds of the window.
    pub window: f64,
    /// Connections since the source is remembered.
    pub total: u64,
}

/// The sources with most connections, then with the highest rate.
pub(super) fn rows(
    accounting: &dyn Accounting,
    policy: &dyn Policy,
    most: usize,
) -> io::Result<Vec<SourceRow>> {
    let now = accounting.now_ns();
    let (mut rows, mut limits) = (Vec::new(), HashMap::new());
    for (source, counts) in accounting.sources()? {
        let limit = limits.entry(source.limit).or_insert_with(|| policy.limit(source.limit));
        let Some(limit) = limit else { continue };
        let rate = counts.rate(&limit.spec, now);
        let at_least_one = |n: u32| (n != 0).then_some(n);
        rows.push(SourceRow {
            network: network(&source),
            rule: limit.rule.clone(),
            connections: counts.connections,
            connections_allowed: at_least_one(limit.spec.connections),
            rate: f64::from(rate) / f64::from(UNIT),
            rate_allowed: at_least_one(limit.spec.rate),
            window: f64::from(limit.spec.window_ms) / 1000.0,
            total: counts.total,
        });
    }
    rows.sort_by_key(|row| (Reverse(row.connections), Reverse(row.rate as u64), row.network));
    rows.truncate(most);
    Ok(rows)
}

/// An address of the kernel's.
pub(super) fn address(high: u64, low: u64) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))).to_canonical()
}

/// The network of a source.
pub(super) fn network(source: &SourceKey) -> IpNet {
    let address = address(source.high, source.low);
    let bits = if address.is_ipv4() { source.bits.saturating_sub(MAPPED_BITS) } else { source.bits };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let bits = u8::try_from(bits.min(whole)).unwrap_or(u8::MAX);
    IpNet::new(address, bits).unwrap_or_else(|_| IpNet::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(address: IpAddr) -> (u64, u64) {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        }
        .to_bits();
        ((bits >> 64) as u64, bits as u64)
    }

    #[test]
    fn sources_are_shown_as_networks_of_their_family() {
        for (address, bits, want) in [
            ("192.0.2.129", 128, "192.0.2.129/32"),
            ("192.0.2.129", 120, "192.0.2.0/24"),
            ("0.0.0.0", 96, "0.0.0.0/0"),
            ("2001:db8:1:2::3", 56, "2001:db8:1::/56"),
            ("2001:db8:1:2::3", 128, "2001:db8:1:2::3/128"),
        ] {
            let (high, low) = halves(address.parse().unwrap());
            assert_eq!(network(&SourceKey::new(high, low, 1, bits)).to_string(), want);
        }
    }
}
