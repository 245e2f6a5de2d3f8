//! Whole sessions of random commands: how the octets are split makes no difference, and what is acknowledged is there.

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::*;

/// Pieces of a session, lawful and not. STARTTLS is left out: what may follow it depends on time by design.
const PIECES: &[&str] = &[
    "EHLO client.example\r\n",
    "HELO client.example\r\n",
    "MAIL FROM:<a@client.example>\r\n",
    "MAIL FROM:<> SMTPUTF8\r\n",
    "RCPT TO:<alice@example.org>\r\n",
    "RCPT TO:<both@example.org>\r\n",
    "RCPT TO:<nobody@example.org>\r\n",
    "RCPT TO:<far@client.example>\r\n",
    "DATA\r\n",
    "From: a@client.example\r\n\r\nbody\r\n.\r\n",
    "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\n",
    ".\r\n",
    "BDAT 4\r\nab\r\n",
    "BDAT 4 LAST\r\nab\r\n",
    "BDAT 0 LAST\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "x\ry\r\n",
    "\n",
    "\r",
    "\0",
    "VRFY alice\r\n",
    "AUTH PLAIN\r\n",
    "QUIT\r\n",
];

/// Everything the server says to `pieces`, queue ids blanked, and how many messages it acknowledged.
async fn replies(place: &Place, pieces: &[Vec<u8>]) -> (String, usize) {
    let peer = place.mx().await;
    let (mut reads, mut writes) = tokio::io::split(peer.stream);
    let talk = async {
        for piece in pieces {
            // The server may have closed; what it said counts.
            if writes.write_all(piece).await.is_err() || writes.flush().await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = writes.shutdown().await;
    };
    let listen = async {
        let mut heard = Vec::new();
        let _ = reads.read_to_end(&mut heard).await;
        String::from_utf8(heard).unwrap()
    };
    let ((), heard) = tokio::join!(talk, listen);
    let lines: Vec<&str> = heard.lines().map(|line| line.split(" queued as").next().unwrap()).collect();
    (lines.join("\n"), heard.matches("queued as").count())
}

#[test]
fn any_split_of_a_session_gives_the_same_replies_and_what_was_acknowledged_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = runtime.block_on(place());
    let sessions = proptest::collection::vec(proptest::sample::select(PIECES), 1..25);
    let cuts = proptest::collection::vec(any::<prop::sample::Index>(), 0..12);
    let mut acknowledged = 0;
    let counted = std::cell::RefCell::new(&mut acknowledged);
    let mut runner = TestRunner::new(Runs { cases: 200, ..Runs::default() });
    let outcome = runner.run(&(sessions, cuts), |(pieces, cuts)| {
        let whole = format!("EHLO client.example\r\n{}", pieces.concat()).into_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        at.extend([0, whole.len()]);
        at.sort_unstable();
        let split: Vec<Vec<u8>> = at.windows(2).map(|pair| whole[pair[0]..pair[1]].to_vec()).collect();
        let (once, first) = runtime.block_on(replies(&place, std::slice::from_ref(&whole)));
        let (again, second) = runtime.block_on(replies(&place, &split));
        **counted.borrow_mut() += first + second;
        prop_assert_eq!(once, again);
        Ok(())
    });
    outcome.unwrap();
    let listed = runtime.block_on(place.spool.list(10_000, None)).unwrap();
    assert_eq!(listed.len(), acknowledged);
    assert!(acknowledged > 0, "the pieces never make a message");
}
