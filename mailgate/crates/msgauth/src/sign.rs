//! Signing what leaves, and the keys for it.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{Canonicalization, DkimSigner};
use mailgate_model::Domain;
use mailgate_store::Records;
use mailgate_store::records::DkimKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;

use crate::Error;

/// Header fields that are signed (RFC 6376 §5.4.1). From, To and Subject are named twice, so that a second one added
/// on the way breaks the signature (§8.15).
const SIGNED_FIELDS: [&str; 20] = [
    "From",
    "From",
    "To",
    "To",
    "Subject",
    "Subject",
    "Date",
    "Message-ID",
    "Cc",
    "Reply-To",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Sender",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// Signature algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8463).
    Ed25519,
    /// RSA of 2048 bits with SHA-256 (RFC 8301).
    Rsa,
}

impl Algorithm {
    /// Its name in the `k=` tag (RFC 6376 §3.6.1).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }

    /// The algorithm of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Ed25519, Self::Rsa].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// One line of `mailgate dkim list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The signing domain.
    pub domain: String,
    /// Name of the key below `_domainkey`.
    pub selector: String,
    /// Algorithm.
    pub algorithm: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Where the record stands.
    pub name: String,
    /// Its text.
    pub record: String,
}

/// Signs with the keys of the records.
#[derive(Debug, Clone)]
pub struct Signer {
    records: Records,
}

impl Signer {
    /// Signs with the keys in `records`.
    #[must_use]
    pub fn new(records: Records) -> Self {
        Self { records }
    }

    /// `DKIM-Signature` fields with CRLF to put in front of `content`, one per key of `domain`; `None` without a key.
    ///
    /// # Errors
    /// When the records cannot be read or a key cannot be used.
    pub async fn sign(&self, domain: &Domain, content: &[u8]) -> Result<Option<String>, Error> {
        let mut fields = String::new();
        for key in self.records.dkim_keys(Some(domain)).await? {
            fields.push_str(&sign_with(&key, content)?);
        }
        Ok((!fields.is_empty()).then_some(fields))
    }

    /// Makes and keeps a key.
    ///
    /// # Errors
    /// When the selector is no label, or taken.
    pub async fn create_key(
        &self,
        domain: &Domain,
        selector: &str,
        algorithm: Algorithm,
    ) -> Result<KeyRow, Error> {
        let is_label = !selector.is_empty()
            && selector.len() <= 63
            && selector.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !selector.starts_with('-')
            && !selector.ends_with('-');
        if !is_label {
            return Err(Error::Selector(selector.chars().take(80).collect()));
        }
        let name = key_name(selector, domain);
        let made = tokio::task::spawn_blocking(move || make(algorithm))
            .await
            .map_err(|error| unusable(&name, error))?;
        let private_key = made.map_err(|why| unusable(&key_name(selector, domain), why))?;
        let algorithm = algorithm.name().to_owned();
        self.records.add_dkim_key(domain, selector.to_owned(), algorithm, private_key).await?;
        let rows = self.keys(Some(domain)).await?;
        let own = rows.into_iter().find(|row| row.selector == selector);
        own.ok_or_else(|| Error::Store(mailgate_store::Error::Missing(key_name(selector, domain))))
    }

    /// Forgets a key. Its record should stay in the DNS for some days: messages on the way are verified with it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_key(&self, domain: &Domain, selector: &str) -> Result<(), Error> {
        Ok(self.records.delete_dkim_key(domain, selector.to_owned()).await?)
    }

    /// The keys of one domain, or all.
    ///
    /// # Errors
    /// When the records cannot be read or a key is damaged.
    pub async fn keys(&self, domain: Option<&Domain>) -> Result<Vec<KeyRow>, Error> {
        self.records.dkim_keys(domain).await?.iter().map(row).collect()
    }
}

fn key_name(selector: &str, domain: &Domain) -> String {
    format!("{selector}._domainkey.{domain}")
}

fn unusable(name: &str, why: impl std::fmt::Display) -> Error {
    Error::Key { name: name.to_owned(), why: why.to_string() }
}

fn make(algorithm: Algorithm) -> Result<Vec<u8>, String> {
    match algorithm {
        Algorithm::Ed25519 => Ed25519Key::generate_pkcs8().map_err(|error| error.to_string()),
        Algorithm::Rsa => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|error| error.to_string())?;
            Ok(der.as_ref().to_vec())
        }
    }
}

fn sign_with(key: &DkimKey, content: &[u8]) -> Result<String, Error> {
    let name = key_name(&key.selector, &key.domain);
    match Algorithm::of(&key.algorithm) {
        Some(Algorithm::Rsa) => {
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.private_key.as_slice()));
            let rsa = RsaKey::<Sha256>::from_key_der(der).map_err(|error| unusable(&name, error))?;
            signature(rsa, key, content)
        }
        Some(Algorithm::Ed25519) => {
            let ed25519 = Ed25519Key::from_pkcs8_maybe_unchecked_der(&key.private_key)
                .map_err(|error| unusable(&name, error))?;
            signature(ed25519, key, content)
        }
        None => Err(unusable(&name, format!("found algorithm {:?}, expected rsa or ed25519", key.algorithm))),
    }
}

/// Header relaxed, body simple: mail-auth 0.13 computes wrong relaxed bodies that end with lines of white space, and
/// a body is seldom touched on the way.
fn signature<K: SigningKey>(signing_key: K, key: &DkimKey, content: &[u8]) -> Result<String, Error> {
    let signed = DkimSigner::from_key(signing_key)
        .domain(key.domain.as_str())
        .selector(key.selector.as_str())
        .headers(SIGNED_FIELDS)
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Simple)
        .sign(content)
        .map_err(|error| unusable(&key_name(&key.selector, &key.domain), error))?;
    Ok(signed.to_header())
}

fn row(key: &DkimKey) -> Result<KeyRow, Error> {
    let name = key_name(&key.selector, &key.domain);
    let public = match Algorithm::of(&key.algorithm) {
        Some(Algorithm::Rsa) => RsaKeyPair::from_pkcs8(&key.private_key)
            .map_err(|error| unusable(&name, error))
            .and_then(|pair| {
                let der: PublicKeyX509Der<'_> =
                    pair.public_key().as_der().map_err(|error| unusable(&name, error))?;
                Ok(der.as_ref().to_vec())
            })?,
        Some(Algorithm::Ed25519) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.private_key)
            .map_err(|error| unusable(&name, error))?
            .public_key()
            .as_ref()
            .to_vec(),
        None => {
            return Err(unusable(
                &name,
                format!("found algorithm {:?}, expected rsa or ed25519", key.algorithm),
            ));
        }
    };
    Ok(KeyRow {
        domain: key.domain.to_string(),
        selector: key.selector.clone(),
        algorithm: key.algorithm.clone(),
        created: key.created.to_string(),
        record: format!("v=DKIM1; k={}; p={}", key.algorithm, STANDARD.encode(public)),
        name,
    })
}
