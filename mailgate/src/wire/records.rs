//! Domains, accounts, aliases and keys: also without a daemon.

use std::sync::Arc;

use mailgate_accounts::Accounts;
use mailgate_model::Clock;
use mailgate_msgauth::Signer;

use super::system;
use crate::admin::Failure;
use crate::config::Config;

/// What the administrator decides about people and keys.
#[derive(Debug, Clone)]
pub struct Records {
    /// Domains, accounts, aliases.
    pub accounts: Accounts,
    /// Keys.
    pub signer: Signer,
    /// Our name, for the DNS.
    pub hostname: Option<mailgate_model::Domain>,
}

impl Records {
    /// Opens the records below the state folder, made with mode 0700 if missing.
    ///
    /// # Errors
    /// When folder or database cannot be opened.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        super::ground::make_state_folder(config)?;
        let folder = &config.state_dir;
        let records =
            mailgate_store::Records::open(folder.join("records.db"), Arc::clone(clock)).map_err(system)?;
        Ok(Self {
            accounts: Accounts::open(records.clone(), config.accounts.clone(), folder, Arc::clone(clock)),
            signer: Signer::new(records),
            hostname: config.own_name().ok(),
        })
    }
}
