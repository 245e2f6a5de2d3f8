//! What the kernel says of its SYN cookies.

use std::fs;

use serde::Serialize;

/// Counters of the network namespace since it was made (`nstat -az TcpExt*`), and whether cookies are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SynCookies {
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when a queue is full, 2 always; `None` when it cannot be read.
    pub mode: Option<u8>,
    /// SYNs answered with a cookie.
    pub sent: u64,
    /// Connections opened by one.
    pub received: u64,
    /// ACKs with one that was wrong or too old.
    pub failed: u64,
    /// Connections lost because a queue of accepted ones was full.
    pub overflows: u64,
}

impl SynCookies {
    /// Now.
    #[must_use]
    pub fn read() -> Self {
        let mode = fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").ok();
        // Of the thread: tests run in a namespace of their own.
        let counters = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
        Self { mode: mode.and_then(|text| text.trim().parse().ok()), ..Self::parse(&counters) }
    }

    /// `/proc/net/netstat`: a line of names, a line of values, both beginning with the name of the group.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Self::default() };
        let value = |name: &str| -> u64 {
            let place = names.split_whitespace().position(|one| one == name);
            place
                .and_then(|n| values.split_whitespace().nth(n))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        Self {
            mode: None,
            sent: value("SyncookiesSent"),
            received: value("SyncookiesRecv"),
            failed: value("SyncookiesFailed"),
            overflows: value("ListenOverflows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text =
            "IpExt: A\nIpExt: 1\nTcpExt: SyncookiesSent SyncookiesRecv X ListenOverflows\nTcpExt: 7 5 9 3\n";
        let want = SynCookies { mode: None, sent: 7, received: 5, failed: 0, overflows: 3 };
        assert_eq!(SynCookies::parse(text), want);
        assert_eq!(SynCookies::parse(""), SynCookies::default());
    }
}
