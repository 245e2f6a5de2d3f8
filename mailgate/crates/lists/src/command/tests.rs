use mailgate_model::{ManualClock, Timestamp};
use mailgate_net::SystemClock;

use super::*;

/// A shell is what these tests give to the source; the source itself never starts one.
fn source(script: &str, clock: Arc<dyn Clock>) -> CommandSource {
    CommandSource {
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        timeout: Duration::from_secs(20),
        bounds: Bounds { bytes: 100_000, entries: 1000 },
        format: Format::Auto,
        clock,
    }
}

async fn run(script: &str) -> Result<String, String> {
    let done = source(script, Arc::new(SystemClock)).run().await;
    done.map(|printed| String::from_utf8(printed).unwrap())
}

#[tokio::test]
async fn what_a_program_prints_is_the_list() {
    assert_eq!(run("echo 192.0.2.1; echo 192.0.2.2").await.unwrap(), "192.0.2.1\n192.0.2.2\n");
    let fetched = source("echo 192.0.2.1", Arc::new(SystemClock)).fetch(&Validators::default()).await;
    let Ok(Fetched::New(reading)) = fetched else { panic!("no reading") };
    assert_eq!(reading.set.len(), 1);
}

#[tokio::test]
async fn a_program_knows_nothing_of_the_daemon() {
    let printed = run("env; pwd; cat").await.unwrap();
    let mut names: Vec<&str> = printed.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    // The shell adds PWD and perhaps its own; nothing of ours is among them.
    assert!(names.contains(&"PATH") && names.contains(&"LC_ALL"), "{printed}");
    assert!(
        !names.iter().any(|name| name.starts_with("CARGO") || *name == "HOME" || *name == "USER"),
        "{printed}"
    );
    assert!(printed.ends_with("/\n"), "{printed}");
}

#[tokio::test]
async fn a_failure_says_what_the_program_said() {
    let said = run("echo 192.0.2.1; echo 'no such feed' >&2; exit 3").await.unwrap_err();
    assert!(said.contains("exit status: 3") && said.contains("\"no such feed\""), "{said}");
    let missing =
        CommandSource { command: vec!["/nowhere/feed".to_owned()], ..source("", Arc::new(SystemClock)) };
    let said = missing.run().await.unwrap_err();
    assert!(said.starts_with("/nowhere/feed could not be started: No such file"), "{said}");
}

#[tokio::test]
async fn more_than_the_limit_is_refused_and_the_program_ended() {
    let said = run("while :; do echo 192.0.2.1; done").await.unwrap_err();
    assert!(said.contains("more than 100000 bytes"), "{said}");
}

#[tokio::test]
async fn when_the_time_is_over_everything_that_was_started_goes() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // Two generations, one of which ignores a polite signal.
    let script = format!("trap '' TERM; sleep 1000 & echo $! $$ > {}; wait", pids.display());
    let clock = ManualClock::at(Timestamp::from_secs(1));
    let slow = source(&script, Arc::new(clock.clone()));
    let late = async {
        while std::fs::read_to_string(&pids).map_or(true, |text| !text.ends_with('\n')) {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(30));
        std::future::pending::<()>().await;
    };
    let said = tokio::select! {
        done = slow.run() => done.unwrap_err(),
        () = late => String::new(),
    };
    assert!(said.contains("not done after 20 s"), "{said}");
    for pid in std::fs::read_to_string(&pids).unwrap().split_ascii_whitespace() {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        let look = async {
            while !gone() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), look)
            .await
            .unwrap_or_else(|_| panic!("{pid} lives on"));
    }
}
