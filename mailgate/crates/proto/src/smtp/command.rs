//! Commands of a client (RFC 5321 §4.1.1).

use mailgate_model::{DsnNotify, DsnReturn, ForwardPath, ReversePath};

use super::{Body, Misbehaved, parameter, path};

/// Longest argument of HELO and EHLO in octets (RFC 5321 §4.5.3.1.2).
const HELO_LIMIT: usize = 255;

/// Which characters an address may have: UTF-8 only after SMTPUTF8 was said at MAIL (RFC 6531 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// ASCII.
    #[default]
    Ascii,
    /// UTF-8.
    Utf8,
}

/// MAIL with what it says (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Where bounces go; a source route was dropped.
    pub path: ReversePath,
    /// Size of the content in octets as announced (RFC 1870 §6); a claim.
    pub size: Option<u64>,
    /// What BODY says (RFC 6152).
    pub body: Body,
    /// [`Charset::Utf8`] when SMTPUTF8 was said.
    pub charset: Charset,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<DsnReturn>,
    /// ENVID in xtext, at most 100 octets (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// AUTH= in xtext or `<>` (RFC 4954 §5); a claim that nobody should believe.
    pub submitter: Option<String>,
}

/// RCPT with what it says (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// The recipient; a source route was dropped.
    pub path: ForwardPath,
    /// NOTIFY (RFC 3461 §4.1).
    pub notify: Option<DsnNotify>,
    /// ORCPT, `type;xtext`, at most 500 octets (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// AUTH (RFC 4954 §4): mechanism in upper case, and the initial response in base64 (`=` for an empty one).
    Auth {
        /// Name of the SASL mechanism, upper case.
        mechanism: String,
        /// Initial response as given.
        initial: Option<String>,
    },
    /// BDAT (RFC 3030 §2): so many octets follow.
    Bdat {
        /// Octets of the chunk.
        size: u64,
        /// LAST was said: the message ends with this chunk.
        last: bool,
    },
    /// DATA.
    Data,
    /// EHLO with the client's name as said, not checked against anything.
    Ehlo(String),
    /// EXPN with its argument.
    Expn(String),
    /// HELO with the client's name as said, not checked against anything.
    Helo(String),
    /// HELP.
    Help,
    /// LHLO (RFC 2033 §4.1) with the client's name as said.
    Lhlo(String),
    /// MAIL.
    Mail(Mail),
    /// NOOP; its argument is ignored (RFC 5321 §4.1.1.9).
    Noop,
    /// QUIT.
    Quit,
    /// RCPT.
    Rcpt(Rcpt),
    /// RSET.
    Rset,
    /// STARTTLS (RFC 3207 §4).
    StartTls,
    /// VRFY with its argument.
    Vrfy(String),
}

impl Command {
    /// Reads one line without its CRLF. `charset` is what MAIL of the open transaction asked for; for MAIL itself it
    /// is taken from the line.
    ///
    /// # Errors
    /// One [`Misbehaved`] per kind; [`super::reply::refusal`] turns it into a reply.
    pub fn parse(line: &[u8], charset: Charset) -> Result<Self, Misbehaved> {
        let text = std::str::from_utf8(line).map_err(|_| Misbehaved::NotUtf8)?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(Misbehaved::Control);
        }
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let verb = verb.to_ascii_uppercase();
        if verb == "MAIL" {
            return mail(rest).map(Self::Mail);
        }
        let may_be_utf8 = charset == Charset::Utf8 && matches!(verb.as_str(), "RCPT" | "VRFY" | "EXPN");
        if !text.is_ascii() && !may_be_utf8 {
            return Err(if is_verb(&verb) { Misbehaved::NotAscii } else { Misbehaved::UnknownCommand });
        }
        let rest = if verb == "RCPT" { rest } else { rest.trim() };
        match verb.as_str() {
            "AUTH" => sasl(rest),
            "BDAT" => bdat(rest),
            "DATA" => alone(rest, Self::Data, "DATA without an argument"),
            "EHLO" => helo(rest, "EHLO hostname").map(Self::Ehlo),
            "EXPN" => argument(rest, "EXPN list").map(Self::Expn),
            "HELO" => helo(rest, "HELO hostname").map(Self::Helo),
            "HELP" => Ok(Self::Help),
            "LHLO" => helo(rest, "LHLO hostname").map(Self::Lhlo),
            "NOOP" => Ok(Self::Noop),
            "QUIT" => alone(rest, Self::Quit, "QUIT without an argument"),
            "RCPT" => rcpt(rest, charset).map(Self::Rcpt),
            "RSET" => alone(rest, Self::Rset, "RSET without an argument"),
            "STARTTLS" => alone(rest, Self::StartTls, "STARTTLS without an argument"),
            "VRFY" => argument(rest, "VRFY address").map(Self::Vrfy),
            _ => Err(Misbehaved::UnknownCommand),
        }
    }

    /// The verb, upper case, for logs.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "AUTH",
            Self::Bdat { .. } => "BDAT",
            Self::Data => "DATA",
            Self::Ehlo(_) => "EHLO",
            Self::Expn(_) => "EXPN",
            Self::Helo(_) => "HELO",
            Self::Help => "HELP",
            Self::Lhlo(_) => "LHLO",
            Self::Mail(_) => "MAIL",
            Self::Noop => "NOOP",
            Self::Quit => "QUIT",
            Self::Rcpt(_) => "RCPT",
            Self::Rset => "RSET",
            Self::StartTls => "STARTTLS",
            Self::Vrfy(_) => "VRFY",
        }
    }
}

fn is_verb(verb: &str) -> bool {
    matches!(
        verb,
        "AUTH"
            | "BDAT"
            | "DATA"
            | "EHLO"
            | "EXPN"
            | "HELO"
            | "HELP"
            | "LHLO"
            | "NOOP"
            | "QUIT"
            | "RCPT"
            | "RSET"
            | "STARTTLS"
            | "VRFY"
    )
}

fn alone(rest: &str, command: Command, shape: &'static str) -> Result<Command, Misbehaved> {
    if rest.is_empty() { Ok(command) } else { Err(Misbehaved::Syntax(shape)) }
}

fn argument(rest: &str, shape: &'static str) -> Result<String, Misbehaved> {
    if rest.is_empty() { Err(Misbehaved::Syntax(shape)) } else { Ok(rest.to_owned()) }
}

/// Any printable word: a wrong name is no reason to refuse (RFC 5321 §4.1.4), but it ends up in trace headers.
fn helo(rest: &str, shape: &'static str) -> Result<String, Misbehaved> {
    let is_word =
        rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'(' | b')' | b'<' | b'>' | b'"' | b'\\'));
    if rest.is_empty() || rest.len() > HELO_LIMIT || !is_word {
        return Err(Misbehaved::Syntax(shape));
    }
    Ok(rest.to_owned())
}

/// Cuts `FROM:` or `TO:`, in any case, and the spaces that old clients put behind it (deviates: RFC 5321 §3.3).
fn after_keyword<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = rest.trim_start_matches(' ');
    let head = rest.get(..keyword.len()).filter(|head| head.eq_ignore_ascii_case(keyword))?;
    rest.get(head.len()..).map(|rest| rest.trim_start_matches(' '))
}

fn mail(rest: &str) -> Result<Mail, Misbehaved> {
    let text = after_keyword(rest, "FROM:").ok_or(Misbehaved::Syntax("MAIL FROM:<reverse-path>"))?;
    let (path, tail) = path::reverse(text)?;
    let found = parameter::mail(tail)?;
    let charset = if found.smtputf8.is_some() { Charset::Utf8 } else { Charset::Ascii };
    if charset == Charset::Ascii && !rest.is_ascii() {
        return Err(Misbehaved::NotAscii);
    }
    Ok(Mail {
        path,
        size: found.size,
        body: found.body.unwrap_or_default(),
        charset,
        ret: found.ret,
        envid: found.envid,
        submitter: found.submitter,
    })
}

fn rcpt(rest: &str, charset: Charset) -> Result<Rcpt, Misbehaved> {
    let text = after_keyword(rest, "TO:").ok_or(Misbehaved::Syntax("RCPT TO:<forward-path>"))?;
    let (path, tail) = path::forward(text)?;
    let found = parameter::rcpt(tail, charset)?;
    Ok(Rcpt { path, notify: found.notify, orcpt: found.orcpt })
}

fn bdat(rest: &str) -> Result<Command, Misbehaved> {
    const SHAPE: Misbehaved = Misbehaved::Syntax("BDAT octets or BDAT octets LAST");
    let (size, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    let last = match tail.trim() {
        "" => false,
        word if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(SHAPE),
    };
    if size.is_empty() || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SHAPE);
    }
    Ok(Command::Bdat { size: size.parse().map_err(|_| SHAPE)?, last })
}

fn sasl(rest: &str) -> Result<Command, Misbehaved> {
    const SHAPE: Misbehaved = Misbehaved::Syntax("AUTH mechanism, with an initial response if you like");
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().ok_or(SHAPE)?.to_ascii_uppercase();
    let initial = words.next().map(str::to_owned);
    // RFC 4422 §3.1: names have 1 to 20 letters, digits, hyphens and underscores.
    let is_name = mechanism.len() <= 20
        && mechanism.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !is_name || words.next().is_some() {
        return Err(SHAPE);
    }
    Ok(Command::Auth { mechanism, initial })
}
