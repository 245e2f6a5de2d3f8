//! Whether one rule takes all that another one is for.

use std::collections::BTreeSet;

use mailgate_lists::TableName;

use super::rule::{Protocol, Rule};

/// Whether every packet that `inner` fits also fits `outer`.
pub(super) fn covers(outer: &Rule, inner: &Rule) -> bool {
    covers_sources(outer, inner)
        && covers_protocol(outer, inner)
        && (outer.interfaces.is_empty()
            || !inner.interfaces.is_empty()
                && inner.interfaces.iter().all(|name| outer.interfaces.contains(name)))
}

fn covers_sources(outer: &Rule, inner: &Rule) -> bool {
    let names = |rule: &Rule, negated: bool| -> BTreeSet<TableName> {
        rule.tables.iter().filter(|table| table.negated == negated).map(|table| table.name.clone()).collect()
    };
    let (any, inner_any) = (names(outer, false), names(inner, false));
    let inside = any.is_empty() || !inner_any.is_empty() && inner_any.is_subset(&any);
    inside && names(outer, true).is_subset(&names(inner, true))
}

fn covers_protocol(outer: &Rule, inner: &Rule) -> bool {
    // Ports without a protocol are those of TCP.
    let of = |rule: &Rule| rule.protocol.or((!rule.ports.is_empty()).then_some(Protocol::Tcp));
    let protocol = of(outer).is_none() || of(outer) == of(inner);
    let ports = outer.ports.is_empty()
        || !inner.ports.is_empty()
            && inner.ports.iter().all(|one| {
                outer.ports.iter().any(|range| range.start() <= one.start() && one.end() <= range.end())
            });
    let types = outer.icmp_types.is_empty()
        || !inner.icmp_types.is_empty()
            && inner.icmp_types.iter().all(|kind| outer.icmp_types.contains(kind));
    protocol && ports && types
}
