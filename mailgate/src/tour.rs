//! The look around: what `mailgate run` without a configuration adds, so that a newcomer has something to try.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use mailgate_model::Address;
use serde::{Deserialize, Serialize};

use crate::admin::Failure;
use crate::cli::exit;
use crate::config::Config;
use crate::wire::Running;

/// The domain of the look around; `.test` is reserved for this (RFC 2606 §2).
const DOMAIN: &str = "example.test";
/// The accounts it makes.
const ACCOUNTS: [&str; 2] = ["alice", "bob"];
/// The port instead of one that cannot be had: 25 becomes 2525, 587 becomes 2587.
fn unprivileged(port: u16) -> u16 {
    if port == 25 { 2525 } else { 2000 + port }
}

/// What the look around needs to remember between two starts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tour {
    accounts: Vec<(Address, String)>,
    #[serde(skip)]
    control: PathBuf,
}

/// Chooses ports that can be had and reads, or invents, the accounts' passwords.
///
/// # Errors
/// When the state folder cannot be written.
pub fn prepare(config: &mut Config) -> Result<Tour, Failure> {
    if nix::unistd::geteuid().is_root() {
        // Only packets of this host's own loopback come past; taken away again at the end.
        config.edge.packet.interfaces = vec!["lo".to_owned()];
        config.edge.packet.instance = "tour".to_owned();
        config.edge.packet.steer_loopback = true;
    }
    config.each_port(|port| if can_listen(*port) { *port } else { unprivileged(*port) });
    let file = config.state_dir.join("tour.json");
    let system = |what: &str, error: &dyn std::fmt::Display| Failure {
        message: format!("{what} {}: {error}", file.display()),
        exit: exit::SYSTEM,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.state_dir)
        .map_err(|error| system("could not make the folder of", &error))?;
    let mut tour = match std::fs::read(&file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| system("could not understand", &error))?
        }
        Err(_) => {
            let tour = invent().map_err(|error| system("could not invent passwords for", &error))?;
            let bytes = serde_json::to_vec(&tour).map_err(|error| system("could not write", &error))?;
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&file)
                .and_then(|mut open| open.write_all(&bytes))
                .map_err(|error| system("could not write", &error))?;
            tour
        }
    };
    tour.control = config.control();
    Ok(tour)
}

fn invent() -> Result<Tour, String> {
    let accounts = ACCOUNTS
        .iter()
        .map(|name| {
            let address = Address::parse(&format!("{name}@{DOMAIN}")).map_err(|error| error.to_string())?;
            Ok((address, random_password()?))
        })
        .collect::<Result<_, String>>()?;
    Ok(Tour { accounts, control: PathBuf::new() })
}

fn random_password() -> Result<String, String> {
    use std::io::Read as _;
    let mut bytes = [0_u8; 9];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let alphabet = b"abcdefghjkmnpqrstuvwxyz23456789";
    Ok(bytes
        .iter()
        .filter_map(|byte| alphabet.get(usize::from(*byte) % alphabet.len()))
        .map(|b| char::from(*b))
        .collect())
}

fn can_listen(port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).is_ok()
}

impl Tour {
    /// Leaves nothing in the kernel: a look around is no installation.
    pub fn leave(&self, running: &Running) {
        running.detach();
    }

    /// Makes the accounts where they are missing and prints what can be tried.
    ///
    /// # Errors
    /// When an account could not be made.
    pub async fn welcome(&self, running: &Running) -> Result<(), Failure> {
        running.make_tour_accounts(DOMAIN, &self.accounts).await?;
        let text = self.text(running);
        // A closed standard output is no reason to stop the service.
        let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
        Ok(())
    }

    fn text(&self, running: &Running) -> String {
        let ports = running.ports();
        let mut text = format!("\nmailgate is running on loopback. {}\n\n", running.filter_sentence());
        text.push_str("Accounts\n");
        for (address, password) in &self.accounts {
            text.push_str(&format!("  {address}  password {password}\n"));
        }
        text.push_str("\nPorts on 127.0.0.1\n");
        for (name, port) in [
            ("SMTP, STARTTLS", ports.mx),
            ("submission, STARTTLS", ports.msa),
            ("submission, TLS", ports.msa_tls),
            ("IMAP, STARTTLS", ports.imap),
            ("IMAP, TLS", ports.imap_tls),
        ] {
            if let Some(port) = port {
                text.push_str(&format!("  {port:>5}  {name}\n"));
            }
        }
        let (alice, password) =
            self.accounts.first().map_or(("", ""), |(_, password)| ("alice@example.test", password));
        let bob = self.accounts.get(1).map_or("", |(_, password)| password);
        text.push_str(&format!(
            "\nThree commands to try\n  \
             swaks --server 127.0.0.1:{mx} --from you@example.net --to {alice}\n  \
             curl --insecure --user {alice}:{password} 'imaps://127.0.0.1:{imaps}/INBOX;MAILINDEX=1'\n  \
             swaks --server 127.0.0.1:{msa} --tls --auth PLAIN --auth-user bob@{DOMAIN} --auth-password {bob} \
             --from bob@{DOMAIN} --to {alice}\n\n\
             And to look inside: {program} --control {control} status\n\
             Stop with Ctrl-C; everything is kept for the next start.\n\n",
            mx = ports.mx.unwrap_or(25),
            imaps = ports.imap_tls.unwrap_or(993),
            msa = ports.msa.unwrap_or(587),
            program = program(),
            control = self.control.display(),
        ));
        text
    }
}

/// How this program was called, as short as it can be typed again.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return "mailgate".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).display().to_string()
}
