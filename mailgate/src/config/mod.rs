//! The configuration: one TOML file.
//!
//! `file.rs` is the file as written, `problems.rs` finds everything that is wrong with it at once, `check.rs` asks what
//! no single key can know. `default.toml` is embedded: the reference, and what runs when no file is named.

mod check;
mod file;
mod problems;

use std::path::{Path, PathBuf};

pub use file::{Admin, Config};
pub use problems::{Problem, Problems};

use crate::admin::Failure;
use crate::cli::exit;

/// The embedded default: the whole service on loopback, for a look around.
pub const DEFAULT: &str = include_str!("default.toml");

/// Where configuration, control socket and state are; what the command line said wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Configuration file; `None` is the embedded default.
    pub file: Option<PathBuf>,
    /// Control socket.
    pub control: Option<PathBuf>,
    /// Folder of the state.
    pub state_dir: Option<PathBuf>,
}

impl Place {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// All problems, or why the file could not be read.
    pub fn load(&self) -> Result<Config, Failure> {
        let (name, text) = self.text()?;
        let mut config = parse(&name, &text)
            .map_err(|problems| Failure { message: problems.to_string(), exit: exit::CONFIG })?;
        // The daemon may change its folder.
        config.file =
            self.file.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        if let Some(state_dir) = &self.state_dir {
            config.state_dir.clone_from(state_dir);
        }
        if let Some(control) = &self.control {
            config.admin.control = Some(control.clone());
        }
        Ok(config)
    }

    /// Name and text of the file, or of the embedded default.
    ///
    /// # Errors
    /// Why the file could not be read.
    pub fn text(&self) -> Result<(String, String), Failure> {
        let Some(file) = &self.file else {
            return Ok(("default.toml (built in)".to_owned(), DEFAULT.to_owned()));
        };
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| Failure {
            message: format!("{name} could not be read: {error}"),
            exit: exit::CONFIG,
        })?;
        Ok((name, text))
    }

    /// The control socket: as the command line says, else as the file says.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn control(&self) -> Result<PathBuf, Failure> {
        match &self.control {
            Some(control) => Ok(control.clone()),
            None => self.load().map(|config| config.control()),
        }
    }
}

/// Reads a configuration of the given file name.
///
/// # Errors
/// All problems found.
pub fn parse(name: &str, text: &str) -> Result<Config, Problems> {
    let (config, mut problems) = problems::read(name, text);
    if let Some(mut config) = config {
        check::check(&mut config, text, &mut problems);
        if problems.is_empty() {
            return Ok(config);
        }
    }
    Err(problems)
}

/// Joins a path from the configuration with the state folder when it is relative.
#[must_use]
pub fn below(state_dir: &Path, path: &Path) -> PathBuf {
    state_dir.join(path)
}

#[cfg(test)]
mod tests;
