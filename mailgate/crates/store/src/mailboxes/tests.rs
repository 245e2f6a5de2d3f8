use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mailgate_model::{IdGenerator, ManualClock};
use tempfile::TempDir;

use super::*;

/// Ids differ between two lives of a house.
static SEED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(9);

struct House {
    dir: TempDir,
    clock: ManualClock,
    mailboxes: Mailboxes,
    maildir: Maildir,
    ids: IdGenerator,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl House {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(dir: TempDir) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let host = Domain::parse("mx.test").unwrap();
        let mailboxes = Mailboxes::open(&dir.path().join("state"), &host, Arc::new(clock.clone())).unwrap();
        let maildir = mailboxes.maildir(&dir.path().join("mail"));
        Self {
            dir,
            clock,
            mailboxes,
            maildir,
            ids: IdGenerator::new(SEED.fetch_add(1000, std::sync::atomic::Ordering::Relaxed)),
        }
    }

    /// Everything in memory is lost, as after a crash.
    fn restart(self) -> Self {
        Self::at(self.dir)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    async fn deliver(&self, text: &str) {
        let id = self.ids.queue_id(self.clock.now().plus(Duration::from_secs(1)));
        self.mailboxes.deliver(&self.root(), "INBOX", id, 0, text.as_bytes()).await.unwrap();
    }

    async fn open(&self, mailbox: &str) -> Selected {
        self.maildir.select(&name(mailbox), Access::ReadWrite).await.unwrap()
    }

    async fn append(&self, mailbox: &str, flags: Flags, text: &str) -> u32 {
        let content = Bytes::copy_from_slice(text.as_bytes());
        let placed = self.maildir.append(&name(mailbox), flags, vec![], None, content).await.unwrap();
        placed.uids[0].1
    }
}

async fn state(selected: &Selected) -> Vec<(u32, String)> {
    let delta = selected.since(0).await.unwrap();
    delta.changed.iter().map(|message| (message.uid, message.flags.letters())).collect()
}

async fn uids(selected: &Selected) -> Vec<u32> {
    state(selected).await.into_iter().map(|(uid, _)| uid).collect()
}

async fn text(selected: &Selected, uid: u32) -> String {
    String::from_utf8(selected.content(uid).await.unwrap().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn heads_are_the_first_octets_as_on_the_wire_of_the_messages_that_are_there() {
    let house = House::new();
    for text in ["A: 1\r\n\r\nbody\r\n", "B: 2\r\n\r\n", "C: 3\r\n\r\n"] {
        house.deliver(text).await;
    }
    let inbox = house.open("INBOX").await;
    let all = uids(&inbox).await;
    inbox.expunge(vec![all[1]]).await.unwrap();
    assert_eq!(inbox.heads(all.clone(), 5).await.unwrap(), ["A: 1\r\n", "C: 3\r\n"], "LF on disk");
    assert_eq!(inbox.heads(vec![all[0]], 1000).await.unwrap(), ["A: 1\r\n\r\nbody\r\n"]);
}

#[tokio::test]
async fn deliveries_get_rising_uids_and_are_recent_once() {
    let house = House::new();
    house.deliver("A: 1\r\n\r\nx\r\n").await;
    let first = house.open("INBOX").await;
    let seen = first.since(0).await.unwrap();
    assert_eq!((seen.changed[0].uid, seen.recent.clone(), seen.uid_next), (1, vec![1], 2));
    assert!(first.since(seen.modseq).await.unwrap().changed.is_empty());
    house.deliver("A: 2\r\n\r\nyy\r\n").await;
    let watch = first.watch();
    let more = first.since(seen.modseq).await.unwrap();
    assert_eq!((more.changed.len(), more.changed[0].uid, more.recent), (1, 2, vec![2]));
    drop(watch);
    let second = house.open("INBOX").await;
    assert_eq!(second.since(0).await.unwrap().recent, Vec::<u32>::new());
    assert_eq!(text(&second, 2).await, "A: 2\r\n\r\nyy\r\n");
    let facts = second.facts(vec![1, 2, 7]).await.unwrap();
    assert_eq!(facts.iter().map(|(uid, f)| (*uid, f.size)).collect::<Vec<_>>(), [(1, 11), (2, 12)]);
}

#[tokio::test]
async fn a_delivery_wakes_whoever_has_the_mailbox_open() {
    let house = House::new();
    let open = house.open("INBOX").await;
    let mut watch = open.watch();
    watch.mark_unchanged();
    house.deliver("A: 1\r\n\r\n").await;
    tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.unwrap().unwrap();
    assert_eq!(uids(&open).await, [1]);
}

#[tokio::test]
async fn uids_and_flags_survive_a_restart_and_the_loss_of_the_index() {
    let house = House::new();
    for n in 0..3 {
        house.deliver(&format!("A: {n}\r\n\r\n")).await;
    }
    let open = house.open("INBOX").await;
    open.store(vec![2], FlagChange::Add, Flags::SEEN, vec!["$Forwarded".into(), "Junk".into()])
        .await
        .unwrap();
    open.expunge(vec![3]).await.unwrap();
    let (before, validity) = (state(&open).await, open.status().await.unwrap().uid_validity);
    assert_eq!(before, [(1, String::new()), (2, "Sab".into())]);
    drop(open);
    let house = house.restart();
    for file in ["mailgate-index.sqlite", "mailgate-index.sqlite-wal", "mailgate-index.sqlite-shm"] {
        let _ = fs::remove_file(house.root().join(file));
    }
    let open = house.open("INBOX").await;
    let delta = open.since(0).await.unwrap();
    assert_eq!(state(&open).await, before);
    assert_eq!(delta.uid_validity, validity);
    assert_eq!(delta.keywords.names().collect::<Vec<_>>(), ["$Forwarded", "Junk"]);
    house.deliver("A: 4\r\n\r\n").await;
    assert_eq!(uids(&open).await, [1, 2, 4], "the UID of an expunged message is never given again");
}

#[tokio::test]
async fn the_index_restores_uids_when_the_list_is_lost() {
    let house = House::new();
    house.deliver("A: 1\r\n\r\n").await;
    house.deliver("A: 2\r\n\r\n").await;
    let open = house.open("INBOX").await;
    open.expunge(vec![1]).await.unwrap();
    let validity = open.status().await.unwrap().uid_validity;
    drop(open);
    let house = house.restart();
    fs::remove_file(house.root().join("dovecot-uidlist")).unwrap();
    let open = house.open("INBOX").await;
    assert_eq!((uids(&open).await, open.status().await.unwrap().uid_validity), (vec![2], validity));
    let list = fs::read_to_string(house.root().join("dovecot-uidlist")).unwrap();
    assert!(list.starts_with(&format!("3 V{validity} N3")), "{list}");
}

#[tokio::test]
async fn a_damaged_index_is_built_again() {
    let house = House::new();
    house.deliver("A: 1\r\n\r\n").await;
    drop(house.open("INBOX").await);
    let house = house.restart();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(house.root().join(format!("mailgate-index.sqlite{suffix}")));
    }
    fs::write(
        house.root().join("mailgate-index.sqlite"),
        "no database at all, but long enough to look".repeat(50),
    )
    .unwrap();
    assert_eq!(uids(&house.open("INBOX").await).await, [1]);
    drop(house.restart());
}

#[tokio::test]
async fn a_maildir_of_dovecot_is_taken_over_with_uids_keywords_and_dates() {
    let house = House::new();
    let root = house.root();
    for part in ["cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    fs::write(root.join("cur/1276528487.M1P1.host,S=10,W=12:2,FSa"), "A: b\n\nhi\n").unwrap();
    fs::write(root.join("cur/1276533073.M2P1.host:2,P"), "A: b\n\nho\n").unwrap();
    fs::write(root.join("new/1276533080.M3P1.host"), "A: b\n\nhe\n").unwrap();
    fs::write(
        root.join("dovecot-uidlist"),
        "3 V1275660208 N25022 G3085f01b\n25006 :1276528487.M1P1.host,S=10,W=12:2,\n25017 W12 :1276533073.M2P1.host\n",
    )
    .unwrap();
    fs::write(root.join("dovecot-keywords"), "0 $Forwarded\n").unwrap();
    fs::write(root.join("subscriptions"), "V\t2\n\nSent\nLists\trust\n").unwrap();
    let open = house.open("INBOX").await;
    let delta = open.since(0).await.unwrap();
    assert_eq!(state(&open).await, [(25_006, "FSa".into()), (25_017, "P".into()), (25_022, String::new())]);
    assert_eq!((delta.uid_validity, delta.recent), (1_275_660_208, vec![25_022]));
    assert_eq!(delta.keywords.name(0), "$Forwarded");
    open.store(vec![25_017], FlagChange::Replace, Flags::SEEN, vec![]).await.unwrap();
    assert!(root.join("cur/1276533073.M2P1.host:2,PS").exists(), "a letter we do not know stays");
    assert_eq!(open.facts(vec![25_017]).await.unwrap()[0].1.size, 12);
    let list = fs::read_to_string(root.join("dovecot-uidlist")).unwrap();
    assert!(
        list.starts_with("3 V1275660208 N25022 G3085f01b\n")
            && list.ends_with("25022 :1276533080.M3P1.host\n")
    );
    let subscribed: Vec<String> =
        house.maildir.subscriptions().await.unwrap().iter().map(Name::to_string).collect();
    assert_eq!(subscribed, ["Lists.rust", "Sent"]);
}

#[tokio::test]
async fn changes_of_other_programs_are_followed() {
    let house = House::new();
    for n in 0..3 {
        house.deliver(&format!("A: {n}\r\n\r\n")).await;
    }
    let open = house.open("INBOX").await;
    let before = open.since(0).await.unwrap().modseq;
    let cur = house.root().join("cur");
    let mut files: Vec<_> = fs::read_dir(&cur).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    fs::rename(&files[0], format!("{}F", files[0].display())).unwrap();
    fs::remove_file(&files[1]).unwrap();
    fs::write(house.root().join("new/1700000500.foreign.host"), "A: f\n\n").unwrap();
    let delta = open.since(before).await.unwrap();
    let changed: Vec<_> = delta.changed.iter().map(|m| (m.uid, m.flags.letters())).collect();
    assert_eq!(changed, [(1, "F".to_owned()), (4, String::new())]);
    assert_eq!(delta.vanished, Some(vec![2]));
    // Renamed behind our back and asked for before the next look: found all the same.
    fs::rename(format!("{}F", files[0].display()), format!("{}FS", files[0].display())).unwrap();
    assert_eq!(text(&open, 1).await, "A: 0\r\n\r\n");
    fs::rename(format!("{}FS", files[0].display()), format!("{}F", files[0].display())).unwrap();
    open.store(vec![1], FlagChange::Add, Flags::DELETED, vec![]).await.unwrap();
    assert_eq!(state(&open).await[0], (1, "FT".to_owned()));
}

#[tokio::test]
async fn append_keeps_flags_and_date_and_announces_the_uid() {
    let house = House::new();
    house.maildir.create(&name("Sent")).await.unwrap();
    let date = Timestamp::from_secs(1_500_000_000);
    let content = Bytes::from_static(b"A: b\r\n\r\nbody\r\n");
    let flags = Flags::SEEN | Flags::DRAFT;
    let placed =
        house.maildir.append(&name("Sent"), flags, vec!["Old".into()], Some(date), content).await.unwrap();
    let open = house.open("Sent").await;
    assert_eq!(placed.uid_validity, open.status().await.unwrap().uid_validity);
    assert_eq!(state(&open).await, [(placed.uids[0].1, "DSa".to_owned())]);
    assert_eq!(open.facts(vec![1]).await.unwrap()[0].1, Facts { size: 14, internal_date: date });
    assert!(matches!(
        house.maildir.append(&name("Nowhere"), Flags::NONE, vec![], None, Bytes::new()).await,
        Err(Error::Missing(_))
    ));
    assert_eq!(fs::read_dir(house.root().join(".Sent/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn copies_and_moves_keep_content_flags_and_keywords_by_name() {
    let house = House::new();
    house.maildir.create(&name("Work")).await.unwrap();
    let work = house.open("Work").await;
    house.append("Work", Flags::NONE, "A: w\r\n\r\n").await;
    work.store(vec![1], FlagChange::Add, Flags::NONE, vec!["other".into()]).await.unwrap();
    for n in 0..3 {
        house.append("INBOX", Flags::SEEN, &format!("A: {n}\r\n\r\n")).await;
    }
    let inbox = house.open("INBOX").await;
    inbox.store(vec![1, 3], FlagChange::Add, Flags::NONE, vec!["Junk".into()]).await.unwrap();
    let copied = inbox.copy_to(vec![1, 2, 99], &name("Work")).await.unwrap();
    assert_eq!(copied.uids, [(1, 2), (2, 3)]);
    let moved = inbox.move_to(vec![3, 1], &name("Work")).await.unwrap();
    assert_eq!(moved.uids, [(3, 4), (1, 5)]);
    assert_eq!(uids(&inbox).await, [2]);
    assert_eq!(
        state(&work).await,
        [(1, "a".into()), (2, "Sb".into()), (3, "S".into()), (4, "Sb".into()), (5, "Sb".into())]
    );
    assert_eq!(text(&work, 4).await, "A: 2\r\n\r\n");
    assert_eq!(text(&work, 5).await, text(&work, 2).await);
    assert!(matches!(inbox.move_to(vec![2], &name("INBOX")).await, Err(Error::Conflict(_))));
    assert_eq!(inbox.copy_to(vec![2], &name("INBOX")).await.unwrap().uids, [(2, 4)]);
}

#[tokio::test]
async fn sessions_moving_in_opposite_directions_do_not_block_each_other() {
    let house = House::new();
    house.maildir.create(&name("B")).await.unwrap();
    for _ in 0..20 {
        house.append("INBOX", Flags::NONE, "A: 1\r\n\r\n").await;
        house.append("B", Flags::NONE, "A: 2\r\n\r\n").await;
    }
    let (a, b) = (house.open("INBOX").await, house.open("B").await);
    let (inbox, other) = (name("INBOX"), name("B"));
    let there = async {
        for uid in 1..=20 {
            a.move_to(vec![uid], &other).await.unwrap();
        }
    };
    let back = async {
        for uid in 1..=20 {
            b.move_to(vec![uid], &inbox).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(there, back) }).await.unwrap();
    assert_eq!((uids(&a).await.len(), uids(&b).await.len()), (20, 20));
}

#[tokio::test]
async fn mailboxes_are_made_renamed_with_their_children_and_deleted() {
    let house = House::new();
    for text in ["Work", "Work.2024", "A.B.C", "Entwürfe"] {
        house.maildir.create(&name(text)).await.unwrap();
    }
    assert!(matches!(house.maildir.create(&name("Work")).await, Err(Error::Conflict(_))));
    house.append("Work.2024", Flags::FLAGGED, "A: 1\r\n\r\n").await;
    let gone = house.open("Work.2024").await;
    let validity = gone.status().await.unwrap().uid_validity;
    house.maildir.rename(&name("Work"), &name("Alt")).await.unwrap();
    assert!(
        matches!(gone.since(0).await, Err(Error::Missing(_))),
        "an open mailbox that was renamed is gone"
    );
    let listed = house.maildir.list().await.unwrap();
    let rows: Vec<_> = listed.iter().map(|l| (l.name.as_str(), l.selectable, l.parent)).collect();
    assert_eq!(
        rows,
        [
            ("INBOX", true, false),
            ("A", false, true),
            ("A.B", false, true),
            ("A.B.C", true, false),
            ("Alt", true, true),
            ("Alt.2024", true, false),
            ("Entwürfe", true, false),
        ]
    );
    let moved = house.open("Alt.2024").await;
    assert_eq!(state(&moved).await, [(1, "F".to_owned())]);
    assert_eq!(moved.status().await.unwrap().uid_validity, validity);
    house.maildir.delete(&name("Alt.2024")).await.unwrap();
    house.maildir.create(&name("Alt.2024")).await.unwrap();
    let again = house.open("Alt.2024").await;
    assert!(uids(&again).await.is_empty());
    assert!(again.status().await.unwrap().uid_validity > validity, "a mailbox made again is another mailbox");
    assert!(matches!(house.maildir.delete(&name("INBOX")).await, Err(Error::Conflict(_))));
    assert!(matches!(house.maildir.delete(&name("Nowhere")).await, Err(Error::Missing(_))));
    assert!(matches!(house.maildir.rename(&name("Alt"), &name("Alt.x")).await, Err(Error::Conflict(_))));
    assert!(matches!(house.maildir.rename(&name("Alt"), &name("A.B.C")).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn renaming_inbox_moves_its_messages_and_leaves_it() {
    let house = House::new();
    house.append("INBOX", Flags::SEEN, "A: 1\r\n\r\n").await;
    house.maildir.rename(&name("INBOX"), &name("Old")).await.unwrap();
    assert_eq!(uids(&house.open("INBOX").await).await, Vec::<u32>::new());
    assert_eq!(state(&house.open("Old").await).await, [(1, "S".to_owned())]);
}

#[tokio::test]
async fn subscriptions_are_kept_whether_the_mailbox_exists_or_not() {
    let house = House::new();
    house.maildir.subscribe(vec![name("Ünï"), name("Gone")]).await.unwrap();
    house.maildir.unsubscribe(&name("Gone")).await.unwrap();
    let house = house.restart();
    let subscribed = house.maildir.subscriptions().await.unwrap();
    assert_eq!(subscribed.into_iter().collect::<Vec<_>>(), [name("Ünï")]);
}

#[tokio::test]
async fn examine_changes_nothing_on_disk() {
    let house = House::new();
    house.deliver("A: 1\r\n\r\n").await;
    let open = house.maildir.select(&Name::inbox(), Access::ReadOnly).await.unwrap();
    assert_eq!(open.since(0).await.unwrap().recent, [1]);
    assert_eq!(fs::read_dir(house.root().join("new")).unwrap().count(), 1);
    let open = house.open("INBOX").await;
    assert_eq!(open.since(0).await.unwrap().recent, [1]);
    assert_eq!(fs::read_dir(house.root().join("new")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_opened_mailbox_of_ten_thousand_is_read_from_the_index_the_second_time() {
    let house = House::new();
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(house.root().join(part)).unwrap();
    }
    for n in 0..10_000 {
        fs::write(house.root().join(format!("cur/1600000{n:05}.M1P1.host,S=6,W=8:2,S")), "A: b\n\n").unwrap();
    }
    assert_eq!(uids(&house.open("INBOX").await).await.len(), 10_000);
    let house = house.restart();
    // A clock far ahead of the file system's: the directories are old enough to be trusted.
    house.clock.advance(Duration::from_secs(60 * 365 * 86_400));
    drop(house.open("INBOX").await);
    let house = house.restart();
    house.clock.advance(Duration::from_secs(60 * 365 * 86_400));
    // A change that the time of the directory does not show is not seen: the directory was not read.
    let cur = fs::File::open(house.root().join("cur")).unwrap();
    let before = cur.metadata().unwrap().modified().unwrap();
    fs::remove_file(house.root().join("cur/160000000000.M1P1.host,S=6,W=8:2,S")).unwrap();
    cur.set_modified(before).unwrap();
    assert_eq!(uids(&house.open("INBOX").await).await.len(), 10_000);
}
