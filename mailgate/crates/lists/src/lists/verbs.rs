//! The verbs of pfctl(8) `-T`: what edits a table. Each makes a [`Plan`] from what is there; unless it is only asked
//! what would happen, the plan is carried out under the same lock, saved, and told to the edge.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::{self, Plan};
use super::{Lists, view};
use crate::merge::TableIndex;
use crate::rows::Done;
use crate::shared::State;
use crate::table::{Addition, By, Entry, TableName};
use crate::{Error, counts, manual};

/// How long a verb waits for the edge.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a verb is carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Say of each entry what happened to it.
    pub verbose: bool,
    /// Wait up to ten seconds until the edge judges by it, and say whether it does.
    pub wait: bool,
}

/// Which entries are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Added or cleared longer ago than this (`pfctl -T expire`).
    Older(Duration),
    /// Added, cleared or hit longer ago than this; needs a table that counts.
    Idle(Duration),
}

impl Lists {
    /// Makes entries, or changes their end; they are on disk when this returns, and count at once. An entry that is
    /// there with the opposite sense stays as it is. Of entries with the same prefix the first counts.
    ///
    /// The daemon calls this with [`By::Overload`] when a source exceeds a limit: `lists.add(&table, By::Overload,
    /// vec![Addition::listed(prefix, Some(end), "why, and the how manieth time")], How::default())`. An entry of the
    /// daemon that is there gets the new end and note. How long a source stays, and how that grows with each time, is
    /// the caller's to know; [`show`](Self::show) and [`test`](Self::test) give back end and note, also after a
    /// restart. Two callers at once share one write to the disk.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::ReadOnly`], [`Error::Full`], [`Error::Stopped`]; [`Error::State`] when it
    /// counts but could not be saved.
    pub async fn add(
        &self,
        table: &TableName,
        by: By,
        entries: Vec<Addition>,
        how: How,
    ) -> Result<Done, Error> {
        let now = self.shared.clock.now();
        self.edit(table, how, move |state, table| Ok(plan::add(state, table, by, entries, now, how))).await
    }

    /// Takes away entries made by hand or by the daemon; those of sources stay, and are told as `still`. An entry that is
    /// there with the opposite sense stays too.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn delete(&self, table: &TableName, entries: Vec<Entry>, how: How) -> Result<Done, Error> {
        self.edit(table, how, move |state, table| Ok(plan::delete(state, table, entries, how))).await
    }

    /// Makes `entries` the entries made by hand of a table, and takes away those of the daemon; those of sources stay.
    /// The edge gets it as a whole: no packet is judged by a part of it. Of entries with the same prefix the first
    /// counts.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn replace(&self, table: &TableName, entries: Vec<Entry>, how: How) -> Result<Done, Error> {
        let now = self.shared.clock.now();
        self.edit(table, how, move |state, table| Ok(plan::replace(state, table, entries, now, how))).await
    }

    /// Takes away all entries of a table that were made by hand or by the daemon; those of sources stay.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn flush(&self, table: &TableName, how: How) -> Result<Done, Error> {
        self.edit(table, how, move |state, table| Ok(plan::flush(state, table, how))).await
    }

    /// Takes away the old ones of the entries made by hand or by the daemon.
    ///
    /// # Errors
    /// As [`add`](Self::add), and [`Error::NotCounted`].
    pub async fn expire(&self, table: &TableName, age: Age, how: How) -> Result<Done, Error> {
        let now = self.shared.clock.now();
        self.edit(table, how, move |state, table| plan::expire(state, table, age, now, how)).await
    }

    /// Sets the counts of a table, or of some of its entries, to zero; with that they are as new to
    /// [`expire`](Self::expire). [`count`](Self::count) has to be called before, or packets of before count afterwards.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Stopped`]; [`Error::State`] when it counts but could not be saved.
    pub async fn zero(
        &self,
        table: &TableName,
        entries: Option<Vec<Entry>>,
        how: How,
    ) -> Result<Done, Error> {
        let (name, now) = (table.clone(), self.shared.clock.now());
        let zero = move |state: &mut State| {
            let table = view::index(state, &name)?;
            let done = plan::zero(state, table, entries, now, how);
            state.uncounted |= !how.dry_run;
            Ok(done)
        };
        let done = self.shared.with_blocking(zero).await??;
        self.shared.off_runtime(counts::flush).await??;
        Ok(done)
    }

    /// Plans, carries out, and waits until it is on disk.
    async fn edit<F>(&self, table: &TableName, how: How, work: F) -> Result<Done, Error>
    where
        F: FnOnce(&State, TableIndex) -> Result<Plan, Error> + Send + 'static,
    {
        let name = table.clone();
        let edit = move |state: &mut State| {
            let table = view::index(state, &name)?;
            if state.merged.config(table).is_some_and(|config| config.readonly) {
                return Err(Error::ReadOnly(name));
            }
            let mut plan = work(state, table)?;
            state.expect_room(plan.growth())?;
            if !how.dry_run {
                plan.carry_out(state, table);
            }
            Ok((plan.done, plan.is_empty, state.edits))
        };
        // One entry takes microseconds, a million a second: always off the runtime's threads.
        let (mut done, is_empty, edits) = self.shared.with_blocking(edit).await??;
        if !how.dry_run && !is_empty {
            manual::saved(&self.shared, edits).await?;
            if how.wait {
                done.in_force = Some(self.in_force(PATIENCE).await);
            }
        }
        Ok(done)
    }
}
