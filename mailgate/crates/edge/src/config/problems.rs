//! What is wrong with the values of `[edge]`, all of it at once.

use mailgate_common::ruleset::RECEPTION_PORTS;
use mailgate_model::Span;

use super::{Behind, Config};

impl Config {
    /// Everything that is wrong with the values, each with its key, what was found and what is expected.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.foreign_problems();
        let mut want = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        let mut ports = self.packet.reception_ports.clone();
        ports.sort_unstable();
        ports.dedup();
        want(
            ports.len() <= RECEPTION_PORTS as usize,
            format!(
                "edge.packet.reception_ports: found {} ports, expected at most {RECEPTION_PORTS}, for example [25]",
                ports.len()
            ),
        );
        let grey = &self.greylist;
        want(
            grey.pass_after < grey.keep_for,
            format!(
                "edge.greylist.keep_for: found {}, expected longer than pass_after ({}), for example \"4h\"",
                grey.keep_for, grey.pass_after
            ),
        );
        let length = |key: &str, found: u8, least: u8, most: u8| {
            let text = format!("{key}: found {found}, expected a prefix length from {least} to {most}");
            ((least..=most).contains(&found), text)
        };
        for (right, text) in [
            length("edge.greylist.ipv4_prefix", grey.ipv4_prefix, 16, 32),
            length("edge.greylist.ipv6_prefix", grey.ipv6_prefix, 32, 128),
            length("edge.traps.ipv6_prefix", self.traps.ipv6_prefix, 32, 128),
        ] {
            want(right, text);
        }
        let traps = &self.traps;
        want(
            traps.trapped_for <= traps.trapped_at_most,
            format!(
                "edge.traps.trapped_at_most: found {}, expected not shorter than trapped_for ({}), for example \"7d\"",
                traps.trapped_at_most, traps.trapped_for
            ),
        );
        let interval = self.tarpit.interval;
        want(
            (Span::from_millis(10)..=Span::from_secs(10)).contains(&interval),
            format!("edge.tarpit.interval: found {interval}, expected 10ms to 10s, for example \"1s\""),
        );
        let instance = &self.packet.instance;
        want(
            self.packet.instance_fits(),
            format!("edge.packet.instance: found {instance:?}, expected 1 to 32 of a-z A-Z 0-9 - _"),
        );
        let capacity = self.tarpit.capacity;
        want(
            (1..=1_000_000).contains(&capacity),
            format!("edge.tarpit.capacity: found {capacity}, expected 1 to 1000000"),
        );
        let pace = self.tarpit.pace;
        want(
            (100..=1_000_000).contains(&pace),
            format!("edge.tarpit.pace: found {pace}, expected 100 to 1000000"),
        );
        want(self.tarpit.per_network > 0, "edge.tarpit.per_network: found 0, expected at least 1".to_owned());
        for (key, found) in [
            ("sessions", self.limits.sessions),
            ("sessions_per_source", self.limits.sessions_per_source),
            ("commands", self.limits.commands as usize),
            ("mistakes", self.limits.mistakes as usize),
        ] {
            want(found > 0, format!("edge.limits.{key}: found 0, expected at least 1"));
        }
        problems.extend(self.overload.problems());
        problems.extend(self.sync.problems());
        problems.extend(self.learn.problems());
        problems.extend(self.suspicion.problems());
        problems.extend(self.greylist.selective.problems());
        problems
    }
}

impl Config {
    fn foreign_problems(&self) -> Vec<String> {
        match self.behind {
            Behind::Own => {
                let unused = self.foreign != crate::foreign::config::ForeignConfig::default();
                let problem = "edge.behind: found \"own\", expected \"foreign\", because [edge.foreign] is about the mail \
                               server behind the edge";
                if unused { vec![problem.to_owned()] } else { Vec::new() }
            }
            Behind::Foreign => {
                let mut problems = self.foreign.problems();
                if self.packet.interfaces.is_empty() {
                    problems.push(
                        "edge.packet.interfaces: found none, expected those by which mail comes in, for example [\"eth0\"], \
                         because only the kernel filter can give the edge connections to another program's port \
                         (behind = \"foreign\")"
                            .to_owned(),
                    );
                }
                if self.packet.steer_loopback {
                    problems.push(
                        "edge.packet.steer_loopback: found true, expected false, because the edge itself reaches the \
                         mail server through loopback (behind = \"foreign\")"
                            .to_owned(),
                    );
                }
                problems
            }
        }
    }
}
