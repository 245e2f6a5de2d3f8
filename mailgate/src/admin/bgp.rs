//! The answers about BGP neighbours.

use mailgate_lists::{Lists, Pattern};

use super::answers::{Result, data};
use super::call::{Answer, Call, Failure};
use crate::cli::{self, exit};

/// Most routes of one answer: more are looked at prefix by prefix.
const ROUTES: usize = 100_000;

/// Answers one call.
pub(super) async fn answer(lists: &Lists, call: Call) -> Result<Answer> {
    let malformed = |message: String| Failure { message, exit: exit::DATA };
    Ok(match call {
        Call::BgpNeighbor { name } => {
            let rows = lists.bgp().await.map_err(data)?;
            let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
            let row = rows.into_iter().find(|row| row.name == name || row.neighbor.to_string() == name);
            let message = || format!("found neighbour {name:?}, expected one of {}", names.join(", "));
            Answer::done(row.ok_or_else(|| malformed(message()))?)
        }
        Call::BgpRib { prefix, community, neighbor, limit } => {
            let within = prefix.map(|text| cli::bgp_prefix(&text)).transpose().map_err(malformed)?;
            let community = community.map(|text| text.parse::<Pattern>()).transpose().map_err(malformed)?;
            let limit = limit.min(ROUTES);
            Answer::done(lists.bgp_rib(neighbor.as_deref(), community, within, limit).await.map_err(data)?)
        }
        Call::BgpClear { name, soft: true, .. } => {
            Answer::done(lists.bgp_refresh(&name).await.map_err(data)?)
        }
        Call::BgpClear { name, soft: false, message } => {
            Answer::done(lists.bgp_clear(&name, &message).await.map_err(data)?)
        }
        _ => Answer::done(lists.bgp().await.map_err(data)?),
    })
}
