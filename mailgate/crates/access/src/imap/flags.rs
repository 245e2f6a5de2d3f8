//! Names of flags (RFC 3501 §2.3.2).

use mailgate_proto::imap::Writer;
use mailgate_store::mailboxes::{Flags, Keywords};

use super::reply::Reply;

const SYSTEM: [(&str, Flags); 5] = [
    ("\\Answered", Flags::ANSWERED),
    ("\\Flagged", Flags::FLAGGED),
    ("\\Deleted", Flags::DELETED),
    ("\\Seen", Flags::SEEN),
    ("\\Draft", Flags::DRAFT),
];

/// The system flag of a name, in any case.
pub(crate) fn system(name: &str) -> Option<Flags> {
    SYSTEM.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, flag)| *flag)
}

/// System flags and keywords of a client's list. `\Recent` cannot be set and is passed over.
pub(crate) fn read(names: Vec<String>) -> Result<(Flags, Vec<String>), Reply> {
    let mut flags = Flags::NONE;
    let mut keywords = Vec::new();
    for name in names {
        if let Some(flag) = system(&name) {
            flags = flags | flag;
        } else if !name.starts_with('\\') {
            keywords.push(name);
        } else if !name.eq_ignore_ascii_case("\\Recent") {
            return Err(Reply::malformed("Unknown system flag"));
        }
    }
    Ok((flags, keywords))
}

/// Writes a list of flags.
pub(crate) fn write(flags: Flags, is_recent: bool, keywords: &Keywords, out: &mut Writer) {
    let mut names: Vec<String> =
        SYSTEM.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| (*name).to_owned()).collect();
    if is_recent {
        names.push("\\Recent".to_owned());
    }
    names.extend(flags.keywords().map(|index| keywords.name(index)));
    out.list(names, |out, name| {
        out.raw(&name);
    });
}

/// `* FLAGS` and `PERMANENTFLAGS` (RFC 3501 §7.1, §7.2.6).
pub(crate) fn announce(keywords: &Keywords, is_writable: bool, out: &mut Writer) {
    let names: Vec<&str> = SYSTEM.iter().map(|(name, _)| *name).chain(keywords.names()).collect();
    out.raw("* FLAGS ").list(names.iter(), |out, name| {
        out.raw(name);
    });
    out.end().raw("* OK [PERMANENTFLAGS ");
    let permanent = if is_writable { names } else { Vec::new() };
    // `\*`: new keywords are welcome as long as letters are left.
    let more = (is_writable && keywords.has_room()).then_some("\\*");
    out.list(permanent.into_iter().chain(more), |out, name| {
        out.raw(name);
    });
    out.raw("] Flags that stay").end();
}
