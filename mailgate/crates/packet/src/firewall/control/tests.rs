use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;

use super::*;
use crate::Memory;

const START: Timestamp = Timestamp::from_secs(1_795_233_600);

struct World {
    clock: ManualClock,
    folder: tempfile::TempDir,
    around: Surroundings,
}

impl World {
    fn new() -> Self {
        let tables = vec![(name("bypass"), Action::Bypass), (name("drop"), Action::Drop)];
        Self {
            clock: ManualClock::at(START),
            folder: tempfile::tempdir().unwrap(),
            around: Surroundings {
                tables,
                reception: vec![25],
                services: vec![993],
                ..Surroundings::default()
            },
        }
    }

    /// As a daemon starts: rules, then the first tables.
    fn start(&self, text: &str) -> Control {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let filter: Arc<dyn PacketFilter> = Arc::new(Memory::new(Arc::clone(&clock), String::new()));
        let parts = Parts {
            filter: Arc::clone(&filter),
            config: read(text),
            around: self.around.clone(),
            local: vec!["198.51.100.0/24".parse().unwrap()],
            confirmed: self.folder.path().join("state/firewall.confirmed"),
            clock,
        };
        let control = Control::start(parts).unwrap();
        let drop = Entry { prefix: "0.0.0.0/1".parse().unwrap(), negated: false, expires: None };
        let tables = self.around.tables.iter().map(|(name, action)| {
            let entries = if *action == Action::Drop { vec![drop.clone()] } else { Vec::new() };
            Table { name: name.clone(), action: *action, entries: Arc::new(entries.into()) }
        });
        filter.apply(vec![Change::Reload(Snapshot { tables: tables.collect() })]).unwrap();
        control
    }
}

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn read(text: &str) -> Config {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// What is in force: the default, and the names of the rules of the file.
fn in_force(control: &Control) -> (Otherwise, Vec<String>) {
    let set = control.filter().rule_set();
    let default =
        if set.default == crate::firewall::Default::Drop { Otherwise::Drop } else { Otherwise::Pass };
    assert_eq!(default, control.config().default, "the control knows what the filter does");
    (default, set.rules.into_iter().map(|rule| rule.name).collect())
}

const SHUT: &str = "[[rule]]\nname = \"shut\"\nports = [80]\naction = \"drop\"\n";

#[test]
fn a_change_that_keeps_out_nothing_new_is_in_force_at_once_another_asks() {
    let world = World::new();
    let control = world.start("");
    let asks = control.apply(read(SHUT), Consent::Harmless).unwrap();
    assert!(matches!(asks, Applied::Asks(ref ways) if ways.len() == 1), "{asks:?}");
    assert_eq!(in_force(&control), (Otherwise::Pass, vec![]));
    assert_eq!(control.apply(read(SHUT), Consent::Yes).unwrap(), Applied::InForce);
    assert_eq!(in_force(&control), (Otherwise::Pass, vec!["shut".to_owned()]));
    assert_eq!(control.apply(read(""), Consent::Harmless).unwrap(), Applied::InForce);
    assert_eq!(in_force(&control), (Otherwise::Pass, vec![]));
}

#[test]
fn what_nobody_confirms_in_time_is_taken_back_and_what_somebody_confirms_stays() {
    let world = World::new();
    let control = world.start("");
    let minute = Duration::from_secs(60);
    let applied = control.apply(read(SHUT), Consent::Within(minute)).unwrap();
    assert_eq!(applied, Applied::Until(START.plus(minute)));
    assert!(control.apply(read(""), Consent::Yes).is_err(), "one change at a time");
    world.clock.advance(Duration::from_secs(59));
    control.tick().unwrap();
    assert_eq!(in_force(&control).1, ["shut"]);
    world.clock.advance(Duration::from_secs(1));
    control.tick().unwrap();
    assert_eq!(in_force(&control).1, [""; 0]);
    assert!(!control.confirm().unwrap(), "too late");
    assert_eq!(in_force(&control).1, [""; 0]);

    control.apply(read(SHUT), Consent::Within(minute)).unwrap();
    assert!(control.confirm().unwrap());
    world.clock.advance(minute * 2);
    control.tick().unwrap();
    assert_eq!(in_force(&control).1, ["shut"]);
    control.apply(read(""), Consent::Within(minute)).unwrap();
    assert!(control.roll_back().unwrap());
    assert_eq!(in_force(&control).1, ["shut"]);
    assert!(!control.roll_back().unwrap());
}

#[test]
fn host_mode_that_was_never_confirmed_here_comes_for_a_time_and_once_confirmed_for_good() {
    let world = World::new();
    let host = "default = \"drop\"\nconfirm_within = \"30s\"\n";
    let control = world.start(host);
    assert_eq!(in_force(&control).0, Otherwise::Pass, "the tables come first");
    assert!(control.waits());
    assert_eq!(control.begin().unwrap(), Some(START.plus(Duration::from_secs(30))));
    assert_eq!(in_force(&control).0, Otherwise::Drop);
    world.clock.advance(Duration::from_secs(30));
    control.tick().unwrap();
    assert_eq!(in_force(&control).0, Otherwise::Pass, "nobody confirmed");

    let control = world.start(host);
    control.begin().unwrap();
    assert!(control.confirm().unwrap());
    let control = world.start(host);
    assert_eq!((control.waits(), control.begin().unwrap()), (false, None));
    assert_eq!(in_force(&control).0, Otherwise::Drop, "confirmed by the daemon before");
    // Other rules were not confirmed.
    let control = world.start(&format!("{host}{SHUT}"));
    assert!(control.waits());
    // Tables come and go without anybody being asked.
    let mut world = world;
    world.around.tables.push((name("feed"), Action::Drop));
    assert!(!world.start(host).waits());
}

#[test]
fn protected_networks_pass_whatever_tables_say() {
    let world = World::new();
    let control = world.start("admin = [\"192.0.2.0/24\", \"10.0.0.1\"]");
    control
        .filter()
        .apply(vec![Change::Add(
            name("drop"),
            Entry { prefix: "192.0.2.0/24".parse().unwrap(), negated: false, expires: None },
        )])
        .unwrap();
    let rule = |control: &Control, address: &str| control.filter().verdict(address.parse().unwrap()).rule;
    assert_eq!(rule(&control, "192.0.2.7").as_deref(), Some("protected"));
    assert_eq!(rule(&control, "10.0.0.1").as_deref(), Some("protected"));
    assert_eq!(rule(&control, "198.51.100.9").as_deref(), Some("protected"), "edge.local");
    assert_eq!(rule(&control, "10.0.0.2").as_deref(), Some("table drop"));
    // While a change waits, both the networks of before and the new ones are protected.
    let minute = Duration::from_secs(60);
    control.apply(read("admin = [\"10.0.0.2\"]"), Consent::Within(minute)).unwrap();
    assert_eq!(rule(&control, "10.0.0.1").as_deref(), Some("protected"));
    assert_eq!(rule(&control, "10.0.0.2").as_deref(), Some("protected"));
    control.confirm().unwrap();
    control.refresh().unwrap();
    assert_eq!(rule(&control, "10.0.0.1").as_deref(), Some("table drop"));
}
