//! An IMAP client for probes: sends exactly what it is told and gives back the lines up to the tagged one.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use anyhow::{Result, bail};

use crate::Dialogue;

/// One connection that speaks IMAP.
pub struct ImapClient {
    dialogue: Dialogue,
    tag: u32,
}

impl Deref for ImapClient {
    type Target = Dialogue;

    fn deref(&self) -> &Dialogue {
        &self.dialogue
    }
}

impl DerefMut for ImapClient {
    fn deref_mut(&mut self) -> &mut Dialogue {
        &mut self.dialogue
    }
}

impl ImapClient {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When nobody greets.
    pub fn connect(to: SocketAddr) -> Result<ImapClient> {
        let mut client = ImapClient { dialogue: Dialogue::connect(to)?, tag: 0 };
        client.line()?;
        Ok(client)
    }

    /// Connects over implicit TLS and reads the greeting.
    ///
    /// # Errors
    /// When the handshake fails or nobody greets.
    pub fn connect_over_tls(to: SocketAddr, server: &str) -> Result<ImapClient> {
        let mut client = ImapClient { dialogue: Dialogue::connect(to)?, tag: 0 };
        client.secure(server)?;
        client.line()?;
        Ok(client)
    }

    /// Sends a command and gives the responses, the tagged one last; literals stand in their line (RFC 3501 §4.3).
    ///
    /// # Errors
    /// When the server closes before the tagged response.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(format!("{tag} {command}\r\n").as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let Some(mut line) = self.line()? else {
                bail!("the server closed after {command:?}:\n{}", self.transcript())
            };
            while let Some(length) = literal(&line) {
                line.push_str("\r\n");
                line.push_str(&self.exactly(length)?);
                line.push_str(&self.line()?.unwrap_or_default());
            }
            let done = line.starts_with(&tag);
            lines.push(line);
            if done {
                return Ok(lines);
            }
        }
    }

    /// As [`Self::command`], and the tagged response must be OK.
    ///
    /// # Errors
    /// When it is not.
    pub fn expect(&mut self, command: &str) -> Result<Vec<String>> {
        let lines = self.command(command)?;
        let ok = lines.last().is_some_and(|line| line.split(' ').nth(1) == Some("OK"));
        anyhow::ensure!(ok, "{command:?} was answered by {:?}", lines.last());
        Ok(lines)
    }
}

/// The length of the literal that a line announces at its end.
fn literal(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}
