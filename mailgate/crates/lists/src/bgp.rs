//! BGP peers as sources.
//!
//! Start reading at `peer.rs` (one task for each neighbour), then `rib.rs` (what it announces and which tables that means);
//! `wire.rs` has its connections, `listen.rs` those who connect to us, `saved.rs` the routes over a restart, `outbox.rs` what
//! we announce, `order.rs` what the administrator asks.

mod community;
mod listen;
mod order;
mod outbox;
mod peer;
mod rib;
mod saved;
mod sets;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use mailgate_proto::bgp::Families;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::admit;
use crate::config::{BgpConfig, Mode};
use crate::merge::Origin;
use crate::rows::{BgpRow, RouteRow};
use crate::shared::Shared;
use order::{Order, RibAsked};
use rib::{Policy, Rib};

pub(crate) use community::Mark;
pub use community::{Part, Pattern};
pub(crate) use outbox::Outbox;

/// Orders of one neighbour that wait; whoever orders more waits too.
const ORDERS: usize = 8;

/// The neighbours, as the rest of the station reaches them.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<[Reached]>);

struct Reached {
    name: String,
    orders: mpsc::Sender<Order>,
    outbox: Arc<Outbox>,
}

/// The row of a peer that has not yet been spoken to.
pub(crate) fn row(config: &BgpConfig, now: Timestamp) -> BgpRow {
    BgpRow {
        name: name(config),
        neighbor: config.peer,
        remote_as: config.peer_as,
        received_messages: 0,
        sent_messages: 0,
        state: "Idle",
        since: now,
        received: 0,
        accepted: 0,
        installed: 0,
        tables: Vec::new(),
        refused: Vec::new(),
        stale: 0,
        announced: 0,
        damped: false,
        faults: 0,
        memory: 0,
        session: None,
        error: None,
    }
}

fn name(config: &BgpConfig) -> String {
    config.name.clone().unwrap_or_else(|| config.peer.to_string())
}

fn mode(mode: Mode) -> mailgate_proto::bgp::Mode {
    match mode {
        Mode::Active => mailgate_proto::bgp::Mode::Active,
        Mode::Both => mailgate_proto::bgp::Mode::Both,
        Mode::Passive => mailgate_proto::bgp::Mode::Passive,
    }
}

/// Puts the routes of before into the tables and starts a task for each neighbour, and the listeners.
///
/// # Errors
/// [`Error::Config`] when a key cannot be read.
pub(crate) fn start(
    shared: &Arc<Shared>,
    neighbours: Vec<(Origin, BgpConfig)>,
    folder: &Path,
    shutdown: &CancellationToken,
) -> Result<Peers, Error> {
    let mut reached = Vec::new();
    let mut guests: BTreeMap<SocketAddr, Vec<listen::Guest>> = BTreeMap::new();
    for (origin, config) in neighbours {
        let name = name(&config);
        let terms = config.terms().map_err(|said| Error::Config(format!("source {name}: {said}")))?;
        let (knock, door) = mpsc::channel(listen::WAITING);
        if let Some(address) = config.listen {
            guests.entry(address).or_default().push(listen::Guest {
                peer: config.peer,
                terms: terms.clone(),
                door: knock,
            });
        }
        let (orders, ordered) = mpsc::channel(ORDERS);
        let outbox = Arc::new(Outbox::default());
        reached.push(Reached { name, orders, outbox: Arc::clone(&outbox) });
        let (rib, stale_until) = warm(shared, origin, &config, folder);
        let start = peer::Start {
            shared: Arc::clone(shared),
            origin,
            file: saved::path(folder, &self::name(&config)),
            config,
            terms,
            rib,
            stale_until,
            door,
            orders: ordered,
            outbox,
        };
        tokio::spawn(peer::run(start, shutdown.clone()));
    }
    listen::start(guests, &shared.clock, shutdown);
    Ok(Peers(reached.into()))
}

/// The routes that a peer had told before, as long as they may stay. A file that is of no use costs them, not the start.
fn warm(shared: &Shared, origin: Origin, config: &BgpConfig, folder: &Path) -> (Rib, Option<Timestamp>) {
    let policy = Policy::new(config, |name| shared.lock().merged.index(name));
    let mut rib = Rib::new(policy.clone());
    let path = saved::path(folder, &name(config));
    let now = shared.clock.now();
    let limit = policy.max_prefix.saturating_mul(2);
    let mut steps = Vec::new();
    let mut is_full = false;
    let read = saved::read(&path, limit, |run| {
        is_full |= rib.restore(run.routes.into_iter(), &run.marks, &mut steps).is_err();
    });
    let at = match read {
        Ok(Some(at)) => at,
        Ok(None) => return (rib, None),
        Err(error) => {
            tracing::warn!(target: "lists", event = "saved", path = %path.display(), %error, "not used");
            return (Rib::new(policy), None);
        }
    };
    let until = at.plus(config.stale.duration());
    if until <= now || is_full {
        tracing::info!(target: "lists", event = "saved", path = %path.display(), "too old, or more than may be; not used");
        return (Rib::new(policy), None);
    }
    rib.begin(Families::ALL);
    admit::offer_kept(&mut shared.lock(), origin, &steps, now);
    tracing::info!(target: "lists", event = "saved", peer = %config.peer, routes = rib.counts().received, "in use until told anew");
    (rib, Some(until))
}

impl Peers {
    fn find(&self, name: &str) -> Result<&Reached, Error> {
        let names = || self.0.iter().map(|reached| reached.name.as_str()).collect::<Vec<_>>().join(", ");
        self.0
            .iter()
            .find(|reached| reached.name == name)
            .ok_or_else(|| Error::UnknownNeighbour { found: name.to_owned(), expected: names() })
    }

    /// What may be announced to each neighbour.
    pub(crate) fn outboxes(&self) -> impl Iterator<Item = (&str, &Arc<Outbox>)> {
        self.0.iter().map(|reached| (reached.name.as_str(), &reached.outbox))
    }

    async fn order(
        &self,
        name: &str,
        make: impl FnOnce(oneshot::Sender<Result<String, String>>) -> Order,
    ) -> Result<String, Error> {
        let reached = self.find(name)?;
        let (done, answer) = oneshot::channel();
        reached.orders.send(make(done)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?.map_err(Error::Neighbour)
    }

    /// Ends the session of a neighbour and begins anew; `text` is for the neighbour (RFC 9003).
    pub(crate) async fn clear(&self, name: &str, text: String) -> Result<String, Error> {
        self.order(name, |done| Order::Clear { text, done }).await
    }

    /// Asks a neighbour for all its routes anew.
    pub(crate) async fn refresh(&self, name: &str) -> Result<String, Error> {
        self.order(name, |done| Order::Refresh { done }).await
    }

    /// Routes of all neighbours, or of one, sorted within each; `limit` of all together.
    pub(crate) async fn rib(
        &self,
        neighbor: Option<&str>,
        community: Option<Pattern>,
        within: Option<IpNet>,
        limit: usize,
    ) -> Result<Vec<RouteRow>, Error> {
        let asked: Vec<&Reached> = match neighbor {
            Some(name) => vec![self.find(name)?],
            None => self.0.iter().collect(),
        };
        let mut rows: Vec<RouteRow> = Vec::new();
        for reached in asked {
            let asked = RibAsked { community, within, after: None, limit: limit.saturating_sub(rows.len()) };
            let (done, answer) = oneshot::channel();
            reached.orders.send(Order::Rib { asked, done }).await.map_err(|_| Error::Stopped)?;
            rows.extend(answer.await.map_err(|_| Error::Stopped)?);
        }
        Ok(rows)
    }
}
