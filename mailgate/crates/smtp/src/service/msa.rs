//! Mail of our own people: completed, cleaned and signed (RFC 6409 §8, RFC 6376).

use std::ops::Range;

use bytes::Bytes;
use mail_parser::{HeaderName, MessageParser};
use mailgate_model::{Address, Domain, Envelope, Recipient, Reply, Service};

use super::{Draft, Prepared};
use crate::Submitted;
use crate::fields::{self, Fields};
use crate::session::Session;
use crate::transaction::Transaction;
use crate::{Error, reply};

/// Room for signature fields in front of the content, so that they are put in without a second copy.
const SPARE: usize = 8 * 1024;

impl Session {
    /// The content with what was missing, without what must not go on, signed; or why it is rejected.
    pub(super) async fn submit(
        &mut self,
        transaction: &Transaction,
        content: Bytes,
    ) -> Result<Prepared, Reply> {
        let parts = &self.server.parts;
        let Some(identity) = &self.client.identity else { return Err(reply::SAY_AUTH) };
        let author = self.authors(identity, &content).await?;
        let mut draft = self.draft(transaction, content);
        draft.removed = without_bcc(&draft);
        let added = missing(&draft, &parts.hostname, &parts.clock.now().rfc5322());
        let mut whole = draft.assemble(&added, SPARE + draft.trace.len());
        let signature = match parts.signer.sign(&author, &whole).await {
            Ok(signature) => signature.unwrap_or_default(),
            Err(error) => return Err(self.failed("sign", &Error::Signing(error))),
        };
        // Neither signed nor in the signature's way: trace first, then the signature.
        let front = format!("{}{signature}", draft.trace);
        whole.splice(0..0, front.bytes());
        Ok(Prepared { id: draft.id, content: whole })
    }

    /// What is to be learned of a message of our own people: whom they write to. `None` for mail of others.
    pub(super) async fn submitted(&self, envelope: &Envelope, content: &[u8]) -> Option<Submitted> {
        let by = self.client.identity.clone().filter(|_| self.service == Service::Msa)?;
        let mut recipients = Vec::new();
        for Recipient { address, .. } in &envelope.recipients {
            let Some(domain) = address.domain() else { continue };
            // Where nobody can say whose it is, nothing is learned.
            if matches!(self.server.parts.accounts.is_local(domain).await, Ok(false)) {
                recipients.push(address.clone());
            }
        }
        let field = Fields::of(fields::section(content)).find(|field| field.is("Message-ID"));
        let message_id = field.map(|field| String::from_utf8_lossy(field.value).trim().to_owned());
        Some(Submitted { by, recipients, message_id })
    }

    /// The domain of the author, after every author was found to be one the account may send as (RFC 6409 §6.1).
    async fn authors(&self, identity: &Address, content: &[u8]) -> Result<Domain, Reply> {
        let authors = authors_of(content).ok_or_else(|| self.refuse("no-author", reply::NO_AUTHOR))?;
        for author in &authors {
            match self.server.parts.accounts.may_send_as(identity, author).await {
                Ok(true) => {}
                Ok(false) => {
                    let refusal = reply::about(reply::NOT_YOUR_ADDRESS, author);
                    return Err(self.refuse("not-your-address", refusal));
                }
                Err(error) => return Err(self.failed("author", &error.into())),
            }
        }
        let domain = authors.first().and_then(|author| author.domain()).cloned();
        domain.ok_or_else(|| self.refuse("no-author", reply::NO_AUTHOR))
    }
}

/// The addresses of `From`; `None` unless there is exactly one such field and every address in it can be read. Two
/// fields would let a reader see another author than the one that was checked.
fn authors_of(content: &[u8]) -> Option<Vec<Address>> {
    let section = fields::section(content);
    let mut found = Fields::of(section).filter(|field| field.is("From"));
    let field = found.next()?;
    if found.next().is_some() {
        return None;
    }
    // The parser sees this one field and nothing that could nest.
    let mut alone = section.get(field.place.clone())?.to_vec();
    alone.extend_from_slice(b"\r\n");
    let parser = MessageParser::new().header_address(HeaderName::From).default_header_ignore();
    let message = parser.parse_headers(&alone[..])?;
    let authors: Option<Vec<Address>> = message
        .from()?
        .iter()
        .map(|author| author.address().and_then(|text| Address::parse(text).ok()))
        .collect();
    authors.filter(|authors| !authors.is_empty())
}

/// `Date` and `Message-ID` when they are missing (RFC 6409 §8.1, §8.2).
fn missing(draft: &Draft, hostname: &Domain, now: &str) -> String {
    let has = |name: &str| Fields::of(&draft.content).any(|field| field.is(name));
    let mut added = String::new();
    if !has("Date") {
        added.push_str(&format!("Date: {now}\r\n"));
    }
    if !has("Message-ID") {
        added.push_str(&format!("Message-ID: <{}@{hostname}>\r\n", draft.id));
    }
    added
}

/// What the draft removes already, and `Bcc`, which no recipient may see (RFC 5322 §3.6.3).
fn without_bcc(draft: &Draft) -> Vec<Range<usize>> {
    let mut removed = draft.removed.clone();
    removed.extend(
        Fields::of(&draft.content)
            .filter(|field| field.is("Bcc") || field.is("Resent-Bcc"))
            .map(|field| field.place),
    );
    removed.sort_unstable_by_key(|place| place.start);
    removed
}

#[cfg(test)]
mod tests {
    use mailgate_model::QueueId;

    use super::*;

    fn draft(content: &'static str) -> Draft {
        Draft {
            id: QueueId::parse("0123456789ABC").unwrap(),
            content: content.into(),
            removed: Vec::new(),
            trace: String::new(),
        }
    }

    fn authors(content: &str) -> Option<Vec<String>> {
        authors_of(content.as_bytes()).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn authors_are_read_in_every_form() {
        for (field, want) in [
            ("From: a@example.org", vec!["a@example.org"]),
            ("FROM : \"B, A\" <a@example.org>", vec!["a@example.org"]),
            ("From: =?utf-8?Q?=C3=9C?=\r\n\t<a@example.org> (x@y.z)", vec!["a@example.org"]),
            ("From: a@example.org, <b@example.net>", vec!["a@example.org", "b@example.net"]),
            ("From: \"x@y.z\" <a@example.org>", vec!["a@example.org"]),
        ] {
            let want: Vec<String> = want.into_iter().map(str::to_owned).collect();
            assert_eq!(
                authors(&format!("Subject: x\r\n{field}\r\n\r\nFrom: body@x.y\r\n")),
                Some(want),
                "{field}"
            );
        }
    }

    #[test]
    fn no_author_two_fields_or_a_name_alone_are_refused() {
        for header in [
            "Subject: x\r\n",
            "From: a@example.org\r\nFrom: b@example.org\r\n",
            "From: \r\n",
            "From: Somebody\r\n",
            "From: a@example.org, nobody\r\n",
            "\r\nFrom: a@example.org\r\n",
        ] {
            assert_eq!(authors(&format!("{header}\r\nx\r\n")), None, "{header}");
        }
    }

    #[test]
    fn date_and_message_id_are_added_only_when_missing() {
        let hostname = Domain::parse("mx.example.org").unwrap();
        let both = draft("From: a@b.c\r\n\r\nDate: body\r\n");
        assert_eq!(
            missing(&both, &hostname, "now"),
            "Date: now\r\nMessage-ID: <0123456789ABC@mx.example.org>\r\n"
        );
        let neither = draft("date: x\r\nmessage-id: y\r\n\r\n");
        assert_eq!(missing(&neither, &hostname, "now"), "");
    }

    #[test]
    fn blind_copies_are_removed_with_their_folded_lines() {
        let mut draft =
            draft("From: a@b.c\r\nBCC: x@y.z,\r\n w@y.z\r\nTo: t\r\nResent-Bcc: q\r\n\r\nBcc: body\r\n");
        draft.removed = without_bcc(&draft);
        assert_eq!(draft.assemble("", 0), b"From: a@b.c\r\nTo: t\r\n\r\nBcc: body\r\n");
    }
}
