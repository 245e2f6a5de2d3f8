//! `mailgate sync`: other MXs that share what this one learns.

use clap::Subcommand;
use mailgate_net::Pinned;
use serde_json::{Value, json};

use super::listing;
use super::{Question, Show, exit, failure};
use crate::admin::{Call, Failure};
use crate::config::Place;

/// What can be asked about synchronisation.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Our key, for `[[edge.sync.peer]]` on the other hosts; made when there is none. Needs no daemon.
    Key,
    /// How it goes with each peer.
    Status,
}

/// Columns of the peers.
const COLUMNS: &[(&str, &str)] = &[
    ("name", "PEER"),
    ("state", "STATE"),
    ("since", "SINCE"),
    ("ahead_ms", "CLOCK ms"),
    ("behind", "BEHIND"),
    ("sent", "SENT"),
    ("received", "RCVD"),
    ("taken", "TAKEN"),
    ("refused", "REFUSED"),
    ("compared_at", "COMPARED"),
    ("error", "LAST ERROR"),
];

impl Verb {
    pub(super) fn question(self) -> Question {
        Question { call: Call::SyncStatus, show: Show::Text(text) }
    }
}

/// The peers as a listing, what is shared below.
fn text(status: &Value) -> String {
    let mut rest = status.clone();
    let peers = rest.as_object_mut().and_then(|rest| rest.remove("peers"));
    let rows = peers.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    format!("{}\n{}", listing::table(&rows, COLUMNS), listing::card(&rest))
}

/// Prints our key.
pub(super) fn key(place: &Place, is_json: bool) -> Result<(), Failure> {
    let config = place.load()?;
    let named = config.edge.sync.key_file.clone();
    let file = match named {
        Some(file) => file,
        None => {
            crate::wire::make_state_folder(&config)?;
            config.state_dir.join(mailgate_edge::sync::KEY_FILE)
        }
    };
    let key = Pinned::open(&file, []).map_err(|error| failure(exit::SYSTEM, error.to_string()))?.own();
    let value = if is_json { json!({ "key": key.to_string() }) } else { Value::String(key.to_string()) };
    super::print(&value, &Show::Card, is_json);
    Ok(())
}
