//! The look around: what `mailgate run` without a configuration prints is true, and its three commands work.

use std::process::Command;
use std::time::Duration;

use mailgate_tests::{Daemon, Namespace, find, is_root, run, skip, start, until};

#[test]
fn the_three_commands_that_it_prints_work() {
    if find("swaks").is_none() || find("curl").is_none() {
        return skip("swaks or curl is not installed");
    }
    let folder = tempfile::Builder::new().prefix("mailgate-tour").tempdir().unwrap();
    // As root in a namespace, so that nobody else's port 25 is in the way; otherwise on this machine's loopback.
    let inside = is_root().then(|| Namespace::new("tour", None).unwrap());
    let mut command = Command::new(Daemon::binary().unwrap());
    command.arg("--state-dir").arg(folder.path().join("state")).arg("run");
    let log = folder.path().join("log");
    let mut daemon = match &inside {
        Some(namespace) => namespace.start(command, &log).unwrap(),
        None => start(&command, &log).unwrap(),
    };
    let (text, _) = until("the welcome", Duration::from_secs(40), || {
        assert!(daemon.ended().is_none(), "{}", daemon.log());
        let text = daemon.log();
        text.contains("Ctrl-C").then_some(text)
    })
    .unwrap();
    for wanted in ["Accounts", "Ports", "Three commands to try"] {
        assert!(text.contains(wanted), "{text}");
    }
    let after = text.split("Three commands to try").nth(1).unwrap();
    let commands: Vec<&str> = after.lines().map(str::trim).skip(1).take(3).collect();
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line);
        let done = match &inside {
            Some(namespace) => namespace.run(shell, Duration::from_secs(30)),
            None => run(shell, Duration::from_secs(30)),
        };
        done.and_then(mailgate_tests::Finished::success)
            .map_err(|error| format!("{line}: {error:#}\n{}", daemon.log()))
    };
    let [send, read, submit] = commands[..] else { panic!("not three commands: {after}") };
    assert!(
        send.starts_with("swaks") && read.starts_with("curl") && submit.starts_with("swaks"),
        "{commands:?}"
    );
    shell(send).unwrap();
    // Delivery follows acceptance a moment later.
    let (first, _) = until("the first message", Duration::from_secs(20), || shell(read).ok()).unwrap();
    assert!(first.contains("This is a test mailing"), "{first}");
    shell(submit).unwrap();
    let second = read.replace("MAILINDEX=1", "MAILINDEX=2");
    until("the second message", Duration::from_secs(20), || {
        shell(&second).ok().filter(|text| text.contains("From: bob@example.test"))
    })
    .unwrap();
}
