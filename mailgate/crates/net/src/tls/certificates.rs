//! Certificates on disk: made, read, and read again.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mailgate_model::Domain;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{Provider, Swap};
use crate::config::Pair;
use crate::{Error, TlsConfig};

/// All pairs, each with the state of its files when it was read.
pub(super) struct Certificates {
    pairs: Vec<(Pair, Swap<Loaded>)>,
    provider: Provider,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
}

/// Modification time and size of certificate and key.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(pair, _)| &pair.certificate)).finish()
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
            vec![self_signed(state_dir, hostname)?]
        } else {
            config.pair.clone()
        };
        let pairs = pairs
            .into_iter()
            .map(|pair| Ok((pair.clone(), Swap::from_pointee(read(&pair, provider)?))))
            .collect::<Result<_, Error>>()?;
        Ok(Self { pairs, provider: Arc::clone(provider) })
    }

    /// The first pair whose certificate covers `name`; the first of all when none does or no name was asked for.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let wanted = name.and_then(|name| rustls_pki_types::ServerName::try_from(name.to_owned()).ok());
        let covers = |key: &CertifiedKey| {
            let (Some(wanted), Ok(own)) = (&wanted, key.end_entity_cert()) else { return false };
            rustls::server::ParsedCertificate::try_from(own)
                .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, wanted).is_ok())
        };
        let keys: Vec<_> = self.pairs.iter().map(|(_, loaded)| Arc::clone(&loaded.load().key)).collect();
        keys.iter().find(|key| covers(key)).or_else(|| keys.first()).map(Arc::clone)
    }

    pub(super) fn reload(&self) -> bool {
        let mut changed = false;
        for (pair, loaded) in &self.pairs {
            if stamp(pair) == loaded.load().stamp {
                continue;
            }
            match read(pair, &self.provider) {
                Ok(fresh) => {
                    loaded.store(Arc::new(fresh));
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

fn stamp(pair: &Pair) -> Stamp {
    [&pair.certificate, &pair.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(pair: &Pair, provider: &Provider) -> Result<Loaded, Error> {
    let unusable = |path: &Path, found: String| Error::Certificate { path: path.to_owned(), found };
    let stamp = stamp(pair);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&pair.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&pair.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(&pair.certificate, "no certificate in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| unusable(&pair.key, error.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| unusable(&pair.certificate, error.to_string()))?;
    Ok(Loaded { key: Arc::new(key), stamp })
}

/// The self-signed pair below `state_dir/tls`; made for `hostname` when it is missing.
fn self_signed(state_dir: &Path, hostname: &Domain) -> Result<Pair, Error> {
    let folder = state_dir.join("tls");
    let pair = Pair { certificate: folder.join("self-signed.pem"), key: folder.join("self-signed.key") };
    if pair.certificate.exists() && pair.key.exists() {
        return Ok(pair);
    }
    std::fs::create_dir_all(&folder).map_err(|source| Error::File { path: folder.clone(), source })?;
    let made = rcgen::generate_simple_self_signed(vec![hostname.as_str().to_owned(), "localhost".to_owned()])
        .map_err(|error| Error::Certificate { path: pair.certificate.clone(), found: error.to_string() })?;
    write(&pair.key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
    write(&pair.certificate, made.cert.pem().as_bytes(), 0o644)?;
    tracing::info!(target: "net", event = "certificate", file = %pair.certificate.display(), "made a self-signed certificate");
    Ok(pair)
}

/// Written beside and renamed, so that a crash leaves no half file.
fn write(path: &PathBuf, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let beside = path.with_extension("new");
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|source| Error::File { path: path.clone(), source })
}
