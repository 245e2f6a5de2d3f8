//! Certificates on disk: made, read, and read again.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mailgate_model::Domain;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Provider, Swap, selfsigned};
use crate::config::Pair;
use crate::{Error, TlsConfig};

/// Largest certificate or key file that is read: a chain has a few kilobytes, anything larger is another file.
const FILE_LIMIT: u64 = 1024 * 1024;

/// All pairs, in the order of the configuration.
pub(super) struct Certificates {
    pairs: Vec<Slot>,
    provider: Provider,
}

struct Slot {
    pair: Pair,
    key: Swap<CertifiedKey>,
    /// The files as they were at the last try, successful or not: a broken file is reported once, not at every look.
    tried: Mutex<Stamp>,
}

/// Modification time, size and inode of certificate and key.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|slot| &slot.pair.certificate)).finish()
    }
}

impl Certificates {
    pub(super) fn load(
        config: &TlsConfig,
        state_dir: &Path,
        hostname: &Domain,
        provider: &Provider,
    ) -> Result<Self, Error> {
        let pairs = if config.pair.is_empty() {
            vec![selfsigned::ensure(&state_dir.join("tls"), hostname, provider)?]
        } else {
            config.pair.clone()
        };
        let pairs = pairs
            .into_iter()
            .map(|pair| {
                // Before reading, so that a change in between is seen as one.
                let tried = Mutex::new(stamp(&pair));
                Ok(Slot { key: Swap::from_pointee(read(&pair, provider)?), tried, pair })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { pairs, provider: Arc::clone(provider) })
    }

    /// Folders of all files: good programs replace a file instead of writing into it, which only the folder notices.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let files = self.pairs.iter().flat_map(|slot| [&slot.pair.certificate, &slot.pair.key]);
        let mut folders: Vec<PathBuf> = files
            .filter_map(|file| file.parent())
            .map(|folder| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// The first pair whose certificate covers `name`; the first of all when none does or no name was asked for.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let wanted = name.and_then(|name| rustls_pki_types::ServerName::try_from(name).ok());
        let named = wanted.and_then(|wanted| {
            self.pairs.iter().map(|slot| slot.key.load_full()).find(|key| covers(key, &wanted))
        });
        named.or_else(|| self.pairs.first().map(|slot| slot.key.load_full()))
    }

    pub(super) fn reload(&self) -> bool {
        let mut changed = false;
        for Slot { pair, key, tried } in &self.pairs {
            let now = stamp(pair);
            let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
            if *tried == now {
                continue;
            }
            *tried = now;
            match read(pair, &self.provider) {
                Ok(fresh) => {
                    key.store(Arc::new(fresh));
                    changed = true;
                    tracing::info!(target: "net", event = "certificate", file = %pair.certificate.display(), "read again");
                }
                Err(error) => {
                    // Certificate and key are seldom written at one moment: the old pair serves until both fit.
                    tracing::warn!(target: "net", event = "certificate", %error, "the old certificate stays in use");
                }
            }
        }
        changed
    }
}

/// Whether a client that wants to reach `name` would accept this certificate's names.
pub(super) fn covers(key: &CertifiedKey, name: &rustls_pki_types::ServerName<'_>) -> bool {
    key.end_entity_cert()
        .ok()
        .and_then(|own| rustls::server::ParsedCertificate::try_from(own).ok())
        .is_some_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}

fn stamp(pair: &Pair) -> Stamp {
    [&pair.certificate, &pair.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    })
}

/// Reads one pair; the key must belong to the certificate.
pub(super) fn read(pair: &Pair, provider: &Provider) -> Result<CertifiedKey, Error> {
    let unusable = |path: &Path, found: String| Error::Certificate { path: path.to_owned(), found };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes(&pair.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&pair.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(&pair.certificate, "no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(&pair.key)?)
        .map_err(|error| unusable(&pair.key, error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        unusable(&pair.certificate, format!("its key is not the one in {}: {error}", pair.key.display()))
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_LIMIT {
        return Err(Error::Certificate { path: path.to_owned(), found: format!("{size} octets") });
    }
    std::fs::read(path).map_err(failed)
}
