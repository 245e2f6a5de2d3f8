use mailgate_model::{ManualClock, Timestamp};

use super::*;
use crate::Secret;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

async fn people() -> (Accounts, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
    let records = Records::memory(Arc::new(clock.clone())).unwrap();
    let accounts = Accounts::open(records, Config::default(), Path::new("/state"), Arc::new(clock.clone()));
    accounts.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
    accounts.add_account(&at("alice"), Secret::Password("secret".into()), None).await.unwrap();
    (accounts, clock)
}

fn at(local: &str) -> Address {
    Address::parse(&format!("{local}@example.org")).unwrap()
}

async fn expanded(accounts: &Accounts, text: &str) -> Expansion {
    accounts.expand(&ForwardPath::try_from(text.to_owned()).unwrap()).await.unwrap()
}

fn to(addresses: &[&str]) -> Expansion {
    Expansion::Targets(addresses.iter().map(|text| Address::parse(text).unwrap()).collect())
}

#[tokio::test]
async fn accounts_sub_addresses_and_duties_are_found() {
    let (accounts, _) = people().await;
    for text in [
        "alice@example.org",
        "ALICE@Example.org",
        "alice+shop@example.org",
        "postmaster@example.org",
        "Abuse@example.org",
        "postmaster",
    ] {
        assert_eq!(expanded(&accounts, text).await, to(&["alice@example.org"]), "{text}");
    }
    assert_eq!(expanded(&accounts, "bob@example.org").await, Expansion::Unknown);
    assert_eq!(expanded(&accounts, "bob@example.net").await, Expansion::Foreign);
    assert_eq!(expanded(&accounts, "alice@[192.0.2.1]").await, Expansion::Foreign);
}

#[tokio::test]
async fn aliases_are_followed_and_loops_end() {
    let (accounts, _) = people().await;
    let target = |text: &str| vec![Address::parse(text).unwrap()];
    accounts
        .add_alias("sales@example.org", &[at("team"), Address::parse("x@example.net").unwrap()])
        .await
        .unwrap();
    accounts.add_alias("team@example.org", &[at("sales"), at("alice")]).await.unwrap();
    assert_eq!(expanded(&accounts, "sales@example.org").await, to(&["x@example.net", "alice@example.org"]));
    accounts.add_alias("a@example.org", &target("b@example.org")).await.unwrap();
    accounts.add_alias("b@example.org", &target("a@example.org")).await.unwrap();
    assert_eq!(expanded(&accounts, "a@example.org").await, Expansion::Unknown);
    accounts.add_alias("@example.org", &target("alice@example.org")).await.unwrap();
    assert_eq!(expanded(&accounts, "whoever@example.org").await, to(&["alice@example.org"]));
}

#[tokio::test]
async fn only_the_right_password_of_an_active_account_is_right() {
    let (accounts, _) = people().await;
    assert_eq!(accounts.authenticate("ALICE@example.org", "secret", IP).await.unwrap(), Some(at("alice")));
    for (login, secret) in [
        ("alice@example.org", "Secret"),
        ("bob@example.org", "secret"),
        ("alice", "secret"),
        ("", ""),
        ("alice@example.org", ""),
    ] {
        assert_eq!(accounts.authenticate(login, secret, IP).await.unwrap(), None, "{login} {secret}");
    }
}

#[tokio::test]
async fn a_guesser_is_refused_for_a_while_and_others_are_not() {
    let (accounts, clock) = people().await;
    for _ in 0..10 {
        assert_eq!(accounts.authenticate("alice@example.org", "wrong", IP).await.unwrap(), None);
    }
    assert!(matches!(accounts.authenticate("alice@example.org", "secret", IP).await, Err(Error::Throttled)));
    let other = "192.0.2.2".parse().unwrap();
    assert!(accounts.authenticate("alice@example.org", "secret", other).await.unwrap().is_some());
    clock.advance(std::time::Duration::from_secs(300));
    assert!(accounts.authenticate("alice@example.org", "secret", IP).await.unwrap().is_some());
}

#[tokio::test]
async fn one_may_send_as_oneself_and_as_ones_aliases() {
    let (accounts, _) = people().await;
    accounts.add_alias("sales@example.org", &[at("alice")]).await.unwrap();
    for (author, may) in [("alice", true), ("alice+x", true), ("sales", true), ("bob", false)] {
        assert_eq!(accounts.may_send_as(&at("alice"), &at(author)).await.unwrap(), may, "{author}");
    }
    assert!(!accounts.may_send_as(&at("alice"), &Address::parse("a@example.net").unwrap()).await.unwrap());
}

#[tokio::test]
async fn a_maildir_never_leaves_its_folder() {
    let (accounts, _) = people().await;
    let odd = Address::parse("\"../../etc/x\"@example.org").unwrap();
    accounts.add_account(&odd, Secret::Password("secret".into()), None).await.unwrap();
    let maildir = accounts.account(&odd).await.unwrap().unwrap().maildir;
    assert_eq!(maildir, Path::new("/state/mail/example.org/%2E.%2F..%2Fetc%2Fx/Maildir"));
    assert_eq!(
        accounts.account(&at("alice")).await.unwrap().unwrap().maildir,
        Path::new("/state/mail/example.org/alice/Maildir")
    );
}

#[tokio::test]
async fn a_passwd_file_is_taken_over_and_bad_lines_are_named() {
    let (accounts, _) = people().await;
    let hash = include_str!("../../tests/data/sha512.txt").trim();
    let text = format!(
        "# people\nbob@example.org:{{SHA512-CRYPT}}{hash}:1000:1000::/home/bob::\nalice@example.org:{hash}\nbroken\ncarol@example.net:{hash}\n"
    );
    let imported = accounts.import_passwd(&text).await.unwrap();
    assert_eq!((imported.added, imported.existing, imported.refused.len()), (1, 1, 2), "{imported:?}");
    assert!(imported.refused[0].starts_with("line 4: "), "{imported:?}");
    assert!(accounts.authenticate("bob@example.org", "secret", IP).await.unwrap().is_some());
}

#[tokio::test]
async fn an_alias_that_leads_too_far_is_an_error_and_loses_nobody() {
    let (accounts, _) = people().await;
    for n in 0..20 {
        accounts.add_alias(&format!("a{n}@example.org"), &[at(&format!("a{}", n + 1))]).await.unwrap();
    }
    accounts.add_alias("a20@example.org", &[at("alice")]).await.unwrap();
    let path = |local: &str| ForwardPath::Address(at(local));
    assert!(matches!(accounts.expand(&path("a0")).await, Err(Error::Sprawling(_))));
    assert_eq!(expanded(&accounts, "a15@example.org").await, to(&["alice@example.org"]));
    let many: Vec<Address> =
        (0..=TARGET_LIMIT).map(|n| Address::parse(&format!("x{n}@example.net")).unwrap()).collect();
    accounts.add_alias("many@example.org", &many).await.unwrap();
    let error = accounts.expand(&path("many")).await.unwrap_err();
    assert_eq!(error.permanence(), mailgate_model::Permanence::Transient);
}

#[tokio::test]
async fn duties_reach_somebody_even_when_their_alias_leads_nowhere() {
    let records = Records::memory(Arc::new(ManualClock::default())).unwrap();
    let config = Config { postmaster: Some(at("postmaster")), ..Config::default() };
    let accounts = Accounts::open(records, config, Path::new("/state"), Arc::new(ManualClock::default()));
    accounts.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
    assert_eq!(expanded(&accounts, "abuse@example.org").await, Expansion::Unknown, "nobody is here yet");
    accounts.add_account(&at("alice"), Secret::Password("secret".into()), None).await.unwrap();
    for text in ["abuse@example.org", "postmaster@example.org", "Postmaster"] {
        assert_eq!(expanded(&accounts, text).await, to(&["alice@example.org"]), "{text}");
    }
}

#[tokio::test]
async fn a_hash_brought_along_becomes_ours_at_the_first_login() {
    let (accounts, _) = people().await;
    let hash = include_str!("../../tests/data/sha512.txt").trim();
    accounts.add_account(&at("bob"), Secret::Hash(hash.to_owned()), None).await.unwrap();
    let scheme = async |accounts: &Accounts| {
        let rows = accounts.list().await.unwrap();
        rows.into_iter().find(|row| row.address == "bob@example.org").unwrap().scheme
    };
    assert_eq!(accounts.authenticate("bob@example.org", "wrong", IP).await.unwrap(), None);
    assert_eq!(scheme(&accounts).await, "sha-crypt");
    for _ in 0..2 {
        assert_eq!(accounts.authenticate("bob@example.org", "secret", IP).await.unwrap(), Some(at("bob")));
        assert_eq!(scheme(&accounts).await, "argon2");
    }
}

#[tokio::test]
async fn an_inactive_account_cannot_log_in_and_still_gets_mail() {
    let (accounts, _) = people().await;
    accounts.set_active(&at("alice"), false).await.unwrap();
    assert_eq!(accounts.authenticate("alice@example.org", "secret", IP).await.unwrap(), None);
    assert_eq!(expanded(&accounts, "alice@example.org").await, to(&["alice@example.org"]));
}

proptest::proptest! {
    #[test]
    fn no_name_makes_a_path_that_climbs_or_branches(name in "\\PC{1,64}") {
        let part = path_part(&name);
        proptest::prop_assert!(!part.contains(['/', '\0']) && part != "." && part != "..", "{part}");
        proptest::prop_assert!(!part.is_empty() && !part.starts_with('.'), "{part}");
    }

    #[test]
    fn two_names_never_share_a_path(one in "[a-z%./ A-Z2]{1,6}", two in "[a-z%./ A-Z2]{1,6}") {
        proptest::prop_assert_eq!(path_part(&one) == path_part(&two), one == two);
    }
}
