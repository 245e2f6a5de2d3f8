//! Steps 9 to 11a under kill -9: what got a 250 is there once, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mailgate_tests::{Service, SmtpClient, until};

/// Messages in all, and senders that send them at the same time.
const MESSAGES: usize = 200;
const SENDERS: usize = 8;

/// The daemon dies each time so many messages more were acknowledged.
const DEATHS: usize = 9;

#[test]
fn kill_9_while_200_messages_come_in_loses_none_and_doubles_none() {
    let mut service = Service::start("").unwrap();
    let to = service.ports.mx;
    let next = AtomicUsize::new(0);
    let acknowledged = Mutex::new(BTreeSet::new());
    let count = || acknowledged.lock().unwrap().len();

    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MESSAGES {
                        break;
                    }
                    // A message whose 250 never came is sent again under another name, as a test wants to know.
                    for attempt in 0.. {
                        let token = format!("token-{number}-{attempt}-end");
                        if send(to, &token).is_some() {
                            acknowledged.lock().unwrap().insert(token);
                            break;
                        }
                        assert!(attempt < 2000, "the daemon stays away");
                        // The daemon is dead or starting: wait for its port.
                        let _ = until("the port", Duration::from_secs(30), || SmtpClient::connect(to).ok());
                    }
                }
            });
        }
        for death in 1..=DEATHS {
            let enough = death * MESSAGES / (DEATHS + 1);
            until("acknowledgements", Duration::from_secs(60), || (count() >= enough).then_some(())).unwrap();
            service.daemon.kill();
            service.daemon.begin().unwrap();
        }
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len(), MESSAGES);
    service.drained(Duration::from_secs(60)).unwrap();
    let mut found = BTreeMap::new();
    for message in service.daemon.mailboxes().unwrap() {
        let token =
            message.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("none").to_owned();
        *found.entry(token).or_insert(0) += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|token| !found.contains_key(*token)).collect();
    let doubled: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        lost.is_empty() && doubled.is_empty(),
        "lost {lost:?}, doubled {doubled:?}\n{}",
        service.daemon.log()
    );
    println!("{} acknowledged, {} in mailboxes, {DEATHS} times kill -9", acknowledged.len(), found.len());
}

/// Sends one message; `Some` when the 250 came.
fn send(to: std::net::SocketAddr, token: &str) -> Option<()> {
    let mut client = SmtpClient::connect(to).ok()?;
    client.greet("client.example").ok()?;
    let filling = "All work and no play makes Jack a dull boy.\r\n".repeat(100);
    let content = format!("Subject: {token}\r\n\r\n{filling}");
    let reply = client.message("jack@client.example", &["alice@example.org"], &content).ok()?;
    (reply.code == 250).then_some(())
}
