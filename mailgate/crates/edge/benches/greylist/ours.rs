//! mailgate's own policies: the code that sessions run, with a memory of its own for the simulation.

use std::net::IpAddr;

use mailgate_edge::Config;
use mailgate_edge::config::Mode;
use mailgate_edge::greylist::policy::{Policy as Judge, Remembered};
use mailgate_edge::suspicion::{
    Facts, HeloLeads, Hit, Ourselves, Reverse, Spf, SuspicionConfig, Weighed, weigh,
};
use mailgate_model::{Domain, Timestamp};

use crate::replay::{Answer, Attempt, Policy};
use crate::world::{self, POPULATIONS, Sender};

/// The simulated month begins here.
const START: i64 = 1_700_000_000;
/// Points of one listing, those of the lists with one answer.
const LISTED: i32 = 4;

struct Ours {
    name: &'static str,
    judge: Judge,
    suspicion: SuspicionConfig,
    ourselves: Ourselves,
    memory: Remembered,
    is_classic: bool,
}

/// All of them.
pub(crate) fn policies(hostname: &Domain) -> Vec<Box<dyn Policy>> {
    let ours = |name, mode| -> Box<dyn Policy> {
        let config = Config { mode, ..Config::default() };
        Box::new(Ours {
            name,
            judge: Judge::from(&config),
            suspicion: config.suspicion.clone(),
            ourselves: Ourselves { hostname: hostname.clone(), address: None },
            memory: Remembered::default(),
            is_classic: mode == Mode::Classic,
        })
    };
    vec![ours("mailgate selective", Mode::Selective), ours("mailgate classic", Mode::Classic)]
}

impl Policy for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer {
        let sender = attempt.sender;
        let now = Timestamp::from_secs(START.saturating_add_unsigned(attempt.at));
        let name = reverse_name(sender, attempt.ip);
        let zones =
            vec![Hit { zone: "list.example".to_owned(), points: LISTED, trust: None }; sender.listed.into()];
        let facts = Facts {
            helo: attempt.helo,
            reverse_path: &attempt.message.from,
            forward_path: &attempt.message.to,
            reverse: name.as_deref().map_or(Reverse::None, Reverse::Confirmed),
            helo_leads: helo_leads(sender),
            spf: spf(sender.spf),
            early_talk: sender.early,
            zones: &zones,
            ..Facts::of(attempt.ip)
        };
        let weighed = if self.is_classic {
            Weighed::unknown(attempt.ip)
        } else {
            weigh(&self.suspicion, &self.ourselves, &facts)
        };
        if !self.memory.attempt(&self.judge, &weighed, &facts, now).is_accept() {
            return Answer::Defer;
        }
        // No content filter stands behind it here, so that bots are trusted for what they got in, too.
        self.memory.accepted(&self.judge, weighed.identity(), now);
        Answer::Accept
    }
}

fn reverse_name(sender: &Sender, ip: IpAddr) -> Option<String> {
    match sender.reverse {
        world::Reverse::Confirmed => Some(crate::replay::host_name(sender, ip)),
        world::Reverse::Dynamic => {
            let host = ip.to_string().replace(['.', ':'], "-");
            Some(format!("{host}.dyn.provider.example"))
        }
        world::Reverse::Missing => None,
        world::Reverse::Provider => {
            let host = ip.to_string().replace(['.', ':'], "-");
            Some(format!("{host}.provider.example"))
        }
    }
}

/// Bots say a name that is not theirs.
fn helo_leads(sender: &Sender) -> HeloLeads {
    let is_legitimate = POPULATIONS.get(sender.population).is_some_and(|one| one.is_legitimate);
    if is_legitimate { HeloLeads::Here } else { HeloLeads::Elsewhere }
}

fn spf(result: world::Spf) -> Spf {
    match result {
        world::Spf::Fail => Spf::Fail,
        world::Spf::None => Spf::None,
        world::Spf::Pass => Spf::Pass,
        world::Spf::Softfail => Spf::Softfail,
    }
}
