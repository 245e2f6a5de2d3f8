//! The lab: one scenario, played by `cargo xtask lab` and by the e2e test.
//!
//! mailgate runs in `mx` with the kernel filter on its network interface. Everybody else is a program that we did not
//! write, in a namespace of its own: Postfix sends and receives, BIRD feeds, swaks submits, mbsync and curl read.

mod edge;
mod internet;
mod mail;
mod setting;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use setting::Setting;

/// Something that happens, in the order of the scenario.
struct Step {
    /// What is claimed.
    claim: &'static str,
    /// Makes it happen and looks; the fact it gives back is told beside the claim.
    play: fn(&mut Setting<'_>) -> Result<String>,
}

/// The scenario.
const STEPS: &[Step] = &[
    Step {
        claim: "the kernel filter sits on the interface of mx in native mode",
        play: edge::filter_is_native,
    },
    Step { claim: "an unknown sender is deferred, and accepted at its own retry", play: mail::greylisting },
    Step { claim: "the mail says what SPF, DKIM and DMARC found", play: mail::authentication_results },
    Step { claim: "a bypassed host is never delayed", play: edge::bypass },
    Step { claim: "it was the kernel that chose the listener of each", play: edge::steered },
    Step {
        claim: "the feeder announces the spammer with :666, and it is in the tarpit",
        play: edge::announced,
    },
    Step { claim: "the feeder withdraws the spammer, and it is not", play: edge::withdrawn },
    Step {
        claim: "an entry in a block file with action drop makes the host unreachable",
        play: edge::dropped,
    },
    Step { claim: "the drop outlives kill -9 of the daemon", play: edge::outlives },
    Step { claim: "the entry is taken out, and the host is reachable again", play: edge::reachable_again },
    Step { claim: "a reply leaves through submission and arrives at the other end", play: mail::reply },
    Step { claim: "its DKIM signature holds for a verifier that is not ours", play: mail::signature },
    Step { claim: "mbsync fetches the mail over IMAP", play: mail::mbsync },
    Step { claim: "curl reads the mail over IMAP", play: mail::curl },
];

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Told {
    /// Time since the scenario began.
    pub at: Duration,
    /// What was claimed.
    pub claim: String,
    /// What was seen.
    pub fact: String,
}

/// Why the lab cannot be played here, if it cannot.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !crate::is_root() {
        return Some("network namespaces need root".into());
    }
    let needed = ["postfix", "bird", "birdc", "swaks", "mbsync", "curl", "dkimverify", "setpriv"];
    let missing: Vec<&str> = needed.into_iter().filter(|program| crate::find(program).is_none()).collect();
    (!missing.is_empty()).then(|| format!("not installed: {} (cargo xtask setup)", missing.join(", ")))
}

/// Plays every step and tells it.
///
/// # Errors
/// The first step that did not happen, with the end of the daemon's log.
pub fn play(tell: &mut dyn FnMut(Told)) -> Result<()> {
    let begun = Instant::now();
    let mut say =
        |claim: &str, fact: String| tell(Told { at: begun.elapsed(), claim: claim.to_owned(), fact });
    let folder = setting::folder()?;
    let (network, dns) = internet::build().context("the network of the lab")?;
    say(
        "eight namespaces on one bridge, a DNS server for all",
        format!("{HOME} lives at {}", internet::GATE.v4),
    );
    let mut setting = Setting::new(folder.path(), &network, &dns)?;
    say("mailgate, Postfix and BIRD are up", setting.summary()?);
    for step in STEPS {
        match (step.play)(&mut setting) {
            Ok(fact) => say(step.claim, fact),
            Err(error) => {
                let log = setting.end_of_log();
                return Err(error.context(format!("this did not happen: {}\n{log}", step.claim)));
            }
        }
    }
    Ok(())
}

use internet::HOME;

#[cfg(test)]
mod tests;
