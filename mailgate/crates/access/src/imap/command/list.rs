//! LIST and LSUB (RFC 3501 §6.3.8, §6.3.9; RFC 5258, RFC 5819, RFC 6154).

use std::collections::{BTreeMap, BTreeSet};

use mailgate_proto::imap::{List, ListReturn, ListSelect, utf7};
use mailgate_store::mailboxes::{Listed, Name, SEPARATOR};

use super::super::reply::Reply;
use super::super::session::{Fault, Session};

/// One response row.
#[derive(Debug, Default)]
struct Row {
    attributes: Vec<&'static str>,
    /// Something below, not shown itself, is subscribed (RFC 5258 §3.5).
    subscribed_below: bool,
    is_selectable: bool,
}

impl Session {
    pub(crate) async fn list(&mut self, list: &List) -> Result<Reply, Fault> {
        let maildir = self.logged_in()?.maildir.clone();
        if !list.extended && list.patterns.iter().all(String::is_empty) {
            // RFC 3501 §6.3.8: the question for the separator.
            self.connection.untagged("LIST (\\Noselect) \".\" \"\"");
            return Ok(Reply::ok("Done"));
        }
        let patterns: Vec<Vec<char>> =
            list.patterns.iter().map(|text| pattern(&list.reference, text)).collect();
        let listed: BTreeMap<Name, Listed> =
            maildir.list().await?.into_iter().map(|listed| (listed.name.clone(), listed)).collect();
        let wants = |select: ListSelect| list.select.contains(&select);
        let shows_subscribed =
            wants(ListSelect::Subscribed) || list.returns.contains(&ListReturn::Subscribed);
        let subscribed = if shows_subscribed { maildir.subscriptions().await? } else { BTreeSet::new() };
        let uses = self.uses();
        let mut rows: BTreeMap<Name, Row> = BTreeMap::new();
        let candidates = listed.keys().chain(subscribed.iter().filter(|_| wants(ListSelect::Subscribed)));
        for name in candidates {
            if !patterns.iter().any(|pattern| matches(pattern, name)) {
                continue;
            }
            let is_subscribed = subscribed.contains(name);
            let subscribed_below = wants(ListSelect::RecursiveMatch)
                && subscribed
                    .iter()
                    .any(|below| below.is_below(name) && !patterns.iter().any(|p| matches(p, below)));
            let special = uses.get(name).copied();
            let selected = (!wants(ListSelect::Subscribed) || is_subscribed || subscribed_below)
                && (!wants(ListSelect::SpecialUse) || special.is_some());
            if selected {
                let mut row = row(listed.get(name), special);
                if is_subscribed {
                    row.attributes.push("\\Subscribed");
                }
                row.subscribed_below = subscribed_below;
                rows.insert(name.clone(), row);
            }
        }
        let status = list.returns.iter().find_map(|option| match option {
            ListReturn::Status(items) => Some(items),
            _ => None,
        });
        for (name, row) in inbox_first(rows) {
            self.write_row("LIST", &name, &row);
            if let Some(items) = status.filter(|_| row.is_selectable) {
                match self.write_status(&name, items).await {
                    // Deleted by another session since it was listed.
                    Err(Fault::Error(crate::Error::Store(mailgate_store::Error::Missing(_)))) => {}
                    done => done?,
                }
            }
            self.connection.drain().await?;
        }
        Ok(Reply::ok("Done"))
    }

    pub(crate) async fn lsub(&mut self, reference: &str, text: &str) -> Result<Reply, Fault> {
        let maildir = self.logged_in()?.maildir.clone();
        let pattern = pattern(reference, text);
        let mut rows: BTreeMap<Name, Row> = BTreeMap::new();
        for name in maildir.subscriptions().await? {
            if matches(&pattern, &name) {
                rows.insert(name, Row::default());
            } else if pattern.last() == Some(&'%') {
                // RFC 3501 §6.3.9: a name that does not match is told by its parent that does.
                for above in name.ancestors().into_iter().filter(|above| matches(&pattern, above)) {
                    let row = Row { attributes: vec!["\\Noselect"], ..Row::default() };
                    rows.entry(above).or_insert(row);
                }
            }
        }
        for (name, row) in inbox_first(rows) {
            self.write_row("LSUB", &name, &row);
        }
        Ok(Reply::ok("Done"))
    }

    fn uses(&self) -> BTreeMap<Name, &'static str> {
        let uses = self.server.parts.config.special_use.each();
        uses.filter_map(|(attribute, name)| Some((Name::parse(name).ok()?, attribute))).collect()
    }

    fn write_row(&mut self, word: &str, name: &Name, row: &Row) {
        let out = &mut self.connection.out;
        out.raw("* ").raw(word).raw(" ");
        out.list(&row.attributes, |out, attribute| {
            out.raw(attribute);
        });
        out.raw(" \".\" ").mailbox(name.as_str());
        if row.subscribed_below {
            out.raw(" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
        }
        out.end();
    }
}

fn row(listed: Option<&Listed>, special: Option<&'static str>) -> Row {
    let mut attributes = Vec::new();
    match listed {
        Some(listed) => {
            if !listed.selectable {
                attributes.push("\\Noselect");
            }
            attributes.push(if listed.parent { "\\HasChildren" } else { "\\HasNoChildren" });
            attributes.extend(special.filter(|_| listed.selectable));
        }
        None => attributes.push("\\NonExistent"),
    }
    Row { attributes, subscribed_below: false, is_selectable: listed.is_some_and(|listed| listed.selectable) }
}

fn inbox_first(rows: BTreeMap<Name, Row>) -> Vec<(Name, Row)> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(name, _)| !name.is_inbox());
    rows
}

/// Reference and pattern together, in Unicode.
fn pattern(reference: &str, text: &str) -> Vec<char> {
    let joined = format!("{reference}{text}");
    let decoded = utf7::decode(&joined).unwrap_or(joined);
    // `INBOX` is understood in any case, as a pattern too.
    match decoded.get(..5) {
        Some(first) if first.eq_ignore_ascii_case("INBOX") => {
            format!("INBOX{}", decoded.get(5..).unwrap_or_default()).chars().collect()
        }
        _ => decoded.chars().collect(),
    }
}

/// `*` is anything, `%` anything but the separator. Time is pattern times name, whatever the pattern.
fn matches(pattern: &[char], name: &Name) -> bool {
    // Which prefixes of the pattern match what was seen of the name.
    let mut states = vec![false; pattern.len() + 1];
    let skip = |states: &mut Vec<bool>| {
        for (at, c) in pattern.iter().enumerate() {
            if states.get(at) == Some(&true)
                && matches!(c, '*' | '%')
                && let Some(next) = states.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    if let Some(start) = states.first_mut() {
        *start = true;
    }
    skip(&mut states);
    for c in name.as_str().chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate().filter(|(at, _)| states.get(*at) == Some(&true)) {
            let stays = *wanted == '*' || (*wanted == '%' && c != SEPARATOR);
            let target = if stays {
                at
            } else if *wanted == c {
                at + 1
            } else {
                continue;
            };
            if let Some(slot) = next.get_mut(target) {
                *slot = true;
            }
        }
        skip(&mut next);
        states = next;
    }
    states.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_across_and_within_levels() {
        for (text, name, want) in [
            ("*", "a.b.c", true),
            ("%", "a", true),
            ("%", "a.b", false),
            ("a.%", "a.b", true),
            ("a.%", "a.b.c", false),
            ("a.*", "a.b.c", true),
            ("%.c", "a.b.c", false),
            ("*c", "a.b.c", true),
            ("inbox", "INBOX", true),
            ("InBoX*", "INBOX.x", true),
            ("Entw&APw-rfe", "Entwürfe", true),
            ("b", "B", false),
            ("", "a", false),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(matches(&pattern("", text), &name), want, "{text} {name}");
        }
        assert!(matches(&pattern("a.", "%"), &Name::parse("a.b").unwrap()));
    }

    #[test]
    fn a_pattern_of_many_wildcards_takes_no_time() {
        let name = Name::parse(&"a".repeat(200)).unwrap();
        assert!(!matches(&pattern("", &format!("{}b", "*a%".repeat(500))), &name));
    }
}
