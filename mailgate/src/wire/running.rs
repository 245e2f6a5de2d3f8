//! The running service, as seen from the top.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mailgate_edge::foreign::Foreign;
use mailgate_edge::{Edge, Sync as Synchronisation};
use mailgate_lists::Lists;
use mailgate_model::{Address, Clock, Domain};
use mailgate_packet::firewall::Control;
use mailgate_packet::{PacketFilter, Where};
use mailgate_queue::Queue;
use mailgate_store::Greylist;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Records, system};
use crate::admin::{self, Answers, Call, Failure, Firewall};
use crate::config::Config;

/// How long sessions may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(25);

/// The first port of each service; `None` where it is not listened on.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Ports {
    /// SMTP between MTAs.
    pub mx: Option<u16>,
    /// Submission with STARTTLS.
    pub msa: Option<u16>,
    /// Submission with implicit TLS.
    pub msa_tls: Option<u16>,
    /// IMAP with STARTTLS.
    pub imap: Option<u16>,
    /// IMAP with implicit TLS.
    pub imap_tls: Option<u16>,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [self.mx, self.msa, self.msa_tls, self.imap, self.imap_tls];
        let named: Vec<String> = all.iter().flatten().map(u16::to_string).collect();
        f.write_str(&named.join(","))
    }
}

/// The stations behind the edge, where they are ours.
#[derive(Clone)]
pub struct Mail {
    /// Accepted messages.
    pub queue: Queue,
    /// Domains, accounts, aliases, keys.
    pub people: Records,
}

/// Everything that runs.
pub struct Running {
    pub(super) edge: Arc<Edge>,
    pub(super) greylist: Greylist,
    pub(super) lists: Lists,
    pub(super) mail: Option<Mail>,
    pub(super) sync: Option<Synchronisation>,
    pub(super) foreign: Option<Foreign>,
    pub(super) filter: Arc<dyn PacketFilter>,
    pub(super) control: Arc<Control>,
    pub(super) ports: Ports,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) clock: Arc<dyn Clock>,
}

impl Running {
    /// Where the services listen.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Where the tables act, in one sentence.
    #[must_use]
    pub fn filter_sentence(&self) -> String {
        let status = self.filter.status();
        match (status.acts, status.reason) {
            (Where::Kernel, _) => {
                let interfaces: Vec<String> = status.interfaces.iter().map(ToString::to_string).collect();
                format!("The tables act in the kernel on {}.", interfaces.join(", "))
            }
            (Where::Nft, reason) => {
                let reason = reason.filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}"));
                format!("The tables act in nftables, not in our programs{}.", reason.unwrap_or_default())
            }
            (Where::Memory, reason) => {
                format!("The tables act at accept, not in the kernel: {}.", reason.unwrap_or_default())
            }
        }
    }

    pub(super) async fn open_control(&self, config: &Config) -> Result<(), Failure> {
        let answers = Arc::new(Answers {
            edge: Arc::clone(&self.edge),
            lists: self.lists.clone(),
            mail: self.mail.clone(),
            sync: self.sync.clone(),
            foreign: self.foreign.clone(),
            filter: Arc::clone(&self.filter),
            firewall: Firewall {
                control: Arc::clone(&self.control),
                lists: self.lists.clone(),
                edge: Arc::clone(&self.edge),
                file: config.file.clone(),
                clock: Arc::clone(&self.clock),
            },
            ports: self.ports,
            started: self.clock.now(),
            clock: Arc::clone(&self.clock),
        });
        let socket = admin::bind(&config.control()).await.map_err(system)?;
        let answer = move |call: Call| {
            let answers = Arc::clone(&answers);
            async move { answers.answer(call).await }
        };
        self.tasks.spawn(admin::serve(socket, answer, self.shutdown.clone()));
        Ok(())
    }

    /// Makes the domain and the accounts of the look around where they are missing.
    ///
    /// # Errors
    /// When the records cannot be written.
    pub async fn make_tour_accounts(
        &self,
        domain: &str,
        accounts: &[(Address, String)],
    ) -> Result<(), Failure> {
        let Some(Mail { people, .. }) = &self.mail else { return Ok(()) };
        let people = &people.accounts;
        let domain = Domain::parse(domain).map_err(system)?;
        if !people.is_local(&domain).await.map_err(system)? {
            people.add_domain(&domain).await.map_err(system)?;
        }
        for (address, password) in accounts {
            if people.account(address).await.map_err(system)?.is_none() {
                let secret = mailgate_accounts::Secret::Password(password.clone());
                people.add_account(address, secret, None).await.map_err(system)?;
            }
        }
        Ok(())
    }

    /// Takes the filter out of the kernel.
    pub fn detach(&self) {
        if let Err(error) = self.filter.detach() {
            tracing::warn!(target: "edge", event = "detach", %error);
        }
    }

    /// Says goodbye to everybody and returns when all is on disk. What the kernel filter holds stays in force.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Some(Mail { queue, .. }) = &self.mail {
            queue.stopped().await;
        }
        self.tasks.close();
        if tokio::time::timeout(GOODBYE, self.tasks.wait()).await.is_err() {
            tracing::warn!(target: "mailgate", event = "stopped", "some sessions did not end in time");
        }
        if let Err(error) = self.greylist.flush().await {
            tracing::warn!(target: "store", event = "flush", %error, "the greylist's last changes are lost");
        }
        tracing::info!(target: "mailgate", event = "stopped");
    }
}
