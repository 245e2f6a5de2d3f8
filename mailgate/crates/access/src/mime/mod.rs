//! The shape of a message (RFC 5322, RFC 2045 to 2047), as far as reading it over IMAP needs: where parts begin and
//! end, what their fields say, what their text is. Bytes of strangers: linear time, limited depth and number of parts.

mod address;
mod date;
mod decode;
mod field;
mod structure;

pub(crate) use address::{Address, addresses};
pub(crate) use date::sent_day;
pub(crate) use decode::{body_text, decode_words};
pub(crate) use field::{Parameterized, field, fields, parameterized, unfolded};
pub(crate) use structure::{Kind, Part, Structure};
