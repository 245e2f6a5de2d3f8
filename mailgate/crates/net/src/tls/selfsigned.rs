//! The certificate for those who have none yet.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use mailgate_model::{Clock as _, Domain, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::ServerName;

use super::{Provider, certificates};
use crate::{Error, Pair, SystemClock};

/// How long a certificate of ours lives. Nobody verifies it, so a short life would protect nobody.
const YEARS: i32 = 20;
const CERTIFICATE: &str = "self-signed.pem";
const KEY: &str = "self-signed.key";

/// The pair in `folder`, made when there is none that can be used for `hostname`.
pub(super) fn ensure(folder: &Path, hostname: &Domain, provider: &Provider) -> Result<Pair, Error> {
    let pair = Pair { certificate: folder.join(CERTIFICATE), key: folder.join(KEY) };
    if !serves(&pair, hostname, provider) {
        let failed = |source| Error::File { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        make(&pair, hostname)?;
        let path = pair.certificate.display();
        tracing::info!(target: "net", event = "certificate", result = "made", host = %hostname, %path, "self-signed");
    }
    Ok(pair)
}

/// Whether the pair is whole and bears the name; a new host name or a half-written file make a new one.
fn serves(pair: &Pair, hostname: &Domain, provider: &Provider) -> bool {
    let Ok(name) = ServerName::try_from(hostname.as_str()) else { return false };
    certificates::read(pair, provider).is_ok_and(|key| certificates::covers(&key, &name))
}

fn make(pair: &Pair, hostname: &Domain) -> Result<(), Error> {
    let refused = |error: rcgen::Error| Error::Certificate {
        path: pair.certificate.clone(),
        found: format!("a certificate for {hostname} cannot be made: {error}"),
    };
    let key = KeyPair::generate().map_err(refused)?;
    let mut params = CertificateParams::new(vec![hostname.as_str().to_owned(), "localhost".to_owned()])
        .map_err(refused)?;
    params.distinguished_name.push(DnType::CommonName, hostname.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (year, month, day) = first_day(SystemClock.now());
    params.not_before = rcgen::date_time_ymd(year, month, day);
    params.not_after = rcgen::date_time_ymd(year + YEARS, month, day);
    let certificate = params.self_signed(&key).map_err(refused)?;
    // The key first: a crash in between leaves no certificate, and the next start makes both anew.
    write(&pair.key, 0o600, &key.serialize_pem())?;
    write(&pair.certificate, 0o644, &certificate.pem())
}

/// Year, month and day from which the certificate is valid: yesterday, so that a peer whose clock is slow agrees.
fn first_day(now: Timestamp) -> (i32, u8, u8) {
    let (year, month, day, ..) = Timestamp::from_secs(now.secs() - 86_400).civil();
    // The 29th of February is missing in most years, and the last day needs the same date.
    let (month, day) = (u8::try_from(month).unwrap_or(1), u8::try_from(day.min(28)).unwrap_or(1));
    (i32::try_from(year).unwrap_or(2026), month, day)
}

/// Whole or not at all: written beside and renamed, with its permissions from the first byte on.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let attempt = || -> io::Result<()> {
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    attempt().map_err(|source| Error::File { path: path.to_owned(), source })
}
