//! How a peer can break the grammar, one variant per kind.

use mailgate_model::AddressError;

/// What is wrong with a line of a peer; [`crate::smtp::reply::refusal`] says it to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// CR without LF inside a line (RFC 5321 §2.3.8); usually because a program joins lines of foreign systems.
    #[error("bare carriage return")]
    BareCarriageReturn,
    /// LF without CR (RFC 5321 §2.3.8); usually because of a home-made client, or an attempt to smuggle.
    #[error("bare line feed")]
    BareLineFeed,
    /// The second line of a reply has another code than the first (RFC 5321 §4.2.1).
    #[error("code changes inside a reply")]
    CodeChanges,
    /// A control character, NUL among them; usually because the peer does not speak SMTP.
    #[error("control character")]
    Control,
    /// A parameter said twice; usually because of a broken client.
    #[error("parameter {0} given twice")]
    DuplicateParameter(&'static str),
    /// Longer than the limit; the rest up to the next CRLF is skipped.
    #[error("line too long")]
    LineTooLong,
    /// Octets above 127 where SMTPUTF8 was not requested (RFC 6531 §3.4).
    #[error("not ASCII, and SMTPUTF8 was not requested")]
    NotAscii,
    /// Octets above 127 that are no UTF-8 (RFC 6531 §3.3).
    #[error("not UTF-8")]
    NotUtf8,
    /// A known parameter with a value that has another shape; the text says the shape expected.
    #[error("parameter malformed, expected {0}")]
    Parameter(&'static str),
    /// The path is no path; usually because of a missing angle bracket.
    #[error("path malformed: {0}")]
    Path(PathFault),
    /// A reply that does not begin with three digits and a space or hyphen.
    #[error("reply malformed")]
    Reply,
    /// The verb is known, the rest has another shape; the text says the shape expected.
    #[error("expected {0}")]
    Syntax(&'static str),
    /// More lines in one reply than anyone needs; usually because the peer wants to fill our memory.
    #[error("too many lines in one reply")]
    TooManyLines,
    /// No such verb; usually because the peer does not speak SMTP.
    #[error("unknown command")]
    UnknownCommand,
    /// A parameter we did not offer (RFC 5321 §4.1.1.11).
    #[error("unknown parameter {0}")]
    UnknownParameter(String),
}

/// Why a path was refused: the address in it, or the text around it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// The address is malformed.
    #[error("{0}")]
    Address(AddressError),
    /// Brackets, route or length are wrong; the text says what was expected.
    #[error("expected {0}")]
    Shape(&'static str),
}
