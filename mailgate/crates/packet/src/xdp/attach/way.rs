//! The ways in which a program is attached to an interface, and what is said of them.

use std::io;
use std::path::PathBuf;

use super::super::super::Mode;
use super::super::super::status::How;
use super::super::sys;

/// In the driver or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Native,
    Generic,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Generic];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub(super) const fn flags(self) -> u32 {
        match self {
            Self::Native => sys::XDP_FLAGS_DRV_MODE,
            Self::Generic => sys::XDP_FLAGS_SKB_MODE,
        }
    }

    pub(super) const fn how(self) -> How {
        match self {
            Self::Native => How::Native,
            Self::Generic => How::Generic,
        }
    }

    pub(super) const fn is_allowed(self, mode: Mode) -> bool {
        match mode {
            Mode::Native => matches!(self, Self::Native),
            Mode::Generic => matches!(self, Self::Generic),
            Mode::Auto | Mode::Off => true,
        }
    }
}

/// A program on an interface.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) name: String,
    pub(super) way: Way,
    pub(super) pin: PathBuf,
    /// Why it is not native, or not ours.
    pub(super) reason: Option<String>,
    /// It is our program; else one of an earlier start with maps of its own.
    pub(super) is_ours: bool,
}

/// Tells how a program was attached.
pub(super) fn say_attached(attached: &Attached) {
    let (interface, mode) = (&attached.name, attached.way.name());
    match &attached.reason {
        Some(reason) => tracing::warn!(target: "edge", event = "packet", %interface, mode, %reason,
            "attached, not as fast as it could be"),
        None => tracing::info!(target: "edge", event = "packet", %interface, mode, "attached"),
    }
}

/// The kernel passes on only the driver's number; what it usually means.
pub(super) fn driver_refuses(error: &io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "it has no native XDP, or not with these offloads (try `ethtool -K … lro off`)"
        }
        Some(libc::ERANGE | libc::EINVAL) => {
            "the MTU or the queues do not fit (an MTU below 3500 usually does)"
        }
        Some(libc::ENOSPC | libc::ENOMEM) => "it has too few queues or too little memory for native XDP",
        _ => "it does not say why",
    };
    format!("the driver does not take the filter: {error}: {meaning}")
}
