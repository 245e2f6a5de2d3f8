//! How many new tuples each source made of late: what keeps one of them from filling the memory of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use mailgate_model::Timestamp;

use super::Identity;

/// New tuples of one source that are remembered within [`WINDOW`]. The first message of a list with ten thousand readers
/// fits, and one retry of any of them makes the source passed; who is beyond it is deferred all the same.
pub(super) const LIMIT: u32 = 10_000;
/// For how long new tuples are counted together.
const WINDOW: Duration = Duration::from_secs(3600);
/// Bits of an IPv6 address that count as one source: a host may choose the rest.
const IPV6_SOURCE: u8 = 64;

pub(super) struct Sources {
    windows: Mutex<HashMap<Source, Window>>,
    limit: AtomicU32,
}

impl Default for Sources {
    fn default() -> Self {
        Self { windows: Mutex::default(), limit: AtomicU32::new(LIMIT) }
    }
}

/// Who makes tuples. Those of messages are counted by the address that they came from and beside the others, so that who
/// sends many contents under one envelope fills no memory either.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Source {
    Client(Identity),
    Messages(Option<Identity>),
}

struct Window {
    since: Timestamp,
    count: u32,
}

impl Window {
    fn holds(&self, now: Timestamp) -> bool {
        // One from the future (the clock was set back) is over.
        self.since <= now && now.since(self.since) < WINDOW
    }
}

impl Sources {
    /// Counts one more tuple of `client`, which came from `ip`; false when it made too many.
    pub(super) fn admit(&self, client: &Identity, ip: Option<IpAddr>, now: Timestamp) -> bool {
        let mut sources = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = sources.entry(source(client, ip)).or_insert(Window { since: now, count: 0 });
        if !window.holds(now) {
            *window = Window { since: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        window.count <= self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self, count: u32) {
        self.limit.store(count, Ordering::Relaxed);
    }

    /// Forgets windows that are over.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut sources = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, window| window.holds(now));
        if sources.len() < sources.capacity() / 4 {
            sources.shrink_to_fit();
        }
    }
}

fn source(client: &Identity, ip: Option<IpAddr>) -> Source {
    match client {
        Identity::Message(_) => Source::Messages(ip.map(|ip| wide(&Identity::from(ip.to_canonical())))),
        client => Source::Client(wide(client)),
    }
}

fn wide(client: &Identity) -> Identity {
    match client {
        Identity::Network(IpNet::V6(net)) if net.prefix_len() > IPV6_SOURCE => {
            let wider = Ipv6Net::new(net.addr(), IPV6_SOURCE).unwrap_or(*net).trunc();
            Identity::Network(wider.into())
        }
        _ => client.clone(),
    }
}
