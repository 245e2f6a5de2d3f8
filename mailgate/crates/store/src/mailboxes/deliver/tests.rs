use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use mailgate_model::{Domain, IdGenerator, ManualClock, Timestamp};
use tempfile::TempDir;

use super::*;

struct House {
    dir: TempDir,
    mailboxes: Mailboxes,
    id: QueueId,
}

fn open(dir: &TempDir) -> Mailboxes {
    let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
    Mailboxes::open(&dir.path().join("state"), &Domain::parse("mx.test").unwrap(), Arc::new(clock)).unwrap()
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mailboxes = open(&dir);
        let id = IdGenerator::new(1).queue_id(Timestamp::from_secs(1_700_000_100));
        Self { dir, mailboxes, id }
    }

    fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail/user")
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for name in tree::names(&self.maildir()).unwrap() {
            for part in ["tmp", "new", "cur"] {
                let dir = tree::path(&self.maildir(), &name).join(part);
                files.extend(tree::entries(&dir).unwrap().into_iter().map(|entry| dir.join(entry)));
            }
        }
        files
    }

    async fn deliver(&self, mailbox: &str) -> Delivery {
        self.mailboxes.deliver(&self.maildir(), mailbox, self.id, 0, b"A: b\r\n\r\nhi\r\n").await.unwrap()
    }
}

#[tokio::test]
async fn a_delivery_makes_the_maildir_and_one_private_file() {
    let house = House::new();
    assert!(
        matches!(house.deliver("INBOX").await, Delivery::Stored(base) if base.ends_with(".mx.test,S=9,W=12"))
    );
    let files = house.files();
    assert_eq!(files.len(), 1);
    assert!(files[0].starts_with(house.maildir().join("new")));
    assert_eq!(fs::read(&files[0]).unwrap(), b"A: b\n\nhi\n");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    for dir in [house.maildir(), house.maildir().join("cur")] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[tokio::test]
async fn a_second_attempt_changes_nothing_even_after_the_message_was_expunged() {
    let house = House::new();
    house.deliver("INBOX").await;
    assert_eq!(house.deliver("INBOX").await, Delivery::Repeated);
    assert_eq!(house.files().len(), 1);
    fs::remove_file(&house.files()[0]).unwrap();
    assert_eq!(house.deliver("INBOX").await, Delivery::Repeated);
    assert!(house.files().is_empty());
    let other = house.mailboxes.deliver(&house.maildir(), "INBOX", house.id, 1, b"x").await.unwrap();
    assert!(
        matches!(other, Delivery::Stored(_)),
        "another recipient of the same message is another delivery"
    );
}

#[tokio::test]
async fn after_a_crash_between_link_and_ledger_a_read_and_moved_message_is_found() {
    let house = House::new();
    house.deliver("INBOX").await;
    tree::ensure(&house.maildir(), &Name::parse("Work").unwrap()).unwrap();
    let file = house.files().remove(0);
    let name = file.file_name().unwrap().to_str().unwrap();
    fs::rename(&file, house.maildir().join(format!(".Work/cur/{name}:2,S"))).unwrap();
    let unsettle = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("UPDATE delivery SET settled = 0", [])?;
        Ok(())
    };
    house.mailboxes.ledger().database().write(unsettle).await.unwrap();
    assert_eq!(house.deliver("INBOX").await, Delivery::Repeated);
    assert_eq!(house.files().len(), 1);
}

#[tokio::test]
async fn after_a_crash_before_the_link_the_message_is_delivered() {
    let house = House::new();
    house.mailboxes.ledger().begin(house.id, 0, Timestamp::from_secs(1_700_000_100)).await.unwrap();
    assert!(matches!(house.deliver("INBOX").await, Delivery::Stored(_)));
    assert_eq!(house.files().len(), 1);
}

#[tokio::test]
async fn a_lost_ledger_makes_no_second_copy() {
    let mut house = House::new();
    house.id = IdGenerator::new(1).queue_id(Timestamp::from_secs(1_600_000_000));
    house.deliver("INBOX").await;
    fs::remove_dir_all(house.dir.path().join("state")).unwrap();
    house.mailboxes = open(&house.dir);
    assert_eq!(house.deliver("INBOX").await, Delivery::Repeated);
    assert_eq!(house.files().len(), 1);
}

#[tokio::test]
async fn a_mailbox_is_made_for_a_delivery_but_never_outside_the_maildir() {
    let house = House::new();
    house.deliver("Entwürfe.Neu").await;
    assert!(house.maildir().join(".Entw&APw-rfe.Neu/new").is_dir());
    let refused = house.mailboxes.deliver(&house.maildir(), "../../x", house.id, 7, b"x").await;
    assert!(matches!(refused, Err(Error::Name { .. })));
}
