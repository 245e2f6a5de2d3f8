//! Which hosts take mail for a destination, in which order (RFC 5321 §5.1).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use mailgate_model::{Domain, Host, Outcome, QueueId, Status};
use mailgate_net::{LookupError, Mx};

use super::names::Names;
use super::outcome::{deferred, failed};
use super::session::OwnAddress;
use crate::{Config, Loopback, StaticRoute};

/// Hosts of one destination that are looked at; more would only prolong an attempt that fails anyway.
const HOST_LIMIT: usize = 10;
/// Addresses of one host that are tried.
const ADDRESS_LIMIT: usize = 4;

/// Where an attempt connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) hosts: Vec<HostAt>,
    pub(super) own_address: OwnAddress,
}

/// A host, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAt {
    /// For logs, DSNs and the TLS server name.
    pub(super) name: String,
    pub(super) port: u16,
}

/// The hosts for recipients at `host`, best first; or the outcome of all of them.
pub(super) async fn find(
    names: &dyn Names,
    config: &Config,
    own_name: &Domain,
    host: &Host,
    id: QueueId,
) -> Result<Hop, Outcome> {
    let domain = match host {
        Host::Literal(ip) => return literal(config, *ip),
        Host::Domain(domain) => domain,
    };
    if let Some(StaticRoute { host, port, .. }) = config.route.iter().find(|route| route.domain.fits(domain))
    {
        let hosts = vec![HostAt { name: host.clone(), port: *port }];
        return Ok(Hop { hosts, own_address: OwnAddress::Fine });
    }
    let hosts = match names.mx(domain).await {
        Ok(exchanges) if !exchanges.is_empty() => ranked(exchanges, own_name, domain, id)?,
        // RFC 5321 §5.1: without MX records the domain itself is the host.
        Ok(_) | Err(LookupError::NotFound) => vec![domain.as_str().to_owned()],
        // RFC 3463 §3.5: X.4.3, directory server failure.
        Err(error) => {
            return Err(deferred(Status::new(4, 4, 3), None, &format!("MX lookup of {domain}: {error}")));
        }
    };
    let hosts = hosts.into_iter().map(|name| HostAt { name, port: config.port }).collect();
    Ok(Hop { hosts, own_address: own_address(config) })
}

fn own_address(config: &Config) -> OwnAddress {
    match config.loopback {
        Loopback::Allow => OwnAddress::Fine,
        Loopback::Refuse => OwnAddress::Loop,
    }
}

fn literal(config: &Config, ip: IpAddr) -> Result<Hop, Outcome> {
    if !is_usable(config, ip) {
        // RFC 3463 §3.2: X.1.2, bad destination system address.
        return Err(failed(Status::new(5, 1, 2), None, "this address takes no mail from outside"));
    }
    let hosts = vec![HostAt { name: ip.to_string(), port: config.port }];
    Ok(Hop { hosts, own_address: own_address(config) })
}

/// Sorts by preference, equal ones by chance (RFC 5321 §5.1), and leaves out ourselves and all that are not better.
fn ranked(
    mut exchanges: Vec<Mx>,
    own_name: &Domain,
    domain: &Domain,
    id: QueueId,
) -> Result<Vec<String>, Outcome> {
    if let [only] = exchanges.as_slice()
        && is_null(&only.host)
    {
        // RFC 7505 §4.1 and §4.2: X.1.10, the recipient address has a null MX.
        return Err(failed(Status::new(5, 1, 10), None, &format!("{domain} takes no mail (null MX)")));
    }
    // RFC 7505 §3: beside others a null MX means nothing.
    exchanges.retain(|exchange| !is_null(&exchange.host));
    let is_own = |exchange: &Mx| exchange.host.trim_end_matches('.').eq_ignore_ascii_case(own_name.as_str());
    if let Some(own) = exchanges.iter().filter(|exchange| is_own(exchange)).map(|e| e.preference).min() {
        exchanges.retain(|exchange| exchange.preference < own);
        if exchanges.is_empty() {
            // RFC 5321 §5.1: we are the best MX but the domain is none of ours. RFC 3463 §3.5: X.4.6, routing loop.
            let detail = format!("the MX of {domain} is this host, which does not serve it: mail would loop");
            return Err(failed(Status::new(5, 4, 6), None, &detail));
        }
    }
    // By a hash of message and host: spread like chance, yet the same for a message, so that greylisting at one of several
    // equal hosts meets the same host again.
    exchanges.sort_by_cached_key(|exchange| {
        let mut hasher = DefaultHasher::new();
        (id, &exchange.host).hash(&mut hasher);
        (exchange.preference, hasher.finish())
    });
    let mut hosts: Vec<String> =
        exchanges.into_iter().map(|exchange| exchange.host.trim_end_matches('.').to_owned()).collect();
    hosts.dedup();
    hosts.truncate(HOST_LIMIT);
    Ok(hosts)
}

fn is_null(host: &str) -> bool {
    matches!(host, "" | ".")
}

/// The addresses of a host to connect to, IPv6 first.
pub(super) async fn addresses(
    names: &dyn Names,
    config: &Config,
    own_address: OwnAddress,
    host: &HostAt,
) -> Result<Vec<SocketAddr>, Outcome> {
    let found = match host.name.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![ip]),
        Err(_) => names.addresses(&host.name).await,
    };
    let mut ips = match found {
        Ok(ips) => ips,
        Err(LookupError::NotFound) => Vec::new(),
        Err(error) => {
            return Err(deferred(
                Status::new(4, 4, 3),
                None,
                &format!("address lookup of {}: {error}", host.name),
            ));
        }
    };
    if ips.is_empty() {
        // RFC 3463 §3.5: X.4.4, unable to route.
        return Err(failed(Status::new(5, 4, 4), None, &format!("{} has no address", host.name)));
    }
    ips.retain(|ip| own_address == OwnAddress::Fine || is_usable(config, *ip));
    if ips.is_empty() {
        let detail = format!("{} has only addresses that lead to this host", host.name);
        return Err(failed(Status::new(5, 4, 6), None, &detail));
    }
    ips.sort_by_key(IpAddr::is_ipv4);
    ips.dedup();
    // Of each family some: a host with ten IPv6 addresses and no route to them is still reached.
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = ips.into_iter().partition(IpAddr::is_ipv6);
    let chosen = v6.into_iter().take(ADDRESS_LIMIT / 2).chain(v4.into_iter().take(ADDRESS_LIMIT / 2));
    Ok(chosen.map(|ip| SocketAddr::new(ip, host.port)).collect())
}

/// Whether a stranger's record may send us there.
fn is_usable(config: &Config, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return false;
    }
    config.loopback == Loopback::Allow || !ip.is_loopback()
}

#[cfg(test)]
mod tests;
