//! SEARCH (RFC 3501 §6.4.4). What flags and numbers decide is decided without reading the message; what dates and sizes
//! decide, without its content.

use std::collections::HashMap;

use mailgate_proto::imap::{Numbering, Ranges, Search, SearchKey, SequenceSet};
use mailgate_store::mailboxes::{Facts, Flags};

use super::fetch::Opened;
use super::flags;
use super::reply::Reply;
use super::session::{Fault, Session};
use super::view::{Entry, View};
use crate::Error;
use crate::mime;

const DAY: i64 = 86_400;

/// A question with everything looked up that does not depend on the message.
enum Test {
    All(Vec<Test>),
    Flag(Flags),
    Nothing,
    Not(Box<Test>),
    Or(Box<Test>, Box<Test>),
    Recent,
    Numbers(Ranges),
    Uids(Ranges),
    /// INTERNALDATE: days from, days below.
    Arrived(i64, i64),
    Larger(u64),
    Smaller(u64),
    /// `Date`: days from, days below.
    Sent(i64, i64),
    Header(String, String),
    Body(String),
    Text(String),
}

/// What is known of a message so far; what is `None` was not asked for yet.
struct Known<'a> {
    number: u32,
    entry: Entry,
    facts: Option<Facts>,
    opened: Option<&'a Opened>,
}

impl Session {
    pub(crate) async fn search(&mut self, by: Numbering, search: Search) -> Result<Reply, Fault> {
        if !search.charset.as_deref().is_none_or(|charset| matches!(charset, "UTF-8" | "US-ASCII")) {
            return Ok(Reply::bad_charset());
        }
        let view = self.opened()?;
        let test = std::sync::Arc::new(prepare(search.key, view)?);
        let mut undecided = Vec::new();
        let mut found = Vec::new();
        for (at, entry) in view.entries.iter().enumerate() {
            let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
            let known = Known { number, entry: *entry, facts: None, opened: None };
            match test.holds(&known) {
                Some(true) => found.push((number, entry.uid)),
                Some(false) => {}
                None => undecided.push((number, *entry)),
            }
        }
        if !undecided.is_empty() {
            let uids = undecided.iter().map(|(_, entry)| entry.uid).collect();
            let facts: HashMap<u32, Facts> = view.selected.facts(uids).await?.into_iter().collect();
            for (number, entry) in undecided {
                // A message that went meanwhile is not found.
                let Some(facts) = facts.get(&entry.uid).copied() else { continue };
                let known = Known { number, entry, facts: Some(facts), opened: None };
                let holds = match test.holds(&known) {
                    Some(holds) => holds,
                    None => self.read_and_test(&test, number, entry, facts).await?,
                };
                if holds {
                    found.push((number, entry.uid));
                }
            }
        }
        found.sort_unstable();
        let out = &mut self.connection.out;
        out.raw("* SEARCH");
        for (number, uid) in found {
            out.raw(" ").value(if by == Numbering::Uid { uid } else { number });
        }
        out.end();
        Ok(Reply::ok("Done"))
    }

    async fn read_and_test(
        &self,
        test: &std::sync::Arc<Test>,
        number: u32,
        entry: Entry,
        facts: Facts,
    ) -> Result<bool, Fault> {
        // The content, its decoded text and its lower-case copy.
        let _share = self.room_for(facts.size.saturating_mul(3)).await?;
        let Some(content) = self.opened()?.selected.content(entry.uid).await? else { return Ok(false) };
        let opened = Opened::new(content).await?;
        let test = std::sync::Arc::clone(test);
        let testing = tokio::task::spawn_blocking(move || {
            let known = Known { number, entry, facts: Some(facts), opened: Some(&opened) };
            test.holds(&known).unwrap_or(false)
        });
        testing.await.map_err(|error| Error::Unreachable(error.to_string()).into())
    }
}

fn prepare(key: SearchKey, view: &View) -> Result<Test, Reply> {
    let boxed = |key: SearchKey| prepare(key, view).map(Box::new);
    Ok(match key {
        SearchKey::And(keys) => {
            Test::All(keys.into_iter().map(|key| prepare(key, view)).collect::<Result<_, _>>()?)
        }
        SearchKey::Before(day) => Test::Arrived(i64::MIN, day),
        SearchKey::Body(text) => Test::Body(text.to_lowercase()),
        SearchKey::Flag(name) => flags::system(&name).map_or(Test::Nothing, Test::Flag),
        SearchKey::Header(field, text) => Test::Header(field, text.to_lowercase()),
        SearchKey::Keyword(name) => {
            view.keywords.index(&name).map_or(Test::Nothing, |index| Test::Flag(Flags::keyword(index)))
        }
        SearchKey::Larger(size) => Test::Larger(size.into()),
        SearchKey::Not(key) => Test::Not(boxed(*key)?),
        SearchKey::On(day) => Test::Arrived(day, day.saturating_add(1)),
        SearchKey::Or(a, b) => Test::Or(boxed(*a)?, boxed(*b)?),
        SearchKey::Recent => Test::Recent,
        SearchKey::SentBefore(day) => Test::Sent(i64::MIN, day),
        SearchKey::SentOn(day) => Test::Sent(day, day.saturating_add(1)),
        SearchKey::SentSince(day) => Test::Sent(day, i64::MAX),
        SearchKey::Sequence(set) => Test::Numbers(numbers(&set, view)?),
        SearchKey::Since(day) => Test::Arrived(day, i64::MAX),
        SearchKey::Smaller(size) => Test::Smaller(size.into()),
        SearchKey::Text(text) => Test::Text(text.to_lowercase()),
        SearchKey::Uid(set) => Test::Uids(set.resolve(view.entries.last().map_or(0, |entry| entry.uid))),
    })
}

fn numbers(set: &SequenceSet, view: &View) -> Result<Ranges, Reply> {
    let count = u32::try_from(view.entries.len()).unwrap_or(u32::MAX);
    let numbers = set.resolve(count);
    // Clients look into an empty mailbox with `1:*` or `*:*`; nothing is the right answer.
    if count == 0 && set.has_largest() {
        return Ok(Ranges::default());
    }
    if numbers.last() > count { Err(Reply::no_such_message()) } else { Ok(numbers) }
}

impl Test {
    /// Whether the message is meant; `None` when more of it must be known.
    fn holds(&self, known: &Known<'_>) -> Option<bool> {
        let day = |facts: Facts| facts.internal_date.secs().div_euclid(DAY);
        match self {
            Self::All(tests) => {
                let mut all = Some(true);
                for test in tests {
                    match test.holds(known) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => all = None,
                    }
                }
                all
            }
            Self::Flag(flag) => Some(known.entry.flags.contains(*flag)),
            Self::Nothing => Some(false),
            Self::Not(test) => test.holds(known).map(|holds| !holds),
            Self::Or(a, b) => match (a.holds(known), b.holds(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Recent => Some(known.entry.is_recent),
            Self::Numbers(numbers) => Some(numbers.contains(known.number)),
            Self::Uids(uids) => Some(uids.contains(known.entry.uid)),
            Self::Arrived(from, below) => known.facts.map(|facts| (*from..*below).contains(&day(facts))),
            Self::Larger(size) => known.facts.map(|facts| facts.size > *size),
            Self::Smaller(size) => known.facts.map(|facts| facts.size < *size),
            Self::Sent(from, below) => known.opened.map(|opened| {
                let field = mime::field(root_header(opened), "Date");
                field
                    .and_then(|field| mime::sent_day(field.value))
                    .is_some_and(|day| (*from..*below).contains(&day))
            }),
            Self::Header(name, text) => known.opened.map(|opened| {
                mime::fields(root_header(opened))
                    .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
                    .any(|field| text.is_empty() || has_text(field.value, text))
            }),
            Self::Body(text) => known.opened.map(|opened| body_has(opened, text)),
            Self::Text(text) => known.opened.map(|opened| {
                let headers =
                    opened.structure.parts.iter().filter_map(|part| opened.content.get(part.header.clone()));
                headers.into_iter().any(|header| mime::fields(header).any(|field| has_text(field.raw, text)))
                    || body_has(opened, text)
            }),
        }
    }
}

fn root_header(opened: &Opened) -> &[u8] {
    let range = opened.structure.root().map(|part| part.header.clone());
    range.and_then(|range| opened.content.get(range)).unwrap_or_default()
}

fn has_text(value: &[u8], text: &str) -> bool {
    mime::decode_words(&mime::unfolded(value)).to_lowercase().contains(text)
}

fn body_has(opened: &Opened, text: &str) -> bool {
    let bodies = opened.structure.parts.iter().filter(|part| matches!(part.kind, mime::Kind::Leaf));
    bodies
        .into_iter()
        .filter_map(|part| mime::body_text(part, &opened.content))
        .any(|body| body.to_lowercase().contains(text))
}
