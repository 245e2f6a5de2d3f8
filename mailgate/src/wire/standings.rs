//! From the greylist to the filter, where the mail server is another program: the kernel sends it those that passed.
//! And back: who passed and connects again stays passed, as spamlogd(8) does it.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Clock;
use mailgate_packet::{PacketFilter, Standing, StandingKind};
use mailgate_store::Greylist;
use mailgate_store::greylist::{Origin, Peer, PeerKind, Watch};
use tokio_util::sync::CancellationToken;

/// Between two looks at what ended by itself, and at who connected.
const INTERVAL: Duration = Duration::from_secs(60);

/// What follows from the greylist, and does so from now on.
pub(super) struct Standings {
    greylist: Greylist,
    filter: Arc<dyn PacketFilter>,
    clock: Arc<dyn Clock>,
    watch: Watch,
}

impl Standings {
    /// Gives the filter every standing there is; before its first reload, so that both come into force together. `None`
    /// when the filter cannot act on them.
    pub(super) fn begin(
        greylist: &Greylist,
        filter: &Arc<dyn PacketFilter>,
        clock: &Arc<dyn Clock>,
    ) -> Option<Self> {
        let (watch, all) = greylist.watch();
        let standings: Vec<Standing> =
            all.into_iter().map(|(network, peer)| said(network, Some(peer))).collect();
        if let Err(error) = filter.stand(&standings) {
            tracing::error!(target: "edge", event = "standings", %error);
            return None;
        }
        Some(Self { greylist: greylist.clone(), filter: Arc::clone(filter), clock: Arc::clone(clock), watch })
    }

    /// Follows every change until the daemon ends.
    pub(super) async fn follow(self, passed_for: Duration, shutdown: CancellationToken) {
        let Self { greylist, filter, clock, mut watch } = self;
        let renewing = renew(&greylist, &filter, &clock, passed_for);
        let telling = async {
            loop {
                let news = watch.next(INTERVAL).await;
                let standings = news.into_iter().map(|(network, peer)| said(network, peer)).collect();
                tell(&filter, standings).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = renewing => {}
            () = telling => {}
        }
    }
}

/// The filter keeps what could not come into force and takes it up with the next call.
async fn tell(filter: &Arc<dyn PacketFilter>, standings: Vec<Standing>) {
    let (filter, count) = (Arc::clone(filter), standings.len());
    // A thread that may wait: a table that has to grow is compiled anew.
    match tokio::task::spawn_blocking(move || filter.stand(&standings)).await {
        Ok(Ok(())) => tracing::debug!(target: "edge", event = "standings", count),
        Ok(Err(error)) => tracing::warn!(target: "edge", event = "standings", count, %error),
        Err(error) => tracing::error!(target: "edge", event = "standings", count, %error, "a bug"),
    }
}

async fn renew(
    greylist: &Greylist,
    filter: &Arc<dyn PacketFilter>,
    clock: &Arc<dyn Clock>,
    passed_for: Duration,
) {
    loop {
        clock.sleep(INTERVAL).await;
        let (filter, greylist) = (Arc::clone(filter), greylist.clone());
        let renewed = tokio::task::spawn_blocking(move || {
            for source in filter.seen() {
                greylist.accepted(source, passed_for);
            }
        });
        if let Err(error) = renewed.await {
            tracing::error!(target: "edge", event = "standings", %error, "a bug");
        }
    }
}

fn said(network: IpNet, peer: Option<Peer>) -> Standing {
    let kind = peer.map(|peer| match (peer.kind, peer.origin) {
        (PeerKind::Passed, Origin::Admin) => StandingKind::Admitted,
        (PeerKind::Passed, Origin::Learned) => StandingKind::Passed,
        (PeerKind::Trapped, _) => StandingKind::Trapped,
    });
    Standing { network, kind }
}
