//! What people say of a message by where they put it: into Junk, or out of it again. Whoever learns from that is told
//! which message it was, by the queue id in the `Received` field that reception wrote.
//!
//! Nothing that goes wrong here is heard by the client: the message lies where it was put.

use mailgate_model::{Domain, QueueId};
use mailgate_store::Error as StoreError;
use mailgate_store::mailboxes::{Access, Name, Placed};

use super::session::Session;
use crate::config::SpecialUse;
use crate::mime;

/// Messages of one command that count. A person calls some junk; who files away thousands says nothing about each.
const CALLED_AT_ONCE: usize = 256;
/// Octets of a message that are read: only what delivery and message authentication write stands above our `Received`.
const HEAD: usize = 8 * 1024;
/// Messages that are read at once, so that one command needs no more than 128 KiB.
const BATCH: usize = 16;

/// What a person made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// It is no junk, though it lay there.
    Good,
    /// It is junk.
    Junk,
}

/// Hears what people call messages. Joined to the edge's memory in `wire.rs`; access knows no edge.
pub trait Learn: Send + Sync + 'static {
    /// A person called the message that was taken in under this id so. It may be said again and again, and of messages that
    /// nobody here took in. Must not block.
    fn called(&self, message: QueueId, called: Called);
}

/// What it means that messages of `source`, or of nowhere when the client brings them, are put into `target`. Who empties
/// Junk into Trash says nothing.
fn meaning(uses: &SpecialUse, source: Option<&Name>, target: &Name) -> Option<Called> {
    let is_in = |name: &Name, place: &str| {
        Name::parse(place).is_ok_and(|place| *name == place || name.is_below(&place))
    };
    let was_junk = source.is_some_and(|source| is_in(source, &uses.junk));
    match (was_junk, is_in(target, &uses.junk)) {
        (false, true) => Some(Called::Junk),
        (true, false) if !is_in(target, &uses.trash) => Some(Called::Good),
        _ => None,
    }
}

/// The id in the topmost `Received` field, if that is ours (RFC 5321 §4.4). Those below it were there before and say what
/// others wanted.
fn queue_id(head: &[u8], hostname: &Domain) -> Option<QueueId> {
    let received = mime::field(head, "Received")?;
    let text = String::from_utf8(mime::unfolded(received.value)).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (name, id) = words.windows(7).find_map(|seven| match seven {
        ["by", name, "(mailgate)", "with", _, "id", id] => Some((*name, *id)),
        _ => None,
    })?;
    name.eq_ignore_ascii_case(hostname.as_str()).then(|| QueueId::parse(id.trim_end_matches(';')))?
}

impl Session {
    /// Messages of `source` were put into `target`.
    pub(crate) async fn learn_from(&self, source: &Name, target: &Name, placed: &Placed) {
        let Some(called) = meaning(&self.server.parts.config.special_use, Some(source), target) else {
            return;
        };
        let uids: Vec<u32> = placed.uids.iter().map(|(_, uid)| *uid).take(CALLED_AT_ONCE).collect();
        if let Err(error) = self.tell_each(target, &uids, called).await {
            tracing::warn!(target: "access", s = %self.id, event = "imap.not-learned", mailbox = %target, %error);
        }
    }

    async fn tell_each(&self, mailbox: &Name, uids: &[u32], called: Called) -> Result<(), StoreError> {
        let Some(login) = &self.login else { return Ok(()) };
        let selected = login.maildir.select(mailbox, Access::ReadOnly).await?;
        for batch in uids.chunks(BATCH) {
            let heads = selected.heads(batch.to_vec(), HEAD).await?;
            heads.iter().for_each(|head| self.tell(head, called));
        }
        Ok(())
    }

    /// The client put a message of its own into `target`.
    pub(crate) fn learn_from_appended(&self, target: &Name, message: &[u8]) {
        if let Some(called) = meaning(&self.server.parts.config.special_use, None, target) {
            self.tell(message.get(..HEAD).unwrap_or(message), called);
        }
    }

    fn tell(&self, head: &[u8], called: Called) {
        let parts = &self.server.parts;
        if let Some(message) = queue_id(head, &parts.hostname) {
            tracing::info!(target: "access", s = %self.id, event = "imap.called", q = %message, ?called);
            parts.learn.called(message, called);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn into_junk_and_out_of_it_again_means_something_and_nothing_else_does() {
        let uses = SpecialUse { trash: "Bin".to_owned(), ..SpecialUse::default() };
        let cases = [
            ("a message is thrown into Junk", Some("INBOX"), "Junk", Some(Called::Junk)),
            ("or below it", Some("Lists"), "Junk.Old", Some(Called::Junk)),
            ("or brought there", None, "Junk", Some(Called::Junk)),
            ("it is taken out", Some("Junk"), "inbox", Some(Called::Good)),
            ("out of below it", Some("Junk.Old"), "Archive", Some(Called::Good)),
            ("it is moved about in Junk", Some("Junk"), "Junk.Old", None),
            ("Junk is emptied", Some("Junk"), "Bin", None),
            ("into something below Trash", Some("Junk"), "Bin.2026", None),
            ("elsewhere", Some("INBOX"), "Archive", None),
            ("a name that only begins so", Some("INBOX"), "Junkyard", None),
            ("brought elsewhere", None, "INBOX", None),
        ];
        let name = |text: &str| Name::parse(text).unwrap();
        for (what, source, target, want) in cases {
            assert_eq!(meaning(&uses, source.map(name).as_ref(), &name(target)), want, "{what}");
        }
        let none = SpecialUse { junk: String::new(), ..uses };
        assert_eq!(meaning(&none, Some(&Name::inbox()), &name("Junk")), None, "a house without Junk");
    }

    #[test]
    fn the_id_is_that_of_our_own_topmost_field() {
        let ours = "Return-Path: <a@x.org>\r\nDelivered-To: b@example.org\r\nReceived: from c ([192.0.2.1])\r\n\
                    \t(first contact: retried; no-reverse)\r\n\tby mx.example.org (mailgate) with ESMTPS\r\n\
                    \tid 0123456789ABC\r\n\tfor <b@example.org>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n";
        let hostname = Domain::parse("MX.example.org").unwrap();
        let of = |head: &str| queue_id(head.as_bytes(), &hostname).map(|id| id.to_string());
        let wanted = Some("0123456789ABC".to_owned());
        assert_eq!(of(ours), wanted);
        assert_eq!(of(&ours.replace("\r\n\tfor <b@example.org>", "")), wanted, "several recipients");
        assert_eq!(of(&ours.replace("mx.example.org", "mx.example.net")), None, "another host");
        assert_eq!(of(&ours.replace("(mailgate)", "(Postfix)")), None, "another program");
        assert_eq!(of(&ours.replace("0123456789ABC", "x")), None, "no id of ours");
        let theirs = "Received: from d by e with SMTP id 1; Thu, 1 Jan 1970 00:00:00 +0000\r\n";
        assert_eq!(of(&format!("{theirs}{ours}")), None, "one below another");
        assert_eq!(of(&format!("Subject: x\r\n\r\n{ours}")), None, "in the body");
        assert_eq!(of(&ours[..ours.find("\tid").unwrap()]), None, "cut short");
        assert_eq!(of("Received:"), None);
    }
}
