//! `[edge.tarpit]`.

use std::collections::BTreeMap;

use mailgate_model::Span;
use serde::Deserialize;

/// Whether the tarpit's last word says to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastWord {
    /// 450, spamd(8) `-4`: the spammer's queue stays full, and a wrongly listed sender loses nothing.
    #[default]
    Transient,
    /// 550, spamd(8) `-5`.
    Permanent,
}

/// `[edge.tarpit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TarpitConfig {
    /// Between two bytes of our replies, 10 ms to 10 s, as spamd(8) `-s`. Default `"1s"`.
    pub interval: Span,
    /// Turns a second of all held clients together, 100 to 1000000: when there are more clients than that times
    /// `interval`, each waits longer, so that the tarpit stays at about a tenth of a processor. Default
    /// 4000.
    pub pace: u32,
    /// Connections held at once, 1 to 1000000; the oldest ones of listed sources make room. Needs as many open files; of
    /// those the process may have, some are left to others. Each takes less than 1 KiB of our memory. Default 10000.
    pub capacity: usize,
    /// Connections held at once of one network, an IPv4 /24 or an IPv6 /64; further ones are closed. Default 1000.
    pub per_network: usize,
    /// Octets asked of the kernel for what a held client sends, so that it has to wait for us, as spamd(8) `-w`; the
    /// kernel has a least of its own. 0 leaves it as it is. Default 256.
    pub window: u32,
    /// How many of them may be inside TLS, which costs some 50 KB each. Default 500.
    pub tls_capacity: usize,
    /// Whether the last word is `"transient"` (450) or `"permanent"` (550). Default `"transient"`.
    pub last_word: LastWord,
    /// What trapped clients are told at the end; `%A` is their address, `%%` a percent sign, lines end with `\n`, as in
    /// spamd.conf(5).
    pub trapped_message: String,
    /// What clients of a table are told that has no message of its own; `%T` is the table's name.
    pub listed_message: String,
    /// Messages by table name, instead of what the list itself says. Default none; example `{ spews = "Mail from %A is not wanted, see https://..." }`.
    pub messages: BTreeMap<String, String>,
}

impl Default for TarpitConfig {
    fn default() -> Self {
        Self {
            interval: Span::from_secs(1),
            pace: 4000,
            capacity: 10_000,
            per_network: 1000,
            window: 256,
            tls_capacity: 500,
            last_word: LastWord::default(),
            trapped_message: "Your address %A sent mail to a trap within the last days".to_owned(),
            listed_message: "Your address %A is in the list %T".to_owned(),
            messages: BTreeMap::new(),
        }
    }
}
