//! The DSN: what the reverse-path is told (RFC 3464, RFC 3461 §6, RFC 6533).
//!
//! Everything that comes from strangers (addresses, ENVID, ORCPT, replies of remote hosts) is cleaned on its way into
//! a field, so that none can end a line. Where an alias leads to is not told: such a recipient appears as it was
//! addressed.

mod field;
mod text;

use std::fmt::Write as _;

use bytes::Bytes;
use mailgate_model::{
    Address, Domain, DsnNotify, DsnReturn, Envelope, ForwardPath, Outcome, QueueId, Recipient, ReversePath,
    Status, Timestamp,
};
use mailgate_proto::smtp::xtext;
use mailgate_store::spool::Report;

use self::field::clean;
use crate::work::{Notice, Settled};

/// A message larger than this is returned as its header section even if RET=FULL (RFC 3461 §4.3 leaves that to us): a DSN
/// should not fill the mailbox it goes to.
const FULL_LIMIT: usize = 1024 * 1024;
/// At most this much of a header section is returned, cut at a line.
const HEADER_LIMIT: usize = 64 * 1024;

/// What a DSN is about.
pub(crate) struct Subject<'a> {
    pub(crate) hostname: &'a Domain,
    pub(crate) original: QueueId,
    pub(crate) now: Timestamp,
    pub(crate) arrived: Timestamp,
    pub(crate) expiry: Timestamp,
    pub(crate) envelope: &'a Envelope,
    pub(crate) content: &'a Bytes,
}

impl Notice {
    /// The word of the Action field (RFC 3464 §2.3.3).
    fn action(self) -> &'static str {
        match self {
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
        }
    }
}

/// Writes the DSN `id` to `reverse_path`, with one notice for all of `concerned`.
pub(crate) fn write(
    id: QueueId,
    reverse_path: &Address,
    notice: Notice,
    subject: &Subject<'_>,
    concerned: &[&Settled],
) -> Report {
    let human = text::explanation(notice, subject, concerned);
    let machine = delivery_status(notice, subject, concerned);
    let (kind, returned) = returned(notice, subject);
    let utf8 = !machine.is_ascii() || reverse_path.needs_smtputf8() || !header_section(returned).is_ascii();
    // RFC 6533 §4 and §3: the types that may hold UTF-8.
    let (status_type, returned_type) = match (utf8, kind) {
        (false, Returned::Full) => ("message/delivery-status", "message/rfc822"),
        (false, Returned::Headers) => ("message/delivery-status", "text/rfc822-headers"),
        (true, Returned::Full) => ("message/global-delivery-status", "message/global"),
        (true, Returned::Headers) => ("message/global-delivery-status", "message/global-headers"),
    };
    let eight_bit = !returned.is_ascii() || !machine.is_ascii() || !human.is_ascii();
    let encoding = |part_is_ascii: bool| if part_is_ascii { "7bit" } else { "8bit" };
    let boundary = boundary(id, returned);
    let host = subject.hostname;

    let mut head = String::new();
    // Writing into a String cannot fail.
    let _ = write!(
        head,
        "From: Mail Delivery Subsystem <MAILER-DAEMON@{host}>\r\n\
         To: <{reverse_path}>\r\n\
         Subject: {}\r\n\
         Date: {}\r\n\
         Message-ID: <{id}.dsn@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type={};\r\n boundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {}\r\n\
         \r\n\
         This is a delivery status notification in MIME format.\r\n",
        text::title(notice),
        subject.now.rfc5322(),
        if utf8 { "global-delivery-status" } else { "delivery-status" },
        encoding(!eight_bit),
    );
    let _ = write!(
        head,
        "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Description: Notification\r\nContent-Transfer-Encoding: {}\r\n\r\n{human}",
        encoding(human.is_ascii())
    );
    let _ = write!(
        head,
        "\r\n--{boundary}\r\nContent-Type: {status_type}\r\nContent-Description: Delivery report\r\n\
         Content-Transfer-Encoding: {}\r\n\r\n{machine}",
        encoding(machine.is_ascii())
    );
    let _ = write!(
        head,
        "\r\n--{boundary}\r\nContent-Type: {returned_type}\r\nContent-Description: Undelivered message\r\n\
         Content-Transfer-Encoding: {}\r\n\r\n",
        encoding(returned.is_ascii())
    );
    let mut content = head.into_bytes();
    content.extend_from_slice(returned);
    content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    // RFC 3461 §5.2.9 and RFC 5321 §4.5.5: null reverse-path, and nobody is told of its fate.
    let never = DsnNotify { success: false, failure: false, delay: false };
    let recipient = Recipient { notify: never, ..Recipient::plain(reverse_path.clone()) };
    let envelope = Envelope {
        reverse_path: ReversePath::Null,
        recipients: vec![recipient],
        envid: None,
        ret: None,
        smtputf8: utf8,
        eight_bit,
    };
    Report { id, envelope, content: content.into() }
}

/// The machine-readable part (RFC 3464 §2).
fn delivery_status(notice: Notice, subject: &Subject<'_>, concerned: &[&Settled]) -> String {
    let mut status = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = write!(status, "{name}: {value}\r\n");
    };
    if let Some(envid) = subject.envelope.envid.as_deref().and_then(xtext::decode) {
        field("Original-Envelope-Id", &clean(&envid));
    }
    field("Reporting-MTA", &format!("dns; {}", subject.hostname));
    field("X-Mailgate-Queue-Id", &subject.original.to_string());
    field("Arrival-Date", &subject.arrived.rfc5322());
    for settled in concerned {
        let (code, remote, detail) = facts(notice, &settled.outcome);
        status.push_str("\r\n");
        let mut field = |name: &str, value: &str| {
            let _ = write!(status, "{name}: {value}\r\n");
        };
        field("Final-Recipient", &typed(&addressed(settled, subject.hostname)));
        // RFC 3464 §2.3.1 wants it only when the sender gave it.
        if let Some(orcpt) = settled.row.recipient.orcpt.as_deref().and_then(original_recipient) {
            field("Original-Recipient", &orcpt);
        }
        field("Action", notice.action());
        field("Status", &code.to_string());
        if let Some(remote) = remote {
            let name = remote.split(['[', ' ', ':']).next().unwrap_or_default();
            field("Remote-MTA", &format!("dns; {}", clean(name)));
        }
        if !detail.is_empty() {
            let kind = if remote.is_some() && begins_with_code(detail) { "smtp" } else { "x-mailgate" };
            field("Diagnostic-Code", &format!("{kind}; {}", clean(detail)));
        }
        field("Last-Attempt-Date", &subject.now.rfc5322());
        if notice == Notice::Delayed {
            field("Will-Retry-Until", &subject.expiry.rfc5322());
        }
    }
    status
}

/// Status, remote host and explanation of an outcome.
fn facts(notice: Notice, outcome: &Outcome) -> (Status, Option<&str>, &str) {
    match outcome {
        Outcome::Deferred { status, remote, detail } | Outcome::Failed { status, remote, detail } => {
            (*status, remote.as_deref(), detail)
        }
        Outcome::Delivered => (Status::new(2, 0, 0), None, ""),
        Outcome::Relayed { remote, detail } => {
            debug_assert!(notice == Notice::Relayed);
            (Status::new(2, 0, 0), Some(remote), detail)
        }
    }
}

fn begins_with_code(detail: &str) -> bool {
    detail.bytes().take_while(u8::is_ascii_digit).count() == 3
}

/// The recipient as the sender wrote it.
fn addressed(settled: &Settled, hostname: &Domain) -> String {
    match &settled.row.recipient.original {
        ForwardPath::Address(address) => address.to_string(),
        ForwardPath::Postmaster => format!("postmaster@{hostname}"),
    }
}

/// `rfc822; a@b`, or `utf-8; ü@b` (RFC 6533 §3).
fn typed(address: &str) -> String {
    let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
    format!("{kind}; {}", clean(address))
}

/// ORCPT as a field: the type as it came, the address decoded (RFC 3461 §6.3 (c)).
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    let kind_is_atom = !kind.is_empty()
        && kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    kind_is_atom.then_some(())?;
    // `utf-8` addresses use an encoding of their own (RFC 6533 §3), which is ASCII and goes on as it came.
    let address =
        if kind.eq_ignore_ascii_case("utf-8") { address.to_owned() } else { xtext::decode(address)? };
    Some(format!("{kind}; {}", clean(&address)))
}

/// How much of the message goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returned {
    Full,
    Headers,
}

/// RFC 3461 §4.3: RET speaks of failures only; everything else returns the header section.
fn returned<'a>(notice: Notice, subject: &Subject<'a>) -> (Returned, &'a [u8]) {
    let full = notice == Notice::Failed
        && subject.envelope.ret == Some(DsnReturn::Full)
        && subject.content.len() <= FULL_LIMIT;
    if full {
        (Returned::Full, subject.content)
    } else {
        (Returned::Headers, header_section(subject.content))
    }
}

/// The header section with its last CRLF, without the empty line.
fn header_section(content: &[u8]) -> &[u8] {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n").map_or(content.len(), |at| at + 2);
    let header = content.get(..end).unwrap_or(content);
    let Some(cut) = header.get(..HEADER_LIMIT) else { return header };
    let line = cut.windows(2).rposition(|two| two == b"\r\n").map_or(0, |at| at + 2);
    cut.get(..line).unwrap_or_default()
}

/// A boundary that the returned message does not contain; a hostile one could guess the first try at most.
fn boundary(id: QueueId, returned: &[u8]) -> String {
    let mut number = 0_u64;
    loop {
        let boundary = format!("=_{id}.{number}");
        if !returned.windows(boundary.len()).any(|window| window == boundary.as_bytes()) {
            return boundary;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests;
