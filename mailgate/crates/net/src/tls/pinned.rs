//! TLS between hosts that know each other: TLS 1.3, both sides show a raw public key (RFC 7250), and only keys that the
//! configuration names are spoken to. No certificate, no name, nothing that expires.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{HANDSHAKE_LIMIT, Provider, too_slow};
use crate::{Error, Stream};

/// How a fingerprint begins.
const PREFIX: &str = "sha256:";
/// Largest key file that is read.
const FILE_LIMIT: u64 = 64 * 1024;

/// SHA-256 of a public key in the form of RFC 7250 (SubjectPublicKeyInfo), written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, key);
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(place, byte)| *place = *byte);
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let found: String = text.chars().take(80).collect();
            format!(
                "found key {found:?}, expected what `mailgate sync key` prints on the peer: sha256: and 64 hexadecimal digits"
            )
        };
        let hex = text
            .trim()
            .strip_prefix(PREFIX)
            .filter(|hex| hex.len() == 64 && hex.is_ascii())
            .ok_or_else(wrong)?;
        let mut bytes = [0; 32];
        for (place, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *place = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Both sides of TLS with pinned keys; clones share them.
#[derive(Clone)]
pub struct Pinned {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    own: Fingerprint,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Pinned {
    /// Reads the private key in `file`, made with mode 0600 when it is missing; speaks to `peers` and to nobody else.
    ///
    /// # Errors
    /// When the key cannot be read, used or made.
    pub fn open(file: &Path, peers: impl IntoIterator<Item = Fingerprint>) -> Result<Self, Error> {
        let provider: Provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = Arc::new(read_or_make(file, &provider)?);
        let own = own_of(&key);
        let pins = Arc::new(Pins { provider: Arc::clone(&provider), peers: peers.into_iter().collect() });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&pins) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&key))));
        // Every connection proves its key anew: one that was taken out of the configuration is out.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(pins)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            own,
        })
    }

    /// Our own key, for the configuration of others.
    #[must_use]
    pub fn own(&self) -> Fingerprint {
        self.own
    }

    /// The server's side of the handshake, within 30 seconds; and who the peer is.
    ///
    /// # Errors
    /// When the peer is none of ours, does not speak TLS 1.3, is too slow or goes away.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(Stream, Fingerprint)> {
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.acceptor.accept(tcp)).await;
        named(handshake.map_err(|_| too_slow())??.into())
    }

    /// The client's side of the handshake, within 30 seconds; and who the peer is.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn connect(&self, tcp: TcpStream) -> io::Result<(Stream, Fingerprint)> {
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.connector.connect(name, tcp)).await;
        named(handshake.map_err(|_| too_slow())??.into())
    }
}

fn named(tls: tokio_rustls::TlsStream<TcpStream>) -> io::Result<(Stream, Fingerprint)> {
    let shown = tls.get_ref().1.peer_certificates().and_then(|keys| keys.first());
    let peer =
        shown.map(|key| Fingerprint::of(key)).ok_or_else(|| io::Error::other("the peer showed no key"))?;
    Ok((Stream::Tls(Box::new(tls)), peer))
}

fn own_of(key: &CertifiedKey) -> Fingerprint {
    key.cert.first().map_or(Fingerprint([0; 32]), |key| Fingerprint::of(key))
}

fn read_or_make(file: &Path, provider: &Provider) -> Result<CertifiedKey, Error> {
    let failed = |source| Error::File { path: file.to_owned(), source };
    if !file.exists() {
        make(file).map_err(failed)?;
    }
    let size = fs::metadata(file).map_err(failed)?.len();
    let unfit = |found: String| Error::Certificate { path: PathBuf::from(file), found };
    if size > FILE_LIMIT {
        return Err(unfit(format!("{size} octets")));
    }
    let pem = fs::read(file).map_err(failed)?;
    let der =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unfit(format!("no private key: {error}")))?;
    let key = provider.key_provider.load_private_key(der)?;
    let public = key.public_key().ok_or_else(|| unfit("a key without a public part".to_owned()))?;
    let public = CertificateDer::from(public.as_ref().to_vec());
    Ok(CertifiedKey::new(vec![public], key))
}

/// Whole or not at all: written beside and renamed, with its permissions from the first byte on.
fn make(file: &Path) -> io::Result<()> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(io::Error::other)?;
    let beside = file.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    new.write_all(key.serialize_pem().as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)?;
    tracing::info!(target: "net", event = "key", result = "made", path = %file.display());
    Ok(())
}

/// The keys that are spoken to.
#[derive(Debug)]
struct Pins {
    provider: Provider,
    peers: HashSet<Fingerprint>,
}

impl Pins {
    fn is_known(&self, key: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let shown = Fingerprint::of(key);
        if self.peers.contains(&shown) {
            return Ok(());
        }
        tracing::info!(target: "net", event = "key", result = "refused", key = %shown, "no peer of the configuration");
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn is_signed(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }
}

/// TLS 1.2 is not spoken.
fn too_old() -> rustls::Error {
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}

/// What rustls asks the verifiers of both sides alike, word for word: TLS 1.3 with raw keys, and nothing else.
macro_rules! raw_keys_alone {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(too_old())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.is_signed(message, key, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.is_known(end_entity).map(|()| ServerCertVerified::assertion())
    }

    raw_keys_alone!();
}

impl ClientCertVerifier for Pins {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.is_known(end_entity).map(|()| ClientCertVerified::assertion())
    }

    raw_keys_alone!();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn meet(
        server: &Pinned,
        client: &Pinned,
    ) -> (io::Result<(Stream, Fingerprint)>, io::Result<(Stream, Fingerprint)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (here, _) = listener.accept().await.unwrap();
        tokio::join!(server.accept(here), client.connect(there))
    }

    #[tokio::test]
    async fn keys_of_the_configuration_are_spoken_to_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let key = |name: &str| Pinned::open(&file(name), []).unwrap().own();
        let (a, b, stranger) = (key("a"), key("b"), key("stranger"));
        assert_eq!(fs::metadata(file("a")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(a, key("a"), "the key stays");
        assert_eq!(a.to_string().parse(), Ok(a));
        let open =
            |name: &str, peers: &[Fingerprint]| Pinned::open(&file(name), peers.iter().copied()).unwrap();
        let (one, two) = (open("a", &[b]), open("b", &[a]));
        let (server, client) = meet(&one, &two).await;
        let ((mut server, who), (mut client, whom)) = (server.unwrap(), client.unwrap());
        assert_eq!((who, whom), (b, a));
        assert_eq!(server.tls_facts().unwrap().version, "TLSv1.3");
        client.write_all(b"x").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        // Neither a server nor a client that is not named.
        let other = open("stranger", &[a, b]);
        let (_, client) = meet(&other, &two).await;
        assert!(client.is_err());
        let (server, _) = meet(&one, &other).await;
        assert!(server.is_err());
        // Nor one who is named by one side only.
        let (server, _) = meet(&open("a", &[stranger]), &two).await;
        assert!(server.is_err());
    }

    #[test]
    fn what_is_no_fingerprint_is_told() {
        for text in [
            "",
            "sha256:12",
            "sha1:da39",
            &format!("sha256:{}", "é".repeat(32)),
            &format!("sha256:{}", "g".repeat(64)),
        ] {
            assert!(text.parse::<Fingerprint>().unwrap_err().contains("mailgate sync key"), "{text}");
        }
    }
}
