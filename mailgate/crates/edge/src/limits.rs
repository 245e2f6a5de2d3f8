//! How many held clients of one network there may be, and how many open files are left for these. Sessions with unknown
//! clients are counted by `mailgate_net::Places`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Open files that the process needs beside sessions and held clients: databases, listeners, deliveries.
const OTHER_FILES: u64 = 1024;

/// Held clients that leave enough open files for so many sessions with unknown clients and everything else; at least a
/// quarter of all files, where a limit is so small that nothing fits.
pub(crate) fn spare_files(sessions: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let Ok((files, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let others = OTHER_FILES.saturating_add(u64::try_from(sessions).unwrap_or(u64::MAX));
    usize::try_from(files.saturating_sub(others).max(files / 4)).unwrap_or(usize::MAX)
}

/// Held clients by network, an IPv4 /24 or an IPv6 /64.
#[derive(Debug)]
pub(crate) struct Networks {
    limit: u32,
    held: Mutex<HashMap<u64, u32>>,
}

impl Networks {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: u32::try_from(limit).unwrap_or(u32::MAX), held: Mutex::default() }
    }

    /// Counts one more of the network of `ip`; false when it has enough.
    pub(crate) fn enter(&self, ip: IpAddr) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(network_bits(ip)).or_default();
        let has_room = *count < self.limit;
        *count += u32::from(has_room);
        has_room
    }

    /// One of that network is gone.
    pub(crate) fn leave(&self, ip: IpAddr) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&network_bits(ip)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&network_bits(ip));
            }
        }
    }
}

/// No /64 in use begins with forty zeros, so both families fit into one number.
fn network_bits(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_enough_held_clients_at_its_limit_and_room_again_when_one_leaves() {
        let networks = Networks::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for [one, other, third, elsewhere] in [
            ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.3", "192.0.3.1"],
            ["2001:db8::1", "2001:db8::2", "2001:db8::ffff", "2001:db8:0:1::1"],
        ] {
            assert!(networks.enter(ip(one)) && networks.enter(ip(other)));
            assert!(!networks.enter(ip(third)), "{third}");
            assert!(networks.enter(ip(elsewhere)));
            networks.leave(ip(one));
            assert!(networks.enter(ip(third)));
            for left in [other, third, elsewhere] {
                networks.leave(ip(left));
            }
        }
        assert!(networks.held.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
