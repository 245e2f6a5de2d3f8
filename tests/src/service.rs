//! The whole service on loopback, with accounts, a DNS server and an MX at the other end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{Daemon, Dns, ImapClient, SmtpClient, until};

/// Whose mail the service takes: `alice@example.org` and `bob@example.org`.
pub const DOMAIN: &str = "example.org";

/// The password of both.
pub const PASSWORD: &str = "correct horse battery";

/// Where the daemon listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// MX, STARTTLS.
    pub mx: SocketAddr,
    /// Submission, STARTTLS.
    pub msa: SocketAddr,
    /// Submission, implicit TLS.
    pub msa_tls: SocketAddr,
    /// IMAP, STARTTLS.
    pub imap: SocketAddr,
    /// IMAP, implicit TLS.
    pub imap_tls: SocketAddr,
}

impl Ports {
    /// An address of loopback for every service, so that parallel tests never meet, in one process or in several.
    fn choose() -> Ports {
        static SERVICES: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        // Above what people use by hand; 64 services of one process live at the same time.
        let second = 64 + SERVICES.fetch_add(1, Ordering::Relaxed) % 64;
        let at = |port| SocketAddr::from((Ipv4Addr::new(127, second, high, low), port));
        Ports { mx: at(2525), msa: at(2587), msa_tls: at(2465), imap: at(2143), imap_tls: at(2993) }
    }
}

/// The running service. Stopped and wiped when dropped.
#[derive(Debug)]
pub struct Service {
    /// The daemon.
    pub daemon: Daemon<'static>,
    /// Where it listens.
    pub ports: Ports,
    /// Its name server.
    pub dns: Dns,
    folder: tempfile::TempDir,
}

impl Service {
    /// Starts with two accounts, and whatever `more` adds to the configuration.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn start(more: &str) -> Result<Service> {
        let folder = tempfile::Builder::new().prefix("mailgate-test").tempdir()?;
        let dns = Dns::on_loopback()?;
        let ports = Ports::choose();
        let text = format!("{}\n{more}\n", configuration(&ports, dns.address()));
        let daemon = Daemon::start(folder.path(), &text, None)?;
        daemon.command(&["domain", "add", DOMAIN])?;
        for name in ["alice", "bob"] {
            let address = format!("{name}@{DOMAIN}");
            daemon.command_with(&["account", "add", &address, "--password-stdin"], PASSWORD)?;
        }
        Ok(Service { daemon, ports, dns, folder })
    }

    /// Its folder, for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection to the MX, greeted.
    ///
    /// # Errors
    /// When it does not greet.
    pub fn mx(&self) -> Result<SmtpClient> {
        let mut client = SmtpClient::connect(self.ports.mx)?;
        client.greet("client.example")?;
        Ok(client)
    }

    /// A connection to IMAP, logged in as alice, INBOX selected.
    ///
    /// # Errors
    /// When one of these fails.
    pub fn alice(&self) -> Result<ImapClient> {
        let mut client = ImapClient::connect_over_tls(self.ports.imap_tls, "localhost")?;
        client.expect(&format!("LOGIN alice@{DOMAIN} \"{PASSWORD}\""))?;
        client.expect("SELECT INBOX")?;
        Ok(client)
    }

    /// Waits until nothing is in the queue.
    ///
    /// # Errors
    /// When something stays longer than `limit`.
    pub fn drained(&self, limit: Duration) -> Result<()> {
        until("an empty queue", limit, || (self.queue().ok()? == 0).then_some(()))
            .map(drop)
            .with_context(|| self.daemon.command(&["queue", "list"]).unwrap_or_default())
    }

    /// How many entries the queue has.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn queue(&self) -> Result<usize> {
        let list = self.daemon.json(&["queue", "list"])?;
        list.as_array().map(Vec::len).with_context(|| format!("not a list: {list}"))
    }

    /// Delivers a message and waits until it is in a mailbox: proof that the daemon is alive and well.
    ///
    /// # Errors
    /// When it is not.
    pub fn serves(&mut self, token: &str) -> Result<()> {
        let delivered = (|| {
            let mut client = self.mx()?;
            let content = format!("Subject: {token}\r\n\r\nAre you well?\r\n");
            let reply = client.message("probe@client.example", &[&format!("alice@{DOMAIN}")], &content)?;
            anyhow::ensure!(reply.code == 250, "refused: {reply}");
            until("the message in the mailbox", Duration::from_secs(20), || {
                self.daemon.mailboxes().ok()?.into_iter().find(|message| message.contains(token))
            })
        })();
        delivered.map(drop).with_context(|| {
            let alive = self.daemon.is_alive();
            format!("the daemon is {}:\n{}", if alive { "alive" } else { "dead" }, self.daemon.log())
        })
    }
}

fn configuration(ports: &Ports, resolver: SocketAddr) -> String {
    let Ports { mx, msa, msa_tls, imap, imap_tls } = ports;
    format!(
        r#"hostname = "mx.{DOMAIN}"

[net.resolver]
servers = ["{resolver}"]

[smtp.mx]
listen = ["{mx}"]

[smtp.msa]
listen = ["{msa}"]
submissions = ["{msa_tls}"]

[access.imap]
listen = ["{imap}"]
listen_tls = ["{imap_tls}"]
"#
    )
}
