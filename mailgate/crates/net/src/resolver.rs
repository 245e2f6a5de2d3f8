//! Names to addresses and back.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig as HickoryConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mailgate_model::Domain;

use crate::{Error, LookupError, ResolverConfig};

/// Reverse names looked at per address; more is noise or an attack (RFC 7208 §4.6.4 has the same figure).
const REVERSE_NAME_LIMIT: usize = 10;
/// Answers kept of one question.
const ANSWER_LIMIT: usize = 100;
/// Answers in the cache, a few hundred octets each.
const CACHE_SIZE: u64 = 4096;
/// Longest time an answer is believed: within an hour a moved mail exchanger is noticed, well before a message expires.
const CACHE_AGE_LIMIT: Duration = Duration::from_secs(3600);
/// Longest time a no is believed: people mend a missing record while they watch.
const NO_AGE_LIMIT: Duration = Duration::from_secs(120);

/// The names that the DNS gives an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reverse {
    /// The first of its PTR records, true or not.
    pub said: Option<String>,
    /// The first that leads back to the address (RFC 8601 §2.7.3).
    pub confirmed: Option<String>,
}

/// One mail exchanger of a domain (RFC 5321 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// Host name, no trailing dot; empty for the null MX (RFC 7505).
    pub host: String,
}

/// Asks the DNS. Clones share one cache.
#[derive(Clone)]
pub struct Resolver {
    hickory: TokioResolver,
    timeout: Duration,
    servers: Vec<SocketAddr>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver of the configured servers, or of the system's. Needs a runtime.
    ///
    /// # Errors
    /// When the system's configuration cannot be read.
    pub fn new(config: &ResolverConfig) -> Result<Self, Error> {
        let unusable = |error: NetError| Error::Resolver(error.to_string());
        let mut builder = if config.servers.is_empty() {
            TokioResolver::builder_tokio().map_err(unusable)?
        } else {
            let servers = config.servers.iter().map(|server| name_server(*server)).collect();
            let hickory = HickoryConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(hickory, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // A configured server is the whole truth; only the system's own resolver knows /etc/hosts.
        options.use_hosts_file =
            if config.servers.is_empty() { ResolveHosts::Always } else { ResolveHosts::Never };
        options.cache_size = CACHE_SIZE;
        options.positive_max_ttl = Some(CACHE_AGE_LIMIT);
        options.negative_max_ttl = Some(NO_AGE_LIMIT);
        options.timeout = config.timeout.duration() / 2;
        options.attempts = 2;
        options.edns0 = true;
        // Only full names are asked for: a search domain of this host must not complete a stranger's.
        options.ndots = 0;
        let hickory = builder.build().map_err(unusable)?;
        Ok(Self { hickory, timeout: config.timeout.duration(), servers: config.servers.clone() })
    }

    /// The configured servers; empty when the system's are used. For libraries that bring a resolver of their own.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// The resolver below, for message authentication, which asks for more kinds of records.
    #[must_use]
    pub fn hickory(&self) -> &TokioResolver {
        &self.hickory
    }

    /// Longest time one question may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The MX records of a domain, best first. [`LookupError::NotFound`] when there are none: the caller decides about
    /// the implicit MX (RFC 5321 §5.1).
    ///
    /// # Errors
    /// As the DNS says.
    pub async fn mx(&self, domain: &Domain) -> Result<Vec<Mx>, LookupError> {
        let mut found: Vec<Mx> = self
            .records(domain.as_str(), RecordType::MX)
            .await?
            .into_iter()
            .filter_map(|data| match data {
                RData::MX(mx) => Some(Mx { preference: mx.preference, host: host_text(&mx.exchange) }),
                _ => None,
            })
            .collect();
        found.sort();
        if found.is_empty() { Err(LookupError::NotFound) } else { Ok(found) }
    }

    /// All addresses of a host, IPv6 before IPv4; an address written as text is no name, so there is none.
    ///
    /// # Errors
    /// Temporary when one family could not be asked and the other has none.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let (v6, v4) = tokio::join!(self.records(host, RecordType::AAAA), self.records(host, RecordType::A));
        let mut found = Vec::new();
        let mut failure = LookupError::NotFound;
        for answer in [v6, v4] {
            match answer {
                Ok(records) => found.extend(records.into_iter().filter_map(|data| match data {
                    RData::A(a) => Some(IpAddr::V4(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                    _ => None,
                })),
                Err(LookupError::NotFound) => {}
                Err(error) => failure = error,
            }
        }
        if found.is_empty() { Err(failure) } else { Ok(found) }
    }

    /// The IPv4 addresses of a name; DNS lists answer with them (RFC 5782 §2.1).
    ///
    /// # Errors
    /// As the DNS says.
    pub async fn ipv4(&self, name: &str) -> Result<Vec<std::net::Ipv4Addr>, LookupError> {
        let records = self.records(name, RecordType::A).await?;
        let of = |data: RData| if let RData::A(a) = data { Some(a.0) } else { None };
        Ok(records.into_iter().filter_map(of).collect())
    }

    /// The texts of a TXT record set, the strings of each record joined (RFC 7208 §3.3).
    ///
    /// # Errors
    /// As the DNS says.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let records = self.records(name, RecordType::TXT).await?;
        Ok(records
            .into_iter()
            .filter_map(|data| match data {
                RData::TXT(txt) => {
                    let bytes: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                    Some(String::from_utf8_lossy(&bytes).into_owned())
                }
                _ => None,
            })
            .collect())
    }

    /// The reverse name of an address, if that name leads back to it (RFC 8601 §2.7.3); `None` if none does. All its
    /// questions together stay within [`timeout`](Self::timeout).
    ///
    /// # Errors
    /// Only when the DNS could not say.
    pub async fn rdns(&self, ip: IpAddr) -> Result<Option<String>, LookupError> {
        self.reverse(ip).await.map(|reverse| reverse.confirmed)
    }

    /// Both names of an address: the first that the DNS says, and the first that also leads back to it. All its
    /// questions together stay within [`timeout`](Self::timeout).
    ///
    /// # Errors
    /// Only when the DNS could not say.
    pub async fn reverse(&self, ip: IpAddr) -> Result<Reverse, LookupError> {
        let names = tokio::time::timeout(self.timeout, self.names_of(ip.to_canonical())).await;
        names.unwrap_or_else(|_| Err(self.too_slow()))
    }

    async fn names_of(&self, ip: IpAddr) -> Result<Reverse, LookupError> {
        let names = match self.records_of(Name::from(ip), RecordType::PTR).await {
            Ok(records) => records,
            Err(LookupError::NotFound) => return Ok(Reverse::default()),
            Err(error) => return Err(error),
        };
        let (mut said, mut failure) = (None, None);
        for name in names.iter().take(REVERSE_NAME_LIMIT) {
            let RData::PTR(ptr) = name else { continue };
            let host = host_text(&ptr.0);
            match self.addresses(&host).await {
                Ok(addresses) if addresses.contains(&ip) => {
                    return Ok(Reverse { said: said.or_else(|| Some(host.clone())), confirmed: Some(host) });
                }
                Ok(_) | Err(LookupError::NotFound) => {}
                Err(error) => failure = Some(error),
            }
            said.get_or_insert(host);
        }
        failure.map_or(Ok(Reverse { said, confirmed: None }), Err)
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, LookupError> {
        // A name that cannot be written as a question does not exist.
        let mut name = Name::from_ascii(name).map_err(|_| LookupError::NotFound)?;
        name.set_fqdn(true);
        self.records_of(name, kind).await
    }

    async fn records_of(&self, name: Name, kind: RecordType) -> Result<Vec<RData>, LookupError> {
        if name.is_root() {
            return Err(LookupError::NotFound);
        }
        let answer = tokio::time::timeout(self.timeout, self.hickory.lookup(name, kind))
            .await
            .map_err(|_| self.too_slow())?;
        let lookup = answer.map_err(|error| as_lookup_error(&error))?;
        let of_kind = lookup.answers().iter().filter(|record| record.record_type() == kind);
        let data: Vec<RData> = of_kind.take(ANSWER_LIMIT).map(|record| record.data.clone()).collect();
        match lookup.message().metadata.response_code {
            _ if !data.is_empty() => Ok(data),
            ResponseCode::NoError | ResponseCode::NXDomain => Err(LookupError::NotFound),
            other => Err(LookupError::Temporary(format!("response code {other}"))),
        }
    }

    fn too_slow(&self) -> LookupError {
        LookupError::Temporary(format!("no answer within {} ms", self.timeout.as_millis()))
    }
}

/// NXDOMAIN and "no such record" are a no; SERVFAIL, REFUSED, time-outs and bogus signatures are not, nor is a referral
/// (name servers without a SOA), which says only that this server does not know.
fn as_lookup_error(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
                && (none.soa.is_some() || none.ns.is_none()) =>
        {
            LookupError::NotFound
        }
        other => LookupError::Temporary(other.to_string()),
    }
}

fn host_text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    config
}

#[cfg(test)]
mod tests;
