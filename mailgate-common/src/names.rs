//! Names of programs and maps, as they stand in the object and under the pin folder.

/// The XDP program.
pub const INGRESS: &str = "ingress";
/// The sk_lookup program.
pub const STEER: &str = "steer";
/// Array of maps, one slot: the current IPv4 generation.
pub const TABLES4: &str = "TABLES4";
/// Array of maps, one slot: the current IPv6 generation.
pub const TABLES6: &str = "TABLES6";
/// Array of [`PORT_WORDS`](crate::PORT_WORDS) words: the reception ports.
pub const PORTS: &str = "PORTS";
/// Array of [`SETTING_WORDS`](crate::SETTING_WORDS) words.
pub const SETTINGS: &str = "SETTINGS";
/// Per-processor array of [`Counter::COUNT`](crate::Counter::COUNT) words.
pub const COUNTERS: &str = "COUNTERS";
/// Map of sockets: the listeners.
pub const LISTENERS: &str = "LISTENERS";
/// All maps, in the order in which they are pinned.
pub const MAPS: [&str; 6] = [TABLES4, TABLES6, PORTS, SETTINGS, COUNTERS, LISTENERS];
