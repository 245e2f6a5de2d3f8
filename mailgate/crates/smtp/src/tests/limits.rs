//! Every limit has a name and a reply, and what is over it costs no memory.

use super::fixture::*;

#[tokio::test]
async fn a_line_over_the_limit_is_refused_and_the_session_goes_on() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.says(&format!("NOOP {}", "x".repeat(100_000)), "500 5.5.2 Line too long").await;
    peer.says("NOOP", "250").await;
}

#[tokio::test]
async fn a_hundred_megabytes_in_one_line_of_a_message_are_refused_after_its_end() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.says("DATA", "354").await;
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..100 {
        peer.sends(&piece).await;
        assert!(place.server.budget.has_room_for(250 * 1024 * 1024), "a refused content is not kept");
    }
    peer.sends("\r\n.\r\n").await;
    peer.hears("550 5.6.0 Message has a line that is too long").await;
    peer.says("NOOP", "250").await;
}

#[tokio::test]
async fn a_message_over_the_size_is_refused_early_when_announced_and_late_when_not() {
    let place = place_with(|config| config.message_size = 100_000).await;
    let mut peer = place.mx_greeted().await;
    peer.says("MAIL FROM:<a@client.example> SIZE=100001", "552 5.3.4").await;
    peer.says("MAIL FROM:<a@client.example> SIZE=99999999999999999999", "552 5.3.4").await;
    peer.says("MAIL FROM:<a@client.example> SIZE=100000", "250").await;
    peer.says("RCPT TO:<alice@example.org>", "250").await;
    peer.data(&"0123456789abcdefgh\r\n".repeat(5001), "552 5.3.4").await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(&"0123456789abcdefgh\r\n".repeat(5000), "250").await;
}

#[tokio::test]
async fn a_chunk_beyond_all_bounds_ends_the_session_and_one_too_big_is_read_past() {
    let place = place_with(|config| config.message_size = 100_000).await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.sends(format!("BDAT 200000 LAST\r\n{}NOOP\r\n", "0123456789abcdefgh\r\n".repeat(10_000))).await;
    peer.hears("552 5.3.4").await;
    peer.hears("250 2.0.0").await;
    peer.says("BDAT 18446744073709551615 LAST", "552 5.3.4").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn ten_thousand_recipients_cost_ten_thousand_short_replies() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.says("MAIL FROM:<a@client.example>", "250").await;
    let mut heard = (0, 0);
    for _ in 0..100 {
        peer.sends("RCPT TO:<alice@example.org>\r\n".repeat(100)).await;
        for _ in 0..100 {
            match peer.answer().await.unwrap().code {
                250 => heard.0 += 1,
                452 => heard.1 += 1,
                code => panic!("{code}"),
            }
        }
    }
    assert_eq!(heard, (100, 9900));
    peer.data(CONTENT, "250").await;
    assert_eq!(place.spool.list(10, None).await.unwrap()[0].recipients, 1);
}

#[tokio::test]
async fn too_many_wrong_commands_end_the_session() {
    let place = place().await;
    let mut peer = place.mx().await;
    peer.hears("220").await;
    peer.sends("GET / HTTP/1.1\r\n".repeat(30)).await;
    for _ in 0..19 {
        peer.hears("500 5.5.1").await;
    }
    peer.hears("421 4.7.0").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn a_client_that_only_keeps_its_place_loses_it() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    for _ in 0..99 {
        peer.says("NOOP", "250 2.0.0").await;
    }
    peer.says("NOOP", "421 4.7.0").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn garbage_ends_in_a_refusal() {
    let place = place().await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"[..], b"\0\0\0\0\r\n", &[0xff; 3000], b"\n\n\n"]
    {
        let mut peer = place.mx().await;
        peer.hears("220").await;
        peer.sends(garbage).await;
        peer.hears("500").await;
    }
}

#[tokio::test]
async fn when_memory_for_contents_is_used_up_clients_come_again() {
    let place = place_with(|config| {
        config.message_size = 1_000_000;
        config.content_memory = 2_000_000;
    })
    .await;
    let half = "0123456789abcdefgh\r\n".repeat(40_000);
    // The first keeps most of it with a content that does not end.
    let mut first = place.mx_greeted().await;
    first.envelope("a@client.example", &["alice@example.org"]).await;
    first.sends(format!("BDAT {}\r\n{half}", half.len())).await;
    first.hears("250").await;
    let mut second = place.mx_greeted().await;
    second.says("MAIL FROM:<a@client.example> SIZE=900000", "452 4.3.1").await;
    second.envelope("a@client.example", &["alice@example.org"]).await;
    second.data(&half, "452 4.3.1").await;
    first.says("RSET", "250").await;
    second.envelope("a@client.example", &["alice@example.org"]).await;
    second.data(&half, "250").await;
}

#[tokio::test]
async fn a_hundred_thousand_header_fields_are_taken_in_good_time() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(&format!("{}{CONTENT}", "X-A: b\r\n".repeat(100_000)), "250").await;
}

#[test]
fn a_session_is_a_small_future() {
    fn size<F: Future>(_: &impl FnOnce() -> F) -> usize {
        std::mem::size_of::<F>()
    }
    let resume = || async { crate::session::Session::resume(unreachable(), unreachable()).await };
    assert!(size(&resume) < 6 * 1024, "{}", size(&resume));
}

fn unreachable<T>() -> T {
    unreachable!()
}

#[tokio::test]
async fn one_source_takes_no_more_than_its_share_of_the_places_also_when_the_edge_hands_it_on() {
    let place = place_with(|config| config.sessions_per_source = 2).await;
    let first = place.mx_greeted().await;
    let _second = place.mx_greeted().await;
    let mut third = place.mx().await;
    third.hears("421 4.3.2").await;
    third.sees_the_end().await;
    first.vanishes().await;
    let _fourth = place.mx_greeted().await;
}
