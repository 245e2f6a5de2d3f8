//! Fetching a document by HTTP/1.1, for lists. Nothing but GET, no cookies, no proxy of the environment, no user in the URL.
//!
//! Everything a server sends is bounded: heads by hyper, the document by the caller, redirections by number and direction,
//! and the whole by the caller's time.

mod url_of;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{Resolver, Source, Stream, dial};
pub use url_of::check;

/// Redirections that are followed. Browsers follow twenty; a feed that moves more often is not meant for us.
const REDIRECTS: usize = 5;

/// Bytes of a head (RFC 9112 has no limit; servers commonly use 8 KiB).
const HEAD_LIMIT: usize = 64 * 1024;

/// Fields of a head.
const FIELDS_LIMIT: usize = 100;

/// Longest validator that is sent back: an entity tag is opaque, and some are whole paths.
const VALIDATOR_LIMIT: usize = 512;

/// Addresses of a host that are tried, one after the other.
const ADDRESSES: usize = 4;

/// How long one address may take to answer to a connection.
const CONNECT: Duration = Duration::from_secs(15);

/// Fetches documents. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    resolver: Option<Resolver>,
    /// Trusts the roots of this machine; read when it is first needed.
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The URL.
    pub url: String,
    /// The entity tag of what is known already (RFC 9110 §13.1.2).
    pub etag: Option<String>,
    /// When what is known already was last modified, as the server wrote it (RFC 9110 §13.1.3).
    pub modified: Option<String>,
    /// Most bytes of the document as sent.
    pub limit: u64,
    /// How long everything may take.
    pub timeout: Duration,
    /// PEM file of the certificates to trust; without it those of this machine.
    pub ca_file: Option<PathBuf>,
}

/// What came.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The document.
    Document(Document),
    /// What is known already still holds (304).
    Unchanged,
}

/// A document.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// Its bytes as sent, not unpacked.
    pub body: Vec<u8>,
    /// `Content-Encoding`, in lower case; empty when there is none.
    pub encoding: String,
    /// `Content-Type`, in lower case; empty when there is none.
    pub kind: String,
    /// Its entity tag, to be sent back.
    pub etag: Option<String>,
    /// Its `Last-Modified`, to be sent back.
    pub modified: Option<String>,
}

/// Why there is no document, by cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A certificate file could not be used: usually because it is not PEM.
    #[error("{0}")]
    Certificates(String),
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// The server did not keep to HTTP, or stopped in the middle.
    #[error("the server broke off or did not keep to HTTP: {0}")]
    Protocol(String),
    /// A redirection that is not followed.
    #[error("{0}")]
    Redirected(String),
    /// The server answered that it has no document for us.
    #[error("found status {status}, expected 200")]
    Status {
        /// The status.
        status: u16,
        /// When the server wants to be asked again (RFC 9110 §10.2.3), in seconds.
        retry_after: Option<u64>,
    },
    /// It took too long.
    #[error("not done after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// More bytes than the limit.
    #[error("found more than {0} bytes, expected at most that")]
    TooLarge(u64),
    /// The host has no address.
    #[error("{0}")]
    Unknown(String),
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
}

impl Http {
    /// Looks names up with `resolver`; without one only addresses can stand in URLs.
    #[must_use]
    pub fn new(resolver: Option<Resolver>) -> Self {
        Self { resolver, tls: Arc::default() }
    }

    /// Fetches a document. Follows at most five redirections, and only to the same scheme or from `http` to `https`.
    ///
    /// # Errors
    /// By cause, see [`HttpError`].
    pub async fn fetch(&self, wanted: &Wanted) -> Result<Answer, HttpError> {
        let fetched = tokio::time::timeout(wanted.timeout, self.follow(wanted)).await;
        fetched.unwrap_or(Err(HttpError::TimedOut(wanted.timeout)))
    }

    async fn follow(&self, wanted: &Wanted) -> Result<Answer, HttpError> {
        let mut url = url_of::parse(&wanted.url).map_err(HttpError::Url)?;
        let mut is_inside = None;
        for _ in 0..=REDIRECTS {
            let mut connection = self.connect(&url, wanted, is_inside).await?;
            is_inside = Some(connection.is_inside);
            let answer = connection.ask(&url, wanted).await?;
            let next = match answer.status() {
                StatusCode::OK => return document(answer, wanted.limit).await.map(Answer::Document),
                StatusCode::NOT_MODIFIED if wanted.etag.is_some() || wanted.modified.is_some() => {
                    return Ok(Answer::Unchanged);
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => text(answer.headers(), &header::LOCATION),
                status => {
                    let after = text(answer.headers(), &header::RETRY_AFTER);
                    let retry_after = after.and_then(|seconds| seconds.parse().ok());
                    return Err(HttpError::Status { status: status.as_u16(), retry_after });
                }
            };
            let next = next.ok_or_else(|| HttpError::Protocol("a redirection to nowhere".to_owned()))?;
            url = url_of::redirected(&url, &next).map_err(HttpError::Redirected)?;
        }
        Err(HttpError::Redirected(format!("found more than {REDIRECTS} redirections, expected fewer")))
    }

    async fn connect(
        &self,
        url: &Url,
        wanted: &Wanted,
        inside: Option<bool>,
    ) -> Result<Connection, HttpError> {
        let (host, port) = url_of::host_and_port(url).map_err(HttpError::Url)?;
        let tls = if url.scheme() == "https" { Some(self.tls(wanted)?) } else { None };
        let mut last = HttpError::Unknown(format!("{host} has no address"));
        for ip in self.addresses(&host).await?.into_iter().take(ADDRESSES) {
            let is_inside = ip.is_loopback() || is_link_local(ip);
            // A server outside must not make us ask those inside.
            if inside == Some(false) && is_inside {
                last = HttpError::Redirected(format!(
                    "found a redirection to {ip}, expected one outside this host"
                ));
                continue;
            }
            match open((ip, port), tls.clone(), &host).await {
                Ok(stream) => return Connection::new(stream, is_inside).await,
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{host} ({ip} port {port}): {error}")).into();
                }
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, HttpError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(vec![ip]);
        }
        let resolver = self.resolver.as_ref();
        let resolver = resolver.ok_or_else(|| HttpError::Unknown(format!("nobody looks up {host} here")))?;
        let found = resolver.addresses(host).await;
        found.map_err(|error| HttpError::Unknown(format!("{host} could not be looked up: {error}")))
    }

    fn tls(&self, wanted: &Wanted) -> Result<TlsConnector, HttpError> {
        let config = match &wanted.ca_file {
            Some(path) => {
                let wrong = |error: String| {
                    HttpError::Certificates(format!(
                        "{}: {error}, expected certificates as PEM",
                        path.display()
                    ))
                };
                let mut roots = RootCertStore::empty();
                let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
                for certificate in found {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
                }
                trusting(roots).map_err(wrong)?
            }
            None => self.tls.get_or_init(of_this_machine).clone().map_err(HttpError::Certificates)?,
        };
        Ok(TlsConnector::from(config))
    }
}

fn of_this_machine() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        return Err(
            "this machine has no root certificates; install ca-certificates, or name a ca_file".to_owned()
        );
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn open(peer: (IpAddr, u16), tls: Option<TlsConnector>, host: &str) -> io::Result<Stream> {
    let opening = async {
        let tcp = dial(peer.into(), Source::default()).await?;
        match tls {
            None => Ok(Stream::Plain(tcp)),
            Some(connector) => {
                let name = crate::tls::server_name(host.trim_matches(['[', ']']), &tcp)?;
                let stream = connector.connect(name, tcp).await?;
                Ok(Stream::Tls(Box::new(stream.into())))
            }
        }
    };
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no connection after {} s", CONNECT.as_secs()));
    tokio::time::timeout(CONNECT, opening).await.map_err(|_| late())?
}

/// One connection for one question.
struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    /// Reads and writes; ends with the connection.
    task: tokio::task::JoinHandle<()>,
    is_inside: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    async fn new(stream: Stream, is_inside: bool) -> Result<Self, HttpError> {
        let mut builder = hyper::client::conn::http1::Builder::new();
        let builder = builder.max_buf_size(HEAD_LIMIT).max_headers(FIELDS_LIMIT);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // What goes wrong here is heard by whoever asks.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, task, is_inside })
    }

    async fn ask(&mut self, url: &Url, wanted: &Wanted) -> Result<Answering, HttpError> {
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::HOST, url_of::authority(url))
            .header(header::USER_AGENT, concat!("mailgate/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "text/plain, */*;q=0.5")
            .header(header::ACCEPT_ENCODING, "zstd, gzip, identity;q=0.5")
            .header(header::CONNECTION, "close");
        if let Some(etag) = &wanted.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(modified) = &wanted.modified {
            request = request.header(header::IF_MODIFIED_SINCE, modified);
        }
        let request = request.body(Empty::new()).map_err(|error| HttpError::Url(error.to_string()))?;
        self.sender.send_request(request).await.map_err(broken)
    }
}

type Answering = hyper::Response<Incoming>;

fn broken(error: hyper::Error) -> HttpError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    HttpError::Protocol(format!("{error}{cause}"))
}

async fn document(answer: Answering, limit: u64) -> Result<Document, HttpError> {
    let fields = answer.headers();
    let lower = |name| text(fields, &name).unwrap_or_default().to_ascii_lowercase();
    let mut document = Document {
        encoding: lower(header::CONTENT_ENCODING),
        kind: lower(header::CONTENT_TYPE),
        etag: text(fields, &header::ETAG),
        modified: text(fields, &header::LAST_MODIFIED),
        body: Vec::new(),
    };
    let mut body = answer.into_body();
    // What the server says beforehand saves the way.
    if body.size_hint().lower() > limit {
        return Err(HttpError::TooLarge(limit));
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if (document.body.len() + data.len()) as u64 > limit {
            return Err(HttpError::TooLarge(limit));
        }
        document.body.extend_from_slice(&data);
    }
    Ok(document)
}

/// A field as text; too long ones are not taken.
fn text(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let limit = if *name == header::LOCATION { url_of::LIMIT } else { VALIDATOR_LIMIT };
    let value = fields.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= limit).then(|| value.to_owned())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests;
