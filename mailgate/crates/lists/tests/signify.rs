//! Signed lists, with signify(1) at the other end.

#![allow(clippy::unwrap_used, reason = "a test")]

mod station;

use std::path::Path;
use std::process::Command;

use mailgate_lists::rows::SourceState;
use mailgate_lists::signify::{PublicKey, SecretKey, beside, put};
use station::{Station, is_installed, run};

/// OpenBSD's tool, as Debian calls it.
const SIGNIFY: &str = "signify-openbsd";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn signify_believes_what_we_sign_and_we_believe_what_it_signs() {
    if !is_installed(SIGNIFY, "signify-openbsd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [public, secret, list] = ["feed.pub", "feed.sec", "trapped.txt"].map(|name| folder.path().join(name));
    run(SIGNIFY, &["-G", "-n", "-p", text(&public), "-s", text(&secret)]);
    put(&list, "192.0.2.1\n", Some(&SecretKey::read(&secret).unwrap())).unwrap();
    let check = ["-V", "-p", text(&public), "-m", text(&list)];
    assert!(run(SIGNIFY, &check).contains("Signature Verified"));
    let key = PublicKey::read(&public).unwrap();
    let signature = || std::fs::read(beside(&list)).unwrap();
    assert_eq!(key.verify(b"192.0.2.1\n", &signature()), Ok(()));

    std::fs::write(&list, "192.0.2.2\n").unwrap();
    let refused = Command::new(SIGNIFY).args(check).output().unwrap();
    assert!(!refused.status.success(), "changed afterwards");
    assert!(key.verify(b"192.0.2.2\n", &signature()).is_err());
    run(SIGNIFY, &["-S", "-s", text(&secret), "-m", text(&list)]);
    assert_eq!(key.verify(b"192.0.2.2\n", &signature()), Ok(()));
}

#[tokio::test]
async fn a_list_that_has_to_be_signed_is_taken_only_so() {
    let folder = tempfile::tempdir().unwrap();
    let [public, list] = ["feed.pub", "block.txt"].map(|name| folder.path().join(name));
    // Made for these tests, and used nowhere else.
    let secret = b"untrusted comment: signify secret key\nRWRCSwAAAABN4CRDMCnEM52TvA17gs41r+t5rAVE0iQcEjd5zDUeuvHLtVwoPrtXuxjj2u2WMp/aup+FR9CzuNgaa10oWNLv/tY/vd4ujWbINdPGmy6MWfRm7doV3PJwZZsXr9q7Bck=\n";
    let key =
        "untrusted comment: signify public key\nRWQcEjd5zDUeuv7WP73eLo1myDXTxpsujFn0Zu3aFdzycGWbF6/auwXJ\n";
    std::fs::write(&public, key).unwrap();
    let secret = SecretKey::parse(secret).unwrap();
    put(&list, "192.0.2.1\n", Some(&secret)).unwrap();
    let config = format!(
        "[[source]]\nkind = \"file\"\nname = \"feed\"\npath = {:?}\ntable = \"block\"\nsigned_by = {:?}\n",
        text(&list),
        text(&public)
    );
    let mut station = Station::start(&config);
    station.told(&["block 192.0.2.1/32"]).await;
    put(&list, "192.0.2.1\n192.0.2.2\n", Some(&secret)).unwrap();
    station.told(&["block 192.0.2.1/32", "block 192.0.2.2/32"]).await;
    // Somebody else writes it.
    put(&list, "203.0.113.1\n", None).unwrap();
    let mut said = String::new();
    let looks = async {
        while !said.contains("found a signature that is not of this text") {
            let row = station.lists.sources().await.unwrap().remove(0);
            said = row.error.unwrap_or_default();
            assert_eq!(row.entries, 2, "{said}");
            tokio::task::yield_now().await;
        }
        station.lists.sources().await.unwrap().remove(0).state
    };
    let state = tokio::time::timeout(std::time::Duration::from_secs(40), looks).await.unwrap();
    assert_eq!(state, SourceState::Failed);
    put(&list, "203.0.113.1\n", Some(&secret)).unwrap();
    station.told(&["block 203.0.113.1/32"]).await;
}
