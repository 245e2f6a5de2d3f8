//! What can be done to the filter in the kernel while no daemon runs.

use std::net::IpAddr;

use super::call::{Answer, Call, Failure};
use crate::cli::exit;
use crate::config::{Config, Place};

/// Answers `firewall detach` and `firewall unblock` without a daemon.
pub fn answer_offline(place: &Place, call: &Call) -> Answer {
    let answered = place.load().and_then(|config| match call {
        Call::FirewallDetach { dry_run } => detach(&config.edge.packet, *dry_run),
        Call::FirewallUnblock { address, .. } => unblock(&config, address.to_canonical()),
        other => Err(failure(exit::SOFTWARE, format!("nobody answers {other:?}"))),
    });
    answered.map_or_else(Answer::Failed, Answer::done)
}

fn detach(config: &mailgate_packet::Config, dry_run: bool) -> Result<String, Failure> {
    let system = |error: mailgate_packet::Error| failure(exit::SYSTEM, error.to_string());
    let found = mailgate_packet::leftovers(config).map_err(system)?;
    if found.is_empty() {
        let instance = &config.instance;
        return Ok(format!("instance {instance} has nothing in the kernel, so there is nothing to take out"));
    }
    let listed: String = found.iter().map(|one| format!("\n  {one}")).collect();
    if dry_run {
        return Ok(format!("these would go out of the kernel:{listed}"));
    }
    mailgate_packet::remove(config).map_err(system)?;
    Ok(format!("out of the kernel:{listed}"))
}

fn unblock(config: &Config, address: IpAddr) -> Result<String, Failure> {
    match mailgate_packet::nft::unblock(&config.edge.packet, address) {
        Ok(()) => Ok(format!(
            "{address} passes before all rules of the table in nftables. No daemon runs: its next start writes the rules anew, \
             so add it to a table that lets pass then (`mailgate table add bypass {address}`) or take it out of its source"
        )),
        // No such table: the filter may be the other one.
        Err(mailgate_packet::Error::Missing(_)) => unblock_pinned(config, address),
        Err(error) => Err(failure(exit::SYSTEM, error.to_string())),
    }
}

#[cfg(feature = "ebpf")]
fn unblock_pinned(config: &Config, address: IpAddr) -> Result<String, Failure> {
    let done = mailgate_packet::xdp::offline::unblock(&config.edge.packet, address)
        .map_err(|error| failure(exit::SYSTEM, format!("{error}; start a daemon with `mailgate run`")))?;
    if done.is_protected {
        return Ok(format!("{address} is protected: no table keeps it out"));
    }
    let tables = config.lists.tables().into_iter().enumerate();
    let held = tables.filter(|(n, _)| done.set.checked_shr(*n as u32).unwrap_or(0) & 1 == 1);
    let held: Vec<String> = held.map(|(_, table)| table.name.to_string()).collect();
    Ok(match (done.set, held.as_slice()) {
        (0, _) => format!("no table in force holds {address}; rules that ask for no table may still stop it"),
        (_, held) => format!(
            "{address} was in {}; from the next packet on it is in no table. No daemon runs: its next start reads files \
             and peers again, so add it to a table that lets pass (`mailgate table add bypass {address}`) or take it out \
             of its source",
            if held.is_empty() { "a table".to_owned() } else { held.join(", ") }
        ),
    })
}

#[cfg(not(feature = "ebpf"))]
fn unblock_pinned(_: &Config, _: IpAddr) -> Result<String, Failure> {
    Err(failure(exit::UNAVAILABLE, "this program was built without the kernel filter, and no daemon answers"))
}

fn failure(exit: u8, message: impl Into<String>) -> Failure {
    Failure { message: message.into(), exit }
}
