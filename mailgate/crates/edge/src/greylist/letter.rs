//! What tells one message from another, read from its first octets: so that a retry of it is known whatever address of a
//! pool it comes from, and an answer to a message of ours is known before its sender is.

use aws_lc_rs::digest::{Context, SHA256};
use mailgate_proto::smtp::{Content, ContentLimits, DataDecoder};
use mailgate_store::greylist::{Identity, MESSAGE_DIGEST, Tuple};

use super::tuple::{normalised_recipient, normalised_sender};

/// Octets on the wire after which a message is judged; what follows is not kept. More than the header that mail servers
/// take (Postfix: 100 KB for what people never reach), and [`BODY`].
pub(super) const HEAD: usize = 96 * 1024;
/// Octets of the body that tell one message from another. Counted from the end of the header, because the header grows
/// by another trace field on another way.
const BODY: usize = 32 * 1024;
/// Messages that one message may refer to; a thread names its last dozen.
const REFERENCES: usize = 32;
/// Octets of a Message-ID; a line has no more (RFC 5322 §2.1.1).
const ID_LIMIT: usize = 998;

/// What the first octets of a message tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Letter {
    /// Its Message-ID without angle brackets; empty when there is none.
    pub(super) message_id: String,
    /// Message-IDs of those that it answers (RFC 5322 §3.6.4), or whose failure it reports.
    pub(super) refers_to: Vec<String>,
    /// SHA-256 of its body, spaces and empty lines at the end left out of account; `None` for no body and for what is no
    /// text.
    body: Option<[u8; 32]>,
}

impl Letter {
    /// Of a message as it came after DATA, whole or cut off. `is_notice` where the reverse-path is null: such a message
    /// holds the header of the one that it is about.
    pub(super) fn of(wire: &[u8], is_notice: bool) -> Self {
        let Some(text) = decoded(wire) else { return Self::default() };
        let (header, body) = split(&text);
        let mut letter = Self { body: body.and_then(digest_of_body), ..Self::default() };
        for field in fields(header) {
            let Some((name, value)) = field.split_once(':') else { continue };
            match name.trim_end().to_ascii_lowercase().as_str() {
                "message-id" if letter.message_id.is_empty() => letter.message_id = one_id(value),
                "in-reply-to" | "references" => letter.refer(value),
                _ => {}
            }
        }
        if is_notice {
            for field in fields(body.unwrap_or_default()) {
                let Some((name, value)) = field.split_once(':') else { continue };
                if name.eq_ignore_ascii_case("message-id") {
                    letter.refer(value);
                }
            }
        }
        letter
    }

    /// The tuple under which this message is remembered for one recipient; `None` where nothing tells it from others. The
    /// digest has sender and recipient in it, so that the same text to another recipient cannot be found by it.
    pub(super) fn tuple(&self, reverse_path: &str, forward_path: &str) -> Option<Tuple> {
        if self.message_id.is_empty() && self.body.is_none() {
            return None;
        }
        let (reverse_path, forward_path) =
            (normalised_sender(reverse_path), normalised_recipient(forward_path));
        let mut context = Context::new(&SHA256);
        for part in ["mailgate message 1", &reverse_path, &forward_path, &self.message_id] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        context.update(self.body.as_ref().map_or(&[], |body| body));
        let mut digest = [0; MESSAGE_DIGEST];
        digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Some(Tuple { client: Identity::Message(digest), reverse_path, forward_path })
    }

    fn refer(&mut self, value: &str) {
        let room = REFERENCES.saturating_sub(self.refers_to.len());
        let ids = value.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(id, _)| id);
        self.refers_to
            .extend(ids.filter(|id| !id.is_empty() && id.len() <= ID_LIMIT).take(room).map(str::to_owned));
    }
}

/// The text without dot-stuffing; `None` when it is no text (a bare CR or LF, NUL), which reception refuses anyway.
fn decoded(wire: &[u8]) -> Option<bytes::Bytes> {
    // Cut at the end of a line: a CR without its LF would look bare.
    let end = wire.windows(2).rposition(|two| two == b"\r\n").map_or(0, |at| at + 2);
    let mut content = Content::new(ContentLimits { size: usize::MAX, line: usize::MAX });
    DataDecoder::new().push(wire.get(..end)?, &mut content);
    content.finish().ok()
}

/// Header and body; no body without an empty line.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some(body) = text.strip_prefix(b"\r\n") {
        return (&[], Some(body));
    }
    match text.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) => (text.get(..at + 2).unwrap_or_default(), text.get(at + 4..)),
        None => (text, None),
    }
}

/// The fields of a header, unfolded (RFC 5322 §2.2.3).
fn fields(header: &[u8]) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in header.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        match fields.last_mut() {
            Some(field) if line.starts_with([' ', '\t']) => field.push_str(&line),
            _ if line.is_empty() => {}
            _ => fields.push(line.into_owned()),
        }
    }
    fields
}

fn one_id(value: &str) -> String {
    let id = value.trim().trim_start_matches('<').trim_end_matches('>');
    if id.len() <= ID_LIMIT { id.to_owned() } else { String::new() }
}

/// Spaces and tabs in a row count as one space, none at the end of a line, and no empty lines at the end: what relays
/// change on the way (as the relaxed form of RFC 6376 §3.4.4).
fn digest_of_body(body: &[u8]) -> Option<[u8; 32]> {
    let body = body.get(..BODY).unwrap_or(body);
    let mut context = Context::new(&SHA256);
    let (mut empty_lines, mut has_text) = (0_usize, false);
    for line in body.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            empty_lines += 1;
            continue;
        }
        (0..std::mem::take(&mut empty_lines)).for_each(|_| context.update(b"\n"));
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            context.update(b" ");
        }
        context.update(&words.join(&b' '));
        context.update(b"\n");
        has_text = true;
    }
    let digest = context.finish();
    has_text.then(|| digest.as_ref().try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Received: by one\r\nMessage-ID: <1@x.org>\r\nSubject: x\r\n\r\n";

    fn client(wire: &str, from: &str, to: &str) -> Option<String> {
        Letter::of(wire.as_bytes(), false).tuple(from, to).map(|tuple| tuple.client.to_string())
    }

    #[test]
    fn the_same_message_by_another_way_is_the_same() {
        let first = client(&format!("{HEADER}Hello,  you\r\n\tthere \r\n\r\n.\r\n"), "a@x.org", "b@y.org");
        assert!(first.is_some());
        let other_way =
            format!("Received: by two\r\nReceived: by one\r\n{}", HEADER.replace("by one", "by other"));
        for (body, from) in [
            ("Hello, you\r\n there\r\n.\r\n", "a@x.org"),
            ("Hello, you\r\n there\r\n\r\n\r\n", "A+tag@X.org"),
        ] {
            assert_eq!(client(&format!("{other_way}{body}"), from, "B@Y.org"), first, "{body:?}");
        }
    }

    #[test]
    fn another_message_sender_recipient_or_text_is_another() {
        let message = |id: &str, body: &str| format!("Message-ID: <{id}>\r\n\r\n{body}\r\n.\r\n");
        let mut all = vec![
            client(&message("1@x", "text"), "a@x.org", "b@y.org"),
            client(&message("2@x", "text"), "a@x.org", "b@y.org"),
            client(&message("1@x", "other"), "a@x.org", "b@y.org"),
            client(&message("1@x", "\r\ntext"), "a@x.org", "b@y.org"),
            client(&message("1@x", "text"), "c@x.org", "b@y.org"),
            client(&message("1@x", "text"), "a@x.org", "c@y.org"),
        ];
        assert!(all.iter().all(Option::is_some));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn what_cannot_be_told_from_others_is_not_remembered() {
        for wire in
            ["", ".\r\n", "Subject: x\r\n\r\n \r\n\r\n.\r\n", "Subject: x\r\n.\r\n", "a\nb\r\n\r\nx\r\n.\r\n"]
        {
            assert_eq!(client(wire, "a@x.org", "b@y.org"), None, "{wire:?}");
        }
        assert!(client("\r\nonly a body\r\n.\r\n", "a@x.org", "b@y.org").is_some());
        assert!(client("Message-ID: <1@x>\r\n.\r\n", "a@x.org", "b@y.org").is_some());
    }

    #[test]
    fn a_long_message_is_known_by_its_beginning_however_it_was_cut() {
        let long = format!("{HEADER}{}", "0123456789 abcdefghijklmnopqrstuvwxyz\r\n".repeat(3000));
        let whole = client(&long, "a@x.org", "b@y.org");
        for cut in [HEAD, HEAD + 1, HEAD + 38, HEAD + 777] {
            assert_eq!(client(&long[..cut], "a@x.org", "b@y.org"), whole, "{cut}");
        }
    }

    #[test]
    fn references_are_read_from_the_header_and_of_notices_from_the_body() {
        let wire =
            "In-Reply-To: <1@x>\r\nReferences: <0@x>\r\n\t<1@x> junk <>\r\n\r\nMessage-ID: <9@x>\r\n.\r\n";
        assert_eq!(Letter::of(wire.as_bytes(), false).refers_to, ["1@x", "0@x", "1@x"]);
        assert_eq!(Letter::of(wire.as_bytes(), true).refers_to, ["1@x", "0@x", "1@x", "9@x"]);
        let many = format!("References:{}\r\n\r\n", " <a@x>".repeat(100));
        assert_eq!(Letter::of(many.as_bytes(), false).refers_to.len(), REFERENCES);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_panic(wire in proptest::collection::vec(proptest::num::u8::ANY, 0..600), notice: bool) {
            let letter = Letter::of(&wire, notice);
            proptest::prop_assert!(letter.refers_to.len() <= REFERENCES && letter.message_id.len() <= 3 * ID_LIMIT);
            let _ = letter.tuple("a@x", "b@y");
        }
    }
}
