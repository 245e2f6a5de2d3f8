//! Drives one source: when to look, when to fetch, what to do with what came.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::{Span, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Failure, FailureKind, Fetched, Look, Order, POLL, Place, Plan, Reading, Signature, Source, Turn,
    Validators, copy, take,
};
use crate::Error;
use crate::admit::{self, Offered, Told};
use crate::disk::Draft;
use crate::rows::SourceState;
use crate::shared::{State, Status, source_mut};

/// When a file of this host is taken up again of which no copy could be kept.
const RETRY: Duration = Duration::from_secs(60);

/// Drives one source.
pub(crate) struct Runner<S> {
    place: Place,
    source: S,
    plan: Option<Plan>,
    wake: Arc<Notify>,
    /// What the files looked like when they were last read; `None` when they have to be read anew.
    read: Option<Signature>,
    /// What they looked like at the last look.
    looked: Option<Look>,
    /// What is wrong now.
    error: Option<String>,
    /// When a list without a plan is taken up again of which no copy could be kept.
    retry_at: Option<Timestamp>,
    /// Since when its set counts as good.
    good_at: Option<Timestamp>,
    is_aged: bool,
}

/// Why the source gets a turn.
enum Event {
    Age,
    Due,
    Order(Order),
}

impl<S: Source> Runner<S> {
    /// `interval` makes it fetch every now and then; `wake` tells that its files may have changed.
    pub(crate) fn new(place: Place, source: S, interval: Option<Span>, wake: Arc<Notify>) -> Self {
        let now = place.shared.clock.now();
        let plan = interval.map(|interval| Plan::new(&place.keys.name, interval, now, place.fetched));
        let good_at = place.fetched;
        Self {
            place,
            source,
            plan,
            wake,
            read: None,
            looked: None,
            error: None,
            retry_at: None,
            good_at,
            is_aged: false,
        }
    }

    /// Starts it.
    pub(crate) fn start(self, shutdown: &CancellationToken) {
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = self.run() => {}
            }
        });
    }

    /// Runs until the runtime ends, and then returns the error.
    async fn run(mut self) -> Result<(), Error> {
        self.looked = self.source.look().await;
        if self.plan.is_none() {
            self.turn(false).await?;
        }
        self.tell_plan().await?;
        loop {
            match self.event().await {
                Event::Age => self.age().await?,
                Event::Due => {
                    self.turn(false).await?;
                }
                Event::Order(Order::Reload(answer)) => {
                    self.looked = self.source.look().await;
                    let turn = self.turn(true).await?;
                    // Who asked may be gone.
                    let _ = answer.send(turn);
                }
                Event::Order(Order::Diff(answer)) => {
                    let _ = answer.send(self.diff().await?);
                }
            }
        }
    }

    /// Waits for something to do.
    async fn event(&mut self) -> Event {
        let clock = Arc::clone(&self.place.shared.clock);
        let due = self.plan.as_ref().map(Plan::due).or(self.retry_at);
        let age = self.age_at();
        let until = |at: Option<Timestamp>| {
            let clock = Arc::clone(&clock);
            async move {
                match at {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            }
        };
        let (due, age) = (until(due), until(age));
        tokio::pin!(due, age);
        loop {
            let has_files = self.looked.is_some();
            let told = tokio::select! {
                biased;
                Some(order) = self.place.orders.recv() => return Event::Order(order),
                () = &mut due => return Event::Due,
                () = &mut age => return Event::Age,
                () = self.wake.notified() => true,
                () = clock.sleep(POLL), if has_files => false,
            };
            let now = self.source.look().await;
            // Half a file that is still being written changes from one look to the next.
            let still = told || now == self.looked;
            self.looked = now;
            if still && self.is_news() {
                return Event::Due;
            }
        }
    }

    /// Whether what the files look like differs from what is known.
    fn is_news(&self) -> bool {
        match &self.looked {
            Some(Ok(signature)) => self.read.as_ref() != Some(signature),
            Some(Err(said)) => self.error.as_ref() != Some(said),
            None => false,
        }
    }

    /// Fetches, and takes what came. With `force` everything, whatever is known already.
    async fn turn(&mut self, force: bool) -> Result<Turn, Error> {
        let looked = self.looked.clone();
        let turn = match &looked {
            Some(Err(said)) => Turn::Failed(Failure::absent(said.clone())),
            _ => self.fetch_and_take(force).await?,
        };
        let now = self.place.shared.clock.now();
        let signature = looked.and_then(Result::ok);
        self.retry_at = None;
        match &turn {
            Turn::Failed(failure) => {
                self.read = signature.filter(|_| failure.kind != FailureKind::Absent);
                match &mut self.plan {
                    Some(plan) => plan.failed(now, failure.retry_after),
                    None => self.retry_at = (failure.kind == FailureKind::Unkept).then(|| now.plus(RETRY)),
                }
                self.fail(failure).await?;
            }
            Turn::Same | Turn::Taken(_) => {
                // A file says itself how old it is; a clock that was wrong when it was written makes it no younger.
                let modified =
                    signature.as_ref().and_then(Signature::modified).filter(|_| self.plan.is_none());
                self.good_at = Some(modified.map_or(now, |modified| modified.min(now)));
                self.is_aged = false;
                self.read = signature;
                self.error = None;
                if let Some(plan) = &mut self.plan {
                    plan.succeeded(now);
                }
                let due = self.plan.as_ref().map(Plan::due);
                self.status(move |status| {
                    status.state = SourceState::Good;
                    status.error = None;
                    status.last_success = Some(now);
                    status.next_run = due;
                })
                .await?;
            }
        }
        self.tell_plan().await?;
        self.place.shared.changed.notify_one();
        Ok(turn)
    }

    async fn fetch_and_take(&mut self, force: bool) -> Result<Turn, Error> {
        let known = if force || self.is_aged { Validators::default() } else { self.place.known.clone() };
        match self.source.fetch(&known).await {
            Err(failure) => Ok(Turn::Failed(failure)),
            Ok(Fetched::Same) => {
                self.touch().await?;
                Ok(Turn::Same)
            }
            Ok(Fetched::New(reading)) => self.accept(*reading).await,
        }
    }

    /// Takes a reading that makes sense, and keeps a copy of it.
    async fn accept(&mut self, reading: Reading) -> Result<Turn, Error> {
        let is_local = self.plan.is_none();
        let holds = self.holds_entries().await?;
        if let Err(said) = reading.sane(&self.place.keys, is_local, holds) {
            return Ok(Turn::Failed(Failure::content(said)));
        }
        for problem in &reading.problems {
            tracing::warn!(target: "lists", event = "skip", reason = problem);
        }
        let validators = reading.validators.clone();
        let draft = match self.draft(&reading).await? {
            Ok(draft) => Some(draft),
            // A file of this host is its own copy: where nothing was, nothing is lost by it.
            Err(error) if is_local && !holds => {
                self.complain(Some(error)).await?;
                None
            }
            Err(error) => return Ok(Turn::Failed(Failure::unkept(&error))),
        };
        let taken = take::take(&self.place.shared, self.place.origin, self.place.table, reading).await?;
        let Offered { difference, is_whole } = match taken {
            Ok(offered) => offered,
            Err(said) => return Ok(Turn::Failed(Failure::content(said))),
        };
        // What waits to be believed must not be what a restart begins with; and it has to be heard again.
        let is_kept = match draft.filter(|_| is_whole) {
            Some(draft) => self.keep(draft).await?,
            None => false,
        };
        // Without a copy all has to come again, so that there is one then.
        self.place.known = if is_kept { validators } else { Validators::default() };
        let crate::merge::Difference { added, changed, deleted } = difference;
        let name = &self.place.keys.name;
        tracing::info!(target: "lists", event = "read", source = name, added, changed, deleted);
        Ok(Turn::Taken(difference))
    }

    /// The copy, on disk and not yet in place.
    async fn draft(&self, reading: &Reading) -> Result<io::Result<Draft>, Error> {
        let (place, reading, name) = (self.source.place(), reading.clone(), self.place.keys.name.clone());
        let (copies, now) = (Arc::clone(&self.place.copies), self.place.shared.clock.now());
        let write = move || copies.draft(&name, &copy::write(&name, &place, &reading), now);
        tokio::task::spawn_blocking(write).await.map_err(|_| Error::Stopped)
    }

    /// Puts the copy in place, and says whether it is there.
    async fn keep(&mut self, draft: Draft) -> Result<bool, Error> {
        let placed = tokio::task::spawn_blocking(|| draft.place()).await.map_err(|_| Error::Stopped)?;
        let is_kept = placed.is_ok();
        self.complain(placed.err()).await?;
        Ok(is_kept)
    }

    /// Says why there is no copy of the list in force, or that there is.
    async fn complain(&self, error: Option<io::Error>) -> Result<(), Error> {
        let error = error.map(|error| error.to_string());
        if let Some(error) = &error {
            let name = &self.place.keys.name;
            tracing::error!(target: "lists", event = "copy", source = name, error, "the copy of before stays");
        }
        self.status(move |status| status.copy_error = error).await
    }

    /// The copy on disk is as good as one from now.
    async fn touch(&self) -> Result<(), Error> {
        let (copies, name) = (Arc::clone(&self.place.copies), self.place.keys.name.clone());
        let now = self.place.shared.clock.now();
        tokio::task::spawn_blocking(move || copies.touch(&name, now)).await.map_err(|_| Error::Stopped)
    }

    /// What a fetch now would change, without taking it.
    async fn diff(&mut self) -> Result<Result<crate::rows::Diff, String>, Error> {
        let fetched = self.source.fetch(&Validators::default()).await;
        let reading = match fetched {
            Err(failure) => return Ok(Err(failure.said)),
            Ok(Fetched::Same) => return Ok(Ok(crate::rows::Diff::default())),
            Ok(Fetched::New(reading)) => reading,
        };
        let holds = self.holds_entries().await?;
        let insane = reading.sane(&self.place.keys, self.plan.is_none(), holds).err();
        let (origin, table) = (self.place.origin, self.place.table);
        let compare = move |state: &mut State| take::diff(state, origin, table, &reading, insane);
        Ok(Ok(self.place.shared.with_blocking(compare).await?))
    }

    /// Whether an earlier reading left entries in the table.
    async fn holds_entries(&self) -> Result<bool, Error> {
        let (table, origin) = (self.place.table, self.place.origin);
        self.place.shared.with(move |state| state.merged.count(table, origin) > 0).await
    }

    /// When the set is too old to be used.
    fn age_at(&self) -> Option<Timestamp> {
        let span = self.place.keys.expire_after.filter(|_| !self.is_aged)?;
        Some(self.good_at?.plus(span.duration()))
    }

    /// The set has grown too old: its entries go.
    async fn age(&mut self) -> Result<(), Error> {
        self.is_aged = true;
        let (origin, table, now) = (self.place.origin, self.place.table, self.place.shared.clock.now());
        let after = self.place.keys.expire_after.map(|span| span.to_string()).unwrap_or_default();
        let withdraw = move |state: &mut State| {
            let none = vec![(table, crate::prefix::PrefixSet::default())];
            let gone = admit::offer_sets(state, origin, none, Told::Believed, now);
            if let Some(status) = source_mut(state, origin) {
                status.state = SourceState::Aged;
                status.last_change = Some(now);
                status.error.get_or_insert_with(|| format!("no new list for {after}; its entries are gone"));
            }
            gone.map_or(0, |gone| gone.difference.deleted)
        };
        let deleted = self.place.shared.with_blocking(withdraw).await?;
        tracing::warn!(target: "lists", event = "aged", source = self.place.keys.name, deleted);
        Ok(())
    }

    /// Keeps the last good set and says why, once.
    async fn fail(&mut self, failure: &Failure) -> Result<(), Error> {
        let now = self.place.shared.clock.now();
        let (name, said) = (&self.place.keys.name, failure.said.clone());
        match failure.kind {
            _ if self.error.as_ref() == Some(&said) => {}
            FailureKind::Unkept => {
                tracing::error!(target: "lists", event = "fail", source = name, error = said)
            }
            FailureKind::Absent | FailureKind::Content => {
                tracing::warn!(target: "lists", event = "fail", source = name, error = said);
            }
        }
        self.error = Some(said.clone());
        let is_aged = self.is_aged;
        self.status(move |status| {
            status.state = if is_aged { SourceState::Aged } else { SourceState::Failed };
            status.error = Some(said.clone());
            status.last_failure = Some((now, said));
        })
        .await
    }

    async fn tell_plan(&self) -> Result<(), Error> {
        let due = self.plan.as_ref().map(Plan::due);
        self.status(move |status| status.next_run = due).await
    }

    async fn status(&self, change: impl FnOnce(&mut Status) + Send + 'static) -> Result<(), Error> {
        let origin = self.place.origin;
        let change = move |state: &mut State| {
            if let Some(status) = source_mut(state, origin) {
                change(status);
            }
        };
        self.place.shared.with(change).await
    }
}
