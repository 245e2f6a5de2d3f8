//! Models of other greylisters with their defaults, from their documentation: what decides, not how it is stored.

mod postgrey;
mod rspamd;
mod spamd;
mod sqlgrey;

pub(crate) use postgrey::Postgrey;
pub(crate) use rspamd::Rspamd;
pub(crate) use spamd::Spamd;
pub(crate) use sqlgrey::Sqlgrey;

use std::net::IpAddr;

use ipnet::IpNet;

/// The network of an address by the prefix length of its family.
fn network(ip: IpAddr, ipv4: u8, ipv6: u8) -> IpNet {
    let length = if ip.is_ipv4() { ipv4 } else { ipv6 };
    IpNet::new(ip, length).map_or_else(|_| IpNet::from(ip), |network| network.trunc())
}

/// A sender as programs that know of VERP keep it: no `+detail`, and runs of digits between other signs as `#`.
fn without_serials(sender: &str) -> String {
    let (local, domain) = sender.split_once('@').unwrap_or((sender, ""));
    let local = local.split('+').next().unwrap_or(local);
    let words = local.split('-').map(|word| {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { "#" } else { word }
    });
    format!("{}@{domain}", words.collect::<Vec<_>>().join("-"))
}
