//! Why the packet filter could not do it.

use std::io;

use mailgate_lists::TableName;
use mailgate_model::Permanence;

/// A failure of the packet filter; the verdicts of before stay in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The interface has an XDP program of somebody else; usually because another filter runs on it.
    #[error("interface {interface} already has an XDP program of another owner: {owner}; {}", foreign(.interface))]
    Foreign {
        /// The interface.
        interface: String,
        /// Whose it is, as far as the kernel tells.
        owner: String,
    },
    /// Another process has this instance; usually because the daemon runs already.
    #[error("filter instance {instance:?} is in use by {}; stop it, or give this one another edge.packet.instance", named(.process.as_ref()))]
    Held {
        /// Name of the instance.
        instance: String,
        /// Id and name of the process, if it can be seen from here.
        process: Option<(u32, String)>,
    },
    /// There is no such interface; usually because of a typing error, or it comes up later.
    #[error("there is no interface {0}")]
    Interface(String),
    /// The kernel refused a step; usually because of missing rights (CAP_BPF, CAP_NET_ADMIN) or its age.
    #[error("{step}: {source}")]
    Kernel {
        /// What was tried.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// This backend does not steer by behaviour.
    #[error("connections cannot be sent to the mail server by what is known of their source")]
    NoBehaviour,
    /// The compiled program was refused; usually because the kernel is older than 5.18.
    #[error("the kernel does not take the program: {0}")]
    Program(String),
    /// This host or the rights of this process lack something; the sentence says what, and what to do.
    #[error("{0}")]
    Missing(String),
    /// No filter is in the kernel.
    #[error("found no filter under {}, expected the pins of one: is the daemon's `instance` another, or its filter not in the kernel (see `mailgate status`)?", folder.display())]
    NoFilter {
        /// The folder of the instance.
        folder: std::path::PathBuf,
    },
    /// There are more rules than bits in a set; usually because every table implies one besides those configured.
    #[error(
        "{found} rules are in force (configured, of tables and built in), at most {} fit",
        mailgate_common::RULES
    )]
    Rules {
        /// How many there are.
        found: usize,
    },
    /// There are more tables than bits in a set.
    #[error("{found} tables are configured, at most {} fit", mailgate_common::hidden::FIRST)]
    Tables {
        /// How many there are.
        found: usize,
    },
    /// The tables would need more memory than they may have; usually because of a source gone wrong, or a limit that
    /// is too low for what it brings.
    #[error(
        "the tables would need {} MiB ({v4} IPv4 and {v6} IPv6 prefixes), edge.packet.memory_limit is {} MiB: \
         raise it, or take entries or sources out; what was in force stays",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    Memory {
        /// Bytes needed, at least.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Prefixes of IPv4.
        v4: usize,
        /// Prefixes of IPv6.
        v6: usize,
    },
    /// The prefixes would need a larger structure than there is; usually because a feed announces millions of /25 to /31.
    #[error("the prefixes would fill {slots} slots, the limit is {limit}")]
    TooLarge {
        /// Slots needed.
        slots: u64,
        /// Slots allowed.
        limit: u64,
    },
    /// An earlier change of rules waits for its confirmation.
    #[error("the rules in force wait for their confirmation: confirm them or take them back first")]
    Unconfirmed,
    /// A change or rule names a table that no reload has made known.
    #[error("there is no table {0}")]
    UnknownTable(TableName),
}

impl Error {
    /// Whether trying again can help; when in doubt it can.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::NoBehaviour
            | Self::Program(_)
            | Self::Rules { .. }
            | Self::Tables { .. }
            | Self::Memory { .. }
            | Self::TooLarge { .. } => Permanence::Permanent,
            Self::Foreign { .. }
            | Self::Held { .. }
            | Self::Interface(_)
            | Self::Kernel { .. }
            | Self::Missing(_)
            | Self::NoFilter { .. }
            | Self::Unconfirmed
            | Self::UnknownTable(_) => Permanence::Transient,
        }
    }

    pub(super) fn kernel(step: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel { step: step.into(), source }
    }
}

fn foreign(interface: &str) -> String {
    format!(
        "detach it (`ip link set dev {interface} xdp off`, or end its owner) or take {interface} out of edge.packet.interfaces"
    )
}

fn named(process: Option<&(u32, String)>) -> String {
    match process {
        Some((id, name)) if name.is_empty() => format!("process {id}"),
        Some((id, name)) => format!("process {id} ({name})"),
        None => "a process that cannot be seen from here".to_owned(),
    }
}
