//! The file as written: one field per table, each of the type of its station.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mailgate_model::Domain;
use mailgate_packet::firewall::Surroundings;
use serde::Deserialize;

use super::problems::Problem;

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Our name in greetings, trace fields and DSNs. Default: the name of the machine. Example: `mx.example.org`.
    pub hostname: Option<Domain>,
    /// Folder of everything that must survive. Default `/var/lib/mailgate`.
    pub state_dir: PathBuf,
    /// `[admin]`.
    pub admin: Admin,
    /// `[net]`: TLS and name servers.
    pub net: mailgate_net::Config,
    /// `[lists]`: tables of prefixes and what feeds them.
    pub lists: mailgate_lists::Config,
    /// `[edge]`: first contact.
    pub edge: mailgate_edge::Config,
    /// `[firewall]`: what reaches this host besides, and who may always.
    pub firewall: mailgate_packet::firewall::Config,
    /// `[smtp]`: reception and submission.
    pub smtp: mailgate_smtp::Config,
    /// `[accounts]`: where mailboxes are and how logins are treated.
    pub accounts: mailgate_accounts::Config,
    /// `[queue]`: how long, how often and how much at once.
    pub queue: mailgate_queue::Config,
    /// `[delivery]`: to other MTAs.
    pub delivery: mailgate_delivery::Config,
    /// `[access]`: IMAP.
    pub access: mailgate_access::Config,
    /// The file, for reading it again; none for the embedded default. Not a key.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// What is odd about it and yet no problem. Not a key.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
}

/// `[admin]`: looking and steering.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Control socket; relative to the state folder. Default `control`.
    pub control: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostname: None,
            state_dir: PathBuf::from("/var/lib/mailgate"),
            admin: Admin::default(),
            net: mailgate_net::Config::default(),
            lists: mailgate_lists::Config::default(),
            edge: mailgate_edge::Config::default(),
            firewall: mailgate_packet::firewall::Config::default(),
            smtp: mailgate_smtp::Config::default(),
            accounts: mailgate_accounts::Config::default(),
            queue: mailgate_queue::Config::default(),
            delivery: mailgate_delivery::Config::default(),
            access: mailgate_access::Config::default(),
            file: None,
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.state_dir.join(self.admin.control.as_deref().unwrap_or(Path::new("control")))
    }

    /// Our name: as configured, else that of the machine.
    ///
    /// # Errors
    /// A sentence when the machine's name is no domain name.
    pub fn own_name(&self) -> Result<Domain, String> {
        if let Some(hostname) = &self.hostname {
            return Ok(hostname.clone());
        }
        let machine =
            nix::unistd::gethostname().map_err(|error| format!("the machine has no name: {error}"))?;
        Domain::parse(&machine.to_string_lossy()).map_err(|error| {
            format!("the machine's name cannot be ours ({error}); set hostname = \"mx.example.org\"")
        })
    }

    /// Adds interfaces named on the command line.
    pub fn add_interfaces(&mut self, interfaces: Vec<String>) {
        for interface in interfaces {
            if !self.edge.packet.interfaces.contains(&interface) {
                self.edge.packet.interfaces.push(interface);
            }
        }
    }

    /// Changes every port that is listened on.
    pub fn each_port(&mut self, change: impl Fn(&u16) -> u16) {
        for address in self.listeners() {
            let port = change(&address.port());
            address.set_port(port);
        }
        self.edge.packet.reception_ports = self.smtp.mx.listen.iter().map(SocketAddr::port).collect();
        self.edge.packet.reception_ports.dedup();
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut SocketAddr> {
        self.smtp
            .mx
            .listen
            .iter_mut()
            .chain(&mut self.smtp.msa.listen)
            .chain(&mut self.smtp.msa.submissions)
            .chain(&mut self.access.imap.listen)
            .chain(&mut self.access.imap.listen_tls)
    }

    /// What the rules of the firewall stand in: tables, filtered interfaces, own services.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        let others = self.smtp.msa.listen.iter().chain(&self.smtp.msa.submissions);
        let access = self.access.imap.listen.iter().chain(&self.access.imap.listen_tls);
        // Behind the edge alone stands somebody else's server, whose ports we do not know.
        let is_whole = self.edge.behind == mailgate_edge::config::Behind::Own;
        let served = others.chain(access).filter(|at| is_whole && !at.ip().is_loopback());
        let mut services: Vec<u16> = served.map(SocketAddr::port).collect();
        services.sort_unstable();
        services.dedup();
        let tables = self.lists.tables();
        let counted = tables.iter().filter(|table| table.counters).map(|table| table.name.clone()).collect();
        // A bypass that feeds fill has a rule more.
        let own = tables.iter().filter(|table| self.lists.is_fed_bypass(table));
        let own: Vec<_> = own.map(|table| (table.name.own(), table.action)).collect();
        Surroundings {
            tables: tables.into_iter().map(|table| (table.name, table.action)).chain(own).collect(),
            interfaces: self.edge.packet.interfaces.clone(),
            reception: self.edge.packet.reception_ports.clone(),
            services,
            counted,
        }
    }

    /// One line about what is configured.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "state in {}, {} tables, {} sources, interfaces: {}",
            self.state_dir.display(),
            self.lists.tables().len(),
            self.lists.source.len(),
            if self.edge.packet.interfaces.is_empty() {
                "none".to_owned()
            } else {
                self.edge.packet.interfaces.join(", ")
            }
        )
    }
}
