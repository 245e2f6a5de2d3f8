//! Where the parts of a message are: one pass over the bytes, no recursion.

use std::ops::Range;

use super::field::{self, Parameterized, parameterized};

/// Parts of one message; what follows belongs to the last one.
const PART_LIMIT: usize = 10_000;
/// Levels of multiparts and messages within messages; what is deeper is one part without structure. Every level is a
/// level of recursion where a structure is written.
const DEPTH_LIMIT: usize = 64;
/// Longest boundary (RFC 2046 §5.1.1: 70), with room for sloppy writers.
const BOUNDARY_LIMIT: usize = 256;

/// What a part is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Content.
    Leaf,
    /// A message with its own header; the number of its part.
    Message(usize),
    /// Parts; their numbers.
    Multipart(Vec<usize>),
}

/// One part; ranges are octets of the whole content.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// With the empty line that ends it.
    pub(crate) header: Range<usize>,
    pub(crate) body: Range<usize>,
    pub(crate) content_type: Parameterized,
    /// In lower case; empty when there is none.
    pub(crate) encoding: String,
    pub(crate) kind: Kind,
}

impl Part {
    /// `("text", "plain")`.
    pub(crate) fn media(&self) -> (&str, &str) {
        self.content_type.value.split_once('/').unwrap_or(("text", "plain"))
    }
}

/// A message's parts; the first is the message itself.
#[derive(Debug, Clone)]
pub(crate) struct Structure {
    pub(crate) parts: Vec<Part>,
}

/// A container whose end has not been seen.
struct Open {
    part: usize,
    /// What separates its parts; none for a message, and none after the closing delimiter.
    boundary: Option<Vec<u8>>,
    is_digest: bool,
}

struct Builder<'a> {
    content: &'a [u8],
    parts: Vec<Part>,
    open: Vec<Open>,
}

impl Structure {
    /// Reads content with CRLF line ends.
    pub(crate) fn parse(content: &[u8]) -> Self {
        let mut builder = Builder { content, parts: Vec::new(), open: Vec::new() };
        let mut at = builder.begin_part(0, false);
        while at < content.len() {
            let end = field::line_end(content, at);
            let line = content.get(at..end).unwrap_or_default();
            at = match builder.delimiter(line) {
                Some((level, closes)) => builder.delimit(level, closes, at, end),
                None => end,
            };
        }
        Self { parts: builder.parts }
    }

    pub(crate) fn root(&self) -> Option<&Part> {
        self.parts.first()
    }

    pub(crate) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }

    /// The part that IMAP numbers name (RFC 3501 §6.4.5): numbers count the parts of a multipart; what is no multipart
    /// has only part 1, itself; numbers see through a message into its body.
    pub(crate) fn find(&self, numbers: &[u32]) -> Option<usize> {
        let mut here = 0;
        for (depth, number) in numbers.iter().enumerate() {
            let mut container = here;
            // A message within a message is not counted itself; the outermost is not within one.
            if depth > 0
                && let Kind::Message(inner) = self.part(here)?.kind
            {
                container = inner;
            }
            here = match &self.part(container)?.kind {
                Kind::Multipart(children) => *children.get(usize::try_from(*number).ok()?.checked_sub(1)?)?,
                // The only part of a message without multipart is the message's own body.
                Kind::Leaf | Kind::Message(_) if *number == 1 && (depth == 0 || container != here) => {
                    container
                }
                Kind::Leaf | Kind::Message(_) => return None,
            };
        }
        Some(here)
    }
}

impl Builder<'_> {
    /// Reads the header of a new part at `at`, and of the message in it, and so on. Returns where the body begins.
    fn begin_part(&mut self, mut at: usize, in_digest: bool) -> usize {
        let mut in_digest = in_digest;
        loop {
            let index = self.parts.len();
            let header_end = self.header_end(at);
            let header = self.content.get(at..header_end).unwrap_or_default();
            let mut content_type = field::field(header, "Content-Type")
                .map(|field| parameterized(field.value))
                .unwrap_or_default();
            if content_type.value.split('/').filter(|half| !half.is_empty()).count() != 2 {
                // RFC 2045 §5.2, RFC 2046 §5.1.5.
                content_type.value = if in_digest { "message/rfc822" } else { "text/plain" }.to_owned();
            }
            let encoding = field::field(header, "Content-Transfer-Encoding")
                .map(|field| parameterized(field.value).value)
                .unwrap_or_default();
            let room = self.open.len() < DEPTH_LIMIT && self.parts.len() + 1 < PART_LIMIT;
            let opens = if room { opens(&content_type, &encoding) } else { Opens::Nothing };
            let kind = match opens {
                Opens::Message => Kind::Message(index + 1),
                Opens::Multipart(_) => Kind::Multipart(Vec::new()),
                Opens::Nothing => Kind::Leaf,
            };
            let is_digest = content_type.value == "multipart/digest";
            self.parts.push(Part {
                header: at..header_end,
                body: header_end..self.content.len(),
                content_type,
                encoding,
                kind,
            });
            match opens {
                Opens::Nothing => return header_end,
                Opens::Multipart(boundary) => {
                    self.open.push(Open { part: index, boundary: Some(boundary), is_digest });
                    return header_end;
                }
                Opens::Message => {
                    self.open.push(Open { part: index, boundary: None, is_digest: false });
                    (at, in_digest) = (header_end, false);
                }
            }
        }
    }

    /// Where the header that begins at `at` ends: after its empty line, or before a delimiter, or at the end.
    fn header_end(&self, mut at: usize) -> usize {
        while at < self.content.len() {
            let end = field::line_end(self.content, at);
            let line = self.content.get(at..end).unwrap_or_default();
            if line == b"\r\n" || line == b"\n" {
                return end;
            }
            if self.delimiter(line).is_some() {
                return at;
            }
            at = end;
        }
        at
    }

    /// Whether the line delimits parts of an open multipart, the innermost first: its level, and whether it closes.
    fn delimiter(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(level, open)| {
            let rest = text.strip_prefix(open.boundary.as_deref()?)?;
            match rest {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        })
    }

    /// A delimiter at `start..end` ends everything above its level. Returns where to go on.
    fn delimit(&mut self, level: usize, closes: bool, start: usize, end: usize) -> usize {
        if !closes && self.parts.len() >= PART_LIMIT {
            return end;
        }
        // The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
        let before = self.content.get(..start).unwrap_or_default();
        let stop = start - if before.ends_with(b"\r\n") { 2 } else { usize::from(before.ends_with(b"\n")) };
        let Some(multipart) = self.open.get(level).map(|open| open.part) else { return end };
        let is_digest = self.open.get(level).is_some_and(|open| open.is_digest);
        let last = match self.parts.get(multipart).map(|part| &part.kind) {
            Some(Kind::Multipart(children)) => children.last().copied(),
            _ => None,
        };
        // Everything since the last child of this multipart ends here.
        if let Some(last) = last {
            let ended: Vec<usize> = self.ending_with(level, last);
            for index in ended {
                if let Some(part) = self.parts.get_mut(index) {
                    part.body.end = stop.max(part.body.start);
                }
            }
        }
        self.open.truncate(level + 1);
        if closes {
            if let Some(open) = self.open.last_mut() {
                open.boundary = None;
            }
            return end;
        }
        let child = self.parts.len();
        if let Some(Part { kind: Kind::Multipart(children), .. }) = self.parts.get_mut(multipart) {
            children.push(child);
        }
        self.begin_part(end, is_digest)
    }

    /// The parts that are still growing below an open multipart: its last child, the open containers above it, and the
    /// last child of each.
    fn ending_with(&self, level: usize, last: usize) -> Vec<usize> {
        let mut ended = vec![last];
        for open in self.open.iter().skip(level + 1) {
            ended.push(open.part);
            match self.parts.get(open.part).map(|part| &part.kind) {
                // After the closing delimiter the last child is complete.
                Some(Kind::Multipart(children)) if open.boundary.is_some() => ended.extend(children.last()),
                Some(Kind::Message(inner)) => ended.push(*inner),
                _ => {}
            }
        }
        ended
    }
}

enum Opens {
    Message,
    Multipart(Vec<u8>),
    Nothing,
}

fn opens(content_type: &Parameterized, encoding: &str) -> Opens {
    let plain = matches!(encoding, "" | "7bit" | "8bit" | "binary");
    if content_type.value.starts_with("multipart/") {
        let boundary = content_type.parameter("boundary").map(<[u8]>::trim_ascii_end);
        return match boundary.filter(|boundary| !boundary.is_empty() && boundary.len() <= BOUNDARY_LIMIT) {
            Some(boundary) => Opens::Multipart(boundary.to_vec()),
            None => Opens::Nothing,
        };
    }
    // An encoded message is content like any other (RFC 2046 §5.2.1 forbids it).
    if plain && matches!(content_type.value.as_str(), "message/rfc822" | "message/global") {
        return Opens::Message;
    }
    Opens::Nothing
}

#[cfg(test)]
mod tests;
