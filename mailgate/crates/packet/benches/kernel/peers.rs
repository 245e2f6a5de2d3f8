//! What one would use instead: sets of nftables and of ipset, filled and asked by their own programs.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;
use crate::addresses::{Family, Sources};
use crate::place::{INSIDE, SECOND, run};

/// A set of addresses in netfilter, and rules that drop its members.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// nftables, a set of single addresses, at the ingress hook.
    NftHash,
    /// The same with `flags interval`: a set that can hold prefixes.
    NftInterval,
    /// ipset `hash:net`, asked by iptables in the table `raw`.
    Ipset,
}

/// What the rules do with sources that are no members of the set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Drop them.
    Drop,
    /// Pass them, those of this network before the set is asked; on both devices.
    Pass(&'static str),
}

impl Peer {
    pub(crate) const ALL: [Peer; 3] = [Peer::NftHash, Peer::NftInterval, Peer::Ipset];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::NftHash => "nft hash set",
            Peer::NftInterval => "nft interval set",
            Peer::Ipset => "ipset hash:net",
        }
    }

    /// The programs it needs, and their versions; `None` when one is missing.
    pub(crate) fn versions(self) -> Option<String> {
        let programs: &[&str] = if self == Peer::Ipset { &["ipset", "iptables"] } else { &["nft"] };
        let version =
            |program| run(program, &["--version"]).ok()?.lines().next().map(|line| line.trim().to_owned());
        programs.iter().map(|program| version(program)).collect::<Option<Vec<_>>>().map(|all| all.join(", "))
    }

    /// The text that makes the set and fills it.
    pub(crate) fn text(self, addresses: Sources<'_>, rest: Rest) -> String {
        let count = addresses.len();
        match self {
            Peer::Ipset => {
                // The size that the table grows to, told beforehand: growing would only cost it time.
                let sizes = format!("hashsize {} maxelem {}", (count / 2).max(1024), count.max(65_536));
                let family = if is_v4(addresses) { "inet" } else { "inet6" };
                adds(&format!("create bench hash:net family {family} {sizes}\n"), "bench", addresses)
            }
            Peer::NftHash | Peer::NftInterval => {
                let flags = if self == Peer::NftInterval { "flags interval\n" } else { "" };
                let elements = if count == 0 { String::new() } else { elements(addresses) };
                let (devices, before, after) = match rest {
                    Rest::Drop => (INSIDE.to_owned(), String::new(), "counter name others drop\n"),
                    Rest::Pass(network) => {
                        (format!("{INSIDE}, {SECOND}"), format!("ip saddr {network} accept\n"), "")
                    }
                };
                let (kind, source) =
                    if is_v4(addresses) { ("ipv4_addr", "ip saddr") } else { ("ipv6_addr", "ip6 saddr") };
                format!(
                    "table netdev bench {{\ncounter members {{ }}\ncounter others {{ }}\nset listed {{\ntype {kind}\n{flags}{elements}}}\n\
                     chain ingress {{\ntype filter hook ingress devices = {{ {devices} }} priority 0\n\
                     {before}{source} @listed counter name members drop\n{after}}}\n}}\n"
                )
            }
        }
    }

    /// The text that puts other members in the place of those there are, at once; IPv4 only.
    pub(crate) fn swap_text(self, addresses: Sources<'_>) -> String {
        match self {
            Peer::Ipset => {
                let sizes =
                    format!("hashsize {} maxelem {}", addresses.len() / 2, addresses.len().max(65_536));
                let mut text = adds(&format!("create fresh hash:net {sizes}\n"), "fresh", addresses);
                text.push_str("swap fresh bench\ndestroy fresh\n");
                text
            }
            Peer::NftHash | Peer::NftInterval => format!(
                "flush set netdev bench listed\ntable netdev bench {{\nset listed {{\ntype ipv4_addr\n{}{}}}\n}}\n",
                if self == Peer::NftInterval { "flags interval\n" } else { "" },
                elements(addresses)
            ),
        }
    }

    /// Has its program read such a text.
    pub(crate) fn read(self, file: &Path) -> Result<()> {
        let file = file.to_str().ok_or("a path that is no text")?;
        match self {
            Peer::Ipset => run("ipset", &["-file", file, "restore"]),
            Peer::NftHash | Peer::NftInterval => run("nft", &["-f", file]),
        }
        .map(drop)
    }

    /// The rules, where they are not part of the text.
    pub(crate) fn rule(self, family: Family, rest: Rest) -> Result<()> {
        if self != Peer::Ipset {
            return Ok(());
        }
        let program = tables(family);
        let add =
            |words: &[&str]| run(program, &[&["-t", "raw", "-A", "PREROUTING"], words].concat()).map(drop);
        if let Rest::Pass(network) = rest {
            add(&["-s", network, "-j", "ACCEPT"])?;
        }
        add(&["-m", "set", "--match-set", "bench", "src", "-j", "DROP"])?;
        if rest == Rest::Drop { add(&["-j", "DROP"]) } else { Ok(()) }
    }

    /// Packets that its two rules dropped.
    pub(crate) fn dropped(self, family: Family) -> Result<u64> {
        let counts: Vec<u64> = match self {
            Peer::Ipset => {
                let text = run(tables(family), &["-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"])?;
                let rules = text.lines().filter(|line| line.contains("DROP"));
                rules.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
            }
            Peer::NftHash | Peer::NftInterval => {
                // Not `list`: for that, nft fetches every member of the set, which takes minutes.
                let text = run("nft", &["reset", "counters", "table", "netdev", "bench"])?;
                let after = text.split("packets ").skip(1);
                after.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
            }
        };
        match counts[..] {
            [members, others] => Ok(members + others),
            _ => Err(format!("{}: its two counters are not listed", self.name()).into()),
        }
    }

    /// Bytes that it says it takes; only ipset says so.
    pub(crate) fn reported(self) -> Result<Option<u64>> {
        if self != Peer::Ipset {
            return Ok(None);
        }
        let text = run("ipset", &["list", "-t", "bench"])?;
        Ok(text.lines().find_map(|line| line.strip_prefix("Size in memory: ")?.trim().parse().ok()))
    }

    /// Takes all of it away; nothing needs to be there.
    pub(crate) fn clear(self) {
        let commands: &[&[&str]] = match self {
            Peer::Ipset => &[
                &["iptables", "-t", "raw", "-F"],
                &["ip6tables", "-t", "raw", "-F"],
                &["ipset", "destroy", "bench"],
            ],
            Peer::NftHash | Peer::NftInterval => &[&["nft", "delete", "table", "netdev", "bench"]],
        };
        for command in commands {
            if let [program, arguments @ ..] = command {
                let _ = run(program, arguments);
            }
        }
    }
}

fn is_v4(addresses: Sources<'_>) -> bool {
    matches!(addresses, Sources::V4(_))
}

/// The program that asks sets of ipset.
fn tables(family: Family) -> &'static str {
    if family == Family::V4 { "iptables" } else { "ip6tables" }
}

fn adds(head: &str, set: &str, addresses: Sources<'_>) -> String {
    let mut text = head.to_owned();
    addresses.each(|address| {
        let _ = writeln!(text, "add {set} {address}");
    });
    text
}

fn elements(addresses: Sources<'_>) -> String {
    let mut text = "elements = {\n".to_owned();
    addresses.each(|address| {
        let _ = writeln!(text, "{address},");
    });
    text.push_str("}\n");
    text
}
