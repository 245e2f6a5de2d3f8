//! Messages come into a mailbox: appended, copied, moved.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use mailgate_model::Timestamp;

use super::account::Maildir;
use super::flags::Flags;
use super::folder::{Access, Folder};
use super::index::{Place, Record};
use super::keywords::Keywords;
use super::name::Name;
use super::selected::{FlagChange, Placed, letters};
use super::state::State;
use super::{content, filename};
use crate::Error;

impl Maildir {
    /// Adds a message: durable when it returns. `content` with CRLF line ends.
    ///
    /// # Errors
    /// [`Error::Missing`] when the mailbox does not exist.
    pub async fn append(
        &self,
        name: &Name,
        flags: Flags,
        keywords: Vec<String>,
        internal_date: Option<Timestamp>,
        content: Bytes,
    ) -> Result<Placed, Error> {
        let selected = self.select(name, Access::ReadOnly).await?;
        selected
            .run(move |folder| {
                let mut state = folder.lock()?;
                let flags =
                    (flags & Flags::SETTABLE) | letters(folder, &mut state, &keywords, FlagChange::Replace)?;
                drop(state);
                append(folder, flags, internal_date, &content)
            })
            .await
    }
}

fn append(
    folder: &Arc<Folder>,
    flags: Flags,
    internal_date: Option<Timestamp>,
    content: &Bytes,
) -> Result<Placed, Error> {
    let mailboxes = &folder.shared.mailboxes;
    let unique = filename::fresh(mailboxes.now(), mailboxes.hostname());
    let stored = content::to_stored(content);
    let base = filename::with_sizes(&unique, stored.bytes.len() as u64, stored.wire_size);
    let temporary = folder.dir.join("tmp").join(&unique);
    content::write_durably(&temporary, &stored.bytes)?;
    let date = internal_date.unwrap_or_else(|| mailboxes.now());
    let since = Duration::from_millis(u64::try_from(date.millis()).unwrap_or(0));
    let cur = folder.dir.join(Place::Cur.dir());
    let placed = File::options()
        .write(true)
        .open(&temporary)
        .and_then(|file| file.set_modified(UNIX_EPOCH + since).and_then(|()| file.sync_all()))
        .map_err(|error| Error::io("dating", &temporary, &error));
    let result = placed.and_then(|()| {
        let mut state = folder.synced(Access::ReadOnly)?;
        folder.changing(&mut state, |folder, state| {
            // The name is fresh, so nothing can be replaced.
            fs::rename(&temporary, cur.join(filename::join(&base, flags)))
                .map_err(|error| Error::io("moving from", &temporary, &error))?;
            content::sync_folder(&cur)?;
            let uids = folder.add(state, vec![(base.into(), flags)])?;
            let uids = uids.into_iter().map(|uid| (0, uid)).collect();
            Ok(Placed { uid_validity: state.header.validity, uids })
        })
    });
    if result.is_err() {
        // Gone already when the failure came after the rename; then the message is in and found by the next scan.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Flags as the target mailbox spells them: keywords go by name.
fn translate(source: &Keywords, flags: Flags, target: &Folder, state: &mut State) -> Result<Flags, Error> {
    let names: Vec<String> = flags.keywords().map(|index| source.name(index)).collect();
    let plain = flags - (0..super::KEYWORD_LIMIT).fold(Flags::NONE, |all, index| all | Flags::keyword(index));
    match letters(target, state, &names, FlagChange::Add) {
        Ok(letters) => Ok(plain | letters),
        // A keyword too many in the target is no reason to refuse the message.
        Err(Error::Full(_)) => Ok(plain),
        Err(error) => Err(error),
    }
}

/// What is needed to place messages elsewhere, taken under the source's lock: UID, base, flags, names of keywords.
fn pick(folder: &Folder, uids: &[u32]) -> Result<(Vec<Record>, Keywords), Error> {
    let state = folder.lock()?;
    let records = uids.iter().filter_map(|uid| state.record(*uid).cloned()).collect();
    Ok((records, state.keywords.clone()))
}

fn target_of(folder: &Arc<Folder>, name: &Name) -> Result<Arc<Folder>, Error> {
    let target = folder.shared.folder(name);
    drop(target.synced(Access::ReadOnly)?);
    Ok(target)
}

pub(super) fn copy(folder: &Arc<Folder>, uids: Vec<u32>, name: &Name) -> Result<Placed, Error> {
    let target = target_of(folder, name)?;
    let (records, names) = pick(folder, &uids)?;
    let mailboxes = &folder.shared.mailboxes;
    let tmp = target.dir.join("tmp");
    let cur = target.dir.join(Place::Cur.dir());
    // First all links into `tmp`, under the source's lock one by one; then all names in the target at once.
    let mut linked: Vec<(u32, String, Flags)> = Vec::new();
    let result = records.iter().try_for_each(|record| {
        let unique = filename::fresh(mailboxes.now(), mailboxes.hostname());
        let base = match record.base.split_once(',') {
            Some((_, sizes)) => format!("{unique},{sizes}"),
            None => unique,
        };
        let link = |path: &std::path::Path| fs::hard_link(path, tmp.join(&base));
        let mut state = folder.lock()?;
        if folder.with_file(&mut state, record.uid, link)?.is_some() {
            linked.push((record.uid, base, record.flags));
        }
        Ok(())
    });
    let result = result.and_then(|()| {
        let mut state = target.synced(Access::ReadOnly)?;
        target.changing(&mut state, |target, state| {
            let mut files = Vec::with_capacity(linked.len());
            for (_, base, flags) in &linked {
                let flags = translate(&names, *flags, target, state)?;
                let path = cur.join(filename::join(base, flags));
                fs::rename(tmp.join(base), &path).map_err(|error| Error::io("copying to", &path, &error))?;
                files.push((base.as_str().into(), flags));
            }
            content::sync_folder(&cur)?;
            let uids = target.add(state, files)?;
            let uids = linked.iter().map(|(uid, ..)| *uid).zip(uids).collect();
            Ok(Placed { uid_validity: state.header.validity, uids })
        })
    });
    if result.is_err() {
        for (_, base, _) in &linked {
            // None may stay when not all could be copied.
            let _ = fs::remove_file(tmp.join(base));
        }
    }
    result
}

pub(super) fn relocate(folder: &Arc<Folder>, mut uids: Vec<u32>, name: &Name) -> Result<Placed, Error> {
    let target = target_of(folder, name)?;
    if Arc::ptr_eq(&target, folder) {
        return Err(Error::Conflict("messages cannot be moved to where they are".to_owned()));
    }
    let mut placed = Placed::default();
    // A file that another program renamed meanwhile is found by the next look at the source. The two locks are never
    // held together: two sessions may move in opposite directions.
    for _ in 0..3 {
        let (records, names) = pick(folder, &uids)?;
        if records.is_empty() && placed.uid_validity > 0 {
            break;
        }
        let (moved, failure) = move_into(folder, &records, &names, &target, &mut placed)?;
        let mut state = folder.lock()?;
        folder.changing(&mut state, |folder, state| {
            state.remove(&moved.iter().copied().collect());
            content::sync_folder(&folder.dir.join(Place::New.dir()))?;
            content::sync_folder(&folder.dir.join(Place::Cur.dir()))
        })?;
        failure?;
        uids.retain(|uid| !moved.contains(uid));
        if uids.is_empty() {
            break;
        }
        folder.poke();
        folder.sync(&mut state, Access::ReadOnly)?;
    }
    Ok(placed)
}

/// Under the target's lock: renames files into it and gives them UIDs. Returns what was moved, and why not more.
fn move_into(
    folder: &Folder,
    records: &[Record],
    names: &Keywords,
    target: &Folder,
    placed: &mut Placed,
) -> Result<(BTreeSet<u32>, Result<(), Error>), Error> {
    let mut state = target.synced(Access::ReadOnly)?;
    target.changing(&mut state, |target, state| {
        let mut files = Vec::with_capacity(records.len());
        let mut moved = Vec::with_capacity(records.len());
        let mut failure = Ok(());
        for record in records {
            match move_one(folder, record, names, target, state) {
                Ok(Some(file)) => {
                    files.push(file);
                    moved.push(record.uid);
                }
                Ok(None) => {}
                Err(error) => {
                    failure = Err(error);
                    break;
                }
            }
        }
        content::sync_folder(&target.dir.join(Place::Cur.dir()))?;
        let uids = target.add(state, files)?;
        placed.uid_validity = state.header.validity;
        placed.uids.extend(moved.iter().copied().zip(uids));
        Ok((moved.into_iter().collect(), failure))
    })
}

/// Moves one file; `None` when it is not where it was. The base stays, so that a delivery that is tried again still
/// finds it.
fn move_one(
    folder: &Folder,
    record: &Record,
    names: &Keywords,
    target: &Folder,
    state: &mut State,
) -> Result<Option<(Box<str>, Flags)>, Error> {
    let flags = translate(names, record.flags, target, state)?;
    let mut base = record.base.clone();
    if state.by_base.contains_key(&base) {
        let mailboxes = &folder.shared.mailboxes;
        let sizes = base.split_once(',').map_or(String::new(), |(_, sizes)| format!(",{sizes}"));
        base = format!("{}{sizes}", filename::fresh(mailboxes.now(), mailboxes.hostname())).into();
    }
    let path = target.dir.join(Place::Cur.dir()).join(filename::join(&base, flags));
    let source = folder.path(record);
    match fs::rename(&source, &path) {
        Ok(()) => Ok(Some((base, flags))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("moving", &source, &error)),
    }
}
