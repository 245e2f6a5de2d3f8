//! Rules to memory.

use mailgate_common::Action;
use mailgate_common::limit::LIMIT_WORDS;
use mailgate_common::packet::{ICMP, ICMP6, TCP, UDP};
use mailgate_common::ruleset::{
    COOKIE_PORTS, INTERFACE_TRIES, OTHER_INTERFACES, RECEPTION_PORTS, RULES, head, icmp_word, interface_word,
    limit_word, option, port_word, protocol_word, table_word,
};
use mailgate_lists::TableName;

use super::Error;
use super::area::Area;
use super::engine::LOCAL;
use crate::firewall::{Default as Otherwise, Effective, Limit, Origin, Protocol, ReversePath, Rule, RuleSet};
use crate::overload;

/// What names stand for.
pub(super) struct Names<'a> {
    /// Bit of a table.
    pub(super) table: &'a dyn Fn(&TableName) -> Option<u8>,
    /// Number of an interface, 0 when it is not there: then no packet comes in by it.
    pub(super) interface: &'a dyn Fn(&str) -> u32,
}

/// Writes the rules into fresh memory. The magic number comes last: until then it is no ruleset.
///
/// # Errors
/// More rules than fit, or a rule about a table that is not there.
pub(super) fn compile(
    area: &Area,
    number: u64,
    set: &RuleSet,
    rules: &[Effective],
    names: &Names<'_>,
) -> Result<(), Error> {
    if rules.len() > RULES as usize {
        return Err(Error::Rules { found: rules.len() });
    }
    let mut words = Words { area };
    let mut options = options(set);
    for (n, effective) in (0_u32..).zip(rules) {
        let bit = 1_u64 << n;
        words.tables(bit, effective, names)?;
        words.destinations(bit, &effective.rule);
        words.action(n, &effective.rule, names)?;
        if !effective.rule.interfaces.is_empty() {
            options |= option::INTERFACES;
        }
        if effective.rule.action == Action::Limit {
            options |= option::LIMITS;
        }
    }
    words.interfaces(rules, names)?;
    for name in &set.counted {
        if let Some(table) = (names.table)(name) {
            words.or(head::COUNTED, 1 << table);
        }
    }
    for (n, port) in set.cookie_ports.iter().take(COOKIE_PORTS as usize).enumerate() {
        words.or(head::COOKIES, u64::from(*port) << (16 * n));
    }
    for (n, port) in (0_u32..).zip(set.reception_ports.iter().take(RECEPTION_PORTS as usize)) {
        words.or(head::RECEPTION + n / 4, u64::from(*port) << (16 * (n % 4)));
    }
    words.or(head::OPTIONS, options);
    words.or(head::NUMBER, number);
    words.or(head::MAGIC_WORD, head::MAGIC);
    Ok(())
}

fn options(set: &RuleSet) -> u64 {
    let asked = &set.options;
    [
        (set.default == Otherwise::Drop, option::DEFAULT_DROP),
        (asked.scrub, option::SCRUB),
        (asked.martians, option::MARTIANS),
        (asked.reverse_path == ReversePath::Loose, option::REVERSE_PATH_LOOSE),
        (asked.reverse_path == ReversePath::Strict, option::REVERSE_PATH_STRICT),
        (asked.own_source, option::OWN_SOURCE),
        (asked.kernel_tarpit, option::TARPIT),
        (asked.down_drops, option::DOWN_DROPS),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .fold(0, |options, (_, bit)| options | bit)
}

struct Words<'a> {
    area: &'a Area,
}

impl Words<'_> {
    fn or(&mut self, at: u32, bits: u64) {
        let at = at as usize;
        self.area.store(at, self.area.load(at) | bits);
    }

    fn tables(&mut self, bit: u64, effective: &Effective, names: &Names<'_>) -> Result<(), Error> {
        if effective.origin == Origin::Protected {
            self.or(table_word(LOCAL.into()), bit);
            return Ok(());
        }
        if let Origin::Behaviour(bit_of_table) = effective.origin {
            self.or(table_word(bit_of_table.into()), bit);
            return Ok(());
        }
        let mut wanted = false;
        for table in &effective.rule.tables {
            let found = (names.table)(&table.name).ok_or_else(|| Error::UnknownTable(table.name.clone()))?;
            self.or(table_word(found.into()) + u32::from(table.negated), bit);
            wanted |= !table.negated;
        }
        if !wanted {
            self.or(head::BASE, bit);
        }
        Ok(())
    }

    /// Where the packet goes: every word of a port, type or protocol that the rule is content with.
    fn destinations(&mut self, bit: u64, rule: &Rule) {
        let any_port = rule.ports.is_empty();
        let protocol = rule.protocol.or(if any_port { None } else { Some(Protocol::Tcp) });
        let ports = |words: &mut Self, protocol: u8| {
            let all = std::iter::once(0..=u16::MAX).filter(|_| any_port);
            for port in rule.ports.iter().cloned().chain(all).flatten() {
                words.or(port_word(protocol, port), bit);
            }
            // Fragments without ports match only rules that ask for none.
            if any_port {
                words.or(protocol_word(protocol), bit);
            }
        };
        let types = |words: &mut Self, protocol: u8| {
            let any = rule.icmp_types.is_empty();
            let all = (0..=u8::MAX).filter(|_| any);
            for kind in rule.icmp_types.iter().copied().chain(all) {
                words.or(icmp_word(protocol, kind), bit);
            }
            if any {
                words.or(protocol_word(protocol), bit);
            }
        };
        match protocol {
            Some(Protocol::Tcp) => ports(self, TCP),
            Some(Protocol::Udp) => ports(self, UDP),
            Some(Protocol::Icmp) => types(self, ICMP),
            Some(Protocol::Icmp6) => types(self, ICMP6),
            Some(Protocol::Other(number)) => self.or(protocol_word(number), bit),
            None => {
                ports(self, TCP);
                ports(self, UDP);
                types(self, ICMP);
                types(self, ICMP6);
                (0..=u8::MAX).for_each(|number| self.or(protocol_word(number), bit));
            }
        }
    }

    fn action(&mut self, n: u32, rule: &Rule, names: &Names<'_>) -> Result<(), Error> {
        let bit = 1_u64 << n;
        if rule.log {
            self.or(head::LOG, bit);
        }
        if rule.action != Action::Limit {
            self.or(head::TERMINAL, bit);
            self.or(head::ACTIONS + rule.action as u32, bit);
            return Ok(());
        }
        let Some(limit) = &rule.limit else { return Ok(()) };
        for (at, word) in (limit_word(n)..).zip(limit_words(rule, limit, names)?) {
            self.or(at, word);
        }
        Ok(())
    }

    /// The interfaces that rules name, each with the rules it satisfies.
    fn interfaces(&mut self, rules: &[Effective], names: &Names<'_>) -> Result<(), Error> {
        let anywhere = (0..).zip(rules).filter(|(_, one)| one.rule.interfaces.is_empty());
        let anywhere = anywhere.fold(0_u64, |bits, (n, _)| bits | 1 << n);
        self.or(OTHER_INTERFACES, anywhere);
        for (n, effective) in (0_u32..).zip(rules) {
            for interface in &effective.rule.interfaces {
                let index = (names.interface)(interface);
                if index == 0 {
                    continue;
                }
                let place = (0..INTERFACE_TRIES)
                    .map(|n| interface_word(index.wrapping_add(n)))
                    .find(|at| [0, u64::from(index)].contains(&self.area.load(*at as usize)))
                    .ok_or_else(|| Error::Interface(interface.clone()))?;
                self.or(place, index.into());
                self.or(place + 1, anywhere | 1 << n);
            }
        }
        Ok(())
    }
}

/// As the kernel's accounting reads them.
fn limit_words(rule: &Rule, limit: &Limit, names: &Names<'_>) -> Result<[u64; LIMIT_WORDS], Error> {
    let table = match &limit.overload {
        Some(name) => Some((names.table)(name).ok_or_else(|| Error::UnknownTable(name.clone()))?),
        None => None,
    };
    Ok(overload::spec(&rule.name, limit, table).encode())
}
