//! Lists from elsewhere, step "lists" of the path: a feed by HTTP, a listed client, and what is left without the feed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mailgate_tests::{Daemon, Namespace, Network, Node, lab, until};

const HUB: Node = node("hub", 53);
const MX: Node = node("mx", 25);
const LISTED: Node = node("listed", 66);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const FEED: (Ipv4Addr, u16) = (HUB.v4, 8080);

/// A server of one list in the hub: answers 304 to who knows the list already.
struct Feed {
    list: Arc<Mutex<String>>,
    /// The request lines, with `304` behind those that got no list.
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
}

impl Feed {
    fn start(hub: &Namespace) -> Self {
        let listener = hub.within(|| Ok(TcpListener::bind(FEED)?)).unwrap();
        let feed = Self { list: Arc::default(), asked: Arc::default(), is_over: Arc::default() };
        let (list, asked, is_over) =
            (Arc::clone(&feed.list), Arc::clone(&feed.asked), Arc::clone(&feed.is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let list = list.lock().unwrap().clone();
                asked.lock().unwrap().push(answer(&stream, &list));
            }
        });
        feed
    }

    fn says(&self, list: &str) {
        list.clone_into(&mut self.list.lock().unwrap());
    }

    /// Accepts nothing any more.
    fn end(&self, hub: &Namespace) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = hub.within(|| Ok(TcpStream::connect(SocketAddr::from(FEED))?));
    }
}

/// Answers one request; a tag is as long as its list.
fn answer(mut stream: &TcpStream, list: &str) -> String {
    let tag = format!("\"{}\"", list.len());
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let is_known = lines.take_while(|line| !line.is_empty()).any(|line| {
        line.to_ascii_lowercase().strip_prefix("if-none-match: ").is_some_and(|known| known == tag)
    });
    let head = if is_known {
        format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nConnection: close\r\n\r\n")
    } else {
        let length = list.len();
        format!(
            "HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{list}"
        )
    };
    let _ = stream.write_all(head.as_bytes());
    if is_known { format!("{first} 304") } else { first }
}

/// Bytes of the greeting within three seconds.
fn greeting(from: &Namespace) -> usize {
    let read = from.within(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((MX.v4, 25)), PATIENCE)?;
        let (begun, mut bytes) = (Instant::now(), 0);
        while let Some(left) =
            Duration::from_secs(3).checked_sub(begun.elapsed()).filter(|left| !left.is_zero())
        {
            stream.set_read_timeout(Some(left))?;
            bytes += stream.read(&mut [0; 256]).unwrap_or(0);
        }
        Ok(bytes)
    });
    read.unwrap_or(0)
}

fn configuration() -> String {
    let (mx, feed) = (MX.v4, FEED.0);
    format!(
        r#"hostname = "mx.example.org"
[net.resolver]
servers = ["{feed}:53"]
[smtp.mx]
listen = ["{mx}:25"]
[edge]
mode = "off"
[[lists.source]]
kind = "url"
name = "feed"
url = "http://{feed}:8080/drop.txt"
action = "tarpit"
message = "%A is listed, %N"
interval = "1m"
"#
    )
}

#[test]
fn a_client_on_a_list_behind_a_url_is_held_and_stays_held_without_the_server_and_over_kill_9() {
    if let Some(obstacle) = lab::obstacle() {
        return mailgate_tests::skip(obstacle.to_string());
    }
    let network = Network::new(HUB, &[MX, LISTED]).unwrap();
    let (mx, listed) = (network.node("mx").unwrap(), network.node("listed").unwrap());
    let feed = Feed::start(network.hub());
    feed.says("; nobody\n192.0.2.0/24 ; SBL1\n");
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path(), &configuration(), Some(mx)).unwrap();
    let state = |daemon: &Daemon<'_>, want: &str| {
        let is_it = || (daemon.json(&["lists", "show"]).ok()?[0]["state"] == want).then_some(());
        until("the state of the feed", PATIENCE, is_it).unwrap_or_else(|_| panic!("{}", daemon.log()));
    };
    state(&daemon, "good");
    assert!(greeting(listed) > 4, "a stranger is greeted at once");

    // The feed lists it; whoever asks for the difference changes nothing.
    feed.says(&format!("; one more\n192.0.2.0/24 ; SBL1\n{}/32 ; SBL2\n", LISTED.v4));
    let diff = daemon.command(&["lists", "diff", "feed"]).unwrap();
    assert!(diff.starts_with("1 entries now, 2 then: 1 would be added, 0 would go\n"), "{diff}");
    assert!(greeting(listed) > 4, "nothing was taken");
    let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
    assert_eq!((&rows[0]["outcome"], &rows[0]["added"]), (&"taken".into(), &1.into()), "{rows}");
    let bytes = greeting(listed);
    assert!((1..=4).contains(&bytes), "{bytes} bytes in three seconds, expected one a second");
    let told = daemon.command(&["lists", "explain", &LISTED.v4.to_string()]).unwrap();
    assert!(told.contains(&format!("tarpit: {}/32 of feed in table feed", LISTED.v4)), "{told}");
    assert!(told.contains("is listed, SBL2"), "{told}");

    // kill -9, and the server is gone: the copy on disk holds the client.
    daemon.kill();
    feed.end(network.hub());
    daemon.begin().unwrap();
    let bytes = greeting(listed);
    assert!((1..=4).contains(&bytes), "{bytes} bytes after the restart");
    let rows = daemon.json(&["lists", "reload", "feed"]).unwrap();
    assert_eq!(rows[0]["outcome"], "failed", "{rows}");
    state(&daemon, "failed");
    let row = &daemon.json(&["lists", "show"]).unwrap()[0];
    assert_eq!(row["entries"], 2, "{row}");
    assert!(
        row["etag"].is_string() && row["last_success"].is_number() && row["next_run"].is_number(),
        "{row}"
    );
    let bytes = greeting(listed);
    assert!((1..=4).contains(&bytes), "{bytes} bytes with the server gone");
    assert!(feed.asked.lock().unwrap().iter().all(|line| line.starts_with("GET /drop.txt")));
}
