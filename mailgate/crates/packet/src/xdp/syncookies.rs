//! net.ipv4.tcp_syncookies: the kernel hands out cookies at every SYN only when it is 2.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use mailgate_common::answer::setting;
use mailgate_common::names;

use super::super::Error;
use super::programs::{words, write};
use super::sys;

/// Of the network namespace of the calling thread.
const PATH: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const ALWAYS: &str = "2";

/// Sets it to 2 when `wanted` and keeps what it was; puts that back when not. What is amiss, if something is.
///
/// # Errors
/// When the map cannot be read or written.
pub(super) fn set(settings: &OwnedFd, wanted: bool) -> Result<Option<String>, Error> {
    let mut words = words(settings)?;
    let Some(kept) = words.get_mut(setting::SYNCOOKIES_BEFORE as usize) else { return Ok(None) };
    if !wanted {
        let before = std::mem::take(kept);
        if before != 0 {
            restore(before);
            write(settings.as_fd(), &words)?;
        }
        return Ok(None);
    }
    let found = match fs::read_to_string(PATH) {
        Ok(found) => found.trim().to_owned(),
        Err(error) => return Ok(Some(format!("{PATH}: {error}; the kernel hands out no cookies"))),
    };
    if found == ALWAYS {
        return Ok(None);
    }
    if let Err(error) = fs::write(PATH, ALWAYS) {
        return Ok(Some(format!("{PATH} is {found} and cannot be set to {ALWAYS}: {error}")));
    }
    if *kept == 0 {
        *kept = found.parse::<u64>().map_or(0, |number| number.saturating_add(1));
    }
    write(settings.as_fd(), &words)?;
    tracing::info!(target: "edge", event = "packet", before = %found,
        "net.ipv4.tcp_syncookies is 2 now, for syn_cookies; `mailgate firewall detach` puts it back");
    Ok(None)
}

/// Puts back what [`set`] found; for the end of the filter whose pins are in `folder`.
pub(super) fn undo(folder: &Path) {
    // No such pin: nothing was ever set.
    let Ok(settings) = sys::open_pin(&folder.join(names::ANSWER)) else { return };
    if let Err(error) = set(&settings, false) {
        tracing::warn!(target: "edge", event = "packet", %error, "net.ipv4.tcp_syncookies stays as it is");
    }
}

fn restore(kept: u64) {
    let before = kept.saturating_sub(1);
    // Somebody else's value stays.
    if fs::read_to_string(PATH).is_ok_and(|found| found.trim() == ALWAYS) {
        let _ = fs::write(PATH, before.to_string());
    }
}
