//! IMAP4rev1 on ports 143 and 993.

mod budget;
mod command;
mod connection;
mod fetch;
mod flags;
mod junk;
mod reply;
mod search;
mod server;
mod session;
mod view;

pub use junk::{Called, Learn};
pub use server::{Parts, Server};
