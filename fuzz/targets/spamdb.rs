//! A dump that was taken over is printed so that it can be taken over again, and nothing of it is about messages, whose
//! tuples stand beside those of their clients.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mailgate_edge::{Config, Edge, Handoff, Handover, Parts, Query};
use mailgate_model::{Clock, Domain, ManualClock, Timestamp};
use mailgate_packet::Memory;
use mailgate_store::Greylist;
use mailgate_store::greylist::{Filter, Identity, Next, Row, Tuple};
use tokio_util::sync::CancellationToken;

struct Nobody;

impl Handoff for Nobody {
    fn hand_over(&self, _: Handover) {}
}

async fn edge() -> (Arc<Edge>, Greylist) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
    let greylist = Greylist::memory(Arc::clone(&clock)).await.unwrap();
    let edge = Edge::new(Parts {
        config: Config::default(),
        hostname: Domain::parse("mx.example.org").unwrap(),
        content_limit: 1000,
        inquiry: None,
        feeds: Vec::new(),
        recipients: None,
        texts: None,
        greylist: greylist.clone(),
        // Never the kernel's: what is fuzzed is no business of this host.
        filter: Arc::new(Memory::new(Arc::clone(&clock), "fuzzing".to_owned())),
        handoff: Arc::new(Nobody),
        tls: None,
        clock,
        shutdown: CancellationToken::new(),
    });
    (edge, greylist)
}

/// Beside each tuple one of a message, as there is where contents are judged.
async fn add_messages(greylist: &Greylist) {
    for row in greylist.list(Filter::default()).await.unwrap() {
        if let Row::Grey { tuple, said, grey } = row {
            let message = Tuple { client: Identity::Message([7; 16]), ..tuple };
            greylist.attempt(&message, &said, |_| Next::Defer(grey));
        }
    }
}

fuzz_target!(|text: &str| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (first, greylist) = edge().await;
        let _ = first.grey_import(text).await.unwrap();
        let dump = first.grey_dump(Query::default()).await.unwrap();
        add_messages(&greylist).await;
        assert_eq!(first.grey_dump(Query::default()).await.unwrap(), dump);
        let (second, _) = edge().await;
        let imported = second.grey_import(&dump).await.unwrap();
        assert!(imported.problems.is_empty(), "{:?} of {dump:?}", imported.problems);
        assert_eq!(second.grey_dump(Query::default()).await.unwrap(), dump);
    });
});
