//! An MX at the other end: takes every message and keeps it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The argument of MAIL.
    pub reverse_path: String,
    /// The arguments of RCPT.
    pub forward_paths: Vec<String>,
    /// What followed DATA, dot-stuffing undone, CRLF kept.
    pub content: String,
}

/// The receiving server; one thread per connection. It listens as long as the process lives.
#[derive(Clone, Debug)]
pub struct Sink {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Sink {
    /// Listens on loopback at a free port.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn on_loopback() -> Result<Sink> {
        Sink::start(TcpListener::bind("127.0.0.1:0")?)
    }

    /// Serves a listener made elsewhere.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn start(listener: TcpListener) -> Result<Sink> {
        let sink = Sink { address: listener.local_addr()?, received: Arc::default() };
        let received = sink.received.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let received = received.clone();
                std::thread::spawn(move || serve(tcp, &received));
            }
        });
        Ok(sink)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every message so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(tcp: TcpStream, received: &Mutex<Vec<Received>>) -> Option<()> {
    tcp.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut lines = BufReader::new(tcp.try_clone().ok()?);
    let say = |text: &str| (&tcp).write_all(format!("{text}\r\n").as_bytes()).ok();
    let mut next = || -> Option<String> {
        let mut line = Vec::new();
        let length = lines.read_until(b'\n', &mut line).ok()?;
        (length > 0).then(|| String::from_utf8_lossy(&line).into_owned())
    };
    let empty = Received { reverse_path: String::new(), forward_paths: Vec::new(), content: String::new() };
    let mut message = empty.clone();
    say("220 sink.example ESMTP")?;
    while let Some(line) = next() {
        let line = line.trim_end();
        match line.get(..4).unwrap_or(line).to_ascii_uppercase().as_str() {
            "EHLO" => say("250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME")?,
            "MAIL" => {
                line.clone_into(&mut message.reverse_path);
                say("250 2.1.0 ok")?;
            }
            "RCPT" => {
                message.forward_paths.push(line.to_owned());
                say("250 2.1.5 ok")?;
            }
            "DATA" => {
                say("354 go on")?;
                loop {
                    let line = next()?;
                    if line == ".\r\n" {
                        break;
                    }
                    message.content.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                let done = std::mem::replace(&mut message, empty.clone());
                received.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                say("250 2.0.0 kept")?;
            }
            "RSET" => {
                message = empty.clone();
                say("250 2.0.0 ok")?;
            }
            "QUIT" => {
                say("221 2.0.0 bye")?;
                break;
            }
            _ => say("250 ok")?,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SmtpClient;

    #[test]
    fn a_message_arrives_with_its_dots_as_they_were_meant() {
        let sink = Sink::on_loopback().unwrap();
        let mut client = SmtpClient::connect(sink.address()).unwrap();
        client.greet("client.example").unwrap();
        let reply =
            client.message("a@client.example", &["b@sink.example"], "Subject: x\r\n\r\n..dot\r\n").unwrap();
        assert_eq!(reply.code, 250, "{}", client.transcript());
        assert_eq!(sink.received().len(), 1);
        assert_eq!(sink.received()[0].content, "Subject: x\r\n\r\n.dot\r\n");
        assert_eq!(sink.received()[0].forward_paths, ["RCPT TO:<b@sink.example>"]);
    }
}
