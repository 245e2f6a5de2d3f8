//! One connection of a client: lines and bytes, plain or TLS, with a transcript.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Longest wait for something to read.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest line that is waited for.
const LONGEST: usize = 1024 * 1024;

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Gone,
}

/// One connection.
pub struct Dialogue {
    wire: Wire,
    unread: Vec<u8>,
    transcript: String,
}

impl Dialogue {
    /// Connects, without reading the greeting.
    ///
    /// # Errors
    /// When nobody answers within ten seconds.
    pub fn connect(to: SocketAddr) -> Result<Dialogue> {
        let tcp = TcpStream::connect_timeout(&to, Duration::from_secs(10)).with_context(|| to.to_string())?;
        Dialogue::over(tcp)
    }

    /// Speaks over a connection made elsewhere (in a namespace, say).
    ///
    /// # Errors
    /// When the socket refuses its options.
    pub fn over(tcp: TcpStream) -> Result<Dialogue> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(Dialogue { wire: Wire::Plain(tcp), unread: Vec::new(), transcript: String::new() })
    }

    /// Everything said so far, `C:` and `S:` before each line.
    #[must_use]
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Sets how long a reply may take.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        match &self.wire {
            Wire::Plain(tcp) => tcp.set_read_timeout(Some(patience))?,
            Wire::Tls(tls) => tls.sock.set_read_timeout(Some(patience))?,
            Wire::Gone => {}
        }
        Ok(())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer closed or does not read.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        const SHOWN: usize = 200;
        let shown = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes)).into_owned();
        for line in shown.split_inclusive('\n') {
            self.transcript.push_str(&format!("C: {}\n", line.escape_debug()));
        }
        match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(bytes)?,
            Wire::Tls(tls) => {
                tls.write_all(bytes)?;
                tls.flush()?;
            }
            Wire::Gone => bail!("the connection is gone"),
        }
        Ok(())
    }

    /// Reads what is there; empty at the end.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        if !self.unread.is_empty() {
            return Ok(std::mem::take(&mut self.unread));
        }
        let mut bytes = [0; 4096];
        let length = match &mut self.wire {
            Wire::Plain(tcp) => tcp.read(&mut bytes),
            Wire::Tls(tls) => tls.read(&mut bytes),
            Wire::Gone => Ok(0),
        };
        match length {
            Ok(length) => Ok(bytes.get(..length).unwrap_or_default().to_vec()),
            // A peer that ends a TLS session without farewell, or resets: the end all the same.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error).with_context(|| format!("no reply; so far:\n{}", self.transcript)),
        }
    }

    /// The next line without its end; `None` when the peer closed.
    ///
    /// # Errors
    /// When nothing comes in time.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                self.unread = line.split_off(end + 1);
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.transcript.push_str(&format!("S: {text}\n"));
                return Ok(Some(text));
            }
            let more = self.receive()?;
            if more.is_empty() || line.len() > LONGEST {
                return Ok(None);
            }
            line.extend(more);
        }
    }

    /// Exactly `length` bytes, as text.
    ///
    /// # Errors
    /// When the peer closes before.
    pub fn exactly(&mut self, length: usize) -> Result<String> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let more = self.receive()?;
            if more.is_empty() {
                bail!("the peer closed after {} of {length} bytes", bytes.len());
            }
            bytes.extend(more);
        }
        self.unread = bytes.split_off(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The handshake without STARTTLS (implicit TLS, RFC 8314 §3).
    ///
    /// # Errors
    /// When it fails.
    pub fn secure(&mut self, name: &str) -> Result<()> {
        let Wire::Plain(tcp) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            bail!("not a plain connection")
        };
        let connection = ClientConnection::new(trusting(), ServerName::try_from(name.to_owned())?)?;
        let mut tls = StreamOwned::new(connection, tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).context("TLS handshake")?;
        }
        self.transcript.push_str("-- TLS --\n");
        self.wire = Wire::Tls(Box::new(tls));
        Ok(())
    }
}

fn trusting() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap_or_else(|_| ClientConfig::builder());
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// Accepts every certificate: tests ask whether there is TLS, not whose.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
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
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
