//! What a change of the rules would newly keep out.

use super::config::{Action, Config, Otherwise, RuleConfig, Urpf};

/// Each way in which `new` keeps out what `old` let in, as a sentence; empty when there is none. Doubtful cases count: a
/// question too many costs a word, one too few the way into the host.
#[must_use]
pub fn denies(old: &Config, new: &Config) -> Vec<String> {
    let mut said = Vec::new();
    if (old.default, new.default) == (Otherwise::Pass, Otherwise::Drop) {
        said.push("what no rule names is dropped (host mode)".to_owned());
    }
    let strictness = |urpf: Urpf| match urpf {
        Urpf::Off => 0,
        Urpf::Loose => 1,
        Urpf::Strict => 2,
    };
    for (is_stricter, what) in [
        (
            strictness(new.urpf) > strictness(old.urpf),
            "sources whose way back leads elsewhere are dropped (urpf)",
        ),
        (new.scrub && !old.scrub, "packets that no honest host sends are dropped (scrub)"),
        (new.martians && !old.martians, "sources that can come from nowhere are dropped (martians)"),
        (
            (old.on_daemon_down, new.on_daemon_down) == (Otherwise::Pass, Otherwise::Drop),
            "reception ports are closed while no daemon runs (on_daemon_down)",
        ),
    ] {
        if is_stricter {
            said.push(what.to_owned());
        }
    }
    for gone in old.admin.iter().filter(|network| !new.admin.contains(network)) {
        said.push(format!("{gone} is no admin network any more"));
    }
    let is_closed = new.default == Otherwise::Drop;
    // With the first admin network the ports are no longer open to everybody.
    if is_closed && old.admin.is_empty() && !new.admin.is_empty() {
        said.push("the admin ports are closed to all but the admin networks".to_owned());
    }
    for gone in old.admin_ports.iter().filter(|port| is_closed && !new.admin_ports.contains(port)) {
        said.push(format!("{gone} is no admin port any more"));
    }
    denying_rules(&old.rule, &new.rule, &mut said);
    said
}

fn denying_rules(old: &[RuleConfig], new: &[RuleConfig], said: &mut Vec<String>) {
    let passes = |rule: &RuleConfig| rule.action == Action::Pass;
    let among = |rules: &[RuleConfig], rule: &RuleConfig| rules.iter().any(|other| is_same(other, rule));
    for rule in new.iter().filter(|rule| !passes(rule) && !among(old, rule)) {
        said.push(format!("rule {:?} is new: {}", rule.name, rule.rule()));
    }
    for rule in old.iter().filter(|rule| passes(rule) && !among(new, rule)) {
        said.push(format!("rule {:?} passes no more: {}", rule.name, rule.rule()));
    }
    // Those in both must be in the same order for the first that fits to be the same.
    let kept_old = old.iter().filter(|rule| among(new, rule));
    let mut kept_new = new.iter().filter(|rule| among(old, rule));
    let is_moved = kept_old.into_iter().any(|rule| kept_new.next().is_none_or(|other| !is_same(rule, other)));
    if is_moved {
        said.push("rules are in another order".to_owned());
    }
}

/// Whether two rules do the same, whatever they are called.
fn is_same(one: &RuleConfig, other: &RuleConfig) -> bool {
    let bare = |rule: &RuleConfig| RuleConfig { name: String::new(), log: false, line: 0, ..rule.clone() };
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_newly_keeps_out_is_said_and_nothing_else() {
        let rule = |name: &str, rest: &str| format!("[[rule]]\nname = \"{name}\"\n{rest}\n");
        let web = rule("web", "ports = [80]\naction = \"pass\"");
        let shut = rule("shut", "ports = [80]\naction = \"drop\"");
        let few = rule("few", "ports = [80]\naction = \"limit\"\nconnections = 5");
        for (old, new, want) in [
            (String::new(), String::new(), ""),
            (String::new(), "default = \"drop\"".to_owned(), "host mode"),
            ("default = \"drop\"".to_owned(), String::new(), ""),
            (String::new(), "urpf = \"loose\"".to_owned(), "urpf"),
            ("urpf = \"strict\"".to_owned(), "urpf = \"loose\"".to_owned(), ""),
            ("scrub = false".to_owned(), String::new(), "scrub"),
            ("admin = [\"192.0.2.0/24\"]".to_owned(), String::new(), "no admin network"),
            (
                "default = \"drop\"".to_owned(),
                "default = \"drop\"\nadmin = [\"192.0.2.1\"]".to_owned(),
                "closed to all",
            ),
            (
                "default = \"drop\"".to_owned(),
                "default = \"drop\"\nadmin_ports = [2222]".to_owned(),
                "22 is no admin",
            ),
            (String::new(), web.clone(), ""),
            (String::new(), shut.clone(), "rule \"shut\" is new: drop tcp from anywhere to port 80 (http)"),
            (shut.clone(), String::new(), ""),
            (shut.clone(), shut.replace("shut", "closed"), ""),
            (web.clone(), String::new(), "rule \"web\" passes no more"),
            (String::new(), few.clone(), "rule \"few\" is new"),
            (few.clone(), few.replace('5', "4"), "rule \"few\" is new"),
            (format!("{web}{shut}"), format!("{shut}{web}"), "another order"),
            (
                format!("{web}{shut}"),
                format!("{web}{}{shut}", rule("x", "ports = [81]\naction = \"pass\"")),
                "",
            ),
        ] {
            let said = denies(&read(&old), &read(&new));
            assert_eq!(said.len(), usize::from(!want.is_empty()), "{old} / {new}: {said:?}");
            assert!(said.iter().all(|sentence| sentence.contains(want)), "{said:?}");
        }
    }
}
