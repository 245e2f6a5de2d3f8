//! The client's side: opportunistic encryption towards other MTAs.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

use super::Provider;

/// A configuration that accepts every certificate: between MTAs without a policy, encryption to an unknown peer is
/// better than none, and a check that falls back to plain text would protect nobody (RFC 7435 §1.2).
pub(super) fn opportunistic(provider: Provider) -> Result<ClientConfig, rustls::Error> {
    let verifier = Arc::new(AcceptAny(Arc::clone(&provider)));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The name for SNI; the peer's address when the name is none.
pub(super) fn server_name(name: &str, tcp: &TcpStream) -> io::Result<ServerName<'static>> {
    match ServerName::try_from(name.trim_end_matches('.').to_owned()) {
        Ok(name) => Ok(name),
        Err(_) => Ok(ServerName::IpAddress(tcp.peer_addr()?.ip().into())),
    }
}

/// Checks that the peer holds the key of its certificate, and nothing about the certificate.
#[derive(Debug)]
struct AcceptAny(Provider);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
