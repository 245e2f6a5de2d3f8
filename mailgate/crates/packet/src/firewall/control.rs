//! The firewall of a running daemon: brings rules into force, keeps the protected up to date, takes back what nobody
//! confirmed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock, Timestamp};

use super::config::{Config, Otherwise};
use super::denies::denies;
use super::meant::Surroundings;
use super::protect::{Protected, Trust, Watch};
use crate::overload::{Overload, SourceRow};
use crate::{Error, PacketFilter};

/// What the control is made of.
pub struct Parts {
    /// Where the rules act.
    pub filter: Arc<dyn PacketFilter>,
    /// `[firewall]`.
    pub config: Config,
    /// What the rules stand in.
    pub around: Surroundings,
    /// Networks that are protected besides: `edge.local`.
    pub local: Vec<IpNet>,
    /// The file that keeps which rules of host mode were confirmed.
    pub confirmed: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The firewall of a running daemon.
pub struct Control {
    filter: Arc<dyn PacketFilter>,
    around: Surroundings,
    local: Vec<IpNet>,
    confirmed: PathBuf,
    clock: Arc<dyn Clock>,
    overload: OnceLock<Arc<Overload>>,
    state: Mutex<State>,
}

struct State {
    /// As in force.
    config: Config,
    /// What is in force again unless somebody confirms.
    before: Option<Config>,
    /// Host mode of the file that nobody has confirmed yet; it comes into force for a time with [`Control::begin`].
    waiting: Option<Config>,
    watch: Watch,
    protected: Vec<Protected>,
}

/// How rules come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Only if they keep out nothing new.
    Harmless,
    /// For this time, then those of before again unless somebody confirms.
    Within(Duration),
    /// For good.
    Yes,
}

/// What came of new rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// They are in force for good.
    InForce,
    /// They are in force until then.
    Until(Timestamp),
    /// Nothing was done: they would keep out what comes in now, in these ways.
    Asks(Vec<String>),
}

impl Control {
    /// Gives the filter the rules and the protected. Host mode that nobody confirmed on this host waits for
    /// [`Control::begin`]; until then what no rule names passes.
    ///
    /// # Errors
    /// When the filter refuses the rules.
    pub fn start(parts: Parts) -> Result<Self, Error> {
        let Parts { filter, config, around, local, confirmed, clock } = parts;
        let is_new = config.default == Otherwise::Drop
            && fs::read_to_string(&confirmed).ok().as_deref() != Some(&fingerprint(&config, &around));
        let (config, waiting) = match is_new {
            true => (Config { default: Otherwise::Pass, ..config.clone() }, Some(config)),
            false => (config, None),
        };
        let state = State { config, before: None, waiting, watch: Watch::default(), protected: Vec::new() };
        let control = Self {
            filter,
            around,
            local,
            confirmed,
            clock,
            overload: OnceLock::new(),
            state: Mutex::new(state),
        };
        control.protect(Trust::Settled)?;
        let rules = control.lock().config.rule_set(&control.around);
        control.filter.set_rules(rules, None)?;
        Ok(control)
    }

    /// Once the tables are in force: host mode that nobody confirmed yet comes into force for a time. Until when.
    ///
    /// # Errors
    /// When the filter refuses the rules.
    pub fn begin(&self) -> Result<Option<Timestamp>, Error> {
        let Some(config) = self.lock().waiting.take() else { return Ok(None) };
        let within = config.confirm_within.duration();
        match self.apply(config, Consent::Within(within))? {
            Applied::Until(until) => Ok(Some(until)),
            Applied::InForce | Applied::Asks(_) => Ok(None),
        }
    }

    /// Brings another section into force, all at once.
    ///
    /// # Errors
    /// When the filter refuses the rules, or earlier ones wait for a confirmation; the rules of before stay in force.
    pub fn apply(&self, config: Config, consent: Consent) -> Result<Applied, Error> {
        let asks = denies(&self.lock().config, &config);
        if consent == Consent::Harmless && !asks.is_empty() {
            return Ok(Applied::Asks(asks));
        }
        // Before the rules: whoever is logged in now stays so. Networks that are protected no more go only afterwards.
        self.protect_also(Trust::Everybody, &config.admin)?;
        let within = match consent {
            Consent::Within(within) => Some(within),
            Consent::Harmless | Consent::Yes => None,
        };
        self.filter.set_rules(config.rule_set(&self.around), within)?;
        let is_for_good = within.is_none();
        {
            let mut state = self.lock();
            let before = std::mem::replace(&mut state.config, config);
            state.before = (!is_for_good).then_some(before);
        }
        if is_for_good {
            self.remember();
            self.protect(Trust::Everybody)?;
        }
        Ok(match within {
            // A filter that only acts at accept takes nothing back by itself, and says no time.
            Some(within) => {
                let until = self.filter.unconfirmed();
                Applied::Until(until.unwrap_or_else(|| self.clock.now().plus(within)))
            }
            None => Applied::InForce,
        })
    }

    /// Keeps rules that wait for it; whether there were any.
    ///
    /// # Errors
    /// When the filter refuses.
    pub fn confirm(&self) -> Result<bool, Error> {
        let is_kept = self.filter.confirm()?;
        if is_kept {
            self.lock().before = None;
            self.remember();
        } else {
            self.restore();
        }
        Ok(is_kept)
    }

    /// Takes back rules that wait for a confirmation; whether there were any.
    ///
    /// # Errors
    /// When the filter refuses.
    pub fn roll_back(&self) -> Result<bool, Error> {
        let is_taken_back = self.filter.roll_back()?;
        self.restore();
        Ok(is_taken_back)
    }

    /// To be called every second: notices what was taken back because nobody confirmed it.
    ///
    /// # Errors
    /// When the filter refuses.
    pub fn tick(&self) -> Result<(), Error> {
        let is_taken_back = self.filter.tick()?;
        if is_taken_back || self.filter.unconfirmed().is_none() {
            self.restore();
        }
        Ok(())
    }

    /// To be called every ten seconds or so: who is protected may have changed.
    ///
    /// # Errors
    /// When the filter refuses.
    pub fn refresh(&self) -> Result<(), Error> {
        self.protect(Trust::Settled)
    }

    /// `[firewall]` as in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.lock().config.clone()
    }

    /// Whether host mode waits for [`Control::begin`].
    #[must_use]
    pub fn waits(&self) -> bool {
        self.lock().waiting.is_some()
    }

    /// What the rules stand in.
    #[must_use]
    pub fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Whom nothing keeps out now.
    #[must_use]
    pub fn protected(&self) -> Vec<Protected> {
        self.lock().protected.clone()
    }

    /// Connections are counted there; said once, at the start.
    pub fn counts_with(&self, overload: Arc<Overload>) {
        let _ = self.overload.set(overload);
    }

    /// The sources with most connections under limits; `None` where nothing counts connections.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn limited(&self, most: usize) -> io::Result<Option<Vec<SourceRow>>> {
        self.overload.get().map(|overload| overload.sources(most)).transpose()
    }

    /// Where the rules act.
    #[must_use]
    pub fn filter(&self) -> &Arc<dyn PacketFilter> {
        &self.filter
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of before are in force again.
    fn restore(&self) {
        let mut state = self.lock();
        if let Some(before) = state.before.take() {
            state.config = before;
            tracing::warn!(target: "edge", event = "firewall", "nobody confirmed the rules: those of before are in force");
        }
    }

    fn protect(&self, trust: Trust) -> Result<(), Error> {
        self.protect_also(trust, &[])
    }

    fn protect_also(&self, trust: Trust, more: &[IpNet]) -> Result<(), Error> {
        let mut state = self.lock();
        let mut configured = self.local.clone();
        configured.extend(state.config.admin.iter().copied());
        // What an unconfirmed change no longer protects is needed again when it is taken back.
        configured.extend(state.before.iter().flat_map(|before| before.admin.iter().copied()));
        configured.extend(more);
        let ports = state.config.admin_ports.clone();
        let protected = state.watch.protected(&configured, &ports, trust, self.clock.now());
        if protected == state.protected {
            return Ok(());
        }
        let networks: Vec<IpNet> = protected.iter().map(|one| one.network).collect();
        self.filter.protect(&networks)?;
        state.protected = protected;
        Ok(())
    }

    /// Host mode in force for good needs no confirmation at the next start.
    fn remember(&self) {
        let config = self.config();
        if config.default != Otherwise::Drop {
            return;
        }
        if let Err(error) = save(&self.confirmed, &fingerprint(&config, &self.around)) {
            tracing::warn!(target: "edge", event = "firewall", file = %self.confirmed.display(), %error,
                "the next start will ask again for a confirmation");
        }
    }
}

/// Written beside and renamed: half a file would be another fingerprint, hence another question.
fn save(path: &std::path::Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// The rules in words, one to a line, and who is protected: what a confirmation is for. What tables imply is left out:
/// their contents change all the time, and nobody is asked about those either.
fn fingerprint(config: &Config, around: &Surroundings) -> String {
    let set = config.rule_set(around);
    let mut lines: Vec<String> = set.rules.iter().chain(&set.built_in).map(ToString::to_string).collect();
    lines.push(format!("default {:?}, urpf {:?}", config.default, config.urpf));
    lines.extend(config.admin.iter().map(|network| format!("admin {network}")));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
