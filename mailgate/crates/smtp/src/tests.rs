//! Sessions over loopback with real TLS, spool and accounts.

mod fixture;
mod limits;
mod opening;
mod reception;
mod relaying;
mod resuming;
mod sessions;
mod smuggling;
mod submission;
