//! The lists of a spamd.conf(5) as one source: every black list minus its white lists, each with its own message.
//!
//! A list that cannot be had keeps what it had before, and the others go on: spamd-setup(8) gives up as a whole, and
//! then a dead server costs all lists.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use mailgate_net::http::Http;

use crate::command::CommandSource;
use crate::config::SpamdConfig;
use crate::fetch::UrlSource;
use crate::file::{self, FileSource, off_runtime};
use crate::format::spamd_conf::{self, Black, List, Message, Method, SpamdConf};
use crate::format::{Format, PROBLEMS_SHOWN, Span, Sweep};
use crate::notes::{NOTE_LIMIT, NotesBuilder};
use crate::prefix::{Key as _, Packed as _, PrefixSet, Sense};
use crate::source::{Bounds, Copies, Failure, Fetched, Look, Reading, Source, Validators, copy};

/// One spamd.conf.
pub(crate) struct SpamdSource {
    path: PathBuf,
    name: String,
    /// Most bytes as sent.
    sent: u64,
    bounds: Bounds,
    timeout: Duration,
    http: Http,
    clock: Arc<dyn Clock>,
    copies: Arc<Copies>,
    /// The last good set of each list, by its name and place.
    lists: BTreeMap<(String, String), Reading>,
}

impl SpamdSource {
    pub(crate) fn new(
        config: &SpamdConfig,
        most: usize,
        http: Http,
        clock: Arc<dyn Clock>,
        copies: Arc<Copies>,
    ) -> Self {
        Self {
            path: config.path.clone(),
            name: config.keys().name,
            sent: config.sent_limit,
            bounds: Bounds { bytes: config.size_limit, entries: most },
            timeout: config.timeout.duration(),
            http,
            clock,
            copies,
            lists: BTreeMap::new(),
        }
    }
}

impl Source for SpamdSource {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// The file itself and the files that it names.
    async fn look(&self) -> Option<Look> {
        let path = self.path.clone();
        let look = move || {
            let conf = file::read(&path).map_err(|error| error.to_string())?;
            let mut paths = vec![path];
            if let Ok(conf) = spamd_conf::parse(&conf) {
                paths.extend(conf.files().filter(|path| path.exists()));
            }
            file::look(&paths)
        };
        Some(off_runtime(look).await)
    }

    async fn fetch(&mut self, _: &Validators) -> Result<Fetched, Failure> {
        let path = self.path.clone();
        let read = move || file::read(&path).map_err(|error| Failure::absent(error.to_string()));
        let text = off_runtime(read).await?;
        let conf = spamd_conf::parse(&text).map_err(Failure::content)?;
        let mut whole = Whole::new(&conf, text.len() as u64, self.bounds.entries);
        for black in &conf.black {
            self.take(black, &mut whole).await;
        }
        let wanted: Vec<(String, String)> =
            conf.lists().map(|list| (list.name.clone(), self.place_of(list))).collect();
        self.lists.retain(|key, _| wanted.contains(key));
        Ok(Fetched::New(Box::new(whole.done())))
    }
}

impl SpamdSource {
    /// One black list without its white lists.
    async fn take(&mut self, black: &Black, whole: &mut Whole) {
        let Some(set) = self.list(&black.list, whole).await else { return };
        let mut sweep = Sweep::default();
        spans(&set.set).for_each(|span| sweep.add(span));
        for white in &black.white {
            // A white list that has never been there leaves addresses in that ought not to be.
            if let Some(set) = self.list(white, whole).await {
                spans(&set.set).for_each(|span| sweep.subtract(span));
            }
        }
        let message = match &black.message {
            Message::Text(text) => text.clone(),
            Message::File(path) => self.message(path, whole).await,
        };
        whole.add(sweep.done(), message);
    }

    /// One list, the last good set of it when it cannot be had.
    async fn list(&mut self, list: &List, whole: &mut Whole) -> Option<Reading> {
        if list.is_dead {
            return None;
        }
        let key = (list.name.clone(), self.place_of(list));
        if !self.lists.contains_key(&key) {
            let (copies, part) = (Arc::clone(&self.copies), copy::part(&self.name, &list.name));
            let place = key.1.clone();
            let loaded = tokio::task::spawn_blocking(move || copies.load(&part, &place)).await.ok().flatten();
            self.lists.extend(loaded.map(|copied| (key.clone(), copied.reading)));
        }
        let validators = self.lists.get(&key).map(|last| last.validators.clone()).unwrap_or_default();
        match self.ask(list, &validators).await {
            Ok(Fetched::Same) => {}
            // An empty download leaves the list as it was, as with spamd-setup.
            Ok(Fetched::New(reading)) if reading.bytes == 0 && self.lists.contains_key(&key) => {
                whole.fail(list, "found a list of no octet, expected entries");
            }
            Ok(Fetched::New(reading)) => match self.keep(&key, &reading).await {
                Ok(()) => drop(self.lists.insert(key.clone(), *reading)),
                Err(error) => whole.fail(list, &Failure::unkept(&error).said),
            },
            Err(failure) => whole.fail(list, &failure.said),
        }
        let reading = self.lists.get(&key)?.clone();
        whole.count(&reading);
        Some(reading)
    }

    async fn ask(&self, list: &List, known: &Validators) -> Result<Fetched, Failure> {
        match &list.method {
            Method::File(path) => {
                FileSource::new(PathBuf::from(path), Format::Spamd, self.bounds.entries).fetch(known).await
            }
            Method::Url(url) => {
                UrlSource::of_spamd(self.http.clone(), url.clone(), self.sent, self.bounds, self.timeout)
                    .fetch(known)
                    .await
            }
            Method::Exec(command) => {
                let clock = Arc::clone(&self.clock);
                CommandSource::of_spamd(command.clone(), self.bounds, self.timeout, clock).fetch(known).await
            }
        }
    }

    fn place_of(&self, list: &List) -> String {
        match &list.method {
            Method::Exec(command) => command.join(" "),
            Method::File(path) | Method::Url(path) => path.clone(),
        }
    }

    /// A copy of one list.
    async fn keep(&self, key: &(String, String), reading: &Reading) -> io::Result<()> {
        let (copies, part) = (Arc::clone(&self.copies), copy::part(&self.name, &key.0));
        let (name, place, reading, now) = (key.0.clone(), key.1.clone(), reading.clone(), self.clock.now());
        let save = move || copies.draft(&part, &copy::write(&name, &place, &reading), now)?.place();
        tokio::task::spawn_blocking(save).await.map_err(io::Error::other)?
    }

    async fn message(&self, path: &str, whole: &mut Whole) -> String {
        let file = PathBuf::from(path);
        let read = move || file::read(&file).map_err(|error| error.to_string());
        match off_runtime(read).await {
            Ok(text) => String::from_utf8_lossy(text.get(..text.len().min(NOTE_LIMIT)).unwrap_or_default())
                .into_owned(),
            Err(said) => {
                whole.problem(format!("{path}: {said}, expected the message of a list"));
                String::new()
            }
        }
    }
}

impl SpamdConf {
    fn lists(&self) -> impl Iterator<Item = &List> {
        self.black.iter().flat_map(|black| std::iter::once(&black.list).chain(&black.white))
    }

    /// The files that lists and messages are in.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let lists = self.lists().filter_map(|list| match &list.method {
            Method::File(path) => Some(path),
            Method::Exec(_) | Method::Url(_) => None,
        });
        let messages = self.black.iter().filter_map(|black| match &black.message {
            Message::File(path) => Some(path),
            Message::Text(_) => None,
        });
        lists.chain(messages).map(|path| Path::new(path).to_owned())
    }
}

/// What the lists come to.
struct Whole {
    reading: Reading,
    notes: NotesBuilder,
    /// With one list its message is that of all entries, and no entry needs one of its own.
    is_alone: bool,
    failures: Vec<String>,
}

impl Whole {
    fn new(conf: &SpamdConf, bytes: u64, most: usize) -> Self {
        let problems = conf.warnings.iter().take(PROBLEMS_SHOWN).cloned().collect();
        let set = PrefixSet::limited(most);
        let reading = Reading { set, format: Format::Spamd, bytes, problems, ..Reading::default() };
        let is_alone = conf.black.iter().filter(|black| !black.list.is_dead).count() == 1;
        Self { reading, notes: NotesBuilder::default(), is_alone, failures: Vec::new() }
    }

    fn count(&mut self, list: &Reading) {
        self.reading.bytes += list.bytes;
        self.reading.refused += list.refused;
        list.problems.iter().for_each(|problem| self.problem(problem.clone()));
    }

    fn problem(&mut self, said: String) {
        if self.reading.problems.len() < PROBLEMS_SHOWN {
            self.reading.problems.push(said);
        }
    }

    fn fail(&mut self, list: &List, said: &str) {
        tracing::warn!(target: "lists", event = "fail", list = list.name, error = said);
        if self.failures.len() < PROBLEMS_SHOWN {
            self.failures.push(format!("{}: {said}", list.name));
        }
    }

    fn add(&mut self, spans: Vec<Span>, message: String) {
        for prefix in spans.into_iter().flat_map(Span::prefixes) {
            self.reading.set.push(prefix, Sense::Listed);
            if !self.is_alone {
                self.notes.push(prefix, &message);
            }
        }
        if self.is_alone && !message.is_empty() {
            self.reading.message = Some(message);
        }
    }

    fn done(mut self) -> Reading {
        self.reading.set.sort();
        self.reading.notes = self.notes.done();
        self.reading.partly = (!self.failures.is_empty()).then(|| self.failures.join("; "));
        self.reading
    }
}

fn spans(set: &PrefixSet) -> impl Iterator<Item = Span> {
    let v4 = set.v4.iter().map(|entry| entry.key().prefix());
    v4.chain(set.v6.iter().map(|entry| entry.key().prefix())).map(Span::of)
}
