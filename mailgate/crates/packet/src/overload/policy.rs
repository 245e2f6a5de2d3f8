//! The policy of the daemon: the rules that the filter has in force, the tables of the lists.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_common::limit::{LimitSpec, identity};
use mailgate_common::{Action, Facts};
use mailgate_lists::{Addition, By, How, Lists, TableName};
use mailgate_model::Timestamp;

use super::{Limited, Listing, Policy};
use crate::PacketFilter;
use crate::firewall::{Limit, Origin, PROTECTED, Rule};

/// See the module.
pub struct InForce {
    filter: Arc<dyn PacketFilter>,
    lists: Lists,
}

impl InForce {
    /// What these two say.
    #[must_use]
    pub fn new(filter: Arc<dyn PacketFilter>, lists: Lists) -> Self {
        Self { filter, lists }
    }
}

impl Policy for InForce {
    fn limit(&self, id: u32) -> Option<Limited> {
        let rules = self.filter.rules();
        let configured =
            rules.into_iter().filter(|row| matches!(row.effective.origin, Origin::Configured(_)));
        configured.filter_map(|row| Limited::of(&row.effective.rule)).find(|limited| limited.spec.id == id)
    }

    fn is_protected(&self, address: IpAddr) -> bool {
        self.filter.explain(address, &Facts::connection(0, 0)).rule.as_deref() == Some(PROTECTED)
    }

    fn list<'a>(
        &'a self,
        table: &'a TableName,
        network: IpNet,
        until: Timestamp,
        note: &'a str,
    ) -> Listing<'a> {
        Box::pin(async move {
            let addition = Addition::listed(network, Some(until), note);
            // The connections end only when no new ones can come.
            let how = How { wait: true, ..How::default() };
            let done = self.lists.add(table, By::Overload, vec![addition], how).await;
            done.map(drop).map_err(|error| error.to_string())
        })
    }
}

impl Limited {
    /// The limit of a rule; `None` when it is no limit.
    #[must_use]
    pub fn of(rule: &Rule) -> Option<Self> {
        let limit = rule.limit.as_ref().filter(|_| rule.action == Action::Limit)?;
        // Who asks takes the table by its name; the bit says only that there is one.
        let bit = limit.overload.as_ref().map(|_| 0);
        Some(Self {
            rule: rule.name.clone(),
            spec: spec(&rule.name, limit, bit),
            table: limit.overload.clone(),
        })
    }
}

/// A limit as the kernel counts by it; `overload` is the bit of its table.
pub(crate) fn spec(rule: &str, limit: &Limit, overload: Option<u8>) -> LimitSpec {
    let (rate, window_ms) = match limit.rate {
        Some(rate) => (rate.count, u32::try_from(rate.per.as_millis()).unwrap_or(u32::MAX)),
        None => (0, 0),
    };
    LimitSpec {
        connections: limit.connections.unwrap_or(0),
        rate,
        window_ms,
        prefix4: limit.prefix4,
        prefix6: limit.prefix6,
        overload,
        flush: limit.flush,
        id: identity(rule),
    }
}
