//! SYN cookies as the kernel reports them (ip-sysctl `tcp_syncookies`, /proc/net/netstat `TcpExt`).

use std::fs;

use serde::Serialize;

/// What the kernel's SYN cookies are doing in this network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct KernelCookies {
    /// net.ipv4.tcp_syncookies: 0 never, 1 when the queue of a listener is full, 2 always.
    pub mode: u8,
    /// Cookies that the stack sent; those of the filter are not among them.
    pub sent: u64,
    /// Connections made of a cookie, also of the filter's.
    pub received: u64,
    /// Acknowledgments that were no valid cookie.
    pub failed: u64,
}

impl KernelCookies {
    /// The figures now; `None` when the kernel does not tell.
    #[must_use]
    pub fn read() -> Option<Self> {
        let mode = fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").ok()?.trim().parse().ok()?;
        let text = fs::read_to_string("/proc/thread-self/net/netstat").ok()?;
        let of = |name: &str| figure(&text, name);
        Some(Self {
            mode,
            sent: of("SyncookiesSent")?,
            received: of("SyncookiesRecv")?,
            failed: of("SyncookiesFailed")?,
        })
    }
}

/// A figure of a line of names and a line of values, both beginning with `TcpExt:`.
fn figure(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name() {
        let text =
            "TcpExt: SyncookiesSent SyncookiesRecv Other\nTcpExt: 7 5 9\nIpExt: SyncookiesSent\nIpExt: 3\n";
        assert_eq!(figure(text, "SyncookiesSent"), Some(7));
        assert_eq!(figure(text, "SyncookiesRecv"), Some(5));
        assert_eq!(figure(text, "SyncookiesFailed"), None);
        assert_eq!(figure("", "Other"), None);
        assert_eq!(figure("TcpExt: A B\nTcpExt: 1\n", "B"), None, "a line is cut");
    }
}
