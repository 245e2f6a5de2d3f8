//! What is asked of the tables.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::table::State;
use super::{Claim, Found, Merged, OVERLOAD, Origin, TableIndex};
use crate::prefix::{Key4, Key6};
use crate::table::Entry;

impl Merged {
    /// Entries of a table with their origins, sorted, from the one after `after`.
    pub(crate) fn entries(&self, table: TableIndex, after: Option<IpNet>) -> impl Iterator<Item = Found> {
        self.tables.get(usize::from(table)).into_iter().flat_map(move |table| table.found(after))
    }

    /// The claims of one live origin in a table, sorted, with what the daemon says of them.
    pub(crate) fn claimed(
        &self,
        table: TableIndex,
        origin: Origin,
    ) -> impl Iterator<Item = (IpNet, Claim, Option<Arc<str>>)> {
        let state = self.tables.get(usize::from(table)).into_iter();
        state.flat_map(move |state| {
            let with_note = move |(prefix, claim): (IpNet, Claim)| {
                let note = state.notes.get(&prefix).filter(|_| origin == OVERLOAD);
                (prefix, claim, note.cloned())
            };
            state.v4.claimed(origin).chain(state.v6.claimed(origin)).map(with_note)
        })
    }

    /// The lengths that prefixes of a table have, longest first.
    pub(crate) fn lengths(&self, table: TableIndex, is_v4: bool) -> Vec<u8> {
        let state = self.tables.get(usize::from(table));
        let lengths = |state: &State| if is_v4 { state.v4.lengths() } else { state.v6.lengths() };
        state.map(lengths).unwrap_or_default()
    }

    /// What one origin claims of exactly this prefix.
    pub(crate) fn claim(&self, table: TableIndex, prefix: IpNet, origin: Origin) -> Option<Claim> {
        let state = self.tables.get(usize::from(table))?;
        match prefix {
            IpNet::V4(net) => state.v4.claim(Key4::of(net), origin),
            IpNet::V6(net) => state.v6.claim(Key6::of(net), origin),
        }
    }

    /// Who claims exactly this prefix.
    pub(crate) fn origins(&self, table: TableIndex, prefix: IpNet) -> Vec<Origin> {
        let found = self.find(table, prefix);
        found.map(|found| found.claims.into_iter().map(|(origin, _)| origin).collect()).unwrap_or_default()
    }

    /// The entry of exactly this prefix.
    pub(crate) fn find(&self, table: TableIndex, prefix: IpNet) -> Option<Found> {
        self.tables.get(usize::from(table))?.find(prefix)
    }

    /// The most specific entry of a table that covers an address.
    pub(crate) fn covering(&self, table: TableIndex, address: IpAddr) -> Option<Found> {
        let state = self.tables.get(usize::from(table))?;
        let lengths = if address.is_ipv4() { state.v4.lengths() } else { state.v6.lengths() };
        state.covering(address, &lengths).and_then(|entry| state.find(entry.prefix))
    }

    /// The most specific entry that covers an address and is of no feed, in a bypass that feeds fill.
    pub(crate) fn own_covering(&self, table: TableIndex, address: IpAddr) -> Option<Entry> {
        let state = self.tables.get(usize::from(table)).filter(|state| state.is_fed())?;
        let lengths = if address.is_ipv4() { state.v4.lengths() } else { state.v6.lengths() };
        lengths.into_iter().find_map(|length| state.own_shown(IpNet::new(address, length).ok()?.trunc()))
    }

    /// What the daemon says of its entry.
    pub(crate) fn note(&self, table: TableIndex, prefix: IpNet) -> Option<Arc<str>> {
        self.tables.get(usize::from(table))?.notes.get(&prefix).cloned()
    }
}
