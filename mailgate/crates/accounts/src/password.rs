//! Password hashes: argon2id for our own, and the older ones people bring along.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use sha_crypt::ShaCrypt;

use crate::Error;

/// Longest password in octets; hashing more would be work for a guesser's benefit only.
pub(crate) const PASSWORD_LIMIT: usize = 1024;
/// Longest hash in octets that is kept or verified.
const HASH_LIMIT: usize = 512;
/// Rounds of sha-crypt above which a brought hash is refused: one login may not cost minutes (crypt(5) allows 999,999,999).
const SHA_ROUNDS_LIMIT: u32 = 5_000_000;
/// Cost of bcrypt above which a brought hash is refused (2^16 rounds take about five seconds).
const BCRYPT_COST_LIMIT: u32 = 16;
/// Memory in KiB of argon2 above which a brought hash is refused.
const ARGON_MEMORY_LIMIT: u32 = 1024 * 1024;
/// Memory times passes above which a brought hash is refused: 4 GiB written take about three seconds.
const ARGON_WORK_LIMIT: u64 = 4 * 1024 * 1024;

/// What kind of hash a text is, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Argon2,
    Bcrypt,
    ShaCrypt,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Argon2 => "argon2",
            Self::Bcrypt => "bcrypt",
            Self::ShaCrypt => "sha-crypt",
        }
    }

    pub(crate) fn of(hash: &str) -> Option<Self> {
        if hash.starts_with("$argon2") {
            Some(Self::Argon2)
        } else if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
            Some(Self::Bcrypt)
        } else if hash.starts_with("$6$") || hash.starts_with("$5$") {
            Some(Self::ShaCrypt)
        } else {
            None
        }
    }
}

/// Hashes a new password with argon2id at the parameters OWASP recommends (19 MiB, two passes).
pub(crate) fn hash(password: &str) -> Result<String, Error> {
    check(password)?;
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| Error::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

fn check(password: &str) -> Result<(), Error> {
    if password.is_empty() || password.len() > PASSWORD_LIMIT || password.contains('\0') {
        return Err(Error::Malformed(format!(
            "found a password of {} octets, expected 1 to {PASSWORD_LIMIT} without NUL",
            password.len()
        )));
    }
    Ok(())
}

/// Whether a hash is one that [`hash`] would make today.
pub(crate) fn is_current(hash: &str) -> bool {
    let default = argon2::Params::default();
    PasswordHash::new(hash).is_ok_and(|parsed| {
        hash.starts_with("$argon2id$")
            && parsed.params.get_decimal("m") == Some(default.m_cost())
            && parsed.params.get_decimal("t") == Some(default.t_cost())
    })
}

/// Takes over a hash from elsewhere, with or without Dovecot's `{SCHEME}` in front.
pub(crate) fn adopt(text: &str) -> Result<String, Error> {
    let unusable = || {
        // No more than the scheme's name: the rest may be somebody's password.
        let length = text.find('}').map_or(3, |at| at + 1).min(20);
        let shape: String = text.chars().take(length).map(|c| if c.is_control() { '?' } else { c }).collect();
        Error::Malformed(format!(
            "found a hash that begins with {shape:?}, expected $argon2id$, $6$, $5$ or $2b$, perhaps behind \
             {{ARGON2ID}}, {{SHA512-CRYPT}}, {{SHA256-CRYPT}}, {{BLF-CRYPT}} or {{CRYPT}}"
        ))
    };
    let hash = match text.strip_prefix('{') {
        Some(rest) => {
            let (scheme, hash) = rest.split_once('}').ok_or_else(unusable)?;
            let known = ["ARGON2ID", "ARGON2I", "SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", "CRYPT"];
            if !known.iter().any(|name| name.eq_ignore_ascii_case(scheme)) {
                return Err(unusable());
            }
            hash
        }
        None => text,
    };
    let whole = hash.len() <= HASH_LIMIT && hash.bytes().all(|b| b.is_ascii_graphic());
    if !whole || Scheme::of(hash).is_none() || !is_affordable(hash) {
        return Err(unusable());
    }
    Ok(hash.to_owned())
}

/// Whether verifying costs no more than a login may.
fn is_affordable(hash: &str) -> bool {
    match Scheme::of(hash) {
        Some(Scheme::Argon2) => PasswordHash::new(hash)
            .ok()
            .and_then(|parsed| parsed.params.get_decimal("m").zip(parsed.params.get_decimal("t")))
            .is_some_and(|(memory, passes)| {
                memory <= ARGON_MEMORY_LIMIT && u64::from(memory) * u64::from(passes) <= ARGON_WORK_LIMIT
            }),
        Some(Scheme::Bcrypt) => hash
            .get(4..6)
            .and_then(|cost| cost.parse::<u32>().ok())
            .is_some_and(|cost| cost <= BCRYPT_COST_LIMIT),
        Some(Scheme::ShaCrypt) => {
            let rounds = hash.get(3..).and_then(|rest| rest.strip_prefix("rounds="));
            let rounds = rounds.and_then(|rest| rest.split('$').next());
            rounds.is_none_or(|rounds| rounds.parse::<u32>().is_ok_and(|rounds| rounds <= SHA_ROUNDS_LIMIT))
        }
        None => false,
    }
}

/// Whether `password` belongs to `hash`. Slow on purpose: call it where blocking is allowed.
pub(crate) fn verify(password: &str, hash: &str) -> bool {
    if check(password).is_err() || !is_affordable(hash) {
        return false;
    }
    match Scheme::of(hash) {
        Some(Scheme::Argon2) => PasswordHash::new(hash)
            .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()),
        Some(Scheme::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Some(Scheme::ShaCrypt) => [ShaCrypt::SHA512, ShaCrypt::SHA256]
            .iter()
            .any(|kind| kind.verify_password(password.as_bytes(), hash).is_ok()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl passwd -6 -salt saltsalt secret` and its siblings.
    const SHA512: &str = include_str!("../tests/data/sha512.txt");
    const SHA256: &str = include_str!("../tests/data/sha256.txt");
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuJ/uRQzVMTJlp0/p2bZ3CqFfV1sYe6l2";

    #[test]
    fn our_own_hash_verifies_and_is_argon2id() {
        let hash = hash("secret").unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify("secret", &hash) && !verify("Secret", &hash));
        assert!(is_current(&hash) && !is_current(SHA512.trim()));
    }

    #[test]
    fn hashes_people_bring_along_verify() {
        for hash in [SHA512, SHA256].map(str::trim) {
            let adopted = adopt(&format!("{{CRYPT}}{hash}")).unwrap();
            assert!(verify("secret", &adopted), "{hash}");
            assert!(!verify("wrong", &adopted), "{hash}");
        }
        let made = bcrypt::hash("secret", 4).unwrap();
        let adopted = adopt(&format!("{{BLF-CRYPT}}{made}")).unwrap();
        assert!(verify("secret", &adopted) && !verify("wrong", &adopted));
        assert!(!verify("secret", BCRYPT));
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused() {
        for text in [
            "",
            "secret",
            "$1$abc$def",
            "{PLAIN}secret",
            "{MD5}x",
            "$6$a b$c",
            "{CRYPT",
            "$2b$31$abc",
            "$6$rounds=999999999$abc$def",
            "$argon2id$v=19$m=1048576,t=4294967295,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        ] {
            assert!(adopt(text).is_err(), "{text}");
        }
        assert!(!adopt("{PLAIN}hunter2").unwrap_err().to_string().contains("hunt"));
    }
}
