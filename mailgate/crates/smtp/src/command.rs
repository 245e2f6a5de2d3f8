//! One file per verb; each is a few methods of the session.

mod bdat;
mod data;
mod ehlo;
mod mail;
mod rcpt;
mod rset;
mod sasl;
mod starttls;
