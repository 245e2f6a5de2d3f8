use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::listen;

fn md5(text: &str) -> Signature {
    Signature::Md5(Key::new(text).unwrap())
}

fn ao(text: &str) -> Signature {
    let key = Key::new(text).unwrap();
    Signature::Ao { key, send_id: 1, receive_id: 1, algorithm: AoAlgorithm::HmacSha1 }
}

/// How long to listen: a segment that is not wanted is dropped without an answer, so silence is waited for only briefly.
fn patience(is_wanted: bool) -> Duration {
    if is_wanted { Duration::from_secs(30) } else { Duration::from_millis(600) }
}

/// Whether a neighbour that signs like `theirs` reaches one that expects `ours`; `None` when the kernel cannot.
async fn meet(at: &str, ours: &Signature, theirs: Option<Signature>, meets: bool) -> Option<bool> {
    let at: IpAddr = at.parse().unwrap();
    let listener = listen(SocketAddr::new(at, 0)).unwrap();
    let expected = Terms { signature: Some(ours.clone()), hops: Hops::System };
    if let Err(error) = expect_neighbour(&listener, at, &expected) {
        println!("skipped: {error}");
        return None;
    }
    let terms = Terms { signature: theirs, hops: Hops::System };
    let dialled = dial_neighbour(listener.local_addr().unwrap(), Some(at), &terms);
    let said = async {
        let (mut accepted, _) = listener.accept().await.unwrap();
        accepted.write_all(b"well met").await.unwrap();
    };
    let heard = async {
        let mut text = [0; 8];
        dialled.await.unwrap().read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"well met");
    };
    Some(tokio::time::timeout(patience(meets), async { tokio::join!(said, heard) }).await.is_ok())
}

#[tokio::test]
async fn only_who_signs_with_the_same_key_gets_through() {
    for at in ["127.0.0.1", "::1"] {
        for (theirs, want) in [(Some(md5("secret")), true), (Some(md5("other")), false), (None, false)] {
            let Some(met) = meet(at, &md5("secret"), theirs.clone(), want).await else { return };
            assert_eq!(met, want, "{at} {theirs:?}");
        }
    }
}

#[tokio::test]
async fn tcp_ao_works_where_the_kernel_has_it() {
    for (theirs, want) in [(Some(ao("secret")), true), (Some(ao("other")), false), (None, false)] {
        let Some(met) = meet("127.0.0.1", &ao("secret"), theirs.clone(), want).await else { return };
        assert_eq!(met, want, "{theirs:?}");
    }
}

#[tokio::test]
async fn who_is_too_far_away_is_not_heard() {
    for at in ["127.0.0.1", "::1"] {
        for (theirs, want) in [(Hops::Checked(1), true), (Hops::System, false), (Hops::Reach(255), true)] {
            let at: IpAddr = at.parse().unwrap();
            let listener = listen(SocketAddr::new(at, 0)).unwrap();
            let ours = Terms { hops: Hops::Checked(1), signature: None };
            expect_neighbour(&listener, at, &ours).unwrap();
            let terms = Terms { hops: theirs, signature: None };
            let dialled = dial_neighbour(listener.local_addr().unwrap(), None, &terms).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            welcome_neighbour(&accepted, at, &ours).unwrap();
            let mut dialled = dialled;
            dialled.write_all(b"hello").await.unwrap();
            let mut text = [0; 5];
            let read = tokio::time::timeout(patience(want), accepted.read_exact(&mut text)).await;
            assert_eq!(read.is_ok(), want, "{at} {theirs:?}");
        }
    }
}

#[test]
fn keys_are_not_printed_and_have_limits() {
    assert_eq!(format!("{:?}", md5("secret")), "Md5(Key(6 bytes))");
    assert!(Key::new("").is_none() && Key::new([1; 81]).is_none() && Key::new([1; 80]).is_some());
}

#[test]
fn what_the_kernel_is_given_has_its_layout() {
    // linux/tcp.h: 128 + 1 + 1 + 2 + 4 + 80, and 128 + 64 + 4 + 4 + 2 + 6 + 80.
    assert_eq!((size_of::<Md5Given>(), size_of::<AoGiven>()), (216, 288));
}
