//! From the greylist to others: lists of those who were trapped and those who send, written and signed.

use std::sync::Arc;

use ipnet::IpNet;
use mailgate_lists::config::{Learned, PublishConfig};
use mailgate_lists::publish::{Known, admitted, written};
use mailgate_lists::signify::{SecretKey, put};
use mailgate_lists::{Lists, Protected};
use mailgate_model::Clock;
use mailgate_store::Greylist;
use mailgate_store::greylist::{Filter, Kind, Origin, PeerKind, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::system;
use crate::admin::Failure;
use crate::config::Config;

/// Starts one task for each list; a key that cannot be used stops the start.
pub(super) fn start(
    config: &Config,
    greylist: &Greylist,
    lists: &Lists,
    tasks: &TaskTracker,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    for list in &config.lists.publish {
        let key = list.key.as_deref().map(SecretKey::read).transpose().map_err(system)?;
        let publisher = Publisher {
            config: list.clone(),
            key: key.map(Arc::new),
            greylist: greylist.clone(),
            lists: lists.clone(),
            clock: Arc::clone(clock),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = publisher.run() => {}
            }
        });
    }
    Ok(())
}

struct Publisher {
    config: PublishConfig,
    key: Option<Arc<SecretKey>>,
    greylist: Greylist,
    lists: Lists,
    clock: Arc<dyn Clock>,
}

impl Publisher {
    async fn run(self) {
        let mut told: Option<Vec<IpNet>> = None;
        loop {
            match self.networks().await {
                Ok(networks) if told.as_ref() == Some(&networks) => {}
                Ok(networks) => match self.write(&networks).await {
                    Ok(()) => {
                        tracing::info!(target: "lists", event = "published", list = self.config.name, entries = networks.len());
                        told = Some(networks);
                    }
                    Err(error) => {
                        tracing::error!(target: "lists", event = "publish", list = self.config.name, %error, "as before; tried again");
                    }
                },
                Err(error) => {
                    tracing::error!(target: "lists", event = "publish", list = self.config.name, error, "as before; tried again");
                }
            }
            self.clock.sleep(self.config.interval.duration()).await;
        }
    }

    /// Who is published now.
    async fn networks(&self) -> Result<Vec<IpNet>, String> {
        let kind = match self.config.set {
            Learned::Passed => Kind::Passed,
            Learned::Trapped => Kind::Trapped,
        };
        let filter = Filter { kind: Some(kind), ..Filter::default() };
        let rows = self.greylist.list(filter).await.map_err(|error| error.to_string())?;
        let protected: Vec<Protected> = self.lists.protected().await.map_err(|error| error.to_string())?;
        let now = self.clock.now();
        let known = rows.into_iter().filter_map(|row| match row {
            Row::Peer { network, peer } if peer.expires > now => Some(Known {
                network,
                set: match peer.kind {
                    PeerKind::Passed => Learned::Passed,
                    PeerKind::Trapped => Learned::Trapped,
                },
                is_learned: peer.origin == Origin::Learned,
                since: peer.pass,
                accepted: peer.passed,
            }),
            _ => None,
        });
        Ok(admitted(&self.config, known, &protected, now))
    }

    async fn write(&self, networks: &[IpNet]) -> std::io::Result<()> {
        if !self.config.peers.is_empty() {
            self.lists.announce(&self.config, networks.to_vec());
        }
        let Some(path) = self.config.path.clone() else { return Ok(()) };
        let text = written(&self.config, networks, self.clock.now());
        let key = self.key.clone();
        let write = move || put(&path, &text, key.as_deref());
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
    }
}
