//! Records as the administrator changes them.

use mailgate_model::{ManualClock, Timestamp};

use super::*;

fn records() -> Records {
    Records::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)))).unwrap()
}

fn parts(text: &str) -> (LocalPart, Domain) {
    let address = Address::parse(text).unwrap();
    (address.local().clone(), address.domain().unwrap().clone())
}

#[tokio::test]
async fn an_account_needs_a_local_domain_and_is_found_in_any_case() {
    let records = records();
    let (local, domain) = parts("Alice.Smith@example.org");
    let missing = records.add_account(&local, &domain, "x".into(), None).await.unwrap_err();
    assert!(matches!(missing, Error::Missing(text) if text.contains("mailgate domain add example.org")));
    records.add_domain(&domain).await.unwrap();
    records.add_account(&local, &domain, "x".into(), None).await.unwrap();
    let (other_case, _) = parts("alice.smith@example.org");
    let found = records.account(&other_case, &domain).await.unwrap().unwrap();
    assert_eq!(found.address.to_string(), "Alice.Smith@example.org");
    let taken = records.add_account(&other_case, &domain, "y".into(), None).await.unwrap_err();
    assert!(matches!(taken, Error::Conflict(_)));
}

#[tokio::test]
async fn a_domain_in_use_is_not_deleted() {
    let records = records();
    let (local, domain) = parts("alice@example.org");
    records.add_domain(&domain).await.unwrap();
    records.add_account(&local, &domain, "x".into(), None).await.unwrap();
    assert!(matches!(records.delete_domain(&domain).await, Err(Error::Conflict(_))));
    records.delete_account(&local, &domain).await.unwrap();
    records.delete_domain(&domain).await.unwrap();
    assert!(!records.is_local(&domain).await.unwrap());
}

#[tokio::test]
async fn an_alias_and_an_account_never_share_a_name() {
    let records = records();
    let (local, domain) = parts("alice@example.org");
    records.add_domain(&domain).await.unwrap();
    records.add_account(&local, &domain, "x".into(), None).await.unwrap();
    let target = [Address::parse("else@example.net").unwrap()];
    let source = AliasSource::parse("ALICE@example.org").unwrap();
    assert!(matches!(records.add_alias(&source, &target).await, Err(Error::Conflict(_))));
    let catch_all = AliasSource::parse("@example.org").unwrap();
    records.add_alias(&catch_all, &target).await.unwrap();
    assert_eq!(records.targets(&catch_all).await.unwrap(), target);
    assert_eq!(records.aliases().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_account_an_alias_leads_to_is_not_deleted() {
    let records = records();
    let (local, domain) = parts("alice@example.org");
    records.add_domain(&domain).await.unwrap();
    records.add_account(&local, &domain, "x".into(), None).await.unwrap();
    let source = AliasSource::parse("sales@example.org").unwrap();
    records.add_alias(&source, &[Address::parse("Alice@example.org").unwrap()]).await.unwrap();
    let used = records.delete_account(&local, &domain).await.unwrap_err();
    assert!(matches!(&used, Error::Conflict(text) if text.contains("sales@example.org")), "{used}");
    records.delete_alias(&source).await.unwrap();
    records.delete_account(&local, &domain).await.unwrap();
}

#[tokio::test]
async fn a_hash_is_replaced_only_if_nobody_else_changed_it() {
    let records = records();
    let (local, domain) = parts("alice@example.org");
    records.add_domain(&domain).await.unwrap();
    records.add_account(&local, &domain, "old".into(), None).await.unwrap();
    assert!(!records.replace_password(&local, &domain, "other".into(), "new".into()).await.unwrap());
    assert!(records.replace_password(&local, &domain, "old".into(), "new".into()).await.unwrap());
    records.set_active(&local, &domain, false).await.unwrap();
    let account = records.account(&local, &domain).await.unwrap().unwrap();
    assert_eq!((account.password.as_str(), account.active), ("new", false));
}

#[tokio::test]
async fn the_file_with_hashes_and_keys_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.sqlite");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let records = Records::open(&path, Arc::new(ManualClock::default())).unwrap();
    records.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
    }
}
