//! The language of the control socket: one JSON object per line, one answer per call.

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_lists::How;
use mailgate_model::{Address, Domain, QueueId, Span};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One question or order to the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is the command line's noun and verb, documented there")]
pub enum Call {
    Status,
    TableList,
    TableShow {
        table: String,
        after: Option<IpNet>,
        limit: usize,
    },
    TableAdd {
        table: String,
        entries: String,
        expires: Option<Span>,
        how: How,
    },
    TableDelete {
        table: String,
        entries: String,
        how: How,
    },
    TableReplace {
        table: String,
        entries: String,
        how: How,
    },
    TableFlush {
        table: String,
        how: How,
    },
    TableExpire {
        table: String,
        older: Option<Span>,
        idle: Option<Span>,
        how: How,
    },
    TableZero {
        table: String,
        entries: Option<String>,
        how: How,
    },
    TableTest {
        addresses: Vec<IpAddr>,
        table: Option<String>,
    },
    ListsShow,
    ListsDiff {
        source: String,
    },
    ListsExplain {
        address: IpAddr,
    },
    ListsReload {
        source: Option<String>,
    },
    ListsThaw {
        source: String,
    },
    BgpSummary,
    BgpNeighbor {
        name: String,
    },
    BgpRib {
        prefix: Option<String>,
        community: Option<String>,
        neighbor: Option<String>,
        limit: usize,
    },
    BgpClear {
        name: String,
        soft: bool,
        message: String,
    },
    FirewallShow,
    FirewallTest {
        address: std::net::IpAddr,
        port: u16,
        protocol: String,
        icmp_type: u8,
        interface: Option<String>,
    },
    FirewallLimits,
    FirewallStatus,
    FirewallApply {
        asks: bool,
        within: Option<Span>,
        yes: bool,
        dry_run: bool,
    },
    FirewallConfirm,
    FirewallRollback,
    FirewallDetach {
        dry_run: bool,
    },
    FirewallUnblock {
        address: std::net::IpAddr,
        expires: Span,
    },
    Why {
        about: String,
    },
    GreyIdentities {
        part: Option<String>,
    },
    GreySimulate {
        supposed: mailgate_edge::Supposed,
    },
    GreyList {
        kind: Option<GreyKind>,
        address: Option<IpNet>,
        from: Option<String>,
        to: Option<String>,
        limit: Option<usize>,
        spamdb: bool,
    },
    GreyAdd {
        kind: GreyKind,
        key: String,
    },
    GreyDelete {
        kind: Option<GreyKind>,
        key: String,
    },
    GreyCalled {
        message: String,
        junk: bool,
    },
    GreyImport {
        rows: Vec<SpamdbRow>,
    },
    GreyStatistics,
    SyncStatus,
    QueueList,
    QueueShow {
        id: QueueId,
    },
    QueueFlush {
        id: Option<QueueId>,
    },
    QueueHold {
        id: QueueId,
    },
    QueueRelease {
        id: QueueId,
    },
    QueueDelete {
        id: QueueId,
    },
    DomainList,
    DomainAdd {
        domain: Domain,
    },
    DomainDelete {
        domain: Domain,
    },
    AccountList,
    AccountAdd {
        address: Address,
        password: Option<String>,
        hash: Option<String>,
        maildir: Option<std::path::PathBuf>,
    },
    AccountPassword {
        address: Address,
        password: Option<String>,
        hash: Option<String>,
    },
    AccountDelete {
        address: Address,
    },
    AccountImport {
        passwd: String,
    },
    AliasList,
    AliasAdd {
        source: String,
        targets: Vec<Address>,
    },
    AliasDelete {
        source: String,
    },
    DkimList,
    DkimCreate {
        domain: Domain,
        selector: String,
        algorithm: String,
    },
    DnsRecords {
        domain: Domain,
    },
}

impl Call {
    /// Whether the call is about what stays in the kernel without a daemon.
    #[must_use]
    pub fn works_on_pins(&self) -> bool {
        matches!(self, Self::FirewallDetach { .. } | Self::FirewallUnblock { .. })
    }

    /// Whether the call is about the firewall.
    #[must_use]
    pub fn is_about_firewall(&self) -> bool {
        matches!(
            self,
            Self::FirewallShow
                | Self::FirewallTest { .. }
                | Self::FirewallLimits
                | Self::FirewallStatus
                | Self::FirewallApply { .. }
                | Self::FirewallConfirm
                | Self::FirewallRollback
                | Self::FirewallDetach { .. }
                | Self::FirewallUnblock { .. }
        )
    }

    /// Whether the call is about the records, which can be read and changed without a daemon.
    #[must_use]
    pub fn is_about_records(&self) -> bool {
        matches!(
            self,
            Self::DomainList
                | Self::DomainAdd { .. }
                | Self::DomainDelete { .. }
                | Self::AccountList
                | Self::AccountAdd { .. }
                | Self::AccountPassword { .. }
                | Self::AccountDelete { .. }
                | Self::AccountImport { .. }
                | Self::AliasList
                | Self::AliasAdd { .. }
                | Self::AliasDelete { .. }
                | Self::DkimList
                | Self::DkimCreate { .. }
                | Self::DnsRecords { .. }
        )
    }
}

/// What kind of row the greylist keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum GreyKind {
    /// A tuple that waits.
    Grey,
    /// A source that may pass.
    Passed,
    /// A source in the tarpit.
    Trapped,
    /// A recipient that traps who writes to it.
    TrapAddress,
}

/// One line of a `spamdb` dump, as text; its reader is the greylist.
pub type SpamdbRow = String;

/// What came of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The result: an array of rows for listings, an object for a single thing, a string for one sentence.
    Done(Value),
    /// It did not happen.
    Failed(Failure),
}

/// Why a call did not happen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence: what was found, what was expected.
    pub message: String,
    /// Exit code of the command (sysexits(3)).
    pub exit: u8,
}

impl Answer {
    /// Rows, an object or a sentence.
    pub fn done(value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self::Done(value),
            Err(error) => Self::failed(70, format!("the answer could not be written: {error}")),
        }
    }

    /// A failure with its exit code.
    pub fn failed(exit: u8, message: impl Into<String>) -> Self {
        Self::Failed(Failure { message: message.into(), exit })
    }
}
