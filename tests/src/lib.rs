//! A small internet in one process, for the tests that need one.
//!
//! **Purpose**: namespaces, DNS, peers, clients and a daemon under test, each a value that cleans up when dropped.
//! **In**: programs that the machine has (Postfix, BIRD, swaks, mbsync, curl). **Out**: facts a test can assert.
//! **Trust**: test code; namespaces need root, everything else runs on loopback without.
//! **Standards**: those of the stations it tests.
//! **Failure**: `anyhow` errors that name the step; nothing is left behind, also not after kill -9 of the test.
//! **Start reading at**: [`lab`], then [`Namespace`], [`Daemon`] and [`SmtpClient`].

mod bird;
mod certs;
mod daemon;
mod dialogue;
mod dns;
pub mod feed;
mod feeder;
#[cfg(feature = "ebpf")]
pub mod held;
mod imap_client;
pub mod lab;
mod netns;
pub mod pit;
mod postfix;
mod process;
mod service;
mod sink;
mod smtp_client;
mod wait;

pub use bird::{Bird, Route, Session};
pub use certs::Certificate;
pub use daemon::{Daemon, Memory};
pub use dialogue::Dialogue;
pub use dns::{Dns, Sockets};
pub use feeder::{Feeder, Feeding};
pub use imap_client::ImapClient;
pub use netns::{Namespace, Network, Node};
pub use postfix::Postfix;
pub use process::{Finished, Running, find, run, start};
pub use service::{DOMAIN, PASSWORD, Ports, Service};
pub use sink::{Received, Sink};
pub use smtp_client::{SmtpClient, SmtpReply};
pub use wait::{interrupt, rounds, until};

/// Says why a test cannot run here, in the form that `cargo xtask test` counts.
pub fn skip(reason: impl std::fmt::Display) {
    // A line of its own at the start: the totals are read from it.
    eprintln!("\nskipped: {reason}");
}

/// Whether this process may make namespaces and load programs into the kernel.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
