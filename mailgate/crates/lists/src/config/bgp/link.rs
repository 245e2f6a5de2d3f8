//! How the connection with a neighbour has to be.

use std::fmt;
use std::path::PathBuf;

use mailgate_net::{Hops, KEY_LIMIT, Key, Signature, Terms};
use serde::Deserialize;

use super::{BgpConfig, Mode};

/// A secret in the configuration. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// TCP-AO (RFC 5925).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AoConfig {
    /// The key, 1 to 80 bytes. Default: none; then `key_file`.
    #[serde(default)]
    pub key: Option<Password>,
    /// The same from a file. Default: none.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The key's number in what we send, 0 to 255. Example: `1`.
    pub send_id: u8,
    /// The key's number in what the neighbour sends. Example: `1`.
    pub receive_id: u8,
    /// `"hmac-sha1"` or `"aes-cmac"` (RFC 5926). Default: `"hmac-sha1"`.
    #[serde(default)]
    pub algorithm: AoAlgorithm,
}

/// How TCP-AO signs (RFC 5926).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AoAlgorithm {
    /// AES-128-CMAC-96.
    AesCmac,
    /// HMAC-SHA-1-96.
    #[default]
    HmacSha1,
}

impl BgpConfig {
    /// Contradictions, one sentence each.
    pub(super) fn link_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match (self.mode, self.listen) {
            (Mode::Active, Some(_)) => {
                problems.push("found listen, expected mode \"passive\" or \"both\" with it".into())
            }
            (Mode::Passive | Mode::Both, None) => {
                problems.push("found no listen, expected an address such as \"192.0.2.1:179\" for neighbours that connect".into());
            }
            (_, Some(listen)) if listen.is_ipv4() != self.peer.is_ipv4() => {
                problems.push("found listen and peer of different families, expected the same".into());
            }
            _ => {}
        }
        let keys = [self.password.is_some(), self.password_file.is_some(), self.tcp_ao.is_some()];
        if keys.into_iter().filter(|is_given| *is_given).count() > 1 {
            problems.push("found several of password, password_file and tcp_ao, expected one".into());
        }
        if let Some(ao) = &self.tcp_ao
            && ao.key.is_some() == ao.key_file.is_some()
        {
            problems.push("expected either key or key_file in tcp_ao".into());
        }
        let given = [self.password.as_ref(), self.tcp_ao.as_ref().and_then(|ao| ao.key.as_ref())];
        for Password(text) in given.into_iter().flatten() {
            if !(1..=KEY_LIMIT).contains(&text.len()) {
                problems.push(format!("found a key of {} bytes, expected 1 to {KEY_LIMIT}", text.len()));
            }
        }
        if self.ttl_security.is_some_and(|hops| !(1..=254).contains(&hops)) {
            problems.push("found ttl_security 0 or 255, expected 1 to 254".into());
        }
        if self.multihop == Some(0) || (self.multihop.is_some() && self.ttl_security.is_some()) {
            problems.push("expected multihop from 1 to 255 and not beside ttl_security".into());
        }
        problems
    }

    /// The terms of a connection; reads the file of the key.
    ///
    /// # Errors
    /// A sentence, without the key.
    pub(crate) fn terms(&self) -> Result<Terms, String> {
        let hops = match (self.ttl_security, self.multihop) {
            (Some(hops), _) => Hops::Checked(hops),
            (None, Some(hops)) => Hops::Reach(hops),
            (None, None) => Hops::System,
        };
        let signature = match &self.tcp_ao {
            Some(ao) => key(ao.key.as_ref(), ao.key_file.as_ref())?.map(|key| Signature::Ao {
                key,
                send_id: ao.send_id,
                receive_id: ao.receive_id,
                algorithm: match ao.algorithm {
                    AoAlgorithm::AesCmac => mailgate_net::AoAlgorithm::AesCmac,
                    AoAlgorithm::HmacSha1 => mailgate_net::AoAlgorithm::HmacSha1,
                },
            }),
            None => key(self.password.as_ref(), self.password_file.as_ref())?.map(Signature::Md5),
        };
        Ok(Terms { signature, hops })
    }
}

fn key(given: Option<&Password>, file: Option<&PathBuf>) -> Result<Option<Key>, String> {
    let bytes = match (given, file) {
        (Some(Password(text)), _) => text.clone().into_bytes(),
        (None, Some(path)) => {
            let mut bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                bytes.pop();
            }
            bytes
        }
        (None, None) => return Ok(None),
    };
    let length = bytes.len();
    let key =
        Key::new(bytes).ok_or_else(|| format!("found a key of {length} bytes, expected 1 to {KEY_LIMIT}"))?;
    Ok(Some(key))
}
