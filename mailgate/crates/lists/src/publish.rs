//! What this host has learned of others, as a list for yet others: who is admitted, and the text. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use mailgate_proto::bgp::Advert;

use crate::admit::{Guarded, Protected};
use crate::bgp::Mark;
use crate::config::{Learned, PublishConfig};

/// Longest prefix length difference that still is one host: IPv6 hosts are known by their /64.
const HOST6: u8 = 64;

/// What is known of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The network.
    pub network: IpNet,
    /// Passed or trapped.
    pub set: Learned,
    /// Whether it was learned, not said by the administrator: what people decide for themselves is not published.
    pub is_learned: bool,
    /// When it got this standing.
    pub since: Timestamp,
    /// Messages accepted since then.
    pub accepted: u32,
}

/// The networks of a list, sorted. Only hosts, so that neighbours are neither punished nor rewarded; never one that is
/// protected here.
#[must_use]
pub fn admitted(
    config: &PublishConfig,
    known: impl IntoIterator<Item = Known>,
    protected: &[Protected],
    now: Timestamp,
) -> Vec<IpNet> {
    let guarded = Guarded::new(protected.iter().copied());
    let is_admitted = |one: &Known| {
        one.set == config.set
            && one.is_learned
            && is_host(one.network)
            && guarded.hit(one.network).is_none()
            && match config.set {
                Learned::Trapped => one.accepted == 0,
                Learned::Passed => sends_enough(config, *one, now),
            }
    };
    let mut networks: Vec<IpNet> =
        known.into_iter().filter(is_admitted).map(|one| one.network.trunc()).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

fn is_host(network: IpNet) -> bool {
    match network {
        IpNet::V4(net) => net.prefix_len() == 32,
        IpNet::V6(net) => net.prefix_len() >= HOST6,
    }
}

/// Enough mail in the time; of who is known for longer, on average.
fn sends_enough(config: &PublishConfig, one: Known, now: Timestamp) -> bool {
    let within: Duration = config.within.duration();
    let age = now.since(one.since).max(within);
    let needed = u128::from(config.messages) * age.as_millis();
    u128::from(one.accepted) * within.as_millis() >= needed
}

/// Lists that are announced, by name.
pub(crate) type Announced = BTreeMap<String, (PublishConfig, Vec<IpNet>)>;

/// Everything that one neighbour is told: a network in several lists has the communities of all.
pub(crate) fn adverts(lists: &Announced, peer: &str) -> BTreeMap<IpNet, Arc<Advert>> {
    let mut all: BTreeMap<IpNet, Arc<Advert>> = BTreeMap::new();
    for (config, networks) in
        lists.values().filter(|(config, _)| config.peers.iter().any(|name| name == peer))
    {
        let own = Arc::new(with_marks(Advert::default(), config));
        for network in networks {
            let advert = match all.get(network) {
                Some(other) => Arc::new(with_marks((**other).clone(), config)),
                None => Arc::clone(&own),
            };
            all.insert(*network, advert);
        }
    }
    all
}

fn with_marks(mut advert: Advert, config: &PublishConfig) -> Advert {
    for mark in config.communities.iter().filter_map(|pattern| pattern.mark()) {
        match mark {
            Mark::Large(large) => advert.large.push(large),
            Mark::Plain(plain) => advert.communities.push(plain),
        }
    }
    advert
}

/// The text of a list.
#[must_use]
pub fn written(config: &PublishConfig, networks: &[IpNet], now: Timestamp) -> String {
    let what = match config.set {
        Learned::Passed => "hosts that send mail which is accepted",
        Learned::Trapped => "hosts whose mail went to a trap",
    };
    // Writing to a string cannot fail.
    let mut text =
        format!("# {}: {} {what}, of {now}\n", config.name.replace(char::is_control, " "), networks.len());
    for network in networks {
        let host: IpAddr = network.addr();
        let _ = match network.prefix_len() == network.max_prefix_len() {
            true => writeln!(text, "{host}"),
            false => writeln!(text, "{network}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn config(set: &str) -> PublishConfig {
        toml::from_str(&format!("name = \"ours\"\nset = \"{set}\"\npath = \"x\"\n")).unwrap()
    }

    fn known(network: &str, set: Learned, days: i64, accepted: u32) -> Known {
        let since = Timestamp::from_secs((1000 - days) * DAY);
        Known { network: network.parse().unwrap(), set, is_learned: true, since, accepted }
    }

    fn names(config: &PublishConfig, known: &[Known]) -> Vec<String> {
        let own = Protected { network: "198.51.100.0/24".parse().unwrap(), why: crate::Why::Own };
        let networks = admitted(config, known.iter().copied(), &[own], Timestamp::from_secs(1000 * DAY));
        networks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn senders_need_ten_messages_in_75_days_or_so_many_on_average() {
        use Learned::Passed;
        let all = [
            known("192.0.2.1/32", Passed, 1, 10),
            known("192.0.2.2/32", Passed, 74, 9),
            known("192.0.2.3/32", Passed, 150, 20),
            known("192.0.2.4/32", Passed, 150, 19),
            known("192.0.2.0/24", Passed, 1, 1000),
            known("2001:db8::/64", Passed, 1, 10),
            known("2001:db8::/48", Passed, 1, 10),
            known("198.51.100.7/32", Passed, 1, 10),
            known("192.0.2.5/32", Learned::Trapped, 1, 10),
            Known { is_learned: false, ..known("192.0.2.6/32", Passed, 1, 10) },
        ];
        assert_eq!(names(&config("passed"), &all), ["192.0.2.1/32", "192.0.2.3/32", "2001:db8::/64"]);
    }

    #[test]
    fn trapped_hosts_are_published_unless_mail_of_theirs_was_accepted() {
        use Learned::Trapped;
        let all = [
            known("192.0.2.2/32", Trapped, 0, 0),
            known("192.0.2.1/32", Trapped, 0, 0),
            known("192.0.2.1/32", Trapped, 0, 0),
            known("192.0.2.3/32", Trapped, 0, 1),
            known("127.0.0.1/32", Trapped, 0, 0),
        ];
        assert_eq!(names(&config("trapped"), &all), ["192.0.2.1/32", "192.0.2.2/32"]);
    }

    #[test]
    fn a_written_list_reads_back() {
        let networks: Vec<IpNet> = ["192.0.2.1/32", "2001:db8::/64"].map(|text| text.parse().unwrap()).into();
        let text = written(&config("trapped"), &networks, Timestamp::from_secs(0));
        assert!(text.starts_with("# ours: 2 hosts whose mail went to a trap, of 1970-01-01"), "{text}");
        let list = crate::parse_list("x", text.as_bytes());
        assert_eq!(list.entries.iter().map(|entry| entry.prefix).collect::<Vec<_>>(), networks);
        assert_eq!(list.refused, 0);
    }

    #[test]
    fn a_network_in_two_lists_has_the_communities_of_both() {
        let list = |name: &str, low: u16, network: &str| {
            let text = format!(
                "name = \"{name}\"\nset = \"trapped\"\npeers = [\"a\"]\ncommunities = [\"65500:{low}\", \"65500:1:{low}\"]\n"
            );
            let networks = vec!["192.0.2.1/32".parse().unwrap(), network.parse().unwrap()];
            (name.to_owned(), (toml::from_str(&text).unwrap(), networks))
        };
        let lists: Announced = [list("x", 1, "192.0.2.2/32"), list("y", 2, "192.0.2.3/32")].into();
        let adverts = adverts(&lists, "a");
        let said: Vec<String> = adverts
            .iter()
            .map(|(net, advert)| format!("{net} {} {}", advert.communities.len(), advert.large.len()))
            .collect();
        assert_eq!(said, ["192.0.2.1/32 2 2", "192.0.2.2/32 1 1", "192.0.2.3/32 1 1"]);
        assert!(super::adverts(&lists, "b").is_empty());
    }

    #[test]
    fn what_cannot_be_published_is_told() {
        let text = "[[publish]]\nname = \"a\"\nset = \"passed\"\n[[publish]]\nname = \"a\"\nset = \"passed\"\npath = \"x\"\n\
                    within = \"0s\"\n";
        let config: crate::Config = toml::from_str(text).unwrap();
        let problems = config.problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(
            problems.iter().any(|said| said.contains("publish a: found neither path nor peers")),
            "{problems:?}"
        );
    }
}
