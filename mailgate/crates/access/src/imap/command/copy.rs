//! COPY (RFC 3501 §6.4.7) and MOVE (RFC 6851), with COPYUID (RFC 4315 §3).

use mailgate_proto::imap::{Numbering, SequenceSet};
use mailgate_store::Error as StoreError;
use mailgate_store::mailboxes::Placed;

use super::super::reply::Reply;
use super::super::session::{Fault, Session, name};

impl Session {
    pub(crate) async fn copy(
        &mut self,
        by: Numbering,
        set: &SequenceSet,
        target: &str,
    ) -> Result<Reply, Fault> {
        let view = self.opened()?;
        let uids = view.uids(&view.find(by, set)?);
        let target = name(target)?;
        match view.selected.copy_to(uids, &target).await {
            Ok(placed) => {
                self.learn_from(view.selected.name(), &target, &placed).await;
                Ok(match copy_uid(&placed) {
                    Some(code) => Reply::ok("Copied").code(code),
                    None => Reply::ok("Nothing to copy"),
                })
            }
            Err(StoreError::Missing(_)) => Ok(Reply::try_create()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn relocate(
        &mut self,
        by: Numbering,
        set: &SequenceSet,
        target: &str,
    ) -> Result<Reply, Fault> {
        let view = self.writable()?;
        let uids = view.uids(&view.find(by, set)?);
        let target = name(target)?;
        match view.selected.move_to(uids, &target).await {
            Ok(placed) => {
                let count = placed.uids.len();
                tracing::info!(target: "access", s = %self.id, event = "imap.move", mailbox = %target, count);
                self.learn_from(view.selected.name(), &target, &placed).await;
                // RFC 6851 §4.3: before the EXPUNGE responses, which the news bring.
                if let Some(code) = copy_uid(&placed) {
                    self.connection.untagged(&format!("OK [{code}] Moved"));
                }
                Ok(Reply::ok("Done"))
            }
            Err(StoreError::Missing(_)) => Ok(Reply::try_create()),
            Err(error) => Err(error.into()),
        }
    }
}

/// `COPYUID validity sources targets`, both sets in the same order.
fn copy_uid(placed: &Placed) -> Option<String> {
    if placed.uids.is_empty() {
        return None;
    }
    let mut pairs = placed.uids.clone();
    pairs.sort_unstable();
    let sources = in_order(pairs.iter().map(|(source, _)| *source));
    let targets = in_order(pairs.iter().map(|(_, target)| *target));
    Some(format!("COPYUID {} {sources} {targets}", placed.uid_validity))
}

/// A set that keeps the order: only runs that rise by one are joined.
fn in_order(uids: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match runs.last_mut() {
            Some(run) if run.1.checked_add(1) == Some(uid) => run.1 = uid,
            _ => runs.push((uid, uid)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}:{last}") })
        .collect();
    runs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyuid_names_sources_and_targets_in_the_same_order() {
        let placed = Placed { uid_validity: 7, uids: vec![(3, 11), (1, 9), (2, 10), (9, 4)] };
        assert_eq!(copy_uid(&placed).unwrap(), "COPYUID 7 1:3,9 9:11,4");
        assert_eq!(copy_uid(&Placed::default()), None);
    }
}
