//! What others see of a peer: its entries in the tables, its rows, its routes on disk.

use mailgate_model::Timestamp;
use mailgate_proto::bgp::{Nlri, Session, State as SessionState, Way};

use super::super::community::Marks;
use super::super::rib::{Counts, Rib, Why};
use super::super::saved::{self, RUN, Run};
use super::Peer;
use crate::admit::{self, Step};
use crate::merge::{Origin, TableIndex};
use crate::rows::{BgpSession, SourceState};
use crate::rush::Tells;
use crate::shared::{Kind, Shared, State, source_mut};

/// A session with more routes than this is worth waiting for until they are all told.
const RUSH: usize = 4096;

/// Routes looked up under one lock.
const LOCKED: usize = 4096;

/// How the peer is, for its rows.
pub(super) struct Seen {
    now: Timestamp,
    state: SessionState,
    messages: (u64, u64),
    since: Timestamp,
    counts: Counts,
    error: Option<String>,
    session: Option<BgpSession>,
    is_damped: bool,
    faults: u64,
    memory: usize,
    announced: usize,
    /// In the middle of telling so much that it is better taken together.
    tells: Option<Tells>,
}

impl Seen {
    pub(super) fn of(peer: &Peer) -> Self {
        let session = peer.machine.session().map(|session| row(peer, session));
        Self {
            now: peer.shared.clock.now(),
            state: peer.machine.state(),
            messages: peer.machine.messages(),
            since: peer.since,
            counts: peer.rib.counts().clone(),
            error: peer.error.clone(),
            session,
            is_damped: peer.machine.is_damped(),
            faults: peer.faults,
            memory: peer.rib.bytes(),
            announced: peer.told.len(),
            tells: tells(peer),
        }
    }
}

fn tells(peer: &Peer) -> Option<Tells> {
    let is_rushing = peer.is_up && !peer.is_complete && peer.rib.counts().fresh() > RUSH;
    // Who tells a table withdraws little of it.
    let tells = if peer.withdrawn > RUSH { Tells::Flap } else { Tells::Table };
    is_rushing.then_some(tells)
}

fn row(peer: &Peer, session: Session) -> BgpSession {
    let mut capabilities = Vec::new();
    let mut has = |name: &'static str, is: bool| capabilities.extend(is.then_some(name));
    has("ipv4-unicast", session.families.ipv4);
    has("ipv6-unicast", session.families.ipv6);
    has("four-octet-as", session.as_width == mailgate_proto::bgp::AsWidth::Four);
    has("route-refresh", session.refresh != mailgate_proto::bgp::Refresh::None);
    has("enhanced-route-refresh", session.refresh == mailgate_proto::bgp::Refresh::Enhanced);
    has("extended-message", session.extended);
    has("add-path-ipv4", session.add_path.ipv4);
    has("add-path-ipv6", session.add_path.ipv6);
    has("graceful-restart", session.restart.is_some());
    has("graceful-notification", session.restart.is_some_and(|restart| restart.over_notification));
    BgpSession {
        identifier: peer.machine.peer_identifier().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
        opened_by: if peer.machine.way() == Some(Way::In) { "neighbour" } else { "us" },
        hold_time: peer.machine.hold_time().as_secs(),
        restart_time: session.restart.map(|restart| restart.time.as_secs()),
        capabilities,
    }
}

impl Peer {
    /// Saves the routes that are in tables.
    pub(super) async fn save(&mut self) {
        self.save_at = None;
        let nothing = Rib::new(self.rib.policy().clone());
        let rib = std::mem::replace(&mut self.rib, nothing);
        let (file, origin) = (self.file.clone(), self.origin);
        let save = move |shared: &Shared| {
            let result = saved::write(&file, shared.clock.now(), runs(&rib, shared, origin));
            if let Err(error) = result {
                tracing::error!(target: "lists", event = "save", path = %file.display(), %error);
            }
            rib
        };
        // The only error is that the runtime is ending.
        if let Ok(rib) = self.shared.off_runtime(save).await {
            self.rib = rib;
        }
    }
}

/// Brings differences to the gate, and the rows up to date.
pub(super) fn take(state: &mut State, origin: Origin, steps: &[Step], seen: Seen) {
    admit::offer_steps(state, origin, steps, seen.now);
    match seen.tells {
        Some(tells) if !steps.is_empty() => state.rush.goes_on(origin, tells, seen.now),
        Some(_) => {}
        None => state.rush.ends(origin),
    }
    let names: Vec<_> = state.merged.tables().map(|(name, ..)| name.clone()).collect();
    let held = |(table, _): &(TableIndex, usize)| {
        Some((names.get(usize::from(*table))?.clone(), state.merged.count(*table, origin)))
    };
    let held: Vec<_> = seen.counts.tables.iter().filter_map(held).filter(|(_, count)| *count > 0).collect();
    let Some(status) = source_mut(state, origin) else { return };
    let Counts { received, accepted, installed, stale, refused: unfit, .. } = seen.counts;
    status.refused = received - accepted;
    // What the gate does not take is received and no more.
    let gate = status.gate.row(installed, seen.now);
    let refused = status.gate.refused();
    let accepted = accepted.saturating_sub(refused);
    // An entry may be kept out of one of several tables: not more than there are, counted once each.
    let installed = installed.min(held.iter().map(|(_, count)| count).sum());
    status.error.clone_from(&seen.error);
    if !steps.is_empty() {
        status.last_change = Some(seen.now);
    }
    status.state = match seen.state {
        SessionState::Established => SourceState::Good,
        _ if received > 0 => SourceState::Stale,
        _ if seen.error.is_some() => SourceState::Failed,
        _ => SourceState::Waiting,
    };
    let Kind::Bgp(row) = &mut status.kind else { return };
    (row.received_messages, row.sent_messages) = seen.messages;
    row.state = seen.state.name();
    row.since = seen.since;
    (row.received, row.accepted, row.installed, row.stale) = (received, accepted, installed, stale);
    row.tables = held;
    let unfit = Why::ALL.iter().map(|why| why.text().to_owned()).zip(unfit);
    let gated = gate.refused.iter().map(|row| (row.reason.to_string(), row.entries));
    row.refused = unfit.chain(gated).filter(|(_, count)| *count > 0).collect();
    row.error = seen.error;
    row.session = seen.session;
    row.damped = seen.is_damped;
    row.faults = seen.faults;
    row.memory = seen.memory;
    row.announced = seen.announced;
}

/// The routes that are in tables and were not refused there, in runs that carry the same.
pub(super) fn runs<'a>(rib: &'a Rib, shared: &'a Shared, origin: Origin) -> impl Iterator<Item = Run> {
    let mut routes: Vec<(usize, &Marks, Nlri)> = Vec::new();
    let mut seen = rib.routes().filter(|seen| seen.fate.tables() != 0);
    loop {
        let state = shared.lock();
        let before = routes.len();
        let mut looked = 0;
        for seen in seen.by_ref().take(LOCKED) {
            looked += 1;
            let is_held = |table| state.merged.claim(table, seen.nlri.prefix, origin).is_some();
            if Rib::tables_of(seen.fate).any(is_held) {
                routes.push((std::ptr::from_ref(seen.marks).addr(), seen.marks, seen.nlri));
            }
        }
        drop(state);
        if looked == 0 {
            break;
        }
        debug_assert!(routes.len() - before <= LOCKED);
    }
    routes.sort_unstable_by_key(|(kind, _, nlri)| (*kind, *nlri));
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = routes.get(at..)?;
        let (kind, marks, _) = rest.first()?;
        let alike: Vec<Nlri> =
            rest.iter().take_while(|(other, ..)| other == kind).take(RUN).map(|(_, _, nlri)| *nlri).collect();
        at += alike.len();
        Some(Run { marks: (*marks).clone(), routes: alike })
    })
}
