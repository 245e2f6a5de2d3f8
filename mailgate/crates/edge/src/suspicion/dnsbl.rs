//! DNS lists: which addresses they are asked about, which answers count, and when a list is not to be believed.
//!
//! A list that answers everything, or answers with an error in the shape of an address, would make the whole world
//! suspicious. So only codes that a list documents count, and a list that fails its test entries (RFC 5782 §5) is not
//! asked until it passes them again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mailgate_model::{Clock, Span};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::gather::{Inquiry, Names};

/// Between two tests of a list.
const TEST_INTERVAL: Span = Span::from_secs(3600);
/// Between two tests of a list that is not believed.
const RETEST_INTERVAL: Span = Span::from_secs(600);
/// Answers of one list that are looked at; zen.spamhaus.org gives at most a handful.
const ANSWER_LIMIT: usize = 16;

/// How far a list of known senders trusts an address (the last octet of dnswl.org's answers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Known, and nothing said.
    None,
    /// Some spam comes from there.
    Low,
    /// Rarely spam.
    Medium,
    /// Never spam.
    High,
}

/// One answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The list.
    pub zone: String,
    /// Points of suspicion, for a list of bad sources.
    pub points: i32,
    /// For a list of known senders.
    pub trust: Option<Trust>,
}

/// One list, `[[edge.suspicion.zones]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its zone. Example: `"zen.spamhaus.org"`.
    pub zone: String,
    /// Which answers mean how many points, 1 to 20; only these count. Not needed for the lists whose codes are built in:
    /// zen.spamhaus.org, bl.spamcop.net, b.barracudacentral.org, psbl.surriel.com. Example: `{ "127.0.0.2" = 5 }`.
    #[serde(default)]
    pub codes: BTreeMap<Ipv4Addr, i32>,
    /// Whether it is a list of known senders that answers as dnswl.org does. Default: true for list.dnswl.org only.
    #[serde(default)]
    pub trusts: Option<bool>,
}

/// Documented answers. zen: SBL 2, CSS 3, XBL 4 to 7, DROP 9, PBL 10 and 11; PBL says only that no mail server should be
/// there, which one of a small firm may nevertheless be.
const ZEN: [(u8, i32); 9] = [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6), (7, 6), (9, 8), (10, 4), (11, 4)];
/// Lists with one answer, 127.0.0.2.
const ONE_CODE: [&str; 3] = ["bl.spamcop.net", "b.barracudacentral.org", "psbl.surriel.com"];
/// Points of their answer.
const ONE_CODE_POINTS: i32 = 4;
/// The list of known senders.
const DNSWL: &str = "list.dnswl.org";

impl ZoneConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let Self { zone, codes, .. } = self;
        let mut problems = Vec::new();
        if mailgate_model::Domain::parse(zone).is_err() {
            problems.push(format!(
                "edge.suspicion.zones: found zone {zone:?}, expected a name such as \"zen.spamhaus.org\""
            ));
        }
        if !self.trusts() && self.codes().is_empty() {
            problems.push(format!(
                "edge.suspicion.zones: found {zone} without codes, expected those that its owner documents, for example \
                 codes = {{ \"127.0.0.2\" = 4 }}"
            ));
        }
        for (code, points) in codes {
            if !is_code(*code) {
                problems.push(format!(
                    "edge.suspicion.zones: {zone}: found code {code}, expected 127.0.0.2 to 127.254.255.255, because others \
                     are errors (RFC 5782 §2.1)"
                ));
            }
            if !(1..=20).contains(points) {
                problems
                    .push(format!("edge.suspicion.zones: {zone}: found {points} points, expected 1 to 20"));
            }
        }
        problems
    }

    fn trusts(&self) -> bool {
        self.trusts.unwrap_or(self.zone == DNSWL)
    }

    fn codes(&self) -> BTreeMap<Ipv4Addr, i32> {
        let of = |last: u8, points: i32| (Ipv4Addr::new(127, 0, 0, last), points);
        match self.zone.as_str() {
            _ if !self.codes.is_empty() => self.codes.clone(),
            "zen.spamhaus.org" => ZEN.iter().map(|(last, points)| of(*last, *points)).collect(),
            zone if ONE_CODE.contains(&zone) => BTreeMap::from([of(2, ONE_CODE_POINTS)]),
            _ => BTreeMap::new(),
        }
    }
}

/// Whether an answer can be a listing: 127.0.0.0/8, and neither 127.0.0.1 nor the 127.255.255.x of errors.
fn is_code(answer: Ipv4Addr) -> bool {
    let [first, second, third, _] = answer.octets();
    first == 127
        && answer != Ipv4Addr::LOCALHOST
        && answer != Ipv4Addr::new(127, 0, 0, 0)
        && (second, third) != (255, 255)
}

/// dnswl.org says with 127.0.0.255 that it is asked too often.
const DNSWL_REFUSES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 255);

/// What an administrator sees of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneStatus {
    /// The list.
    pub zone: String,
    /// Whether its answers count now.
    pub believed: bool,
    /// Answers that counted since the start.
    pub hits: u64,
}

struct Zone {
    zone: String,
    codes: BTreeMap<Ipv4Addr, i32>,
    trusts: bool,
    believed: AtomicBool,
    hits: AtomicU64,
}

/// The lists that are asked.
pub(crate) struct Zones(Vec<Zone>);

/// What one answer means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Hit(Hit),
    /// The list is not to be believed, because of this answer.
    Broken(Ipv4Addr),
}

impl Zones {
    pub(crate) fn new(config: &[ZoneConfig]) -> Self {
        let zone = |config: &ZoneConfig| Zone {
            zone: config.zone.clone(),
            codes: config.codes(),
            trusts: config.trusts(),
            believed: AtomicBool::new(true),
            hits: AtomicU64::new(0),
        };
        Self(config.iter().map(zone).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn status(&self) -> Vec<ZoneStatus> {
        let status = |zone: &Zone| ZoneStatus {
            zone: zone.zone.clone(),
            believed: zone.believed.load(Ordering::Relaxed),
            hits: zone.hits.load(Ordering::Relaxed),
        };
        self.0.iter().map(status).collect()
    }

    /// How many lists there are; each is asked apart, so that a slow one holds up none.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What list number `n` says of `ip`.
    pub(crate) async fn ask(&self, n: usize, ip: IpAddr, inquiry: &dyn Inquiry) -> Option<Hit> {
        let zone = self.0.get(n)?;
        if !zone.believed.load(Ordering::Relaxed) {
            return None;
        }
        let Names::Found(answers) = inquiry.ipv4(zone.question(ip)).await else { return None };
        match zone.meaning(&answers) {
            Meaning::Nothing => None,
            Meaning::Hit(hit) => {
                zone.hits.fetch_add(1, Ordering::Relaxed);
                Some(hit)
            }
            Meaning::Broken(answer) => {
                zone.doubt(&format!("it answered {answer}"));
                None
            }
        }
    }

    /// Tests every list (RFC 5782 §5), at the start and then every hour; one that fails more often.
    pub(crate) async fn test_forever(
        self: Arc<Self>,
        inquiry: Arc<dyn Inquiry>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) {
        if self.is_empty() {
            return;
        }
        loop {
            for zone in &self.0 {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = zone.test(&*inquiry) => {}
                }
            }
            let all = self.0.iter().all(|zone| zone.believed.load(Ordering::Relaxed));
            let interval = if all { TEST_INTERVAL } else { RETEST_INTERVAL };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = clock.sleep(interval.duration()) => {}
            }
        }
    }
}

impl Zone {
    /// The name to ask for: octets, or nibbles, backwards (RFC 5782 §2.1, §2.4).
    fn question(&self, ip: IpAddr) -> String {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.{}", self.zone)
            }
            IpAddr::V6(ip) => {
                let mut name = String::with_capacity(64 + self.zone.len());
                for octet in ip.octets().iter().rev() {
                    name.push_str(&format!("{:x}.{:x}.", octet & 15, octet >> 4));
                }
                name + &self.zone
            }
        }
    }

    fn meaning(&self, answers: &[Ipv4Addr]) -> Meaning {
        let mut best: Option<Hit> = None;
        for answer in answers.iter().take(ANSWER_LIMIT) {
            if !is_code(*answer) || self.trusts && *answer == DNSWL_REFUSES {
                return Meaning::Broken(*answer);
            }
            let hit = |points, trust| Hit { zone: self.zone.clone(), points, trust };
            let found = if self.trusts {
                let trust = match answer.octets() {
                    [127, 0, 2..=20, 0] => Trust::None,
                    [127, 0, 2..=20, 1] => Trust::Low,
                    [127, 0, 2..=20, 2] => Trust::Medium,
                    [127, 0, 2..=20, 3] => Trust::High,
                    _ => continue,
                };
                hit(0, Some(trust))
            } else {
                let Some(points) = self.codes.get(answer) else { continue };
                hit(*points, None)
            };
            if best.as_ref().is_none_or(|best| (best.points, best.trust) < (found.points, found.trust)) {
                best = Some(found);
            }
        }
        best.map_or(Meaning::Nothing, Meaning::Hit)
    }

    /// 127.0.0.2 must be listed and 127.0.0.1 must not. A DNS that does not answer says nothing about the list.
    async fn test(&self, inquiry: &dyn Inquiry) {
        let listed = inquiry.ipv4(self.question(Ipv4Addr::new(127, 0, 0, 2).into())).await;
        let unlisted = inquiry.ipv4(self.question(Ipv4Addr::LOCALHOST.into())).await;
        match (listed, unlisted) {
            (Names::Late, _) | (_, Names::Late) => {}
            (_, Names::Found(_)) => self.doubt("it lists 127.0.0.1"),
            (Names::Nothing, _) => self.doubt("it does not list its test entry 127.0.0.2"),
            (Names::Found(answers), Names::Nothing) => match answers.iter().find(|answer| !is_code(**answer))
            {
                Some(answer) => self.doubt(&format!("it answered {answer}")),
                None => {
                    if !self.believed.swap(true, Ordering::Relaxed) {
                        tracing::info!(target: "edge", event = "dns-list", zone = self.zone, result = "believed");
                    }
                }
            },
        }
    }

    fn doubt(&self, reason: &str) {
        if self.believed.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                target: "edge", event = "dns-list", zone = self.zone, result = "disabled", reason,
                "its answers do not count until it passes its test again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::tests::dns::Dns;

    fn config(zone: &str) -> ZoneConfig {
        ZoneConfig { zone: zone.into(), codes: BTreeMap::new(), trusts: None }
    }

    fn zone(name: &str) -> Zones {
        Zones::new(&[config(name)])
    }

    fn dns(records: &[(&str, &[[u8; 4]])]) -> Dns {
        let records = records.iter().map(|(name, answers)| {
            ((*name).to_owned(), answers.iter().map(|octets| Ipv4Addr::from(*octets)).collect())
        });
        Dns { ipv4: Mutex::new(records.collect::<HashMap<_, Vec<_>>>()), ..Dns::default() }
    }

    #[test]
    fn addresses_are_asked_for_backwards() {
        let zones = zone("zen.spamhaus.org");
        let question = |ip: &str| zones.0[0].question(ip.parse().unwrap());
        assert_eq!(question("192.0.2.1"), "1.2.0.192.zen.spamhaus.org");
        assert_eq!(question("::ffff:192.0.2.1"), "1.2.0.192.zen.spamhaus.org");
        let six = question("2001:db8::1");
        assert!(six.starts_with("1.0.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.zen.spamhaus.org"), "{six}");
    }

    #[test]
    fn only_documented_answers_count_and_errors_in_the_shape_of_addresses_never_do() {
        let of = |name: &str, answer: [u8; 4]| zone(name).0[0].meaning(&[answer.into()]);
        let points = |meaning: Meaning| match meaning {
            Meaning::Hit(hit) => Some((hit.points, hit.trust)),
            Meaning::Nothing | Meaning::Broken(_) => None,
        };
        assert_eq!(points(of("zen.spamhaus.org", [127, 0, 0, 2])), Some((6, None)));
        assert_eq!(points(of("zen.spamhaus.org", [127, 0, 0, 10])), Some((4, None)));
        assert_eq!(of("zen.spamhaus.org", [127, 0, 0, 99]), Meaning::Nothing);
        for error in [[127, 0, 0, 1], [127, 255, 255, 252], [127, 255, 255, 254], [192, 0, 2, 1]] {
            assert_eq!(of("zen.spamhaus.org", error), Meaning::Broken(error.into()));
        }
        assert_eq!(points(of("list.dnswl.org", [127, 0, 5, 3])), Some((0, Some(Trust::High))));
        assert_eq!(points(of("list.dnswl.org", [127, 0, 10, 1])), Some((0, Some(Trust::Low))));
        assert_eq!(of("list.dnswl.org", [127, 0, 0, 255]), Meaning::Broken([127, 0, 0, 255].into()));
        let all = zone("zen.spamhaus.org").0[0].meaning(&[[127, 0, 0, 10].into(), [127, 0, 0, 4].into()]);
        assert_eq!(points(all), Some((6, None)), "the strongest of several");
    }

    #[tokio::test]
    async fn a_list_that_fails_its_test_is_not_asked_until_it_passes() {
        let zones = zone("bl.spamcop.net");
        let bad = "1.2.0.192.bl.spamcop.net";
        let good = dns(&[("2.0.0.127.bl.spamcop.net", &[[127, 0, 0, 2]]), (bad, &[[127, 0, 0, 2]])]);
        let ask = async |dns: &Dns| zones.ask(0, "192.0.2.1".parse().unwrap(), dns).await.is_some();
        assert!(ask(&good).await);
        for broken in [
            dns(&[
                ("2.0.0.127.bl.spamcop.net", &[[127, 0, 0, 2]]),
                ("1.0.0.127.bl.spamcop.net", &[[127, 0, 0, 2]]),
            ]),
            dns(&[]),
            dns(&[("2.0.0.127.bl.spamcop.net", &[[127, 255, 255, 254]])]),
        ] {
            zones.0[0].test(&broken).await;
            assert!(!ask(&good).await && !zones.status()[0].believed);
            zones.0[0].test(&good).await;
            assert!(ask(&good).await && zones.status()[0].believed);
        }
        let everything = dns(&[(bad, &[[127, 0, 0, 1]])]);
        assert!(!ask(&everything).await && !ask(&good).await, "such an answer disables it at once");
        let silent = Dns { silent: true, ..dns(&[]) };
        zones.0[0].test(&good).await;
        zones.0[0].test(&silent).await;
        assert!(ask(&good).await, "a DNS that does not answer says nothing about the list");
    }

    #[test]
    fn codes_that_are_errors_and_lists_without_codes_are_problems() {
        assert!(
            config("zen.spamhaus.org").problems().is_empty()
                && config("list.dnswl.org").problems().is_empty()
        );
        assert!(config("unknown.example").problems()[0].contains("without codes"));
        let mut wrong = config("unknown.example");
        wrong.codes = BTreeMap::from([(Ipv4Addr::LOCALHOST, 3), (Ipv4Addr::new(127, 0, 0, 2), 30)]);
        assert_eq!(wrong.problems().len(), 2, "{:?}", wrong.problems());
    }
}
