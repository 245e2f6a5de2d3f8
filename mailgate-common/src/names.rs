//! Names of programs and maps, as they stand in the object and under the pin folder.

/// The XDP program.
pub const INGRESS: &str = "ingress";
/// The sk_lookup program.
pub const STEER: &str = "steer";
/// The sock_ops program.
pub const TRACK: &str = "track";
/// Array of maps, one place per slot: the IPv4 generations.
pub const TABLES4: &str = "TABLES4";
/// Array of maps, one place per slot: the IPv6 generations.
pub const TABLES6: &str = "TABLES6";
/// Array of maps, one place per slot: the rulesets.
pub const RULESETS: &str = "RULESETS";
/// Array of [`setting::WORDS`](crate::setting::WORDS) words.
pub const SETTINGS: &str = "SETTINGS";
/// Per-processor array: packets and bytes of each [`Reason`](crate::Reason).
pub const REASONS: &str = "REASONS";
/// Per-processor array: packets and bytes of each rule.
pub const RULE_HITS: &str = "RULE_HITS";
/// Last used hash: packets, bytes and last time of sources in tables that count.
pub const HITS: &str = "HITS";
/// Map of sockets: the listeners.
pub const LISTENERS: &str = "LISTENERS";
/// Last used hash: sources that passed, and when they connected last.
pub const SEEN: &str = "SEEN";
/// Array of programs that answer; see [`PROGRAM_REJECT`](crate::PROGRAM_REJECT).
pub const PROGRAMS: &str = "PROGRAMS";
/// Trie of the mirrored routes; see [`route`](crate::route).
pub const ROUTES: &str = "ROUTES";
/// Ring buffer of [`Event`](crate::Event)s for whoever traces.
pub const TRACE: &str = "TRACE";
/// Last used hash: [`SourceKey`](crate::limit::SourceKey) to [`Counts`](crate::limit::Counts).
pub const CONNECTIONS: &str = "CONNECTIONS";
/// Storage of sockets: [`Counted`](crate::limit::Counted).
pub const COUNTED: &str = "COUNTED";
/// Ring buffer of [`Overrun`](crate::limit::Overrun)s for the daemon.
pub const EVENTS: &str = "EVENTS";
/// The XDP program that refuses.
pub const REJECT: &str = "reject";
/// The XDP program that holds.
pub const TARPIT: &str = "tarpit";
/// The XDP program that answers with SYN cookies.
pub const COOKIE: &str = "cookie";
/// Array of one value: [`answer::setting`](crate::answer::setting).
pub const ANSWER: &str = "ANSWER";
/// Per-processor array: how often each [`Answered`](crate::answer::Answered) happened.
pub const ANSWERED: &str = "ANSWERED";
/// Hash: the addresses of this host.
pub const LOCAL: &str = "LOCAL";
/// Array: the buckets of the rates of sources. Not pinned.
pub const SOURCES: &str = "SOURCES";
/// Last used hash: connections that the tarpit in the kernel holds. Not pinned, and of one entry unless asked for.
pub const TARPITTED: &str = "TARPITTED";
/// All maps that outlive the daemon, in the order in which they are pinned.
pub const MAPS: [&str; 18] = [
    TABLES4,
    TABLES6,
    RULESETS,
    SETTINGS,
    REASONS,
    RULE_HITS,
    HITS,
    LISTENERS,
    SEEN,
    PROGRAMS,
    TRACE,
    CONNECTIONS,
    COUNTED,
    EVENTS,
    ANSWER,
    ANSWERED,
    LOCAL,
    ROUTES,
];
