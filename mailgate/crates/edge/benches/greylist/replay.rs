//! Plays a world to one policy: what is deferred comes again as its sender has it.

use std::cmp::Reverse as Least;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv6Addr};

use crate::world::{Addresses, Message, POPULATIONS, Random, Sender, World};

/// One attempt to deliver one message, as a policy sees it.
pub(crate) struct Attempt<'a> {
    pub(crate) at: u64,
    pub(crate) ip: IpAddr,
    pub(crate) helo: &'a str,
    pub(crate) sender: &'a Sender,
    pub(crate) message: &'a Message,
}

/// What a policy says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    Defer,
    Reject,
}

/// One way of judging first contacts.
pub(crate) trait Policy {
    fn name(&self) -> &'static str;
    fn judge(&mut self, attempt: &Attempt<'_>) -> Answer;
}

/// What became of the messages of one population.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate {
    pub(crate) messages: u64,
    pub(crate) firsts: u64,
    pub(crate) firsts_delayed: u64,
    /// Seconds of those that were accepted later than at the first attempt, sorted.
    pub(crate) delays: Vec<u64>,
    pub(crate) accepted: u64,
    /// Deferred until the sender gave up.
    pub(crate) given_up: u64,
    pub(crate) rejected: u64,
}

/// Plays all messages, in the order of time, and returns the fate of each population.
pub(crate) fn replay(world: &World, policy: &mut dyn Policy) -> Vec<Fate> {
    let mut fates = vec![Fate::default(); POPULATIONS.len()];
    let mut queue: BinaryHeap<Least<(u64, usize, u64)>> =
        world.messages.iter().enumerate().map(|(index, message)| Least((message.born, index, 0))).collect();
    while let Some(Least((at, index, nth))) = queue.pop() {
        let Some(message) = world.messages.get(index) else { continue };
        let Some(sender) = world.senders.get(message.sender) else { continue };
        let Some(fate) = fates.get_mut(sender.population) else { continue };
        if nth == 0 {
            fate.messages += 1;
            fate.firsts += u64::from(message.is_first);
        }
        // The same draw for every policy, whatever it answered before.
        let mut random = Random(message.id ^ (nth << 48));
        let ip = source(&sender.addresses, &mut random);
        let helo = helo(sender, ip);
        let answer = policy.judge(&Attempt { at, ip, helo: &helo, sender, message });
        match answer {
            Answer::Accept => {
                fate.accepted += 1;
                if at > message.born {
                    fate.delays.push(at - message.born);
                    fate.firsts_delayed += u64::from(message.is_first);
                }
            }
            Answer::Reject => fate.rejected += 1,
            Answer::Defer => match sender.schedule.retry(nth + 1) {
                Some(after) => {
                    let jitter = random.below(after / 20 + 2);
                    queue.push(Least((message.born + after + jitter, index, nth + 1)));
                }
                None => fate.given_up += 1,
            },
        }
    }
    for fate in &mut fates {
        fate.delays.sort_unstable();
    }
    fates
}

fn source(addresses: &Addresses, random: &mut Random) -> IpAddr {
    match addresses {
        Addresses::One(ip) => *ip,
        Addresses::Pool(pool) => {
            let nth = random.below(pool.len() as u64) as usize;
            pool.get(nth).copied().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
        Addresses::Rotating(network) => {
            IpAddr::from(Ipv6Addr::from(u128::from(*network) | u128::from(random.next())))
        }
    }
}

/// Hosts of a pool say each its own name.
fn helo(sender: &Sender, ip: IpAddr) -> String {
    if sender.bad_helo {
        return "localhost".to_owned();
    }
    host_name(sender, ip)
}

/// The name of a host of a well-kept domain.
pub(crate) fn host_name(sender: &Sender, ip: IpAddr) -> String {
    let number = match ip {
        IpAddr::V4(ip) => Random(u64::from(u32::from(ip))).below(1000),
        IpAddr::V6(_) => 0,
    };
    format!("mx{number}.{}", sender.domain)
}
