//! `mailgate bgp`: the peers, as bgpctl(8) shows them.

use clap::Subcommand;

use super::{Question, Show};
use crate::admin::Call;

/// What can be asked of the peers.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// One line per peer: messages, state, prefixes received, accepted and installed.
    Summary,
}

impl Verb {
    pub(super) fn question(self) -> Question {
        let Self::Summary = self;
        Question {
            call: Call::BgpSummary,
            show: Show::Table(&[
                ("neighbor", "NEIGHBOUR"),
                ("remote_as", "AS"),
                ("state", "STATE"),
                ("since", "SINCE"),
                ("received_messages", "RCVD"),
                ("sent_messages", "SENT"),
                ("received", "PREFIXES"),
                ("accepted", "ACCEPTED"),
                ("installed", "INSTALLED"),
                ("error", "LAST ERROR"),
            ]),
        }
    }
}
