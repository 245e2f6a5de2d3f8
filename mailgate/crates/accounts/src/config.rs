//! `[accounts]`.

use std::path::PathBuf;

use mailgate_model::{Address, Span};
use serde::Deserialize;

/// Where mailboxes are and how logins are treated.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder below which `mailboxes` lies; relative to the state folder. Default `mail`.
    pub mail_dir: PathBuf,
    /// Maildir of an account below `mail_dir`; `{domain}` and `{local}` are replaced. Default `{domain}/{local}/Maildir`.
    pub mailboxes: String,
    /// Character that begins a sub-address, `user+tag`; empty switches sub-addresses off. Default `+`.
    pub sub_address: String,
    /// Who gets mail for `postmaster` and `abuse` of a local domain that has neither account nor alias of that name.
    /// Default: the first account of the domain.
    pub postmaster: Option<Address>,
    /// Wrong passwords of one source (an IPv4 address or an IPv6 /64) before its logins are refused for a while; ten
    /// times as many for one login from everywhere. A source that knew the password before is counted for itself.
    /// Default 10.
    pub wrong_passwords: u32,
    /// How long they are refused then. Default `5m`.
    pub refuse_for: Span,
    /// Whether a hash that was brought along is replaced by an argon2id one when its owner logs in. Default true.
    pub upgrade_hashes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mail_dir: "mail".into(),
            mailboxes: "{domain}/{local}/Maildir".to_owned(),
            sub_address: "+".to_owned(),
            postmaster: None,
            wrong_passwords: 10,
            refuse_for: Span::from_secs(300),
            upgrade_hashes: true,
        }
    }
}
