//! Who was over a limit before: each time the stay in the table is longer, and good conduct is remembered too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_lists::TableName;
use mailgate_model::Timestamp;

/// Offenders that are remembered at most; those whose stay ended first are forgotten first.
const LIMIT: usize = 1 << 16;

const HEAD: &str =
    "# Sources that were over a limit. mailgate reads this at start and replaces it at each change.\n";

/// How long a source stays in a table, and what becomes of its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Escalation {
    /// The first, second, … stay; the last one also for all later ones. Empty is the same as one of no length.
    pub(super) steps: Vec<Duration>,
    /// Each time that so long goes by after a stay, one earlier stay is forgotten.
    pub(super) decay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offence {
    /// Stays so far.
    level: u32,
    /// End of the last one.
    until: Timestamp,
}

/// What a new offence leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sentence {
    /// When it ends.
    pub(super) until: Timestamp,
    /// Which stay it is: 1 for the first.
    pub(super) level: u32,
    /// How long it is.
    pub(super) span: Duration,
}

/// Everybody who was over a limit and is not forgotten.
#[derive(Debug)]
pub(super) struct Offenders {
    escalation: Escalation,
    known: BTreeMap<(TableName, IpNet), Offence>,
}

impl Offenders {
    pub(super) fn new(escalation: Escalation) -> Self {
        Self { escalation, known: BTreeMap::new() }
    }

    /// A network was over a limit; `None` while its last stay goes on.
    pub(super) fn offend(&mut self, table: &TableName, network: IpNet, now: Timestamp) -> Option<Sentence> {
        let place = (table.clone(), network);
        let level = match self.known.get(&place) {
            Some(offence) if offence.until > now => return None,
            Some(offence) => self.level(offence, now) + 1,
            None => 1,
        };
        if self.known.len() >= LIMIT && !self.known.contains_key(&place) {
            self.forget(now);
        }
        let steps = &self.escalation.steps;
        let step = usize::try_from(level - 1).unwrap_or(usize::MAX).min(steps.len().saturating_sub(1));
        let span = steps.get(step).copied().unwrap_or_default();
        let until = now.plus(span);
        self.known.insert(place, Offence { level, until });
        Some(Sentence { until, level, span })
    }

    /// Stays that still count.
    fn level(&self, offence: &Offence, now: Timestamp) -> u32 {
        let quiet = now.since(offence.until).as_millis();
        let forgotten = quiet.checked_div(self.escalation.decay.as_millis()).unwrap_or(0);
        offence.level.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// Makes room: all without a past go, and if nobody does, a sixteenth of the rest.
    fn forget(&mut self, now: Timestamp) {
        let stale: Vec<_> = (self.known.iter())
            .filter(|(_, offence)| offence.until <= now && self.level(offence, now) == 0)
            .map(|(place, _)| place.clone())
            .collect();
        for place in &stale {
            self.known.remove(place);
        }
        if stale.is_empty() {
            let mut ends: Vec<Timestamp> = self.known.values().map(|offence| offence.until).collect();
            ends.sort_unstable();
            let bound = ends.get(ends.len() / 16).copied();
            let mut room = LIMIT / 16;
            self.known.retain(|_, offence| {
                let goes = room > 0 && bound.is_some_and(|bound| offence.until <= bound);
                room -= usize::from(goes);
                !goes
            });
        }
    }

    /// All of them as text.
    pub(super) fn write(&self) -> String {
        let mut text = HEAD.to_owned();
        for ((table, network), Offence { level, until }) in &self.known {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{table} {network} level={level} until={}", until.secs());
        }
        text
    }

    /// Takes what [`write`](Self::write) wrote; the numbers of lines that are none.
    pub(super) fn read(&mut self, text: &str) -> Vec<usize> {
        let mut wrong = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            match read_line(line) {
                Some((place, offence)) if self.known.len() < LIMIT => {
                    self.known.insert(place, offence);
                }
                _ => wrong.push(number),
            }
        }
        wrong
    }
}

fn read_line(line: &str) -> Option<((TableName, IpNet), Offence)> {
    let mut words = line.split_whitespace();
    let table = TableName::parse(words.next()?).ok()?;
    let network: IpNet = words.next()?.parse().ok()?;
    let level = words.next()?.strip_prefix("level=")?.parse().ok()?;
    let until = Timestamp::from_secs(words.next()?.strip_prefix("until=")?.parse().ok()?);
    words.next().is_none().then_some(((table, network.trunc()), Offence { level, until }))
}

/// Writes beside, makes durable, renames, so that the file is always either the old or the new one.
pub(super) fn save(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn offenders() -> Offenders {
        Offenders::new(Escalation { steps: vec![10 * MINUTE, HOUR, DAY], decay: 7 * DAY })
    }

    fn table() -> TableName {
        TableName::parse("bruteforce").unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn stays_grow_with_each_offence_and_an_offence_during_a_stay_changes_nothing() {
        let (mut offenders, network) = (offenders(), net("192.0.2.1/32"));
        let mut now = Timestamp::from_secs(1_000_000);
        for (level, span) in [(1, 10 * MINUTE), (2, HOUR), (3, DAY), (4, DAY)] {
            let until = now.plus(span);
            assert_eq!(offenders.offend(&table(), network, now), Some(Sentence { until, level, span }));
            assert_eq!(offenders.offend(&table(), network, until.plus(Duration::ZERO).earlier()), None);
            now = until.plus(MINUTE);
        }
        let first = offenders.offend(&table(), net("192.0.2.2/32"), now).unwrap();
        assert_eq!(first.level, 1, "its neighbour has no past");
        let other = TableName::parse("imap").unwrap();
        assert_eq!(offenders.offend(&other, network, now).unwrap().level, 1, "nor it in another table");
    }

    /// One millisecond before.
    trait Earlier {
        fn earlier(self) -> Self;
    }

    impl Earlier for Timestamp {
        fn earlier(self) -> Self {
            Timestamp::from_millis(self.millis() - 1)
        }
    }

    #[test]
    fn a_quiet_week_takes_one_stay_away() {
        let (mut offenders, network) = (offenders(), net("2001:db8::/64"));
        let mut now = Timestamp::from_secs(1_000_000);
        for _ in 0..3 {
            now = offenders.offend(&table(), network, now).unwrap().until;
        }
        assert_eq!(
            offenders.offend(&table(), network, now.plus(7 * DAY)).unwrap().level,
            3,
            "two and this one"
        );
        let end = now.plus(8 * DAY);
        assert_eq!(
            offenders.offend(&table(), network, end.plus(30 * DAY)).unwrap().level,
            1,
            "all forgotten"
        );
    }

    #[test]
    fn a_restart_forgets_nobody() {
        let (mut before, network) = (offenders(), net("192.0.2.0/24"));
        let now = Timestamp::from_secs(1_000_000);
        let until = before.offend(&table(), network, now).unwrap().until;
        before.offend(&table(), net("2001:db8::/64"), now).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/overload.txt");
        save(&path, &before.write()).unwrap();
        save(&path, &before.write()).unwrap();

        let mut after = offenders();
        assert_eq!(after.read(&fs::read_to_string(&path).unwrap()), [0_usize; 0]);
        assert_eq!(after.known, before.known);
        assert_eq!(after.offend(&table(), network, until).unwrap().level, 2);
        let text =
            "bruteforce 192.0.2.1/33 level=1 until=5\n\nbruteforce 192.0.2.1/32 level=1 until=5 more\nx\n";
        assert_eq!(after.read(text), [1, 3, 4], "what is no entry is told by its line");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_stay_is_forgotten_first() {
        let mut offenders = offenders();
        let start = Timestamp::from_secs(1_000_000);
        for n in 0..(LIMIT + 1000) as u32 {
            let network = IpNet::from(std::net::IpAddr::from(n.to_be_bytes()));
            assert!(
                offenders.offend(&table(), network, start.plus(Duration::from_millis(n.into()))).is_some()
            );
            assert!(offenders.known.len() <= LIMIT);
        }
        let place = |n: u32| (table(), IpNet::from(std::net::IpAddr::from(n.to_be_bytes())));
        assert!(!offenders.known.contains_key(&place(0)));
        assert!(offenders.known.contains_key(&place(LIMIT as u32 + 999)));
        let later = start.plus(30 * DAY);
        offenders.forget(later);
        assert_eq!(offenders.known.len(), 0, "whoever has no past any more goes first");
    }
}
