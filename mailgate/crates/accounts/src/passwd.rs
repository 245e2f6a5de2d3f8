//! passwd files that people bring along.

use mailgate_model::Address;
use serde::Serialize;

/// What came of importing a passwd file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Accounts made.
    pub added: usize,
    /// Accounts that existed; left as they were.
    pub existing: usize,
    /// Lines that could not be used: `line N: why`.
    pub refused: Vec<String>,
}

/// One line `address:hash[:uid:gid:gecos:home:shell:extra]` (Dovecot's passwd-file); `None` for blanks and comments.
pub(crate) fn line(text: &str) -> Option<Result<(Address, String), String>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let mut fields = text.split(':');
    let (address, hash) = (fields.next().unwrap_or_default(), fields.next());
    let Some(hash) = hash else {
        return Some(Err("found no colon, expected address:hash".to_owned()));
    };
    Some(
        Address::parse(address).map_err(|error| error.to_string()).and_then(|address| {
            Ok((address, crate::password::adopt(hash).map_err(|error| error.to_string())?))
        }),
    )
}
