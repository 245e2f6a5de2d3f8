//! `mailgate lists`: the sources of the tables.

use clap::Subcommand;

use super::{Question, Show};
use crate::admin::Call;

/// What can be asked of the sources.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Every source with its state, size and last error.
    Show,
}

impl Verb {
    pub(super) fn question(self) -> Question {
        let Self::Show = self;
        Question {
            call: Call::ListsShow,
            show: Show::Table(&[
                ("name", "SOURCE"),
                ("kind", "KIND"),
                ("state", "STATE"),
                ("entries", "ENTRIES"),
                ("refused", "REFUSED"),
                ("last_change", "CHANGED"),
                ("error", "LAST ERROR"),
            ]),
        }
    }
}
