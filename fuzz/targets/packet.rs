//! Frames: parser and verdict of the kernel filter, the same source as in the kernel.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use mailgate_common::{Act, Kind, NO_RULE, Reason, parse};
use mailgate_packet::firewall::{Default as Otherwise, RuleSet};
use mailgate_packet::{Memory, PacketFilter as _};
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;

/// One that passes what no rule concerns, one that drops it.
static FILTERS: LazyLock<[Memory; 2]> = LazyLock::new(|| [filter(Otherwise::Pass), filter(Otherwise::Drop)]);

fn filter(default: Otherwise) -> Memory {
    let table = |name: &str, action, prefixes: &[&str]| Table {
        name: TableName::parse(name).expect("a name"),
        action,
        entries: Arc::new(prefixes.iter().map(|text| entry(text)).collect()),
    };
    let memory = Memory::new(Arc::new(ManualClock::default()), "fuzzing".to_owned());
    let tables = vec![
        table("bypass", Action::Bypass, &["10.0.0.0/8", "2001:db8:1::/48"]),
        table("drop", Action::Drop, &["0.0.0.0/2", "2001:db8::/32"]),
        table("reject", Action::Reject, &["64.0.0.0/2", "3000::/4"]),
        table("tarpit", Action::Tarpit, &["128.0.0.0/2", "4000::/4"]),
    ];
    memory.set_rules(RuleSet { default, ..RuleSet::default() }, None).expect("rules");
    memory.apply(vec![Change::Reload(Snapshot { tables })]).expect("tables");
    memory
}

fn entry(text: &str) -> Entry {
    Entry { prefix: text.parse().expect("a prefix"), negated: false, expires: None }
}

fuzz_target!(|frame: &[u8]| {
    for filter in &*FILTERS {
        let ruling = filter.judge(frame, 2);
        let kind = ruling.reason.kind();
        assert_eq!(ruling.act == Act::Pass, kind == Kind::Passed, "{ruling:?}");
        assert!(ruling.rule <= NO_RULE);
        match parse(&frame) {
            Ok(packet) => {
                assert!(usize::from(packet.network) <= usize::from(packet.transport));
                assert_ne!(ruling.reason, Reason::NotIp);
            }
            Err(reason) => assert!(ruling.reason == reason || ruling.reason == Reason::Unruled, "{reason:?}"),
        }
    }
});
