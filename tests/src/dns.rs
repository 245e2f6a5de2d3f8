//! An authoritative server for the whole name space: what it does not know does not exist.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::rr::rdata::{A, AAAA, MX, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};

/// Seconds a resolver may keep an answer: short, tests change records.
const TTL: u32 = 1;

/// Sockets to answer on; made wherever the server is to be found (another namespace, say).
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Binds UDP and TCP at each address. A port 0 is chosen once and kept for both.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Sockets> {
        let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
        for address in addresses {
            // TCP first: a port that is free for TCP is nearly always free for UDP, not the other way round.
            let tcp = TcpListener::bind(address).with_context(|| format!("TCP {address}"))?;
            let udp = UdpSocket::bind(tcp.local_addr()?).with_context(|| format!("UDP {address}"))?;
            tcp.set_nonblocking(true)?;
            udp.set_nonblocking(true)?;
            sockets.tcp.push(tcp);
            sockets.udp.push(udp);
        }
        Ok(sockets)
    }
}

/// The running server; it stops when dropped.
pub struct Dns {
    zone: Arc<InMemoryZoneHandler>,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Dns {
    /// Starts on loopback at a free port.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn on_loopback() -> Result<Dns> {
        Dns::start(Sockets::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))])?)
    }

    /// Starts on these sockets, at first without a record but the root's SOA.
    ///
    /// # Errors
    /// When there is no socket or the runtime cannot start.
    pub fn start(sockets: Sockets) -> Result<Dns> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = sockets.udp.first().context("no socket to answer on")?.local_addr()?;
        let zone =
            Arc::new(InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, None));
        let mut catalog = Catalog::new();
        catalog.upsert(Name::root().into(), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        {
            let _within = runtime.enter();
            for udp in sockets.udp {
                server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
            }
            for tcp in sockets.tcp {
                server.register_listener(tokio::net::TcpListener::from_std(tcp)?, Duration::from_secs(5), 16);
            }
        }
        runtime.spawn(async move { server.block_until_done().await });
        let dns = Dns { zone, address, runtime };
        dns.add(".", RData::SOA(SOA::new(name("ns.lab.")?, name("postmaster.lab.")?, 1, 60, 60, 600, TTL)))?;
        Ok(dns)
    }

    /// Where it answers first.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An A or AAAA record and the PTR record back.
    ///
    /// # Errors
    /// When `host` is not a name.
    pub fn host(&self, host: &str, ip: IpAddr) -> Result<()> {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.add(host, data)?;
        self.add(&Name::from(ip).to_ascii(), RData::PTR(PTR(name(host)?)))
    }

    /// An MX record of preference 10.
    ///
    /// # Errors
    /// When one of them is not a name.
    pub fn mx(&self, domain: &str, exchange: &str) -> Result<()> {
        self.add(domain, RData::MX(MX::new(10, name(exchange)?)))
    }

    /// A TXT record; long text is cut into strings of 255 bytes (RFC 1035 §3.3).
    ///
    /// # Errors
    /// When `owner` is not a name.
    pub fn txt(&self, owner: &str, text: &str) -> Result<()> {
        let parts = text.as_bytes().chunks(255).map(<[u8]>::to_vec);
        let parts: Vec<Vec<u8>> = parts.collect();
        self.add(owner, RData::TXT(TXT::from_bytes(parts.iter().map(Vec::as_slice).collect())))
    }

    fn add(&self, owner: &str, data: RData) -> Result<()> {
        let record = Record::from_rdata(name(owner)?, TTL, data);
        ensure!(self.runtime.block_on(self.zone.upsert(record, 1)), "record of {owner} refused");
        Ok(())
    }
}

fn name(text: &str) -> Result<Name> {
    let mut name = Name::from_ascii(text).with_context(|| format!("not a domain name: {text}"))?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::RecordType;

    fn ask(dns: &Dns, owner: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let mut question = Message::query();
        question.add_query(Query::query(name(owner).unwrap(), kind));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&question.to_vec().unwrap(), dns.address()).unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).unwrap();
        let answer = Message::from_vec(&answer[..length]).unwrap();
        (answer.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
    }

    #[test]
    fn known_names_are_answered_and_others_do_not_exist() {
        let dns = Dns::on_loopback().unwrap();
        dns.mx("example.org", "mx.example.org").unwrap();
        dns.host("mx.example.org", "192.0.2.25".parse().unwrap()).unwrap();
        dns.host("mx.example.org", "2001:db8::25".parse().unwrap()).unwrap();
        dns.txt("example.org", &"x".repeat(300)).unwrap();
        assert_eq!(ask(&dns, "example.org", RecordType::MX).1, ["10 mx.example.org."]);
        assert_eq!(ask(&dns, "mx.example.org", RecordType::AAAA).1, ["2001:db8::25"]);
        assert_eq!(ask(&dns, "25.2.0.192.in-addr.arpa", RecordType::PTR).1, ["mx.example.org."]);
        assert_eq!(ask(&dns, "example.org", RecordType::TXT).1.len(), 1);
        assert_eq!(ask(&dns, "nowhere.example", RecordType::A).0, ResponseCode::NXDomain);
        assert_eq!(ask(&dns, "mx.example.org", RecordType::MX), (ResponseCode::NoError, vec![]));
    }
}
