//! Parameters of MAIL and RCPT (RFC 5321 §4.1.2 `esmtp-param`).

use mailgate_model::{DsnNotify, DsnReturn};

use super::{Charset, Misbehaved, xtext};

/// Longest ENVID in octets (RFC 3461 §4.4).
const ENVID_LIMIT: usize = 100;
/// Longest ORCPT in octets (RFC 3461 §4.2).
const ORCPT_LIMIT: usize = 500;
/// Longest keyword kept for a message to the peer.
const KEYWORD_LIMIT: usize = 32;
/// Digits of a SIZE value (RFC 1870 §3).
const SIZE_DIGITS: usize = 20;

/// What BODY says of the content (RFC 6152). BINARYMIME is not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Octets above 127 may come.
    EightBitMime,
    /// Only ASCII, also when nothing was said.
    #[default]
    SevenBit,
}

/// Parameters of MAIL as found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MailParameters {
    pub(super) size: Option<u64>,
    pub(super) body: Option<Body>,
    pub(super) smtputf8: Option<()>,
    pub(super) ret: Option<DsnReturn>,
    pub(super) envid: Option<String>,
    pub(super) submitter: Option<String>,
}

/// Parameters of RCPT as found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RcptParameters {
    pub(super) notify: Option<DsnNotify>,
    pub(super) orcpt: Option<String>,
}

/// Splits ` KEY=value KEY` into pairs and checks keyword and value characters.
fn pairs(rest: &str) -> Result<Vec<(&str, Option<&str>)>, Misbehaved> {
    const SHAPE: Misbehaved = Misbehaved::Syntax("a space between path and parameters");
    // RFC 5321 §4.1.1: trailing white space is tolerated.
    let rest = rest.trim_end_matches([' ', '\t']);
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for text in rest.strip_prefix(' ').ok_or(SHAPE)?.split(' ').filter(|text| !text.is_empty()) {
        let (keyword, value) = match text.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (text, None),
        };
        let starts_well = keyword.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !starts_well || !keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Misbehaved::Syntax("parameters such as SIZE=1000"));
        }
        found.push((keyword, value));
    }
    Ok(found)
}

fn unknown(keyword: &str) -> Misbehaved {
    Misbehaved::UnknownParameter(keyword.chars().take(KEYWORD_LIMIT).collect::<String>().to_ascii_uppercase())
}

fn set<T>(
    slot: &mut Option<T>,
    value: Option<T>,
    name: &'static str,
    shape: &'static str,
) -> Result<(), Misbehaved> {
    if slot.is_some() {
        return Err(Misbehaved::DuplicateParameter(name));
    }
    *slot = Some(value.ok_or(Misbehaved::Parameter(shape))?);
    Ok(())
}

/// Reads what follows the path of MAIL.
pub(super) fn mail(rest: &str) -> Result<MailParameters, Misbehaved> {
    let mut found = MailParameters::default();
    for (keyword, value) in pairs(rest)? {
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => set(&mut found.size, value.and_then(size), "SIZE", "SIZE=octets")?,
            "BODY" => set(&mut found.body, value.and_then(body), "BODY", "BODY=7BIT or BODY=8BITMIME")?,
            "SMTPUTF8" => {
                let given = value.is_none().then_some(());
                set(&mut found.smtputf8, given, "SMTPUTF8", "SMTPUTF8 without a value")?;
            }
            "RET" => set(&mut found.ret, value.and_then(ret), "RET", "RET=FULL or RET=HDRS")?,
            "ENVID" => {
                let given = value.filter(|text| text.len() <= ENVID_LIMIT && is_xtext(text));
                set(&mut found.envid, given.map(str::to_owned), "ENVID", "ENVID=xtext of 1 to 100 octets")?;
            }
            // Only a trusted peer may say who submitted; the value is checked and otherwise ignored (RFC 4954 §5).
            "AUTH" => {
                let given = value.filter(|text| *text == "<>" || is_xtext(text));
                set(&mut found.submitter, given.map(str::to_owned), "AUTH", "AUTH=<> or AUTH=xtext")?;
            }
            _ => return Err(unknown(keyword)),
        }
    }
    Ok(found)
}

/// Reads what follows the path of RCPT.
pub(super) fn rcpt(rest: &str, charset: Charset) -> Result<RcptParameters, Misbehaved> {
    let mut found = RcptParameters::default();
    for (keyword, value) in pairs(rest)? {
        match keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => {
                let shape = "NOTIFY=NEVER or a list of SUCCESS, FAILURE, DELAY";
                set(&mut found.notify, value.and_then(notify), "NOTIFY", shape)?;
            }
            "ORCPT" => {
                let given = value.filter(|text| is_orcpt(text, charset)).map(str::to_owned);
                set(&mut found.orcpt, given, "ORCPT", "ORCPT=type;xtext of at most 500 octets")?;
            }
            _ => return Err(unknown(keyword)),
        }
    }
    Ok(found)
}

fn size(text: &str) -> Option<u64> {
    // More than a u64 holds is more than anyone accepts; saying so is the caller's part, not a grammar's.
    let digits = (1..=SIZE_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn body(text: &str) -> Option<Body> {
    match text.to_ascii_uppercase().as_str() {
        "7BIT" => Some(Body::SevenBit),
        "8BITMIME" => Some(Body::EightBitMime),
        _ => None,
    }
}

fn ret(text: &str) -> Option<DsnReturn> {
    match text.to_ascii_uppercase().as_str() {
        "FULL" => Some(DsnReturn::Full),
        "HDRS" => Some(DsnReturn::Headers),
        _ => None,
    }
}

/// RFC 3461 §4.1: NEVER stands alone.
fn notify(text: &str) -> Option<DsnNotify> {
    let mut wish = DsnNotify { success: false, failure: false, delay: false };
    if text.eq_ignore_ascii_case("NEVER") {
        return Some(wish);
    }
    for word in text.split(',') {
        let slot = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut wish.success,
            "FAILURE" => &mut wish.failure,
            "DELAY" => &mut wish.delay,
            _ => return None,
        };
        if std::mem::replace(slot, true) {
            return None;
        }
    }
    Some(wish)
}

fn is_xtext(text: &str) -> bool {
    !text.is_empty() && xtext::decode(text).is_some()
}

/// `addr-type ";" xtext` (RFC 3461 §4.2); octets above 127 only with SMTPUTF8 (RFC 6533 §3).
fn is_orcpt(text: &str, charset: Charset) -> bool {
    text.len() <= ORCPT_LIMIT
        && (charset == Charset::Utf8 || text.is_ascii())
        && text.split_once(';').is_some_and(|(kind, address)| {
            !kind.is_empty()
                && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && is_xtext(address)
        })
}
