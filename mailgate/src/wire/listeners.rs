//! Every socket that is listened on, and which station serves it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use mailgate_access::imap;
use mailgate_edge::Edge;
use mailgate_model::{Client, Clock, IdGenerator, Service, SessionId};
use mailgate_net::{Limits, Stream, Tls};
use mailgate_packet::{Listeners, PacketFilter, Where};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Ports, system};
use crate::admin::Failure;
use crate::config::Config;

/// Connections of port 25 at a time: the edge has limits of its own, and the tarpit holds many more than sessions.
const EDGE_LIMITS: Limits = Limits { total: 200_000, per_source: 10_000 };

/// The stations that serve connections.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) edge: Arc<Edge>,
    pub(super) mail: Option<Mail>,
    pub(super) tls: Tls,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<IdGenerator>,
}

/// The stations behind the edge that serve connections, where they are ours.
#[derive(Clone)]
pub(super) struct Mail {
    pub(super) smtp: Arc<mailgate_smtp::Server>,
    pub(super) imap: Arc<imap::Server>,
}

/// Whether TLS begins with the connection (RFC 8314 §3) or by command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    Plain,
    Tls,
}

impl Doors {
    fn session(&self) -> SessionId {
        self.ids.session_id(self.clock.now())
    }

    async fn port_25(self, tcp: TcpStream, client: Client) {
        let session = self.session();
        self.edge.serve(tcp, client, session).await;
    }

    async fn other(self, service: Service, begin: Begin, tcp: TcpStream, mut client: Client) {
        let session = self.session();
        let Some(Mail { smtp, imap }) = &self.mail else { return };
        let stream = match begin {
            Begin::Plain => Stream::Plain(tcp),
            Begin::Tls => match self.tls.accept(tcp).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(target: "net", s = %session, event = "tls", peer = %client.ip(), %error);
                    return;
                }
            },
        };
        client.tls = stream.tls_facts();
        match service {
            Service::Imap => imap.serve(stream, client, session).await,
            Service::Mx | Service::Msa => smtp.serve(service, stream, client, session).await,
        }
    }
}

/// Listens everywhere the configuration says and tells the kernel where port 25 goes.
pub(super) fn open(
    config: &Config,
    doors: &Doors,
    filter: &dyn PacketFilter,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Ports, Failure> {
    // Everything is bound before anything is served: a port in use stops the start, not half of the service.
    let mx = listen_at(&config.smtp.mx.listen)?;
    let msa = listen_at(&config.smtp.msa.listen)?;
    let msa_tls = listen_at(&config.smtp.msa.submissions)?;
    let imap = listen_at(&config.access.imap.listen)?;
    let imap_tls = listen_at(&config.access.imap.listen_tls)?;
    // Who passes the greylist goes on here in place, so there is nothing to steer to where no mail is received.
    let steered = if config.smtp.mx.listen.is_empty() { Vec::new() } else { steered(filter) };
    let ports = Ports {
        mx: first_port(&mx),
        msa: first_port(&msa),
        msa_tls: first_port(&msa_tls),
        imap: first_port(&imap),
        imap_tls: first_port(&imap_tls),
    };
    serve_port_25(mx.into_iter().chain(steered), doors, tasks, shutdown);
    let smtp = Limits { total: config.smtp.sessions, per_source: config.smtp.sessions_per_source };
    let access =
        Limits { total: config.access.imap.sessions, per_source: config.access.imap.sessions_per_source };
    for (listeners, service, begin, limits) in [
        (msa, Service::Msa, Begin::Plain, smtp),
        (msa_tls, Service::Msa, Begin::Tls, smtp),
        (imap, Service::Imap, Begin::Plain, access),
        (imap_tls, Service::Imap, Begin::Tls, access),
    ] {
        for listener in listeners {
            let doors = doors.clone();
            let serve = move |tcp, client| doors.clone().other(service, begin, tcp, client);
            tasks.spawn(mailgate_net::serve(listener, limits, shutdown.clone(), serve));
        }
    }
    Ok(ports)
}

/// Listens for what the kernel gives us of a port that another program has.
pub(super) fn open_steered(
    doors: &Doors,
    filter: &dyn PacketFilter,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    serve_port_25(steered(filter).into_iter(), doors, tasks, shutdown);
}

fn serve_port_25(
    listeners: impl Iterator<Item = TcpListener>,
    doors: &Doors,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    for listener in listeners {
        let doors = doors.clone();
        let serve = move |tcp, client| doors.clone().port_25(tcp, client);
        tasks.spawn(mailgate_net::serve(listener, EDGE_LIMITS, shutdown.clone(), serve));
    }
}

/// The listeners to which the kernel gives unlisted and listed sources of port 25; bypassed ones reach the port itself.
/// Without a kernel filter there are none, and all reach the port. Both ways end in the edge, which asks the same
/// tables. They are bound to loopback, where a stray connection is a local one; a host without a family has no listener
/// of it. nftables redirects to the address of the interface, and keeps strays away from the port itself.
fn steered(filter: &dyn PacketFilter) -> Vec<TcpListener> {
    let addresses: [IpAddr; 2] = match filter.status().acts {
        Where::Memory => return Vec::new(),
        Where::Kernel => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Where::Nft => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let [v4, v6] = addresses.map(|ip| mailgate_net::listen(SocketAddr::new(ip, 0)).ok());
    let fd = |listener: &Option<TcpListener>| listener.as_ref().map(|listener| listener.as_raw_fd());
    match filter.set_listeners(Listeners::default(), Listeners { v4: fd(&v4), v6: fd(&v6) }) {
        Ok(()) => [v4, v6].into_iter().flatten().collect(),
        Err(error) => {
            tracing::warn!(target: "edge", event = "steer", %error, "port 25 is served where it is bound");
            Vec::new()
        }
    }
}

fn listen_at(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    addresses.iter().map(|address| mailgate_net::listen(*address).map_err(system)).collect()
}

fn first_port(listeners: &[TcpListener]) -> Option<u16> {
    listeners.first().and_then(|listener| listener.local_addr().ok()).map(|address| address.port())
}
