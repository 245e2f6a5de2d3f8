//! Names of ports, as people write them in rules.

/// Names and ports, those of mail first. Not `/etc/services`: a rule must mean the same on every host, and many hosts have
/// no such file (IANA service names; `spamd` and `spamd-cfg` as in services(5) of OpenBSD).
const SERVICES: [(&str, u16); 31] = [
    ("smtp", 25),
    ("submissions", 465),
    ("smtps", 465),
    ("submission", 587),
    ("pop3", 110),
    ("pop3s", 995),
    ("imap", 143),
    ("imaps", 993),
    ("sieve", 4190),
    ("spamd", 8025),
    ("spamd-sync", 8025),
    ("spamd-cfg", 8026),
    ("ssh", 22),
    ("domain", 53),
    ("http", 80),
    ("https", 443),
    ("bgp", 179),
    ("ntp", 123),
    ("snmp", 161),
    ("syslog", 514),
    ("ldap", 389),
    ("ldaps", 636),
    ("isakmp", 500),
    ("openvpn", 1194),
    ("wireguard", 51820),
    ("mosh", 60000),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("bootpc", 68),
    ("dhcpv6-client", 546),
    ("mdns", 5353),
];

/// The port of a service.
pub(super) fn port(name: &str) -> Option<u16> {
    SERVICES.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
}

/// The first name of a port.
pub(super) fn name(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|(_, known)| *known == port).map(|(name, _)| *name)
}

/// All names, for messages.
pub(super) fn names() -> String {
    SERVICES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}
