//! `mailgate firewall`: the rules, what they say of an address, and how they change.

use std::net::IpAddr;

use clap::Subcommand;
use mailgate_model::Span;
use serde_json::Value;

use super::{Question, Show};
use crate::admin::Call;

/// What can be done with the firewall.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// The rules in force, in their order, with what they decided so far.
    Show {
        /// Also who is protected, and each reason for which packets passed or were dropped.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Which rule decides about an address, and why.
    Test {
        /// The address.
        address: IpAddr,
        /// Port of this host.
        #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// tcp, udp, icmp, icmp6 or a number.
        #[arg(long, default_value = "tcp", value_parser = protocol)]
        protocol: mailgate_packet::firewall::Protocol,
        /// With icmp or icmp6: the type.
        #[arg(long, default_value_t = 8)]
        icmp_type: u8,
        /// Interface by which the packet comes; without it rules that name interfaces do not count.
        #[arg(long)]
        interface: Option<String>,
    },
    /// Sources that come near the limits of connections.
    Limits,
    /// Where and how the filter runs, what is missing, what it costs.
    Status,
    /// Bring the section [firewall] of the configuration file into force, all at once.
    Apply {
        /// Take the change back after this time unless `mailgate firewall confirm` comes; without a value as
        /// firewall.confirm_within says.
        #[arg(long, value_name = "SPAN", num_args = 0..=1, conflicts_with = "yes")]
        confirm_within: Option<Option<Span>>,
        /// For good, even if it keeps out what comes in now.
        #[arg(long)]
        yes: bool,
        /// Only say what it would keep out.
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep the rules that wait for it.
    Confirm,
    /// Take the rules back that wait for a confirmation.
    Rollback,
    /// Take the filter out of the kernel; works without a daemon.
    Detach {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let an address in, whatever tables say; works without a daemon.
    Unblock {
        /// The address.
        address: IpAddr,
        /// For how long, when a daemon runs.
        #[arg(long, value_name = "SPAN", default_value = "24h")]
        expires: Span,
    },
}

fn protocol(text: &str) -> Result<mailgate_packet::firewall::Protocol, String> {
    mailgate_packet::firewall::protocol(text)
}

impl Verb {
    pub(super) fn question(self) -> Question {
        let (call, show) = match self {
            Self::Show { verbose } => {
                (Call::FirewallShow, Show::Text(if verbose { rules_verbose } else { rules }))
            }
            Self::Test { address, port, protocol, icmp_type, interface } => (
                Call::FirewallTest { address, port, protocol: protocol.to_string(), icmp_type, interface },
                Show::Card,
            ),
            Self::Limits => (
                Call::FirewallLimits,
                Show::Table(&[
                    ("source", "SOURCE"),
                    ("rule", "RULE"),
                    ("at_once", "CONNECTIONS"),
                    ("in_time", "NEW ONES"),
                    ("total", "IN ALL"),
                ]),
            ),
            Self::Status => (Call::FirewallStatus, Show::Card),
            Self::Apply { confirm_within, yes, dry_run } => (
                Call::FirewallApply {
                    asks: confirm_within.is_some(),
                    within: confirm_within.flatten(),
                    yes,
                    dry_run,
                },
                Show::Card,
            ),
            Self::Confirm => (Call::FirewallConfirm, Show::Card),
            Self::Rollback => (Call::FirewallRollback, Show::Card),
            Self::Detach { dry_run } => (Call::FirewallDetach { dry_run }, Show::Card),
            Self::Unblock { address, expires } => (Call::FirewallUnblock { address, expires }, Show::Card),
        };
        Question { call, show }
    }
}

/// What a cell of the listing says.
fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn rows<'a>(shown: &'a Value, key: &str) -> &'a [Value] {
    shown.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Rules with packets, bytes and origin; the words stand last and are never cut.
fn rules(shown: &Value) -> String {
    let rows = rows(shown, "rules");
    let origin = |row: &Value| text(row, "origin").chars().count();
    let width = rows.iter().map(origin).max().unwrap_or(0).max("FROM".len());
    let mut out = format!("{:>3}  {:>10}  {:>14}  {:width$}  RULE\n", "#", "PACKETS", "BYTES", "FROM");
    for row in rows {
        let (packets, bytes) = (number(row, "packets"), number(row, "bytes"));
        let (origin, words) = (text(row, "origin"), text(row, "words"));
        out +=
            &format!("{:>3}  {packets:>10}  {bytes:>14}  {origin:width$}  {words}\n", number(row, "number"));
        let name = text(row, "name");
        if text(row, "kind") == "configured" {
            out.truncate(out.trim_end().len());
            out += &format!("  # {name}\n");
        }
    }
    let (packets, bytes) = (number(shown, "default_packets"), number(shown, "default_bytes"));
    let default = text(shown, "default");
    out +=
        &format!("{:>3}  {packets:>10}  {bytes:>14}  {:width$}  {default} everything else\n", "-", "default");
    for note in self::rows(shown, "notes") {
        out += &format!("{}\n", note.as_str().unwrap_or_default());
    }
    out
}

fn rules_verbose(shown: &Value) -> String {
    let mut out = rules(shown);
    for (key, heading) in [
        ("dropped", "dropped because of"),
        ("passed", "passed because of"),
        ("steered", "new connections"),
        ("noted", "besides"),
    ] {
        let counted: Vec<&Value> = rows(shown, key).iter().collect();
        if counted.is_empty() {
            continue;
        }
        out += &format!("\n{heading}\n");
        for row in counted {
            let (packets, bytes) = (number(row, "packets"), number(row, "bytes"));
            out += &format!("  {:18}  {packets:>10}  {bytes:>14}\n", text(row, "reason"));
        }
    }
    out += "\nprotected\n";
    for row in rows(shown, "protected") {
        out += &format!("  {:43}  {}\n", text(row, "network"), text(row, "why"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_listed_with_their_hits_and_origins() {
        let shown = json!({
            "default": "pass",
            "default_packets": 5,
            "default_bytes": 300,
            "rules": [
                {"number": 0, "name": "protected", "kind": "protected", "origin": "protected", "packets": 1, "bytes": 60,
                 "words": "pass everything from protected networks"},
                {"number": 1, "name": "web", "kind": "configured", "origin": "/etc/mailgate.toml:12", "packets": 0, "bytes": 0,
                 "words": "pass tcp from anywhere to port 80 (http)"},
            ],
            "dropped": [{"reason": "land", "packets": 2, "bytes": 80}],
            "protected": [{"network": "192.0.2.1/32", "why": "gateway"}],
            "notes": ["waits"],
        });
        let want = "  #     PACKETS           BYTES  FROM                   RULE\n  \
            0           1              60  protected              pass everything from protected networks\n  \
            1           0               0  /etc/mailgate.toml:12  pass tcp from anywhere to port 80 (http)  # web\n  \
            -           5             300  default                pass everything else\nwaits\n";
        assert_eq!(rules(&shown), want);
        let verbose = rules_verbose(&shown);
        assert!(
            verbose.contains("dropped because of\n  land                         2              80\n"),
            "{verbose}"
        );
        assert!(verbose.contains("  192.0.2.1/32                                 gateway\n"), "{verbose}");
    }
}
