//! Certificates for peers under test.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// A self-signed certificate and its key as PEM files.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one for these names and writes `NAME.pem` and `NAME.key` into `folder`; NAME is the first of them.
    ///
    /// # Errors
    /// When a name is not one, or the folder cannot be written.
    pub fn create(folder: &Path, names: &[&str]) -> Result<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let stem = names.first().cloned().unwrap_or_default();
        let made = rcgen::generate_simple_self_signed(names)?;
        let files = Certificate {
            certificate: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}.key")),
        };
        std::fs::write(&files.certificate, made.cert.pem())?;
        std::fs::write(&files.key, made.signing_key.serialize_pem())?;
        Ok(files)
    }
}
