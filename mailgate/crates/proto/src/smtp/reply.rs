//! Replies that the edge and reception share; each with the RFC beside it.

use mailgate_model::{Domain, Reply, Status};

use super::{Extensions, Misbehaved};

/// Our greeting (RFC 5321 §4.2, §4.3.1).
#[must_use]
pub fn greeting(hostname: &Domain) -> Reply {
    Reply::bare(220, "").with_text(format!("{hostname} ESMTP mailgate"))
}

/// Our answer to EHLO (RFC 5321 §4.1.1.1).
#[must_use]
pub fn ehlo(hostname: &Domain, extensions: &Extensions) -> Reply {
    ehlo_with(hostname, &extensions.keywords())
}

/// The same with these keyword lines.
#[must_use]
pub fn ehlo_with(hostname: &Domain, keywords: &[String]) -> Reply {
    let mut text = hostname.to_string();
    for line in keywords {
        text.push('\n');
        text.push_str(line);
    }
    Reply::bare(250, "").with_text(text)
}

/// Our answer to HELO (RFC 5321 §4.1.1.1).
#[must_use]
pub fn helo(hostname: &Domain) -> Reply {
    Reply::bare(250, "").with_text(hostname.to_string())
}

/// What a client hears whose line has the wrong shape.
#[must_use]
pub fn refusal(misbehaved: &Misbehaved) -> Reply {
    match misbehaved {
        // RFC 5321 §2.3.8; IANA enhanced-status-codes 5.5.2.
        Misbehaved::BareCarriageReturn | Misbehaved::BareLineFeed => {
            Reply::new(500, Status::new(5, 5, 2), "Lines must end with CRLF and have no bare CR or LF")
        }
        Misbehaved::Control => Reply::new(500, Status::new(5, 5, 2), "Control characters are not allowed"),
        // RFC 5321 §4.5.3.1.4.
        Misbehaved::LineTooLong => Reply::new(500, Status::new(5, 5, 2), "Line too long"),
        // RFC 5321 §4.2.4.
        Misbehaved::UnknownCommand => Reply::new(500, Status::new(5, 5, 1), "Command not recognized"),
        // RFC 6531 §3.5.
        Misbehaved::NotAscii => {
            Reply::new(553, Status::new(5, 6, 7), "Say SMTPUTF8 at MAIL to use such an address")
        }
        Misbehaved::NotUtf8 => Reply::new(500, Status::new(5, 5, 2), "Not UTF-8"),
        // RFC 5321 §4.1.1.11.
        Misbehaved::UnknownParameter(_) => {
            Reply::new(555, Status::new(5, 5, 4), "").with_text(sentence(misbehaved))
        }
        // RFC 5321 §4.1.1.2 and §4.1.1.3; IANA enhanced-status-codes 5.1.3.
        Misbehaved::Path(_) => Reply::new(501, Status::new(5, 1, 3), "").with_text(sentence(misbehaved)),
        // RFC 5321 §4.2.2.
        _ => Reply::new(501, Status::new(5, 5, 4), "").with_text(sentence(misbehaved)),
    }
}

/// The error's own text with a capital letter. It may quote the peer; [`Reply::with_text`] cleans that.
fn sentence(misbehaved: &Misbehaved) -> String {
    let text = misbehaved.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars.map(|c| if c.is_ascii() { c } else { '?' })).collect()
}
