//! mailgate's own policies: the code that sessions run, with a memory of its own for the simulation.

use std::net::IpAddr;

use mailgate_edge::Config;
use mailgate_edge::config::Mode;
use mailgate_edge::greylist::policy::{Policy as Judge, Remembered};
use mailgate_edge::suspicion::{
    Facts, HeloLeads, Hit, Ourselves, Reverse, Spf, SuspicionConfig, Weighed, weigh,
};
use mailgate_model::{Domain, Timestamp};
use mailgate_store::greylist::{Identity, MESSAGE_DIGEST, Tuple};

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
    /// `decide = "data"`.
    reads_content: bool,
}

/// All of them.
pub(crate) fn policies(hostname: &Domain) -> Vec<Box<dyn Policy>> {
    let ours = |name, mode, reads_content| -> Box<dyn Policy> {
        let config = Config { mode, ..Config::default() };
        Box::new(Ours {
            name,
            judge: Judge::from(&config),
            suspicion: config.suspicion.clone(),
            ourselves: Ourselves { hostname: hostname.clone(), address: None },
            memory: Remembered::default(),
            is_classic: mode == Mode::Classic,
            reads_content,
        })
    };
    vec![
        ours("mailgate selective", Mode::Selective, false),
        ours("mailgate selective, data", Mode::Selective, true),
        ours("mailgate classic", Mode::Classic, false),
        ours("mailgate classic, data", Mode::Classic, true),
    ]
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
        let judgement = if self.reads_content {
            self.memory.attempt_with(&self.judge, &weighed, &facts, &message(attempt), now)
        } else {
            self.memory.attempt(&self.judge, &weighed, &facts, now)
        };
        if !judgement.is_accept() {
            return Answer::Defer;
        }
        // No content filter stands behind it here, so that bots are trusted for what they got in, too.
        self.memory.accepted(&self.judge, weighed.identity(), now);
        Answer::Accept
    }
}

/// What stands for the digest of a message: sender, recipient and content, and nothing of the client.
fn message(attempt: &Attempt<'_>) -> Tuple {
    let mut digest = [0; MESSAGE_DIGEST];
    digest.iter_mut().zip(attempt.message.id.to_be_bytes()).for_each(|(to, from)| *to = from);
    Tuple {
        client: Identity::Message(digest),
        reverse_path: attempt.message.from.clone(),
        forward_path: attempt.message.to.clone(),
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
