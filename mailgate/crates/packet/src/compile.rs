//! A snapshot to shadows, plans and generations.

use ipnet::IpNet;
use mailgate_lists::{Entries, Snapshot};
use mailgate_model::Timestamp;

use super::Error;
use super::engine::{Backing, LOCAL, Stamp};
use super::generation4::Generation4;
use super::generation6::{Generation6, Plan6};
use super::plan4::Plan;
use super::shadow::{Address, Marked, Shadow};

/// What new generations will need; `None` of a family without prefixes.
pub(super) struct Plans {
    pub(super) v4: Option<Plan>,
    pub(super) v6: Option<Plan6>,
}

impl Plans {
    /// Bytes of both.
    pub(super) fn bytes(&self) -> Result<u64, Error> {
        Ok(self.v4.as_ref().map_or(Ok(0), Plan::bytes)? + self.v6.as_ref().map_or(0, Plan6::bytes))
    }
}

pub(super) fn plan4(shadow: &Shadow<u32>) -> Result<Option<Plan>, Error> {
    let plan = (!shadow.is_empty()).then(|| Plan::of(shadow));
    plan.iter().try_for_each(|plan| plan.layout().map(drop))?;
    Ok(plan)
}

pub(super) fn plan6(shadow: &Shadow<u128>) -> Result<Option<Plan6>, Error> {
    (!shadow.is_empty()).then(|| Plan6::of(shadow)).transpose()
}

pub(super) fn compile4(
    shadow: &Shadow<u32>,
    plan: Option<Plan>,
    stamp: Stamp,
    backing: &dyn Backing,
) -> Result<Option<Generation4>, Error> {
    plan.map(|plan| Generation4::build(shadow, plan, stamp, backing)).transpose()
}

pub(super) fn compile6(
    shadow: &Shadow<u128>,
    plan: Option<Plan6>,
    stamp: Stamp,
    backing: &dyn Backing,
) -> Result<Option<Generation6>, Error> {
    plan.map(|plan| Generation6::build(shadow, plan, stamp, backing)).transpose()
}

/// Both shadows of a snapshot and of what is kept besides; entries that have ended are left out.
pub(super) fn shadows(
    snapshot: &Snapshot,
    now: Timestamp,
    local: &[IpNet],
    kept: (Vec<Marked<u32>>, Vec<Marked<u128>>),
) -> (Shadow<u32>, Shadow<u128>) {
    let (mut v4, mut v6) = kept;
    for network in local {
        match network.trunc() {
            IpNet::V4(net) => v4.push(((u32::from(net.network()), net.prefix_len()), LOCAL, false)),
            IpNet::V6(net) => v6.push(((u128::from(net.network()), net.prefix_len()), LOCAL, false)),
        }
    }
    let v4 = shadow(snapshot, v4, Entries::len4, |table, entries| {
        entries.live4(now).map(move |(address, length, hole)| ((address, length), table, hole))
    });
    let v6 = shadow(snapshot, v6, Entries::len6, |table, entries| {
        entries.live6(now).map(move |(address, length, hole)| ((address, length), table, hole))
    });
    (v4, v6)
}

/// The shadow of one family. The largest table is taken as it comes, because it is sorted already; all others are few, as a
/// rule, and are sorted together with `others`.
fn shadow<'a, A: Address, I: Iterator<Item = Marked<A>>>(
    snapshot: &'a Snapshot,
    mut others: Vec<Marked<A>>,
    len: fn(&Entries) -> usize,
    live: impl Fn(u8, &'a Entries) -> I,
) -> Shadow<A> {
    let largest = snapshot.tables.iter().map(|table| len(&table.entries)).max().unwrap_or(0);
    let mut first: Option<I> = None;
    for (n, table) in (0_u8..).zip(&snapshot.tables) {
        let entries = live(n, &table.entries);
        if first.is_none() && len(&table.entries) == largest {
            first = Some(entries);
        } else {
            others.extend(entries);
        }
    }
    Shadow::of(first.into_iter().flatten(), largest, others)
}
