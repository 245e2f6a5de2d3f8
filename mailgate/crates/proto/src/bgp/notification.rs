//! Why a session ends.

use std::fmt;

/// A NOTIFICATION (RFC 4271 §4.5); also what a session ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What kind of error.
    pub code: u8,
    /// Which one of the kind; zero for none in particular.
    pub subcode: u8,
    /// What belongs to it.
    pub data: Vec<u8>,
}

/// Reasons to end a session without anybody's fault (RFC 4486 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cease {
    /// The administrator wants a new session.
    AdministrativeReset,
    /// The administrator wants no session.
    AdministrativeShutdown,
    /// Both sides connected; this connection is one too many (RFC 4271 §6.8).
    Collision,
    /// The session is over for good; nothing of it is kept (RFC 8538 §3).
    HardReset,
    /// More prefixes than allowed.
    MaximumPrefixes,
    /// The peer is no longer configured.
    PeerDeconfigured,
}

/// Longest shutdown text (RFC 9003 §2).
const TEXT_LIMIT: usize = 255;

/// The names of codes and subcodes (IANA bgp-parameters).
const NAMES: [(u8, &str, &[&str]); 9] = [
    (0, "unknown error", &[]),
    (
        1,
        "message header error",
        &["", "connection not synchronized", "bad message length", "bad message type"],
    ),
    (
        2,
        "OPEN message error",
        &[
            "",
            "unsupported version number",
            "bad peer AS",
            "bad BGP identifier",
            "unsupported optional parameter",
            "",
            "unacceptable hold time",
            "unsupported capability",
            "",
            "",
            "",
            "role mismatch",
        ],
    ),
    (
        3,
        "UPDATE message error",
        &[
            "",
            "malformed attribute list",
            "unrecognized well-known attribute",
            "missing well-known attribute",
            "attribute flags error",
            "attribute length error",
            "invalid ORIGIN attribute",
            "",
            "invalid NEXT_HOP attribute",
            "optional attribute error",
            "invalid network field",
            "malformed AS_PATH",
        ],
    ),
    (4, "hold timer expired", &[]),
    (
        5,
        "finite state machine error",
        &[
            "",
            "unexpected message in OpenSent",
            "unexpected message in OpenConfirm",
            "unexpected message in Established",
        ],
    ),
    (
        6,
        "cease",
        &[
            "",
            "maximum number of prefixes reached",
            "administrative shutdown",
            "peer deconfigured",
            "administrative reset",
            "connection rejected",
            "other configuration change",
            "connection collision resolution",
            "out of resources",
            "hard reset",
            "BFD down",
        ],
    ),
    (7, "ROUTE-REFRESH message error", &["", "invalid message length"]),
    (8, "send hold timer expired", &[]),
];

impl Notification {
    /// Ends a session without anybody's fault; `text` goes with a shutdown or reset, cut at 255 bytes (RFC 9003 §2).
    #[must_use]
    pub fn cease(reason: Cease, text: &str) -> Self {
        let (subcode, takes_text) = match reason {
            Cease::MaximumPrefixes => (1, false),
            Cease::AdministrativeShutdown => (2, true),
            Cease::PeerDeconfigured => (3, false),
            Cease::AdministrativeReset => (4, true),
            Cease::Collision => (7, false),
            Cease::HardReset => (9, false),
        };
        let mut data = Vec::new();
        if takes_text && !text.is_empty() {
            let text = text.get(..text.floor_char_boundary(TEXT_LIMIT)).unwrap_or_default();
            data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            data.extend(text.bytes());
        }
        Self { code: 6, subcode, data }
    }

    /// Whether it ends what graceful restart would keep (RFC 8538 §3).
    #[must_use]
    pub fn is_hard(&self) -> bool {
        (self.code, self.subcode) == (6, 9)
    }

    /// What a hard reset is for: the NOTIFICATION inside of it (RFC 8538 §3.1).
    #[must_use]
    pub fn within(&self) -> Option<Self> {
        let [code, subcode, data @ ..] = self.data.as_slice() else { return None };
        self.is_hard().then(|| Self { code: *code, subcode: *subcode, data: data.to_vec() })
    }

    /// The text of a shutdown or reset, also inside a hard reset; `None` when there is none or it is malformed.
    #[must_use]
    pub fn shutdown_text(&self) -> Option<&str> {
        let (code, subcode, data) = match self.data.as_slice() {
            [code, subcode, data @ ..] if self.is_hard() => (*code, *subcode, data),
            data => (self.code, self.subcode, data),
        };
        if code != 6 || !matches!(subcode, 2 | 4) {
            return None;
        }
        let (length, text) = data.split_first()?;
        std::str::from_utf8(text.get(..usize::from(*length))?).ok().filter(|text| !text.is_empty())
    }
}

impl fmt::Display for Notification {
    /// `cease: administrative shutdown: "maintenance"`, with the peer's text printable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(code, ..)| *code == self.code);
        match known {
            Some((_, name, _)) => f.write_str(name)?,
            None => write!(f, "error {}", self.code)?,
        }
        let names = known.map_or(&[][..], |(_, _, names)| names);
        match names.get(usize::from(self.subcode)) {
            Some(name) if !name.is_empty() => write!(f, ": {name}")?,
            _ if self.subcode != 0 => write!(f, ": {}", self.subcode)?,
            _ => {}
        }
        if let Some(within) = self.within().filter(|within| !within.is_hard()) {
            return write!(f, ": {within}");
        }
        match self.shutdown_text() {
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_carries_its_text() {
        let notification = Notification::cease(Cease::AdministrativeShutdown, "until noon");
        assert_eq!(notification.shutdown_text(), Some("until noon"));
        assert_eq!(notification.to_string(), "cease: administrative shutdown: \"until noon\"");
        let long = Notification::cease(Cease::AdministrativeReset, &"ä".repeat(300));
        assert_eq!(long.shutdown_text().map(str::len), Some(254));
    }

    #[test]
    fn strange_notifications_are_printed_all_the_same() {
        for (code, subcode, data, want) in [
            (9, 9, vec![], "error 9: 9"),
            (4, 0, vec![1, 2], "hold timer expired"),
            (6, 9, vec![], "cease: hard reset"),
            (
                6,
                9,
                vec![6, 2, 3, b'o', b'f', b'f'],
                "cease: hard reset: cease: administrative shutdown: \"off\"",
            ),
            (6, 9, vec![6, 9, 6, 9], "cease: hard reset"),
            (6, 2, vec![200, b'x'], "cease: administrative shutdown"),
            (6, 2, vec![2, 0xff, 0xff], "cease: administrative shutdown"),
            (6, 2, vec![2, 0x1b, b'x'], "cease: administrative shutdown: \"\\u{1b}x\""),
        ] {
            assert_eq!(Notification { code, subcode, data }.to_string(), want);
        }
    }
}
