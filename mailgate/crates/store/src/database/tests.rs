use std::sync::mpsc;

use mailgate_model::Permanence;

use super::*;

const FIRST: &str = "CREATE TABLE word (text TEXT PRIMARY KEY) STRICT;";
const SECOND: &str = "ALTER TABLE word ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;";

fn insert(word: String) -> impl FnOnce(&Transaction<'_>) -> Result<(), Error> {
    move |transaction| {
        transaction.execute("INSERT INTO word (text) VALUES (?1)", [word])?;
        Ok(())
    }
}

async fn words(database: &Database) -> Vec<String> {
    database
        .read(|connection| {
            let mut statement = connection.prepare("SELECT text FROM word ORDER BY text")?;
            let words = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(words)
        })
        .await
        .unwrap()
}

fn file() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("words.db"), Durability::Full, &[FIRST]).unwrap();
    (dir, database)
}

#[tokio::test]
async fn what_was_written_is_read_and_survives_reopening() {
    let (dir, database) = file();
    database.write(insert("a".into())).await.unwrap();
    assert_eq!(words(&database).await, ["a"]);
    drop(database);
    let database = Database::open(dir.path().join("words.db"), Durability::Full, &[FIRST, SECOND]).unwrap();
    assert_eq!(words(&database).await, ["a"]);
}

#[tokio::test]
async fn a_newer_file_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words.db");
    drop(Database::open(&path, Durability::Full, &[FIRST, SECOND]).unwrap());
    let error = Database::open(&path, Durability::Full, &[FIRST]).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[tokio::test]
async fn a_broken_migration_leaves_the_old_format() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words.db");
    drop(Database::open(&path, Durability::Full, &[FIRST]).unwrap());
    assert!(Database::open(&path, Durability::Full, &[FIRST, "CREATE TABLE x (a) ; NONSENSE"]).is_err());
    let database = Database::open(&path, Durability::Full, &[FIRST]).unwrap();
    assert!(words(&database).await.is_empty());
}

#[tokio::test]
async fn what_is_no_database_is_called_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words.db");
    std::fs::write(&path, "this is no database, but long enough to be mistaken for one".repeat(100)).unwrap();
    let error = Database::open(&path, Durability::Full, &[FIRST]).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert_eq!(error.permanence(), Permanence::Transient);
}

/// Holds the writer in a first change, so that everything sent meanwhile forms one group.
async fn in_one_group<T>(database: &Database, send: impl AsyncFnOnce() -> T) -> T {
    let (entered, inside) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let holder = {
        let database = database.clone();
        tokio::spawn(async move {
            database
                .write(move |_| {
                    let _ = entered.send(());
                    let _ = released.recv_timeout(Duration::from_secs(10));
                    Ok(())
                })
                .await
        })
    };
    inside.await.unwrap();
    let sending = send();
    let releaser = async {
        // By now `sending` was polled once, and its changes wait in the channel.
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (sent, ()) = tokio::join!(biased; sending, releaser);
    holder.await.unwrap().unwrap();
    sent
}

#[tokio::test]
async fn a_failing_or_panicking_change_loses_only_itself() {
    for database in [Database::memory(&[FIRST]).unwrap(), file().1] {
        let (first, conflict, panicked, failed, last) = in_one_group(&database, async || {
            tokio::join!(
                database.write(insert("a".into())),
                database.write(insert("a".into())),
                database.write(|transaction| -> Result<(), Error> {
                    insert("b".into())(transaction)?;
                    panic!("on purpose")
                }),
                database.write(|transaction| -> Result<(), Error> {
                    insert("c".into())(transaction)?;
                    Err(Error::Missing("x".into()))
                }),
                database.write(insert("d".into())),
            )
        })
        .await;
        first.unwrap();
        assert!(matches!(conflict, Err(Error::Conflict(_))));
        assert!(matches!(panicked, Err(Error::Panicked(_))));
        assert!(matches!(failed, Err(Error::Missing(_))));
        last.unwrap();
        assert_eq!(words(&database).await, ["a", "d"]);
    }
}

#[tokio::test]
async fn when_the_transaction_is_lost_everybody_in_the_group_hears_of_it() {
    let (_dir, database) = file();
    let (before, breaker, after) = in_one_group(&database, async || {
        tokio::join!(
            database.write(insert("a".into())),
            // What SQLite does by itself when the disk is full.
            database.write(|transaction| Ok(transaction.execute_batch("ROLLBACK")?)),
            database.write(insert("b".into())),
        )
    })
    .await;
    assert!(matches!(before, Err(Error::Unavailable(_))));
    assert!(matches!(breaker, Err(Error::Unavailable(_))));
    assert!(matches!(after, Err(Error::Unavailable(_))));
    database.write(insert("c".into())).await.unwrap();
    assert_eq!(words(&database).await, ["c"]);
}

#[tokio::test]
async fn a_full_database_says_full_and_goes_on() {
    let (_dir, database) = file();
    database.write(|transaction| Ok(transaction.pragma_update(None, "max_page_count", 8)?)).await.unwrap();
    let error = database.write(insert("x".repeat(1 << 20))).await.unwrap_err();
    assert!(matches!(error, Error::Full(_) | Error::Unavailable(_)), "{error}");
    database.write(insert("small".into())).await.unwrap();
    assert_eq!(words(&database).await, ["small"]);
}

#[tokio::test]
async fn a_reader_that_panics_is_replaced() {
    let (_dir, database) = file();
    for _ in 0..READERS * 2 {
        let asked = database.read(|_| -> Result<(), Error> { panic!("on purpose") }).await;
        assert!(matches!(asked, Err(Error::Panicked(_))));
    }
    assert!(words(&database).await.is_empty());
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_dir, database) = file();
    let tried =
        database.read(|connection| Ok(connection.execute("INSERT INTO word VALUES ('x')", [])?)).await;
    assert!(tried.is_err());
    assert!(words(&database).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_changes_share_transactions() {
    let (_dir, database) = file();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let database = database.clone();
            tokio::spawn(async move { database.write(insert(format!("{n:04}"))).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(words(&database).await.len(), 200);
    assert!(database.commits() < 150, "200 changes took {} transactions", database.commits());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_writer_that_is_never_idle_begins_anew_when_asked() {
    let (dir, database) = file();
    let log = dir.path().join("words.db-wal");
    let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    // As the greylist does: the writer by itself writes nothing back.
    database.write(|db| Ok(db.pragma_update(None, "wal_autocheckpoint", 0)?)).await.unwrap();
    let mut written = 0;
    let mut write = async |count: usize| {
        for _ in 0..count {
            written += 1;
            database.write(insert(format!("{written:0>60000}"))).await.unwrap();
        }
    };
    write(30).await;
    let grown = size();
    assert!(grown > 3_000_000, "{grown}");
    // Somebody reads what was there before: the writer goes on, and the log stays.
    let reader = database.connection().unwrap().unwrap();
    let reading = reader.unchecked_transaction().unwrap();
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM word", [], |row| row.get::<_, i64>(0));
    assert_eq!(count(&reading).unwrap(), 30);
    write(1).await;
    database.begin_log_anew();
    write(1).await;
    assert!(size() > grown);
    assert_eq!(count(&reading).unwrap(), 30);
    drop(reading);
    database.begin_log_anew();
    write(1).await;
    assert!(size() < 300_000, "{}", size());
    assert_eq!(count(&reader).unwrap(), 33);
}

#[tokio::test]
async fn changes_given_before_the_last_handle_is_dropped_are_made() {
    let (dir, database) = file();
    {
        let mut write = Box::pin(database.write(insert("a".into())));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // One poll hands the change to the writer; then the caller goes away.
        let _ = write.as_mut().poll(&mut context);
    }
    drop(database);
    let database = Database::open(dir.path().join("words.db"), Durability::Full, &[FIRST]).unwrap();
    assert_eq!(words(&database).await, ["a"]);
}

#[test]
fn nobody_else_may_read_the_files_even_in_an_open_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let database =
        Database::open(folder.path().join("a.db"), Durability::Full, &["CREATE TABLE t (n)"]).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
        names.push(entry.file_name());
    }
    assert!(names.len() > 1, "the WAL is looked at too: {names:?}");
    drop(database);
}
