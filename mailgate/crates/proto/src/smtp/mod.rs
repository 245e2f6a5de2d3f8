//! SMTP: commands, lines, content and replies, in both directions (RFC 5321 and the extensions we offer).
//!
//! Server side: [`LineSplitter`] gives lines, [`Command::parse`] gives commands, [`DataDecoder`] and [`ChunkReceiver`]
//! fill a [`Content`], [`Extensions`] writes our answer to EHLO. Client side: [`AnswerReader`] gives [`Answer`]s,
//! [`Offered`] reads the peer's EHLO, [`DataEncoder`] writes content.

mod answer;
mod chunk;
mod command;
mod content;
mod data;
mod encode;
mod extensions;
mod line;
mod misbehaved;
mod offered;
mod parameter;
mod path;
#[cfg(test)]
mod properties;
pub mod reply;
#[cfg(test)]
mod tests;
pub mod xtext;

pub use answer::{ANSWER_LINE_LIMIT, ANSWER_LINES_LIMIT, Answer, AnswerReader};
pub use chunk::ChunkReceiver;
pub use command::{Charset, Command, Mail, Rcpt};
pub use content::{Content, ContentLimits, Flaw};
pub use data::{DataDecoder, Step};
pub use encode::DataEncoder;
pub use extensions::{Extensions, Sasl, StartTls};
pub use line::{COMMAND_LINE_LIMIT, LineSplitter, SASL_LINE_LIMIT};
pub use misbehaved::{Misbehaved, PathFault};
pub use offered::Offered;
pub use parameter::Body;
