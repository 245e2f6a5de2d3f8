//! Address lists in header fields (RFC 5322 §3.4), read as far as they make sense.

/// Addresses read from one field; more are a flood, and every one is written in ENVELOPE.
const ADDRESS_LIMIT: usize = 4096;
/// Octets read of one field: room for that many addresses. Every octet may become a token of 32, so a field of the
/// size of a whole message must not be taken apart.
const FIELD_LIMIT: usize = 256 * 1024;

/// One element of a list, as ENVELOPE tells it (RFC 3501 §7.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The end of a group.
    GroupEnd,
    /// The beginning of a group, with its name.
    GroupStart(Vec<u8>),
    /// A mailbox.
    Mailbox {
        name: Option<Vec<u8>>,
        route: Option<Vec<u8>>,
        local: Vec<u8>,
        /// Empty when the field has none.
        domain: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Vec<u8>),
    Quoted(Vec<u8>),
    Comment(Vec<u8>),
    Special(u8),
}

/// Reads the value of a field such as To.
pub(crate) fn addresses(value: &[u8]) -> Vec<Address> {
    let tokens = tokens(value.get(..FIELD_LIMIT).unwrap_or(value));
    let mut found = Vec::new();
    let mut in_group = false;
    let mut piece: Vec<&Token> = Vec::new();
    let mut in_angle = false;
    for token in &tokens {
        if found.len() >= ADDRESS_LIMIT {
            break;
        }
        match token {
            Token::Special(b'<') => in_angle = true,
            Token::Special(b'>') => in_angle = false,
            Token::Special(b':') if !in_angle && !in_group => {
                found.push(Address::GroupStart(phrase(&piece).unwrap_or_default()));
                in_group = true;
                piece.clear();
                continue;
            }
            Token::Special(b',') if !in_angle => {
                found.extend(mailbox(&piece));
                piece.clear();
                continue;
            }
            Token::Special(b';') if in_group => {
                found.extend(mailbox(&piece));
                piece.clear();
                found.push(Address::GroupEnd);
                (in_group, in_angle) = (false, false);
                continue;
            }
            _ => {}
        }
        piece.push(token);
    }
    found.extend(mailbox(&piece));
    if in_group {
        found.push(Address::GroupEnd);
    }
    found
}

fn is_special(byte: u8) -> bool {
    b"<>@,;:".contains(&byte)
}

fn tokens(value: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut bytes = value.iter().copied().filter(|byte| !b"\r\n".contains(byte)).peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => {}
            b'"' => {
                let mut text = Vec::new();
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => text.extend(bytes.next()),
                        _ => text.push(byte),
                    }
                }
                tokens.push(Token::Quoted(text));
            }
            b'(' => {
                let mut text = Vec::new();
                let mut depth = 1_usize;
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            text.extend(bytes.next());
                            continue;
                        }
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    text.push(byte);
                }
                tokens.push(Token::Comment(text));
            }
            _ if is_special(byte) => tokens.push(Token::Special(byte)),
            _ => {
                let mut text = vec![byte];
                while let Some(byte) = bytes.next_if(|b| !is_special(*b) && !b" \t\"(".contains(b)) {
                    text.push(byte);
                }
                tokens.push(Token::Word(text));
            }
        }
    }
    tokens
}

/// Words joined by single spaces; none when there are none.
fn phrase(tokens: &[&Token]) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Word(text) | Token::Quoted(text) => Some(text.as_slice()),
            Token::Comment(_) | Token::Special(_) => None,
        })
        .collect();
    (!words.is_empty()).then(|| words.join(&b' '))
}

/// Words joined without anything between: local parts and domains may be written with spaces around their dots.
fn joined(tokens: &[&Token]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| match token {
            Token::Word(text) | Token::Quoted(text) => text.clone(),
            Token::Special(byte) if *byte != b'>' && *byte != b'<' => vec![*byte],
            Token::Comment(_) | Token::Special(_) => Vec::new(),
        })
        .collect()
}

fn mailbox(piece: &[&Token]) -> Option<Address> {
    let is = |wanted: u8| move |token: &&Token| **token == Token::Special(wanted);
    let comment = piece.iter().rev().find_map(|token| match token {
        Token::Comment(text) => Some(text.trim_ascii().to_vec()),
        Token::Word(_) | Token::Quoted(_) | Token::Special(_) => None,
    });
    let (name, spec) = match piece.iter().position(is(b'<')) {
        Some(open) => {
            let (name, rest) = piece.split_at(open);
            let close = rest.iter().position(is(b'>')).unwrap_or(rest.len());
            (phrase(name), rest.get(1..close).unwrap_or_default())
        }
        None => (None, piece),
    };
    let name = name.or(comment.filter(|text| !text.is_empty()));
    // `<@relay,@other:user@host>` (RFC 5322 §4.4).
    let (route, spec) = match (spec.first().filter(|first| is(b'@')(first)), spec.iter().position(is(b':'))) {
        (Some(_), Some(colon)) => {
            let (route, rest) = spec.split_at(colon);
            (Some(joined(route)), rest.get(1..).unwrap_or_default())
        }
        _ => (None, spec),
    };
    let (local, domain) = match spec.iter().rposition(is(b'@')) {
        Some(at) => {
            (joined(spec.get(..at).unwrap_or_default()), joined(spec.get(at + 1..).unwrap_or_default()))
        }
        None => (joined(spec), Vec::new()),
    };
    if local.is_empty() && domain.is_empty() && name.is_none() {
        return None;
    }
    Some(Address::Mailbox { name, route, local, domain })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (String, String, String) {
        let list = addresses(text.as_bytes());
        assert_eq!(list.len(), 1, "{text}: {list:?}");
        let Some(Address::Mailbox { name, local, domain, .. }) = list.into_iter().next() else {
            panic!("{text}");
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(name.unwrap_or_default()), text(local), text(domain))
    }

    #[test]
    fn mailboxes_are_read_in_all_their_spellings() {
        for (text, name, local, domain) in [
            ("a@b.c", "", "a", "b.c"),
            ("<a@b.c>", "", "a", "b.c"),
            ("Joe Q. Public <john.q.public@example.com>", "Joe Q. Public", "john.q.public", "example.com"),
            ("\"Giant; \\\"Big\\\" Box\" <x@y>", "Giant; \"Big\" Box", "x", "y"),
            ("jdoe@one.test (Who? (me))", "Who? (me)", "jdoe", "one.test"),
            ("=?utf-8?q?J=C3=B6rg?= <j@x>", "=?utf-8?q?J=C3=B6rg?=", "j", "x"),
            ("\"a b\"@c", "", "a b", "c"),
            ("x@[127.0.0.1]", "", "x", "[127.0.0.1]"),
            ("a . b @ c . d", "", "a.b", "c.d"),
            ("nobody", "", "nobody", ""),
            ("A <a@b", "A", "a", "b"),
        ] {
            assert_eq!(one(text), (name.into(), local.into(), domain.into()), "{text}");
        }
    }

    #[test]
    fn groups_and_routes_are_kept() {
        let list = addresses(b"A Group:Ed <joe@where.test>,one@y.test;, z@x,,");
        assert_eq!(list.len(), 5);
        assert_eq!(list[0], Address::GroupStart(b"A Group".to_vec()));
        assert_eq!(list[3], Address::GroupEnd);
        let empty = addresses(b"Undisclosed recipients:;");
        assert_eq!(empty, [Address::GroupStart(b"Undisclosed recipients".to_vec()), Address::GroupEnd]);
        let Address::Mailbox { route, local, .. } = &addresses(b"<@a,@b:c@d>")[0] else { panic!() };
        assert_eq!((route.as_deref(), local.as_slice()), (Some(&b"@a,@b"[..]), &b"c"[..]));
        assert!(addresses(b" , ,").is_empty());
    }

    #[test]
    fn of_a_field_as_large_as_a_message_only_the_beginning_is_taken_apart() {
        let flood = [b"a@b.c,".to_vec(), vec![b'<'; 2 * FIELD_LIMIT], b">,x@y.z".to_vec()].concat();
        let list = addresses(&flood);
        assert!(!list.is_empty() && list.len() <= 2, "{}", list.len());
        assert!(matches!(&list[0], Address::Mailbox { local, .. } if local == b"a"));
        let last = vec![b'<'; 2 * FIELD_LIMIT].into_iter().chain(*b",>,x@y.z").collect::<Vec<u8>>();
        assert_eq!(addresses(&last), []);
        assert_eq!(addresses(&b"a@b.c,".repeat(FIELD_LIMIT)).len(), ADDRESS_LIMIT);
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_without_panic_and_groups_are_closed(text in "[a-c<>@,;:\"()\\\\ .]{0,40}") {
            let list = addresses(text.as_bytes());
            let starts = list.iter().filter(|a| matches!(a, Address::GroupStart(_))).count();
            let ends = list.iter().filter(|a| matches!(a, Address::GroupEnd)).count();
            proptest::prop_assert_eq!(starts, ends);
        }
    }
}
