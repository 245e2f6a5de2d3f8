//! An SMTP client that sends exactly what it is told, and keeps the transcript.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use anyhow::{Result, bail};

use crate::Dialogue;

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

/// One connection that speaks SMTP.
pub struct SmtpClient(Dialogue);

impl Deref for SmtpClient {
    type Target = Dialogue;

    fn deref(&self) -> &Dialogue {
        &self.0
    }
}

impl DerefMut for SmtpClient {
    fn deref_mut(&mut self) -> &mut Dialogue {
        &mut self.0
    }
}

impl SmtpClient {
    /// Connects, without reading the greeting.
    ///
    /// # Errors
    /// When nobody answers within ten seconds.
    pub fn connect(to: SocketAddr) -> Result<SmtpClient> {
        Dialogue::connect(to).map(SmtpClient)
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the peer closes, says nothing in time, or says something that is no reply.
    pub fn reply(&mut self) -> Result<SmtpReply> {
        let mut reply = SmtpReply { code: 0, lines: Vec::new() };
        loop {
            let Some(line) = self.line()? else {
                bail!("the peer closed without a reply; so far:\n{}", self.transcript())
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
            bail!("wanted {code} after {line:?}:\n{}", self.transcript());
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

    /// STARTTLS is not spoken: the handshake comes first (implicit TLS, RFC 8314 §3). Then greeting and EHLO.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn greet_over_tls(&mut self, server: &str, name: &str) -> Result<SmtpReply> {
        self.secure(server)?;
        self.greet(name)
    }
}
