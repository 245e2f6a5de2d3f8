//! Traps that last longer each time, and what makes them forgotten.

use super::*;

const TERMS: Terms = Terms { first: DAY, longest: Duration::from_secs(7 * 86_400) };

/// Days that the trap lasts from now.
fn trap(list: &Greylist, clock: &ManualClock) -> u64 {
    let peer = list.trap_under(net("192.0.2.1"), &TERMS);
    assert_eq!(peer.kind, PeerKind::Trapped);
    peer.expires.since(clock.now()).as_secs() / 86_400
}

#[tokio::test]
async fn each_further_trap_lasts_twice_as_long_up_to_a_week() {
    let (clock, list) = fresh().await;
    for days in [1, 2, 4, 7, 7] {
        assert_eq!(trap(&list, &clock), days);
        clock.advance(8 * DAY);
        list.sweep().await.unwrap();
        assert_eq!(list.standing(ip("192.0.2.1")), Standing::Unknown);
    }
    assert_eq!(list.times_trapped(net("192.0.2.1")), 5);
    clock.advance(23 * DAY);
    assert_eq!(trap(&list, &clock), 1, "forgiven after thirty days");
}

#[tokio::test]
async fn a_hit_while_trapped_renews_and_does_not_double() {
    let (clock, list) = fresh().await;
    trap(&list, &clock);
    clock.advance(DAY / 2);
    assert_eq!(trap(&list, &clock), 1, "from its last hit");
    assert_eq!(list.times_trapped(net("192.0.2.1")), 1);
}

#[tokio::test]
async fn accepted_mail_and_the_administrator_forgive() {
    let (clock, list) = fresh().await;
    let again = |list: &Greylist, clock: &ManualClock| {
        clock.advance(9 * DAY);
        trap(list, clock)
    };
    trap(&list, &clock);
    assert_eq!(again(&list, &clock), 2);
    assert!(list.forget_peer(net("192.0.2.1"), PeerKind::Trapped));
    assert_eq!(again(&list, &clock), 1, "freed by command");
    list.admit(net("192.0.2.0/24"), passed(clock.now(), Origin::Admin));
    list.forget_peer(net("192.0.2.0/24"), PeerKind::Passed);
    assert_eq!(again(&list, &clock), 1, "passed by command, with its network");
    clock.advance(9 * DAY);
    list.learn(net("192.0.2.1"), passed(clock.now(), Origin::Learned));
    assert!(list.accepted(ip("192.0.2.1"), DAY));
    assert_eq!(again(&list, &clock), 1, "mail was accepted");
    list.trap_under(net("2001:db8::/64"), &TERMS);
    list.accepted(ip("2001:db8::7"), DAY);
    assert_eq!(list.times_trapped(net("2001:db8::/64")), 0, "with the whole network of an IPv6 host");
}

#[tokio::test]
async fn the_past_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let clock = ManualClock::at(START);
    let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
    trap(&list, &clock);
    list.trap_under(net("2001:db8::/64"), &TERMS);
    list.forget_peer(net("2001:db8::/64"), PeerKind::Trapped);
    list.flush().await.unwrap();
    drop(list);
    clock.advance(9 * DAY);
    let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
    assert_eq!(list.times_trapped(net("2001:db8::/64")), 0);
    assert_eq!(trap(&list, &clock), 2);
}
