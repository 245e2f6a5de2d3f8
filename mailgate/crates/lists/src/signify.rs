//! Signed lists: keys and detached signatures in the form of signify(1), so that a list of ours is checked with OpenBSD's
//! tool and a list signed with it is taken here. Ed25519 (RFC 8032) over the octets of the file.
//!
//! Each file is a line of comment and one of base64: `Ed`, the eight octets of the key's number, then 32 octets of public
//! key or 64 of signature. A secret key has `Ed`, `BK`, rounds, salt, checksum, number and 64 octets; only one without a
//! passphrase (`signify -G -n`) can be read by a daemon.

use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Begins every key and signature.
const ALGORITHM: &[u8] = b"Ed";

/// Octets of a key's number.
const NUMBER: usize = 8;

/// Longest file of a key or signature; they have about 200 octets.
const FILE_LIMIT: usize = 4096;

/// Where the signature of a file stands.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Who is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    number: [u8; NUMBER],
    key: [u8; 32],
}

/// What we sign with.
pub struct SecretKey {
    number: [u8; NUMBER],
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The second line of a file, decoded.
fn decoded(text: &[u8], what: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("found something else, expected a {what} of signify(1)");
    let text = std::str::from_utf8(text.get(..text.len().min(FILE_LIMIT)).unwrap_or_default())
        .map_err(|_| wrong())?;
    let mut lines = text.lines();
    lines.next().filter(|line| line.starts_with("untrusted comment:")).ok_or_else(wrong)?;
    BASE64.decode(lines.next().ok_or_else(wrong)?.trim()).map_err(|_| wrong())
}

/// Splits off so many octets.
fn part<const N: usize>(octets: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = octets.split_first_chunk::<N>()?;
    *octets = rest;
    Some(*head)
}

impl PublicKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// A sentence: what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let octets = decoded(text, "public key")?;
        let mut rest = octets.strip_prefix(ALGORITHM).unwrap_or_default();
        let read = part(&mut rest).zip(part(&mut rest)).filter(|_| rest.is_empty());
        let (number, key) =
            read.ok_or("found a public key that is not Ed25519, expected one of signify(1)")?;
        Ok(Self { number, key })
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|said| format!("{}: {said}", path.display()))
    }

    /// Reads the key of a file and checks a text with it.
    ///
    /// # Errors
    /// As [`read`](Self::read) and [`verify`](Self::verify).
    pub(crate) fn check(path: &Path, text: &[u8], signature: &[u8]) -> Result<(), String> {
        Self::read(path)?.verify(text, signature)
    }

    /// Whether `signature`, the text of a signature file, is that of this key over `text`.
    ///
    /// # Errors
    /// A sentence: by whom it is signed, or that it does not fit.
    pub fn verify(&self, text: &[u8], signature: &[u8]) -> Result<(), String> {
        let octets = decoded(signature, "signature")?;
        let mut rest = octets.strip_prefix(ALGORITHM).unwrap_or_default();
        let read = part::<NUMBER>(&mut rest).zip(part::<64>(&mut rest)).filter(|_| rest.is_empty());
        let (number, signature) =
            read.ok_or("found a signature that is not Ed25519, expected one of signify(1)")?;
        if number != self.number {
            return Err("found a signature of another key, expected one of signed_by".to_owned());
        }
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        key.verify(text, &signature).map_err(|_| {
            "found a signature that is not of this text: it was changed, or fetched half old and half new"
                .to_owned()
        })
    }
}

impl SecretKey {
    /// Reads a key without a passphrase.
    ///
    /// # Errors
    /// A sentence: what was found, what was expected.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        const EXPECTED: &str = "expected a secret key of `signify -G -n`";
        let octets = decoded(text, "secret key")?;
        let mut rest = octets.strip_prefix(b"EdBK".as_slice()).unwrap_or_default();
        let wrong = || format!("found a secret key of another kind, {EXPECTED}");
        let rounds: [u8; 4] = part(&mut rest).ok_or_else(wrong)?;
        let _salt: [u8; 16] = part(&mut rest).ok_or_else(wrong)?;
        let checksum: [u8; 8] = part(&mut rest).ok_or_else(wrong)?;
        let number = part(&mut rest).ok_or_else(wrong)?;
        if rounds != [0; 4] {
            return Err(format!(
                "found a secret key with a passphrase, which nobody can enter here; {EXPECTED}"
            ));
        }
        if digest(&SHA512, rest).as_ref().get(..checksum.len()) != Some(&checksum) {
            return Err(format!("found a secret key that is damaged, {EXPECTED}"));
        }
        let (seed, public): ([u8; 32], [u8; 32]) = part(&mut rest).zip(part(&mut rest)).ok_or_else(wrong)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).map_err(|_| wrong())?;
        Ok(Self { number, pair })
    }

    /// Reads the file of a key.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|said| format!("{}: {said}", path.display()))
    }

    /// The signature file of a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> String {
        let mut octets = ALGORITHM.to_vec();
        octets.extend(self.number);
        octets.extend(self.pair.sign(text).as_ref());
        format!("untrusted comment: mailgate\n{}\n", BASE64.encode(octets))
    }
}

/// Replaces a file and its signature, each as a whole: the signature last, so that who reads in between finds one that
/// does not fit and tries again.
///
/// # Errors
/// Those of the system; the old file is still there.
pub fn put(path: &Path, text: &str, key: Option<&SecretKey>) -> io::Result<()> {
    crate::disk::replace(path, text)?;
    match key {
        Some(key) => crate::disk::replace(&beside(path), key.sign(text.as_bytes())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for this test with `signify -G -n`, and used nowhere else.
    const PUBLIC: &[u8] =
        b"untrusted comment: signify public key\nRWQcEjd5zDUeuv7WP73eLo1myDXTxpsujFn0Zu3aFdzycGWbF6/auwXJ\n";
    const SECRET: &[u8] = b"untrusted comment: signify secret key\nRWRCSwAAAABN4CRDMCnEM52TvA17gs41r+t5rAVE0iQcEjd5zDUeuvHLtVwoPrtXuxjj2u2WMp/aup+FR9CzuNgaa10oWNLv/tY/vd4ujWbINdPGmy6MWfRm7doV3PJwZZsXr9q7Bck=\n";
    /// Of `192.0.2.1` and a line feed, by signify.
    const SIGNATURE: &[u8] = b"untrusted comment: verify with k.pub\nRWQcEjd5zDUeugvGbzSo44/GS31GMVzZaJ2lJqFhfWVnU0OhC2k8SsnL0K+myUM67e06rLx/s2RiVj4CPNAsFb0EabNPZ38OvQE=\n";

    #[test]
    fn what_signify_has_signed_is_believed_and_nothing_else() {
        let key = PublicKey::parse(PUBLIC).unwrap();
        assert_eq!(key.verify(b"192.0.2.1\n", SIGNATURE), Ok(()));
        assert!(key.verify(b"192.0.2.2\n", SIGNATURE).unwrap_err().contains("not of this text"));
        assert!(
            key.verify(b"192.0.2.1\n", b"<html>").unwrap_err().contains("expected a signature of signify")
        );
        assert!(key.verify(b"192.0.2.1\n", PUBLIC).unwrap_err().contains("not Ed25519"));
        let other = PublicKey { number: [0; NUMBER], ..key };
        assert!(other.verify(b"192.0.2.1\n", SIGNATURE).unwrap_err().contains("another key"));
    }

    #[test]
    fn what_we_sign_signify_would_have_signed_alike() {
        let key = SecretKey::parse(SECRET).unwrap();
        let ours = key.sign(b"192.0.2.1\n");
        // Ed25519 is deterministic (RFC 8032 §5.1.6).
        assert_eq!(ours.lines().nth(1), std::str::from_utf8(SIGNATURE).unwrap().lines().nth(1));
        assert_eq!(PublicKey::parse(PUBLIC).unwrap().verify(b"192.0.2.1\n", ours.as_bytes()), Ok(()));
        assert!(!format!("{key:?}").contains("pair"));
    }

    #[test]
    fn keys_that_cannot_be_used_are_told() {
        for (text, want) in [
            (PUBLIC, "another kind"),
            (b"".as_slice(), "expected a secret key of signify"),
            (b"untrusted comment: x\n!!!\n", "expected a secret key of signify"),
        ] {
            let said = SecretKey::parse(text).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
        let text = std::str::from_utf8(SECRET).unwrap();
        let locked = text.replace("RWRCSwAAAAB", "RWRCSwAAACp");
        assert!(SecretKey::parse(locked.as_bytes()).unwrap_err().contains("passphrase"));
        let damaged = text.replace("q7Bck=", "q7Bcl=");
        assert!(SecretKey::parse(damaged.as_bytes()).is_err());
        assert!(PublicKey::parse(SECRET).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_panic(text: Vec<u8>) {
            let _ = (PublicKey::parse(&text), SecretKey::parse(&text));
            let _ = PublicKey::parse(PUBLIC).map(|key| key.verify(b"x", &text));
        }
    }
}
