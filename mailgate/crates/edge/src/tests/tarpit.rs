use mailgate_lists::Action;
use mailgate_model::Span;

use super::world::{Peer, SECOND, World};
use crate::config::LastWord;

/// Lets `seconds` pass, one after the other, and gives the bytes that came: exactly one a second, or the test fails.
async fn hear(world: &World, peer: &mut Peer, seconds: usize) -> String {
    let mut heard = String::new();
    for _ in 0..seconds {
        let before = world.edge.statistics().stuttered;
        // A session inside TLS must have begun to wait before time goes on.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(SECOND);
        heard.push(char::from(peer.byte().await));
        assert_eq!(world.edge.statistics().stuttered, before + 1, "one byte a second, after {heard:?}");
    }
    heard
}

/// Hears a whole reply, byte by byte.
async fn reply(world: &World, peer: &mut Peer) -> String {
    let mut all = String::new();
    loop {
        all += &hear(world, peer, 1).await;
        let last = all.trim_end_matches("\r\n").rsplit("\r\n").next().unwrap_or_default();
        if all.ends_with("\r\n") && last.as_bytes().get(3) == Some(&b' ') {
            return all;
        }
    }
}

/// Between two commands one turn of the wheel passes in which we only listen.
async fn ask(world: &World, peer: &mut Peer, command: &str) -> String {
    peer.send(&format!("{command}\r\n")).await;
    reply(world, peer).await
}

#[tokio::test]
async fn a_listed_client_hears_one_byte_a_second_until_the_last_word() {
    let world = World::new(|config| {
        config.tarpit.messages.insert("spews".into(), "No mail from %A".into());
    })
    .await;
    world.list("192.0.2.1", Action::Tarpit, &["spews", "feed"]);
    let mut peer = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 1).await;
    assert_eq!(reply(&world, &mut peer).await, "220 mx.example.org ESMTP mailgate\r\n");
    assert!(
        ask(&world, &mut peer, "EHLO spammer").await.starts_with("250-mx.example.org\r\n250-PIPELINING\r\n")
    );
    assert_eq!(ask(&world, &mut peer, "MAIL FROM:<a@x.org>").await, "250 2.1.0 Sender ok\r\n");
    assert_eq!(ask(&world, &mut peer, "RCPT TO:<b@example.org>").await, "250 2.1.5 Recipient ok\r\n");
    assert!(ask(&world, &mut peer, "DATA").await.starts_with("354 "));
    let last = ask(&world, &mut peer, "Subject: x\r\n\r\nbuy\r\n.").await;
    assert_eq!(
        last,
        "450-4.7.1 No mail from 192.0.2.1\r\n450 4.7.1 Your address 192.0.2.1 is in the list feed\r\n"
    );
    assert_eq!(peer.rest().await, "");
    world.until(|now| now.held_now == 0).await;
}

#[tokio::test]
async fn parity_every_text_of_every_list_is_said_in_one_reply() {
    for (word, code, status) in [(LastWord::Transient, "450", "4.7.1"), (LastWord::Permanent, "550", "5.7.1")]
    {
        let world = World::new(|config| {
            config.tarpit.last_word = word;
            config.tarpit.messages.insert("own".into(), "From %A\\nno \\\"mail\\\" at 100%%".into());
        })
        .await;
        world.list("2001:db8::1", Action::Tarpit, &["spews", "own", "feed"]);
        world.text("2001:db8::1", "spews", "Spam from 2001:db8::1\nsee https://x.org/");
        world.text("2001:db8::1", "spews", "and another text");
        let mut peer = world.connect("2001:db8::1").await;
        world.until(|now| now.held_now == 1).await;
        reply(&world, &mut peer).await;
        for command in ["HELO c", "MAIL FROM:<a@x.org>", "RCPT TO:<b@example.org>", "DATA"] {
            ask(&world, &mut peer, command).await;
        }
        let lines = [
            "Spam from 2001:db8::1",
            "see https://x.org/",
            "and another text",
            "From 2001:db8::1",
            "no \"mail\" at 100%",
            "Your address 2001:db8::1 is in the list feed",
        ];
        let want: String = lines
            .iter()
            .enumerate()
            .map(|(n, line)| format!("{code}{}{status} {line}\r\n", if n < 5 { '-' } else { ' ' }))
            .collect();
        assert_eq!(ask(&world, &mut peer, "Subject: x\r\n\r\nbuy\r\n.").await, want);
        assert_eq!(peer.rest().await, "");
    }
}

#[tokio::test]
async fn one_network_cannot_fill_the_tarpit() {
    let world = World::new(|config| config.tarpit.per_network = 2).await;
    for ip in ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.3.1"] {
        world.list(ip, Action::Tarpit, &["feed"]);
    }
    let first = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 1).await;
    let _second = world.connect("192.0.2.2").await;
    world.until(|now| now.held_now == 2).await;
    assert_eq!(world.connect("192.0.2.3").await.rest().await, "", "closed");
    let _elsewhere = world.connect("192.0.3.1").await;
    world.until(|now| now.held_now == 3 && now.network_full == 1).await;
    drop(first);
    // Only a byte that nobody takes tells that it is gone.
    world
        .until(|now| {
            world.clock.advance(SECOND);
            now.held_now == 2
        })
        .await;
    let _third = world.connect("192.0.2.3").await;
    world.until(|now| now.held_now == 3).await;
}

#[tokio::test]
async fn more_clients_than_the_pace_allows_wait_longer_each() {
    let world = World::new(|config| config.tarpit.pace = 100).await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    let mut peers = Vec::new();
    for count in 1..=300 {
        peers.push(world.connect("192.0.2.1").await);
        world.until(|now| now.held_now == count).await;
    }
    // Three hundred at a hundred a second: everybody's turn comes every three seconds.
    let mut stuttered = Vec::new();
    for _ in 0..9 {
        let before = world.edge.statistics().stuttered;
        for _ in 0..10 {
            world.clock.advance(SECOND / 10);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        stuttered.push(world.edge.statistics().stuttered - before);
    }
    let later: u64 = stuttered.iter().skip(3).sum();
    assert!((550..=650).contains(&later), "600 in six seconds: {stuttered:?}");
}

#[tokio::test]
async fn parity_a_pipelining_client_is_answered_to_the_end() {
    let world = World::usual().await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    let mut peer = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 1).await;
    peer.send("HELO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nQUIT\r\n").await;
    let mut heard = String::new();
    while !heard.ends_with("Bye\r\n") {
        heard += &reply(&world, &mut peer).await;
    }
    let want = "220 mx.example.org ESMTP mailgate\r\n250 mx.example.org\r\n250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n221 2.0.0 Bye\r\n";
    assert_eq!(heard, want);
    assert_eq!(peer.rest().await, "");
}

#[tokio::test]
async fn defect_07_tls_is_no_way_out_of_the_tarpit() {
    let world = World::usual().await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    let mut peer = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 1).await;
    reply(&world, &mut peer).await;
    assert!(ask(&world, &mut peer, "EHLO c").await.ends_with("250 STARTTLS\r\n"));
    assert!(ask(&world, &mut peer, "STARTTLS").await.starts_with("220 "));
    let mut peer = peer.start_tls(&world.tls).await;
    assert!(!ask(&world, &mut peer, "EHLO c").await.contains("STARTTLS"));
    assert_eq!(ask(&world, &mut peer, "MAIL FROM:<a@x.org>").await, "250 2.1.0 Sender ok\r\n");
    assert_eq!(world.edge.statistics().held_now, 1);
    assert_eq!(ask(&world, &mut peer, "QUIT").await, "221 2.0.0 Bye\r\n");
    assert_eq!(peer.rest().await, "");
    world.until(|now| now.held_now == 0).await;
}

#[tokio::test]
async fn who_steps_into_a_trap_is_held_from_then_on_and_a_day_long() {
    let mut world = World::usual().await;
    world.edge.grey_add(crate::Given::TrapAddress { address: "Trap@Example.org".into() }).await.unwrap();
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask("MAIL FROM:<a@x.org>").await;
    peer.send("RCPT TO:<trap@example.ORG>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
    world.until(|now| now.held_now == 1).await;
    assert_eq!(reply(&world, &mut peer).await, "250 2.1.5 Recipient ok\r\n");
    // One turn to look at what was read before.
    world.clock.advance(SECOND);
    assert_eq!(reply(&world, &mut peer).await, "250 2.1.5 Recipient ok\r\n");
    world.clock.advance(SECOND);
    assert!(reply(&world, &mut peer).await.starts_with("354 "));
    let last = ask(&world, &mut peer, ".").await;
    assert_eq!(last, "450 4.7.1 Your address 192.0.2.1 sent mail to a trap within the last days\r\n");

    let again = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 1).await;
    drop(again);
    world.clock.advance(24 * 3600 * SECOND);
    assert!(world.attempt("192.0.2.1", "a@x.org", "b@example.org").await.is_some(), "unknown again");
    assert_eq!(world.edge.statistics().trapped, 1);
}

#[tokio::test]
async fn parity_a_tls_client_is_held_inside_tls() {
    let world = World::usual().await;
    world.edge.grey_add(crate::Given::TrapAddress { address: "trap@example.org".into() }).await.unwrap();
    let mut peer = world.connect("2001:db8::1").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask("STARTTLS").await;
    let mut peer = peer.start_tls(&world.tls).await;
    peer.ask("EHLO c").await;
    peer.ask("MAIL FROM:<a@x.org>").await;
    peer.send("RCPT TO:<trap@example.org>\r\n").await;
    world.until(|now| now.held_now == 1).await;
    assert_eq!(reply(&world, &mut peer).await, "250 2.1.5 Recipient ok\r\n");
    let other = world.edge.grey_show("2001:db8::ffff".parse().unwrap()).await.unwrap();
    assert_eq!(other.standing, "trapped", "the whole /64");
}

#[tokio::test]
async fn parity_beyond_the_capacity_the_oldest_listed_client_makes_room_and_unknown_ones_are_served() {
    let world = World::new(|config| config.tarpit.capacity = 3).await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    world
        .edge
        .grey_add(crate::Given::Trapped { network: "192.0.2.2/32".parse().unwrap(), lasts: None })
        .await
        .unwrap();
    let mut trapped = world.connect("192.0.2.2").await;
    world.until(|now| now.held_now == 1).await;
    let mut oldest = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 2).await;
    let mut younger = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 3).await;
    let mut youngest = world.connect("192.0.2.1").await;
    assert_eq!(oldest.rest().await, "", "shed");
    world.until(|now| now.shed == 1 && now.held_now == 3).await;
    let mut unknown = world.connect("192.0.2.3").await;
    assert!(unknown.reply().await.starts_with("220 "), "nobody unknown is refused because of the listed");
    world.clock.advance(SECOND);
    for held in [&mut trapped, &mut younger, &mut youngest] {
        assert_eq!(held.byte().await, b'2');
    }
}

#[tokio::test]
async fn who_goes_or_is_silent_for_too_long_is_let_go() {
    let world = World::usual().await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    let gone = world.connect("192.0.2.1").await;
    let mut silent = world.connect("192.0.2.1").await;
    world.until(|now| now.held_now == 2).await;
    drop(gone);
    for _ in 0.."220 mx.example.org ESMTP mailgate\r\n".len() {
        world.clock.advance(SECOND);
        silent.byte().await;
    }
    world.until(|now| now.held_now == 1).await;
    for _ in 0..2 {
        world.clock.advance(399 * SECOND);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(silent.rest().await, "");
    world.until(|now| now.held_now == 0).await;
}

#[tokio::test]
async fn the_interval_is_configured_and_many_share_the_wheel() {
    let world = World::new(|config| config.tarpit.interval = Span::from_millis(100)).await;
    world.list("192.0.2.1", Action::Tarpit, &["feed"]);
    let mut peers = Vec::new();
    for count in 1..=50 {
        peers.push(world.connect("192.0.2.1").await);
        world.until(|now| now.held_now == count).await;
    }
    for byte in b"220 " {
        world.clock.advance(SECOND / 10);
        for peer in &mut peers {
            assert_eq!(peer.byte().await, *byte);
        }
    }
    assert_eq!(world.edge.statistics().stuttered, 200);
}

#[test]
fn a_held_connection_costs_less_than_160_bytes() {
    let size = crate::tarpit::VICTIM_SIZE;
    assert!(size < 160, "{size}");
}
