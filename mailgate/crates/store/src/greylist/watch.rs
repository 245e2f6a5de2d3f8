//! Who stands how, for whoever keeps a copy: the packet filter, which decides before any program of ours is asked.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use tokio::sync::Notify;

use super::{Greylist, Peer};

/// Networks whose standing is another than what the watcher was told last.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// `None` while nobody watches.
    networks: Mutex<Option<HashSet<IpNet>>>,
    news: Notify,
}

impl Noted {
    pub(super) fn note(&self, network: IpNet) {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(networks) = networks.as_mut() else { return };
        networks.insert(network);
        self.news.notify_one();
    }

    fn take(&self) -> HashSet<IpNet> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        networks.replace(HashSet::new()).unwrap_or_default()
    }
}

/// Tells of every network whose standing changes, and of those whose standing ends by itself. There is one watcher.
#[derive(Debug)]
pub struct Watch {
    greylist: Greylist,
    /// What ended until then was told.
    ended: Timestamp,
}

impl Greylist {
    /// Begins to watch; with it every standing there is now.
    #[must_use]
    pub fn watch(&self) -> (Watch, Vec<(IpNet, Peer)>) {
        let now = self.0.clock.now();
        // First the ears, then the eyes: what changes in between is told twice.
        drop(self.0.index.noted().take());
        let all = self.0.index.live(now);
        (Watch { greylist: self.clone(), ended: now }, all)
    }
}

impl Watch {
    /// Waits for news and gives how these networks stand now, `None` for not at all. What ends by itself is looked for every
    /// `interval`, so it is told so much later at most.
    pub async fn next(&mut self, interval: Duration) -> Vec<(IpNet, Option<Peer>)> {
        let inner = std::sync::Arc::clone(&self.greylist.0);
        let noted = inner.index.noted();
        loop {
            let mut networks = noted.take();
            let now = inner.clock.now();
            if now.since(self.ended) >= interval || now < self.ended {
                networks.extend(inner.index.ended_between(self.ended, now));
                self.ended = now;
            }
            if !networks.is_empty() {
                let live = |network: &IpNet| inner.index.at(*network).filter(|peer| peer.expires > now);
                return networks.iter().map(|network| (*network, live(network))).collect();
            }
            let look = self.ended.plus(interval);
            tokio::select! {
                () = noted.news.notified() => {}
                () = inner.clock.sleep_until(look) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mailgate_model::ManualClock;

    use super::super::{Origin, PeerKind};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn peer(clock: &ManualClock, kind: PeerKind, lasts: Duration) -> Peer {
        use mailgate_model::Clock as _;
        let now = clock.now();
        let origin = Origin::Learned;
        Peer { kind, origin, first: now, pass: now, expires: now.plus(lasts), blocked: 0, passed: 0 }
    }

    #[tokio::test]
    async fn every_change_of_a_standing_is_told_and_its_end_too() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let greylist = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (early, late) = (net("192.0.2.1/32"), net("2001:db8::/64"));
        greylist.learn(early, peer(&clock, PeerKind::Passed, MINUTE * 10));
        let (mut watch, all) = greylist.watch();
        assert_eq!(all.iter().map(|(network, _)| *network).collect::<Vec<_>>(), [early]);

        greylist.trap(late, MINUTE * 3);
        let told = watch.next(MINUTE).await;
        assert!(
            matches!(told.as_slice(), [(network, Some(peer))] if *network == late && peer.kind == PeerKind::Trapped)
        );
        // Counting contacts is no news.
        assert!(greylist.accepted("192.0.2.1".parse().unwrap(), MINUTE * 20));
        greylist.forget_peer(late, PeerKind::Trapped);
        assert_eq!(watch.next(MINUTE).await, [(late, None)]);

        let told = tokio::spawn(async move { watch.next(MINUTE).await });
        for _ in 0..21 {
            clock.advance(MINUTE);
            tokio::task::yield_now().await;
        }
        assert_eq!(told.await.unwrap(), [(early, None)], "long before it is swept");
    }

    #[tokio::test]
    async fn what_is_looked_at_again_is_told_again() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let greylist = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let (mut watch, _) = greylist.watch();
        greylist.learn("192.0.2.0/24".parse().unwrap(), peer(&clock, PeerKind::Passed, MINUTE));
        assert_eq!(watch.next(MINUTE).await.len(), 1);
        greylist.tell_again("192.0.2.7".parse().unwrap());
        let told = watch.next(MINUTE).await;
        assert!(matches!(told.as_slice(), [(network, Some(_))] if network.to_string() == "192.0.2.0/24"));
    }
}
