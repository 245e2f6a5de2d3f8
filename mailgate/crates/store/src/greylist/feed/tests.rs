use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock as _, ManualClock, Timestamp};
use mailgate_proto::edgesync::{Kind, Origin as Told, State};

use super::super::{Grey, Identity, Known, Next, Tuple};
use super::*;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn tuple() -> Tuple {
    Tuple {
        client: "192.0.2.1/32".parse().unwrap(),
        reverse_path: "a@example.org".to_owned(),
        forward_path: "b@example.net".to_owned(),
    }
}

fn grey(first: Timestamp) -> Grey {
    Grey { first, pass: first.plus(MINUTE), expires: first.plus(MINUTE * 60), blocked: 1, passed: 0 }
}

const MINUTE: Duration = Duration::from_secs(60);

async fn greylist() -> (Greylist, ManualClock) {
    let clock = ManualClock::at(START);
    (Greylist::memory(Arc::new(clock.clone())).await.unwrap(), clock)
}

async fn heard(follower: &mut Follower) -> Vec<News> {
    match follower.next().await {
        Heard::News(news) => news,
        Heard::Lost => panic!("nothing was lost"),
    }
}

#[tokio::test]
async fn changes_made_here_are_heard_in_their_order_and_those_of_other_hosts_are_not() {
    let (greylist, _) = greylist().await;
    let mut follower = greylist.follow();
    let said = Said { helo: "mx".to_owned(), ..Said::default() };
    greylist.attempt(&tuple(), &said, |_| Next::Defer(grey(START)));
    let network: IpNet = "198.51.100.7/32".parse().unwrap();
    told_by(Source::Datagram, || greylist.trap(network, MINUTE));
    greylist.add_trap_address("trap@example.net");
    greylist.forget_tuple(&tuple());
    let news = heard(&mut follower).await;
    let kinds: Vec<_> = news.iter().map(|one| (one.key.kind, one.source, one.body.is_some())).collect();
    assert_eq!(
        kinds,
        [
            (Kind::TUPLE, Source::Here, true),
            (Kind::NETWORK, Source::Datagram, true),
            (Kind::TRAP_ADDRESS, Source::Here, true),
            (Kind::TUPLE, Source::Here, false),
        ]
    );
    assert_eq!(news[0].said.as_ref().unwrap().helo, "mx");
    assert!(greylist.exchange(&news[0].key, None, news[0].body));
    greylist.add_trap_address("last@example.net");
    assert_eq!(heard(&mut follower).await.len(), 1, "only the last");
    assert_eq!(follower.all().await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_other_hosts_say_is_made_so_only_where_it_was_as_they_think() {
    let (greylist, clock) = greylist().await;
    let key = tuple_key(&tuple());
    let early = grey(Timestamp::from_secs(START.secs() - 30));
    assert!(greylist.exchange(&key, None, Some(grey_body(grey(START)))));
    assert!(!greylist.exchange(&key, None, Some(grey_body(early))), "there is something now");
    assert!(greylist.exchange(&key, Some(grey_body(grey(START))), Some(grey_body(early))));
    assert_eq!(greylist.state(&tuple()), Some(early));
    clock.advance(MINUTE * 61);
    assert!(greylist.exchange(&key, None, Some(grey_body(grey(clock.now())))), "what is over is nothing");
    // What was said here stays.
    greylist.attempt(&tuple(), &Said { helo: "mx".to_owned(), ..Said::default() }, |known| {
        Next::Defer(known.unwrap())
    });
    assert!(greylist.exchange(&key, Some(grey_body(grey(clock.now()))), Some(grey_body(early))));
    let network = network_key("192.0.2.0/24".parse().unwrap());
    let body = Body { state: State::Trapped, origin: Told::Admin, ..grey_body(grey(clock.now())) };
    assert!(greylist.exchange(&network, None, Some(body)));
    assert!(matches!(greylist.standing("192.0.2.9".parse().unwrap()), super::super::Standing::Trapped(..)));
    greylist.flush().await.unwrap();
    assert!(greylist.exchange(&network, Some(body), None));
    let identity = Identity::Spf("example.org".to_owned());
    let known = greylist.credit(&identity, super::super::Credit::Message, MINUTE).unwrap();
    let later = Known { last: known.last.plus(MINUTE), messages: 7, ..known };
    let joined = known_body(known).join(known_body(later));
    assert!(greylist.exchange(&identity_key(&identity), Some(known_body(known)), Some(joined)));
    assert_eq!(greylist.known(&identity), Some(later));
    for (kind, text) in
        [(Kind::TUPLE, "nonsense"), (Kind::IDENTITY, ""), (Kind::NETWORK, "x/99"), (Kind(99), "later")]
    {
        assert!(greylist.exchange(&Key::of(kind, &[text]), None, Some(body)), "left alone");
    }
}

#[tokio::test]
async fn who_is_too_slow_hears_that_something_was_lost() {
    let (greylist, _) = greylist().await;
    let mut follower = greylist.follow();
    let network: IpNet = "198.51.100.7/32".parse().unwrap();
    for _ in 0..=NEWS_LIMIT {
        greylist.trap(network, MINUTE);
    }
    assert!(matches!(follower.next().await, Heard::Lost));
    drop(follower);
    greylist.trap(network, MINUTE);
}
