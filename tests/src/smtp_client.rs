//! An SMTP client that sends exactly what it is told, and keeps the transcript.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(20);

/// A reply, its lines without code and line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReply {
    /// The three digits.
    pub code: u16,
    /// What follows them, line by line.
    pub lines: Vec<String>,
}

impl SmtpReply {
    /// All lines in one, for messages and comparisons.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" / ")
    }
}

impl std::fmt::Display for SmtpReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Gone,
}

/// One connection.
pub struct SmtpClient {
    wire: Wire,
    unread: Vec<u8>,
    transcript: String,
}

impl SmtpClient {
    /// Connects, without reading the greeting.
    ///
    /// # Errors
    /// When nobody answers within ten seconds.
    pub fn connect(to: SocketAddr) -> Result<SmtpClient> {
        let tcp = TcpStream::connect_timeout(&to, Duration::from_secs(10)).with_context(|| to.to_string())?;
        SmtpClient::over(tcp)
    }

    /// Speaks over a connection made elsewhere (in a namespace, say).
    ///
    /// # Errors
    /// When the socket refuses its options.
    pub fn over(tcp: TcpStream) -> Result<SmtpClient> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(SmtpClient { wire: Wire::Plain(tcp), unread: Vec::new(), transcript: String::new() })
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

    fn line(&mut self) -> Result<Option<String>> {
        const LONGEST: usize = 64 * 1024;
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

    /// The next reply.
    ///
    /// # Errors
    /// When the peer closes, says nothing in time, or says something that is no reply.
    pub fn reply(&mut self) -> Result<SmtpReply> {
        let mut reply = SmtpReply { code: 0, lines: Vec::new() };
        loop {
            let Some(line) = self.line()? else {
                bail!("the peer closed without a reply; so far:\n{}", self.transcript)
            };
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else { bail!("not a reply: {line:?}") };
            reply.code = code;
            reply.lines.push(line.get(4..).unwrap_or("").to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(reply);
            }
        }
    }

    /// Sends a line, adding CRLF, and reads the reply.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::reply`].
    pub fn command(&mut self, line: &str) -> Result<SmtpReply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// As [`Self::command`], and the reply must begin with these digits (`"2"`, `"250"`).
    ///
    /// # Errors
    /// When it does not; the message holds the transcript.
    pub fn expect(&mut self, line: &str, code: &str) -> Result<SmtpReply> {
        let reply = self.command(line)?;
        if !reply.code.to_string().starts_with(code) {
            bail!("wanted {code} after {line:?}:\n{}", self.transcript);
        }
        Ok(reply)
    }

    /// Greeting and EHLO.
    ///
    /// # Errors
    /// When either is refused.
    pub fn greet(&mut self, name: &str) -> Result<SmtpReply> {
        let greeting = self.reply()?;
        if greeting.code != 220 {
            bail!("greeted with {greeting}");
        }
        self.expect(&format!("EHLO {name}"), "250")
    }

    /// One message; `content` without the final dot and already dot-stuffed. The reply after the dot.
    ///
    /// # Errors
    /// When it is refused before the content.
    pub fn message(
        &mut self,
        reverse_path: &str,
        forward_paths: &[&str],
        content: &str,
    ) -> Result<SmtpReply> {
        self.expect(&format!("MAIL FROM:<{reverse_path}>"), "250")?;
        for path in forward_paths {
            self.expect(&format!("RCPT TO:<{path}>"), "250")?;
        }
        self.expect("DATA", "354")?;
        self.send(content.as_bytes())?;
        self.command(".")
    }

    /// STARTTLS and the handshake; the certificate is not verified.
    ///
    /// # Errors
    /// When the peer refuses or the handshake fails.
    pub fn start_tls(&mut self, name: &str) -> Result<()> {
        self.expect("STARTTLS", "220")?;
        self.secure(name)
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
