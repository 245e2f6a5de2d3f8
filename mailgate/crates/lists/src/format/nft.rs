//! What nft(8) prints and reads: `elements = { … }` inside a set, and `add element … { … }`.

use super::{Collector, Span};
use crate::prefix::{Sense, parse_bytes, quoted};

/// One piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Quoted(&'a [u8]),
    Open,
    Close,
    Comma,
    Equals,
    End,
}

/// Goes through the text.
struct Tokens<'a> {
    rest: &'a [u8],
    line: u64,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (u64, Token<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (first, after) = self.rest.split_first()?;
            let line = self.line;
            let single = match first {
                b'\n' => {
                    self.line += 1;
                    Some(Token::End)
                }
                b';' => Some(Token::End),
                b'{' => Some(Token::Open),
                b'}' => Some(Token::Close),
                b',' => Some(Token::Comma),
                b'=' => Some(Token::Equals),
                _ => None,
            };
            if let Some(token) = single {
                self.rest = after;
                return Some((line, token));
            }
            match first {
                b'#' => self.rest = from(after, |byte| byte == b'\n').1,
                b'"' => {
                    // A string ends with its line at the latest, so that one missing quote costs one line.
                    let (text, rest) = from(after, |byte| byte == b'"' || byte == b'\n');
                    self.rest = rest.strip_prefix(b"\"").unwrap_or(rest);
                    return Some((line, Token::Quoted(text)));
                }
                byte if byte.is_ascii_whitespace() => self.rest = after,
                _ => {
                    let is_end = |byte: u8| byte.is_ascii_whitespace() || b"{},;=#\"".contains(&byte);
                    let (word, rest) = from(self.rest, is_end);
                    self.rest = rest;
                    return Some((line, Token::Word(word)));
                }
            }
        }
    }
}

/// Splits before the first byte of a kind.
fn from(text: &[u8], is_it: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| is_it(*byte)).unwrap_or(text.len()))
}

/// Reads all sets of addresses of the text as one. Sets of other types (ports, marks) are passed over; `timeout` and
/// `expires` are not taken over, because the list is read anew before they matter.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    let mut tokens = Tokens { rest: text, line: 1 };
    let (mut before, mut is_foreign, mut is_seen) = (Statement::default(), false, false);
    while let Some((_, token)) = tokens.next() {
        if collector.is_full() {
            return;
        }
        match token {
            Token::Word(b"set" | b"map" | b"table" | b"chain") if before.len == 0 => {
                is_foreign = false;
                before.push(b"");
            }
            Token::Word(word) => {
                if before.first == b"type" || before.first == b"typeof" {
                    is_foreign = is_other_type(word, is_foreign);
                }
                before.push(word);
            }
            Token::Open if before.first == b"elements" || before.has_element => {
                is_seen = true;
                elements(&mut tokens, is_foreign && !before.has_element, collector);
                before = Statement::default();
            }
            Token::End | Token::Open | Token::Close => before = Statement::default(),
            Token::Quoted(_) | Token::Comma | Token::Equals => {}
        }
    }
    if !is_seen && !text.trim_ascii().is_empty() && !text.windows(5).any(|part| part == b"table") {
        collector.problem(1, "found no elements = { … }, expected what nft list ruleset prints");
    }
}

/// The words of a statement so far: its first, and whether `element` was among them.
#[derive(Default)]
struct Statement<'a> {
    first: &'a [u8],
    len: usize,
    has_element: bool,
}

impl<'a> Statement<'a> {
    fn push(&mut self, word: &'a [u8]) {
        if self.len == 0 {
            self.first = word;
        }
        self.len += 1;
        self.has_element |= word == b"element" && self.len == 2;
    }
}

/// Whether a set holds something else than addresses, after one more word of its type.
fn is_other_type(word: &[u8], before: bool) -> bool {
    const ADDRESSES: [&[u8]; 8] =
        [b"ipv4_addr", b"ipv6_addr", b"ip", b"ip6", b"saddr", b"daddr", b"type", b"typeof"];
    before || (!ADDRESSES.contains(&word) && word != b":")
}

/// Reads up to the closing brace.
fn elements<'a>(tokens: &mut Tokens<'a>, is_foreign: bool, collector: &mut Collector<'_>) {
    let mut element: Option<(u64, &[u8])> = None;
    let mut note: Option<&[u8]> = None;
    let (mut rest, mut depth) = (0_usize, 0_usize);
    loop {
        if collector.is_full() {
            return;
        }
        let Some((line, token)) = tokens.next() else {
            return collector.problem(tokens.line, "found no }, expected one: the list is cut off");
        };
        match token {
            Token::Open => depth += 1,
            Token::Close if depth > 0 => depth -= 1,
            Token::Comma | Token::Close => {
                if let Some((line, text)) = element.take().filter(|_| !is_foreign) {
                    one(line, text, rest, note, collector);
                }
                (note, rest) = (None, 0);
                if token == Token::Close {
                    return;
                }
            }
            Token::Word(b".") if depth == 0 => rest += 1,
            Token::Word(word) if element.is_none() && depth == 0 => element = Some((line, word)),
            Token::Quoted(text) => note = Some(text),
            Token::Word(_) | Token::Equals | Token::End => {}
        }
    }
}

fn one(line: u64, text: &[u8], joined: usize, note: Option<&[u8]>, collector: &mut Collector<'_>) {
    let note = note.map(|note| super::lossy(note).replace('%', "%%"));
    let note = note.as_deref();
    if joined > 0 {
        let said = format!("found {} joined with something else, expected an address alone", quoted(text));
        return collector.problem(line, &said);
    }
    if text.contains(&b'-') {
        return match Span::parse(text) {
            Ok(span) => collector.span(Sense::Listed, span, note),
            Err(said) => collector.problem(line, &said),
        };
    }
    match parse_bytes(text) {
        Ok((Sense::Listed, prefix)) => collector.entry(Sense::Listed, prefix, note),
        Ok((Sense::Hole, _)) => collector.problem(line, "found !, expected an address or prefix"),
        Err(said) => collector.problem(line, &said),
    }
}
