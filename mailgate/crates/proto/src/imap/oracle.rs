//! Commands as the standards write them; `imap-codec`, an independent implementation, must read them too.

use bytes::Bytes;
use imap_codec::CommandCodec;
use imap_codec::decode::Decoder as _;
use mailgate_model::Timestamp;

use super::*;

fn parse(text: &str) -> Result<Command, ParseError> {
    let tagged = Command::parse(&Bytes::copy_from_slice(text.as_bytes()))?;
    assert_eq!(tagged.tag, "a1");
    Ok(tagged.command)
}

/// Parses with both; the other must take the command whole.
fn both(text: &str) -> Command {
    let wire = format!("{text}\r\n");
    let (rest, _) =
        CommandCodec::new().decode(wire.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert!(rest.is_empty(), "{text}");
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn commands_of_the_standards_are_read_as_another_implementation_reads_them() {
    for text in [
        "a1 CAPABILITY",
        "a1 NOOP",
        "a1 LOGOUT",
        "a1 STARTTLS",
        "a1 AUTHENTICATE PLAIN",
        "a1 AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=",
        "a1 LOGIN SMITH \"a \\\"b\\\\\"",
        "a1 LOGIN {5}\r\nSMITH {3+}\r\na]b",
        "a1 ENABLE CONDSTORE UTF8=ACCEPT",
        "a1 SELECT INBOX",
        "a1 EXAMINE \"a b\"",
        "a1 CREATE a/b",
        "a1 DELETE x",
        "a1 RENAME a b",
        "a1 SUBSCRIBE x",
        "a1 UNSUBSCRIBE x",
        "a1 LIST \"\" *",
        "a1 LIST \"\" \"a%\"",
        "a1 LSUB \"\" %",
        "a1 STATUS blurdybloop (UIDNEXT MESSAGES UNSEEN)",
        "a1 APPEND saved-messages (\\Seen custom) \"17-Jul-1996 02:44:25 -0700\" {3}\r\na\r\n",
        "a1 APPEND x {0+}\r\n",
        "a1 CHECK",
        "a1 CLOSE",
        "a1 UNSELECT",
        "a1 EXPUNGE",
        "a1 UID EXPUNGE 3:5,7",
        "a1 IDLE",
        "a1 NAMESPACE",
        "a1 ID NIL",
        "a1 ID (\"name\" \"x\" \"version\" NIL)",
        "a1 COPY 2:4 MEETING",
        "a1 UID COPY 2:* MEETING",
        "a1 MOVE 1 Trash",
        "a1 UID MOVE 1,3 Trash",
        "a1 STORE 2:4 +FLAGS (\\Deleted)",
        "a1 UID STORE 2 -FLAGS.SILENT (a \\Seen)",
        "a1 STORE 1 FLAGS ()",
        "a1 STORE 1 FLAGS \\Seen \\Draft",
        "a1 FETCH 1 ALL",
        "a1 FETCH 1 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
        "a1 UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[1.2.MIME]<0.2048> BODY BODYSTRUCTURE ENVELOPE INTERNALDATE)",
        "a1 FETCH 1 (BODY[] BODY[TEXT] BODY[3.HEADER.FIELDS.NOT (X)] RFC822 RFC822.HEADER RFC822.TEXT)",
        "a1 SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
        "a1 SEARCH CHARSET UTF-8 TEXT {6}\r\nfoobar",
        "a1 SEARCH OR (SEEN UNDELETED) NOT (2:4 LARGER 5) HEADER X-Y \"\" KEYWORD a UNKEYWORD b",
        "a1 UID SEARCH UID 1:* ON 1-Jan-2000 SENTBEFORE 1-Jan-2000 SENTON \"1-Jan-2000\" SENTSINCE 1-Jan-2000",
    ] {
        both(text);
    }
}

#[test]
fn values_arrive_as_they_were_meant() {
    assert_eq!(
        both("a1 LOGIN {5}\r\nSMITH \"a \\\"b\\\\\""),
        Command::Login("SMITH".into(), "a \"b\\".into())
    );
    assert_eq!(
        both("a1 APPEND x (\\Seen k) \"17-Jul-1996 02:44:25 -0700\" {3}\r\na\r\n"),
        Command::Append {
            mailbox: "x".into(),
            flags: vec!["\\Seen".into(), "k".into()],
            date: Some(Timestamp::from_secs(837_596_665)),
            message: Bytes::from_static(b"a\r\n"),
        }
    );
    let Command::Fetch(Numbering::Uid, _, items) = both("a1 UID FETCH 1:* (BODY.PEEK[1.2.MIME]<5.20>)")
    else {
        panic!("not a fetch");
    };
    assert_eq!(
        items,
        [FetchItem::BodySection {
            peek: Peek::Peeks,
            section: Section { part: vec![1, 2], text: SectionText::Mime },
            partial: Some(Partial { offset: 5, length: 20 }),
        }]
    );
    let Command::Search(_, search) = both("a1 SEARCH CHARSET UTF-8 OR SEEN NEW SINCE 1-Jan-1970") else {
        panic!("not a search");
    };
    let seen = SearchKey::Flag("\\Seen".into());
    let new = SearchKey::And(vec![SearchKey::Recent, SearchKey::Not(Box::new(seen.clone()))]);
    assert_eq!(search.charset.as_deref(), Some("UTF-8"));
    assert_eq!(
        search.key,
        SearchKey::And(vec![SearchKey::Or(Box::new(seen), Box::new(new)), SearchKey::Since(0)])
    );
}

#[test]
fn extended_lists_are_read() {
    let list =
        parse("a1 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"INBOX\" a%) RETURN (CHILDREN STATUS (MESSAGES))")
            .unwrap();
    let Command::List(list) = list else { panic!("not a list") };
    assert_eq!(list.select, [ListSelect::Subscribed, ListSelect::RecursiveMatch]);
    assert_eq!(list.patterns, ["INBOX", "a%"]);
    assert_eq!(list.returns, [ListReturn::Children, ListReturn::Status(vec![StatusItem::Messages])]);
    assert!(parse("a1 LIST (RECURSIVEMATCH) \"\" *").is_err());
}

#[test]
fn what_is_no_command_is_refused_with_its_tag() {
    for text in [
        "a1",
        "a1 ",
        "a1 FOO",
        "a1 NOOP x",
        "a1 LOGIN x",
        "a1 LOGIN x \"y",
        "a1 UID NOOP",
        "a1 FETCH 0 FLAGS",
        "a1 FETCH 1 ()",
        "a1 FETCH 1 BODY[",
        "a1 FETCH 1 BODY[1.]",
        "a1 FETCH 1 BODY[MIME]",
        "a1 FETCH 1 BODY[]<1.0>",
        "a1 STORE 1 FLAGZ (x)",
        "a1 SEARCH",
        "a1 SEARCH ()",
        "a1 SEARCH SINCE 30-Feb-2000",
        "a1 STATUS x ()",
        "a1 APPEND x \"a\"",
        "a1 APPEND x {5}\r\nabc",
        "a1 SELECT a\"b",
        "a1 LOGIN {3}\r\na\0b c",
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.tag.as_deref(), Some("a1"), "{text}");
    }
    for text in ["", " NOOP", "+ NOOP", "(a) NOOP", "\u{fc} NOOP"] {
        assert_eq!(parse(text).unwrap_err().tag, None, "{text}");
    }
}
