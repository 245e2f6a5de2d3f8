//! TLS: certificates, the choice by server name, and both sides of the handshake.

mod certificates;
mod client;
mod pinned;
mod selfsigned;
mod watch;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use mailgate_model::Domain;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Error, Stream, TlsConfig};
use certificates::Certificates;
pub use client::PeerCertificate;
pub(crate) use client::server_name;
pub use pinned::{Fingerprint, Pinned};

/// How long a peer may take for the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// Sessions remembered for resumption without tickets.
const SESSION_LIMIT: usize = 4096;

/// Both sides of TLS. Clones share certificates.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    certificates: Arc<Certificates>,
    provider: Provider,
    /// Roots of this machine, read when a certificate is judged for the first time.
    roots: Arc<OnceLock<client::Roots>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the configured pairs; without any, the self-signed certificate below `state_dir/tls`, made if missing.
    ///
    /// # Errors
    /// When a pair cannot be used, or the self-signed one cannot be written.
    pub fn open(config: &TlsConfig, state_dir: &Path, hostname: &Domain) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates::load(config, state_dir, hostname, &provider)?);
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Chooser(Arc::clone(&certificates))));
        server.session_storage = ServerSessionMemoryCache::new(SESSION_LIMIT);
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let connector = TlsConnector::from(Arc::new(client::opportunistic(Arc::clone(&provider))?));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        Ok(Self { acceptor, connector, certificates, provider, roots: Arc::default() })
    }

    /// The server's side of the handshake, within 30 seconds.
    ///
    /// # Errors
    /// When the peer does not speak TLS, is too slow or goes away.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Stream> {
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(tcp)).await;
        let tls = handshake.map_err(|_| too_slow())??;
        Ok(Stream::Tls(Box::new(tls.into())))
    }

    /// The client's side, opportunistic (RFC 7435): encrypts and accepts any certificate.
    ///
    /// # Errors
    /// When the peer does not speak TLS, is too slow or goes away.
    pub async fn connect(&self, tcp: TcpStream, server_name: &str) -> io::Result<Stream> {
        let name = client::server_name(server_name, &tcp)?;
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.connector.connect(name, tcp)).await;
        let tls = handshake.map_err(|_| too_slow())??;
        Ok(Stream::Tls(Box::new(tls.into())))
    }

    /// As [`connect`](Self::connect), and says whether the certificate would have stood up to a check against the roots
    /// of this machine and `server_name`. Costs a full handshake each time: a resumed session shows no certificate.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_and_judge(
        &self,
        tcp: TcpStream,
        server_name: &str,
    ) -> io::Result<(Stream, PeerCertificate)> {
        let name = client::server_name(server_name, &tcp)?;
        let roots = self.roots.get_or_init(|| client::Roots::of_this_machine(&self.provider));
        let (config, judgement) =
            client::judging(Arc::clone(&self.provider), roots.clone()).map_err(io::Error::other)?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let tls = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| too_slow())??;
        Ok((Stream::Tls(Box::new(tls.into())), judgement.take()))
    }

    /// Reads the files again where they changed; a pair that cannot be used keeps its old certificate and is logged.
    /// Returns whether anything changed.
    pub fn reload(&self) -> bool {
        self.certificates.reload()
    }

    /// Reloads as soon as a file changes, until cancelled. Where the system reports no changes (network file systems,
    /// a link that changes elsewhere), the files are looked at every `interval`.
    pub async fn watch(&self, interval: Duration, shutdown: tokio_util::sync::CancellationToken) {
        let mut changes = watch::Changes::of(&self.certificates.folders());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
                () = changes.settled() => {}
            }
            let tls = self.clone();
            // Reading files may block on a slow disk.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took longer than 30 s")
}

/// Chooses a certificate by the name the client asks for (RFC 6066 §3).
#[derive(Debug)]
struct Chooser(Arc<Certificates>);

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.choose(hello.server_name())
    }
}

type Swap<T> = ArcSwap<T>;

/// Provider used for every key and handshake.
type Provider = Arc<CryptoProvider>;

#[cfg(test)]
mod tests;
