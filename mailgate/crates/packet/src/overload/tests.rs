//! Reports in; entries, ended connections and memory out.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use mailgate_common::limit::identity;
use mailgate_model::ManualClock;
use tokio::sync::mpsc;

use super::*;

/// A kernel that has what it is told.
struct Kernel {
    ring: UnixStream,
    writer: UnixStream,
    reports: Mutex<Vec<Overrun>>,
    connections: Mutex<Vec<Ends>>,
    done: mpsc::UnboundedSender<Done>,
}

/// What was done, in order.
#[derive(Debug, PartialEq)]
enum Done {
    Listed(String, i64),
    Ended(Vec<u16>),
    EndedOne(u16),
}

impl Kernel {
    fn report(&self, reports: &[Overrun]) {
        self.reports.lock().unwrap().extend(reports);
        (&self.writer).write_all(&[1]).unwrap();
    }
}

impl Accounting for Kernel {
    fn sources(&self) -> io::Result<Vec<(SourceKey, Counts)>> {
        Ok(Vec::new())
    }
    fn counts(&self, _: &SourceKey) -> io::Result<Option<Counts>> {
        Ok(None)
    }
    fn correct(&self, _: &SourceKey, _: Counts) -> io::Result<()> {
        Ok(())
    }
    fn overruns(&self, most: usize) -> Vec<Overrun> {
        let mut reports = self.reports.lock().unwrap();
        let most = most.min(reports.len());
        reports.drain(..most).collect()
    }
    fn ring(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
    fn now_ns(&self) -> u64 {
        0
    }
    fn counted(&self) -> io::Result<Vec<Counted>> {
        Ok(Vec::new())
    }
    fn end(&self, which: &mut dyn FnMut(&Ends) -> bool) -> io::Result<usize> {
        let mut ended = Vec::new();
        self.connections.lock().unwrap().retain(|ends| {
            let goes = which(ends);
            ended.extend(goes.then_some(ends.source_port));
            !goes
        });
        let count = ended.len();
        self.done.send(Done::Ended(ended)).unwrap();
        Ok(count)
    }
    fn end_one(&self, ends: &Ends) -> io::Result<bool> {
        self.done.send(Done::EndedOne(ends.source_port)).unwrap();
        Ok(true)
    }
}

/// Rules `imap` (table, flush) and `web` (no table); 203.0.113.0/24 and 2001:db8::53 are protected.
struct Rules(mpsc::UnboundedSender<Done>);

impl Policy for Rules {
    fn limit(&self, id: u32) -> Option<Limited> {
        let spec = LimitSpec {
            connections: 50,
            rate: 0,
            window_ms: 0,
            prefix4: 32,
            prefix6: 64,
            overload: None,
            flush: true,
            id,
        };
        let table = TableName::parse("bruteforce").unwrap();
        match id {
            id if id == identity("imap") => Some(Limited { rule: "imap".into(), spec, table: Some(table) }),
            id if id == identity("web") => Some(Limited { rule: "web".into(), spec, table: None }),
            _ => None,
        }
    }
    fn is_protected(&self, address: IpAddr) -> bool {
        address.to_string().starts_with("203.0.113.") || address.to_string() == "2001:db8::53"
    }
    fn list<'a>(&'a self, table: &'a TableName, network: IpNet, until: Timestamp, _: &'a str) -> Listing<'a> {
        self.0.send(Done::Listed(format!("{table} {network}"), until.secs())).unwrap();
        Box::pin(std::future::ready(Ok(())))
    }
}

fn overrun(source: &str, port: u16, rule: &str, first: u32) -> Overrun {
    let bits = match source.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits();
    Overrun {
        high: (bits >> 64) as u64,
        low: bits as u64,
        local_high: 0,
        local_low: 0xffff_0a00_0001,
        cookie: 1,
        limit: identity(rule),
        excess: 1,
        connections: 51,
        rate: 0,
        source_port: port,
        local_port: 993,
        first,
    }
}

fn ends(source: &str, source_port: u16) -> Ends {
    let [source, local] = [source, "10.0.0.1"].map(|text| text.parse().unwrap());
    Ends { source, source_port, local, local_port: 993, cookie: 1 }
}

struct Station {
    kernel: Arc<Kernel>,
    overload: Arc<Overload>,
    clock: ManualClock,
    done: mpsc::UnboundedReceiver<Done>,
    shutdown: CancellationToken,
}

fn station(state_dir: &std::path::Path, now: i64) -> Station {
    let (sender, done) = mpsc::unbounded_channel();
    let (ring, writer) = UnixStream::pair().unwrap();
    let kernel = Arc::new(Kernel {
        ring,
        writer,
        reports: Mutex::default(),
        connections: Mutex::default(),
        done: sender.clone(),
    });
    let clock = ManualClock::at(Timestamp::from_secs(now));
    let shutdown = CancellationToken::new();
    let overload = Overload::start(Parts {
        config: Config::default(),
        accounting: kernel.clone(),
        policy: Arc::new(Rules(sender)),
        state_dir: state_dir.to_owned(),
        clock: Arc::new(clock.clone()),
        shutdown: shutdown.clone(),
    })
    .unwrap();
    Station { kernel, overload, clock, done, shutdown }
}

impl Station {
    async fn next(&mut self) -> Done {
        tokio::time::timeout(Duration::from_secs(60), self.done.recv()).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_offender_is_listed_then_all_its_connections_end_and_only_those() {
    let folder = tempfile::tempdir().unwrap();
    let mut station = station(folder.path(), 1_000_000);
    *station.kernel.connections.lock().unwrap() = vec![
        ends("192.0.2.1", 1),
        ends("192.0.2.2", 2),
        ends("192.0.2.1", 3),
        ends("2001:db8::9", 4),
        ends("2001:db8::53", 6),
    ];
    station.kernel.report(&[
        overrun("192.0.2.1", 3, "imap", 1),
        overrun("2001:db8::1", 5, "imap", 1),
        overrun("203.0.113.9", 7, "imap", 1),
        overrun("192.0.2.7", 8, "gone", 1),
        overrun("192.0.2.2", 2, "web", 1),
    ]);
    let mut listed = [station.next().await, station.next().await];
    listed.sort_by_key(|done| format!("{done:?}"));
    assert_eq!(
        listed,
        [
            Done::Listed("bruteforce 192.0.2.1/32".into(), 1_000_600),
            Done::Listed("bruteforce 2001:db8::/64".into(), 1_000_600)
        ]
    );
    assert_eq!(station.next().await, Done::Ended(vec![1, 3, 4]), "one walk over the sockets for all of them");
    assert_eq!(
        station.next().await,
        Done::EndedOne(2),
        "without a table the connection ends, the others do not"
    );
    assert!(station.done.try_recv().is_err(), "protected sources and rules that are gone: nothing");
}

#[tokio::test]
async fn later_stays_are_longer_and_a_restart_knows_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut now = 1_000_000;
    for (n, stay) in [600, 3_600, 86_400, 86_400].into_iter().enumerate() {
        // Every second time by another daemon.
        let mut station = station(folder.path(), now);
        station.kernel.report(&[overrun("192.0.2.1", 1, "imap", 1)]);
        assert_eq!(
            station.next().await,
            Done::Listed("bruteforce 192.0.2.1/32".into(), now + stay),
            "stay {n}"
        );
        assert_eq!(station.next().await, Done::Ended(vec![]));
        station.kernel.report(&[overrun("192.0.2.1", 2, "imap", 0)]);
        assert_eq!(station.next().await, Done::Ended(vec![]), "during the stay it is not listed again");
        let file = folder.path().join("overload.txt");
        let wanted = format!("until={}\n", now + stay);
        let written = async {
            while !std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with(&wanted)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("written down");
        station.clock.advance(Duration::from_secs(1));
        station.shutdown.cancel();
        drop(station.overload);
        now += stay + 60;
    }
}
