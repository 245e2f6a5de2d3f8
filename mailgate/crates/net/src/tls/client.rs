//! The client's side: opportunistic encryption towards other MTAs.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use super::Provider;

/// A configuration that accepts every certificate: between MTAs without a policy, encryption to an unknown peer is
/// better than none, and a check that falls back to plain text would protect nobody (RFC 7435 §1.2).
pub(super) fn opportunistic(provider: Provider) -> Result<ClientConfig, rustls::Error> {
    with_verifier(AcceptAny { provider, judge: None })
}

/// The same for one connection whose certificate is judged.
pub(super) fn judging(provider: Provider, roots: Roots) -> Result<(ClientConfig, Judgement), rustls::Error> {
    let judgement = Judgement::default();
    let mut config = with_verifier(AcceptAny { provider, judge: Some((roots, judgement.clone())) })?;
    config.resumption = Resumption::disabled();
    Ok((config, judgement))
}

fn with_verifier(verifier: AcceptAny) -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// What the certificate of a peer is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerCertificate {
    /// It would not pass a check; the text says why.
    Unverified(String),
    /// It leads to a root of this machine and bears the name.
    Verified,
}

/// The public roots; `None` when this machine has none.
#[derive(Debug, Clone)]
pub(super) struct Roots(Option<Arc<WebPkiServerVerifier>>);

impl Roots {
    pub(super) fn of_this_machine(provider: &Provider) -> Self {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(target: "net", event = "roots", %error);
        }
        roots.add_parsable_certificates(native.certs);
        Self::new(roots, provider)
    }

    pub(super) fn new(roots: RootCertStore, provider: &Provider) -> Self {
        Self(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok())
    }
}

/// The judgement on the certificate of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Judgement(Arc<Mutex<Option<PeerCertificate>>>);

impl Judgement {
    fn set(&self, judgement: PeerCertificate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(judgement);
    }

    pub(super) fn take(&self) -> PeerCertificate {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| PeerCertificate::Unverified("no certificate was shown".to_owned()))
    }
}

/// The name for SNI; the peer's address when the name is none.
pub(crate) fn server_name(name: &str, tcp: &TcpStream) -> io::Result<ServerName<'static>> {
    match ServerName::try_from(name.trim_end_matches('.').to_owned()) {
        Ok(name) => Ok(name),
        Err(_) => Ok(ServerName::IpAddress(tcp.peer_addr()?.ip().into())),
    }
}

/// Accepts every certificate and, where asked to, writes down what a strict client would have said.
#[derive(Debug)]
struct AcceptAny {
    provider: Provider,
    judge: Option<(Roots, Judgement)>,
}

impl AcceptAny {
    /// A signature that fails stops nobody from encrypting: a certificate of a form that we cannot read (X.509 v1) ends
    /// here, and an attacker in the middle has a key of his own that signs well.
    fn accept(
        &self,
        signed: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(signed.unwrap_or_else(|error| {
            if let Some((_, judgement)) = &self.judge {
                judgement.set(PeerCertificate::Unverified(error.to_string()));
            }
            HandshakeSignatureValid::assertion()
        }))
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some((roots, judgement)) = &self.judge {
            let strict = roots.0.as_ref().map(|strict| {
                strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            });
            judgement.set(match strict {
                None => PeerCertificate::Unverified("this machine has no root certificates".to_owned()),
                Some(Ok(_)) => PeerCertificate::Verified,
                Some(Err(error)) => PeerCertificate::Unverified(error.to_string()),
            });
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.accept(verify_tls12_signature(message, certificate, signature, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.accept(verify_tls13_signature(message, certificate, signature, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
