//! Sessions over real sockets, line by line.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails should fail loudly"
)]

mod house;

use std::fs;
use std::time::Duration;

use house::{House, LOGIN, PASSWORD, Peer};
use mailgate_access::PlainLogin;
use mailgate_access::imap::Called;
use mailgate_model::QueueId;
use mailgate_net::Stream;
use tokio::net::TcpStream;

const MESSAGE: &str = "From: Ann <ann@example.org>\nTo: user@example.test\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\
    Date: Thu, 1 Jan 2026 10:00:00 +0100\nMessage-ID: <1@example.org>\nContent-Type: multipart/mixed; boundary=A\n\n\
    --A\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nsch=F6n\n\
    --A\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\naGVsbG8=\n--A--\n";

fn has(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_follow_tls_and_login() {
    let house = House::with(|config| config.plain_login = PlainLogin::Never).await;
    let mut peer = house.connect().await;
    assert!(peer.greeting.starts_with("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR"), "{}", peer.greeting);
    assert!(peer.greeting.contains("STARTTLS") && peer.greeting.contains("LOGINDISABLED"));
    peer.fails(&format!("LOGIN {LOGIN} \"{PASSWORD}\""), "NO [PRIVACYREQUIRED]").await;
    peer.fails("AUTHENTICATE PLAIN", "NO [PRIVACYREQUIRED]").await;
    peer.fails("SELECT INBOX", "BAD").await;
    peer.start_tls(&house.client_tls).await;
    let inside = peer.ok("CAPABILITY").await;
    assert!(inside[0].contains("AUTH=PLAIN AUTH=LOGIN") && !inside[0].contains("STARTTLS"), "{inside:?}");
    peer.fails("STARTTLS", "BAD").await;
    let answer = peer.command(&format!("LOGIN {LOGIN} \"{PASSWORD}\"")).await;
    assert!(
        answer.result.starts_with("OK [CAPABILITY IMAP4rev1") && answer.result.contains("UIDPLUS"),
        "{answer:?}"
    );
    peer.fails(&format!("LOGIN {LOGIN} x"), "BAD").await;
    assert!(has(&peer.ok("LOGOUT").await, "* BYE"));
    assert_eq!(peer.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn implicit_tls_and_both_sasl_mechanisms_let_people_in() {
    let house = House::new().await;
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let tcp = TcpStream::connect(house.tls).await.unwrap();
    let mut peer = Peer::greeted(house.client_tls.connect(tcp, "mx.example.test").await.unwrap()).await;
    let early = encode(&format!("\0{LOGIN}\0{PASSWORD}"));
    peer.ok(&format!("AUTHENTICATE PLAIN {early}")).await;
    let mut peer = house.connect().await;
    peer.send(b"a AUTHENTICATE LOGIN\r\n").await;
    assert_eq!(peer.line().await, "+ VXNlcm5hbWU6");
    peer.send(format!("{}\r\n", encode(LOGIN)).as_bytes()).await;
    assert_eq!(peer.line().await, "+ UGFzc3dvcmQ6");
    peer.send(format!("{}\r\n", encode(PASSWORD)).as_bytes()).await;
    assert!(peer.line().await.starts_with("a OK"));
    let mut peer = house.connect().await;
    peer.send(b"a AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(peer.line().await, "+ ");
    peer.send(b"*\r\n").await;
    assert!(peer.line().await.starts_with("a BAD"));
    peer.fails("AUTHENTICATE CRAM-MD5", "NO").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_and_the_third_ends_the_session() {
    let house = House::new().await;
    let mut peer = house.connect().await;
    peer.fails(&format!("LOGIN {LOGIN} wrong"), "NO [AUTHENTICATIONFAILED]").await;
    peer.fails("LOGIN nobody@example.test wrong", "NO [AUTHENTICATIONFAILED]").await;
    peer.send(b"x LOGIN a b\r\n").await;
    assert!(peer.rest().await.starts_with("* BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_sneaked_in_before_the_handshake_are_never_carried_out() {
    let house = House::new().await;
    let mut peer = house.connect().await;
    peer.send(format!("a STARTTLS\r\nb LOGIN {LOGIN} \"{PASSWORD}\"\r\n").as_bytes()).await;
    let rest = peer.rest().await;
    assert!(rest.starts_with("a BAD") && !rest.contains("b OK"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_login_finds_its_mailboxes_with_their_uses() {
    let house = House::new().await;
    let mut peer = house.login().await;
    let list = peer.ok("LIST \"\" *").await;
    assert_eq!(
        list,
        [
            "* LIST (\\HasNoChildren) \".\" INBOX",
            "* LIST (\\HasNoChildren \\Archive) \".\" Archive",
            "* LIST (\\HasNoChildren \\Drafts) \".\" Drafts",
            "* LIST (\\HasNoChildren \\Junk) \".\" Junk",
            "* LIST (\\HasNoChildren \\Sent) \".\" Sent",
            "* LIST (\\HasNoChildren \\Trash) \".\" Trash",
        ]
    );
    assert_eq!(peer.ok("LSUB \"\" *").await.len(), 6);
    assert_eq!(peer.ok("LIST \"\" \"\"").await, ["* LIST (\\Noselect) \".\" \"\""]);
    assert_eq!(peer.ok("NAMESPACE").await, ["* NAMESPACE ((\"\" \".\")) NIL NIL"]);
    peer.ok("CREATE Lists.Entw&APw-rfe").await;
    peer.fails("CREATE Lists.Entw&APw-rfe", "NO [ALREADYEXISTS]").await;
    for name in ["..", "a/b", "../../etc", "\"\"", "a..b", "&bad"] {
        peer.fails(&format!("CREATE {name}"), "NO [CANNOT]").await;
    }
    assert_eq!(peer.ok("LIST \"\" Lists%").await, ["* LIST (\\Noselect \\HasChildren) \".\" Lists"]);
    assert_eq!(peer.ok("LIST (SPECIAL-USE) \"\" (Dr% Se%) RETURN (CHILDREN)").await.len(), 2);
    let with_status = peer.ok("LIST \"\" (INBOX) RETURN (STATUS (MESSAGES UNSEEN))").await;
    assert_eq!(with_status[1], "* STATUS INBOX (MESSAGES 0 UNSEEN 0)");
    peer.ok("SUBSCRIBE Lists.Entw&APw-rfe").await;
    assert_eq!(peer.ok("LSUB \"\" L%").await, ["* LSUB (\\Noselect) \".\" Lists"]);
    let subscribed = peer.ok("LIST (SUBSCRIBED) \"\" L*").await;
    assert_eq!(subscribed, ["* LIST (\\HasNoChildren \\Subscribed) \".\" Lists.Entw&APw-rfe"]);
    peer.ok("RENAME Lists Alt").await;
    peer.ok("DELETE Alt.Entw&APw-rfe").await;
    peer.fails("DELETE Alt", "NO [NONEXISTENT]").await;
    peer.fails("DELETE INBOX", "NO").await;
    peer.fails("SELECT Nowhere", "NO [NONEXISTENT]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_message_is_read_in_all_its_parts() {
    let house = House::new().await;
    house.deliver(MESSAGE).await;
    let mut peer = house.login().await;
    let opened = peer.ok("SELECT inbox").await;
    for line in
        ["* 1 EXISTS", "* 1 RECENT", "* OK [UNSEEN 1]", "* OK [UIDVALIDITY ", "* OK [UIDNEXT 2]", "* FLAGS ("]
    {
        assert!(has(&opened, line), "{line}: {opened:?}");
    }
    let size = MESSAGE.replace('\n', "\r\n").len();
    let fast = peer.ok("FETCH 1 (UID FLAGS RFC822.SIZE)").await;
    assert_eq!(fast, [format!("* 1 FETCH (UID 1 FLAGS (\\Recent) RFC822.SIZE {size})")]);
    let envelope = peer.ok("FETCH 1 ENVELOPE").await;
    assert_eq!(
        envelope,
        ["* 1 FETCH (ENVELOPE (\"Thu, 1 Jan 2026 10:00:00 +0100\" \"=?utf-8?q?Gr=C3=BC=C3=9Fe?=\" \
          ((\"Ann\" NIL \"ann\" \"example.org\")) ((\"Ann\" NIL \"ann\" \"example.org\")) \
          ((\"Ann\" NIL \"ann\" \"example.org\")) ((NIL NIL \"user\" \"example.test\")) NIL NIL NIL \"<1@example.org>\"))"]
    );
    assert!(
        peer.ok("FETCH 1 BODYSTRUCTURE").await[0]
            .contains("(\"application\" \"pdf\" (\"name\" \"a.pdf\") NIL NIL \"base64\" 8")
    );
    assert_eq!(peer.ok("FETCH 1 BODY.PEEK[2]").await, ["* 1 FETCH (BODY[2] {8}", "aGVsbG8=)"]);
    assert_eq!(peer.ok("FETCH 1 BODY.PEEK[1]<1.3>").await, ["* 1 FETCH (BODY[1]<1> {3}", "ch=)"]);
    assert_eq!(
        peer.ok("UID FETCH 1 (BODY.PEEK[HEADER.FIELDS (subject X-None)])").await,
        [
            "* 1 FETCH (UID 1 BODY[HEADER.FIELDS (subject X-None)] {40}",
            "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
            "",
            ")"
        ]
    );
    assert_eq!(peer.ok("FETCH 1 BODY.PEEK[9]").await, ["* 1 FETCH (BODY[9] NIL)"]);
    let whole = peer.ok("FETCH 1 BODY[]").await;
    assert_eq!(whole[0], format!("* 1 FETCH (BODY[] {{{size}}}"));
    assert_eq!(whole.last().unwrap(), " FLAGS (\\Seen \\Recent))");
    peer.fails("FETCH 2 FLAGS", "BAD").await;
    assert_eq!(peer.ok("UID FETCH 2:* FLAGS").await.len(), 1, "the star is the last message");
    assert!(peer.ok("UID FETCH 7 FLAGS").await.is_empty());
    assert_eq!(
        peer.ok("STATUS INBOX (MESSAGES UNSEEN UIDNEXT SIZE)").await[0],
        format!("* STATUS INBOX (MESSAGES 1 UNSEEN 0 UIDNEXT 2 SIZE {size})")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_are_stored_searched_and_survive() {
    let house = House::new().await;
    for subject in ["one", "two", "three"] {
        house.deliver(&MESSAGE.replace("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", subject)).await;
    }
    house.deliver(MESSAGE).await;
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;
    let stored = peer.ok("STORE 1:2 +FLAGS (\\Flagged $Forwarded)").await;
    assert!(
        has(&stored, "* FLAGS (") && has(&stored, "* 1 FETCH (FLAGS (\\Flagged \\Recent $Forwarded))"),
        "{stored:?}"
    );
    assert!(peer.ok("UID STORE 3 FLAGS.SILENT \\Deleted").await.is_empty());
    assert_eq!(
        peer.ok("UID STORE 2 -FLAGS (\\Flagged)").await,
        ["* 2 FETCH (UID 2 FLAGS (\\Recent $Forwarded))"]
    );
    for (query, want) in [
        ("ALL", "1 2 3 4"),
        ("FLAGGED", "1"),
        ("KEYWORD $forwarded", "1 2"),
        ("UNKEYWORD $Forwarded UNDELETED", "4"),
        ("DELETED", "3"),
        ("SUBJECT tw", "2"),
        ("CHARSET UTF-8 SUBJECT {7+}\r\nGRÜßE", "4"),
        ("BODY \"SCHÖN\"", "1 2 3 4"),
        ("TEXT a.pdf", "1 2 3 4"),
        ("FROM ann NOT SUBJECT t", "1 4"),
        ("HEADER Message-ID \"\"", "1 2 3 4"),
        ("OR (SUBJECT one) 3:*", "1 3 4"),
        ("UID 2:3 2", "2"),
        ("SENTON 1-Jan-2026 SENTSINCE 1-Jan-2026", "1 2 3 4"),
        ("SENTBEFORE 1-Jan-2026", ""),
        ("SINCE 1-Jan-2020 LARGER 10 SMALLER 9999", "1 2 3 4"),
        ("BEFORE 1-Jan-2020", ""),
        ("NEW", "1 2 3 4"),
        ("OLD", ""),
    ] {
        let found = peer.ok(&format!("SEARCH {query}")).await;
        assert_eq!(found, [format!("* SEARCH {want}").trim_end()], "{query}");
    }
    peer.fails("SEARCH CHARSET KOI8-R TEXT x", "NO [BADCHARSET").await;
    assert_eq!(peer.ok("EXPUNGE").await, ["* 3 EXPUNGE"]);
    assert_eq!(peer.ok("UID SEARCH ALL").await, ["* SEARCH 1 2 4"]);
    peer.ok("CLOSE").await;
    peer.fails("FETCH 1 FLAGS", "BAD").await;
    assert!(has(&peer.ok("EXAMINE INBOX").await, "* 3 EXISTS"));
    peer.fails("STORE 1 FLAGS ()", "NO [READ-ONLY]").await;
    peer.fails("EXPUNGE", "NO [READ-ONLY]").await;
    assert_eq!(peer.ok("FETCH 1 FLAGS").await, ["* 1 FETCH (FLAGS (\\Flagged $Forwarded))"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_appended_copied_moved_and_their_uids_told() {
    let house = House::new().await;
    let mut peer = house.login().await;
    let message = b"Subject: draft\r\n\r\nbody\r\n";
    let head = "APPEND Drafts (\\Seen \\Draft) \"17-Jul-1996 02:44:25 -0700\" ";
    let appended = peer.with_literal(head, message, "").await;
    assert!(appended.result.starts_with("OK [APPENDUID "), "{appended:?}");
    assert!(peer.with_literal("APPEND Nowhere ", message, "").await.result.starts_with("NO [TRYCREATE]"));
    peer.ok("SELECT Drafts").await;
    let fetched = peer.ok("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[TEXT])").await;
    assert_eq!(
        fetched[0],
        "* 1 FETCH (FLAGS (\\Seen \\Draft) INTERNALDATE \"17-Jul-1996 09:44:25 +0000\" BODY[TEXT] {6}"
    );
    let copied = peer.command("COPY 1 Sent").await;
    assert!(copied.result.starts_with("OK [COPYUID ") && copied.result.contains(" 1 1]"), "{copied:?}");
    let moved = peer.ok("UID MOVE 1 Trash").await;
    assert!(moved[0].starts_with("* OK [COPYUID ") && moved[1] == "* 1 EXPUNGE", "{moved:?}");
    peer.fails("MOVE 1 Trash", "BAD").await;
    peer.ok("SELECT Trash").await;
    // Appending to the open mailbox is told at once.
    let answer = peer.with_literal("APPEND Trash ", message, "").await;
    assert!(has(&answer.untagged, "* 2 EXISTS"), "{answer:?}");
    peer.fails("COPY 1 Nowhere", "NO [TRYCREATE]").await;
    peer.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)").await;
    assert_eq!(peer.ok("UID EXPUNGE 2").await, ["* 2 EXPUNGE"]);
    peer.ok("UNSELECT").await;
    assert_eq!(peer.ok("STATUS Trash (MESSAGES)").await, ["* STATUS Trash (MESSAGES 1)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_see_each_other_and_numbers_change_only_when_told() {
    let house = House::new().await;
    for _ in 0..3 {
        house.deliver(MESSAGE).await;
    }
    let (mut a, mut b) = (house.login().await, house.login().await);
    a.ok("SELECT INBOX").await;
    b.ok("SELECT INBOX").await;
    a.ok("STORE 2 +FLAGS.SILENT (\\Deleted)").await;
    assert_eq!(b.ok("NOOP").await, ["* 2 FETCH (FLAGS (\\Deleted))"]);
    a.ok("EXPUNGE").await;
    // FETCH by number must not renumber; the message that is gone is not invented.
    let answer = b.command("FETCH 1:3 (UID RFC822.SIZE)").await;
    assert!(answer.result.starts_with("NO [EXPUNGEISSUED]"), "{answer:?}");
    assert_eq!(answer.untagged.len(), 2);
    assert!(answer.untagged[1].starts_with("* 3 FETCH (UID 3 "), "{answer:?}");
    assert_eq!(b.ok("NOOP").await, ["* 2 EXPUNGE"]);
    assert!(b.ok("FETCH 2 UID").await[0].starts_with("* 2 FETCH (UID 3)"));
    a.ok("SELECT Trash").await;
    a.ok("CREATE Temp").await;
    b.ok("SELECT Temp").await;
    a.ok("DELETE Temp").await;
    b.send(b"x NOOP\r\n").await;
    assert!(b.rest().await.starts_with("* BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_hears_of_deliveries_and_of_other_programs() {
    let house = House::new().await;
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;
    peer.send(b"i IDLE\r\n").await;
    assert_eq!(peer.line().await, "+ idling");
    house.deliver(MESSAGE).await;
    assert_eq!(peer.line().await, "* 1 EXISTS");
    assert_eq!(peer.line().await, "* 1 RECENT");
    let dir = house.maildir();
    fs::write(dir.join("tmp/foreign"), "Subject: f\n\n").unwrap();
    fs::rename(dir.join("tmp/foreign"), dir.join("new/1700000500.M1P1.foreign")).unwrap();
    assert_eq!(peer.line().await, "* 2 EXISTS");
    peer.line().await;
    peer.send(b"DONE\r\n").await;
    assert!(peer.line().await.starts_with("i OK"));
    assert!(peer.ok("NOOP").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_and_garbage_meet_clear_refusals_and_the_server_lives() {
    let house = House::with(|config| config.message_limit = 100_000).await;
    let mut flood = house.connect().await;
    for _ in 0..20 {
        // The server closes in the middle; the client cannot know.
        let Ok(()) = tokio::time::timeout(Duration::from_secs(5), flood.send(&[b'x'; 8192])).await else {
            break;
        };
        if house.shutdown.is_cancelled() {
            break;
        }
        if flood.line_is_bye().await {
            break;
        }
    }
    let mut early = house.connect().await;
    let answer = early.with_literal("LOGIN ", &[b'x'; 2000], " y").await;
    assert!(answer.result.starts_with("BAD"), "{answer:?}");
    early.ok("NOOP").await;
    let mut garbage = house.connect().await;
    garbage.send("GET / HTTP/1.1\r\n\r\n".repeat(30).as_bytes()).await;
    assert!(garbage.rest().await.contains("* BYE"));
    let mut peer = house.login().await;
    let huge = peer.with_literal("APPEND INBOX ", &[b'x'; 100_001], "").await;
    assert!(huge.result.starts_with("NO [TOOBIG]"), "{huge:?}");
    peer.send(b"l APPEND INBOX {200000+}\r\n").await;
    assert!(peer.line().await.starts_with("l NO [TOOBIG]"));
    peer.send(&vec![b'y'; 200_000]).await;
    peer.send(b"\r\n").await;
    peer.ok("NOOP").await;
    peer.fails(
        "SEARCH ((((((((((((((((((((((((((((((((((((((((ALL))))))))))))))))))))))))))))))))))))))))",
        "BAD",
    )
    .await;
    let mut last = house.login().await;
    last.send(b"x APPEND INBOX {4000000000+}\r\n").await;
    assert!(last.rest().await.contains("* BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_memory_for_one_message_and_no_more() {
    let house = House::new().await;
    let mut peer = house.login().await;
    let big = vec![b'x'; 20_000];
    peer.send(b"a APPEND INBOX {20000}\r\n").await;
    assert!(peer.line().await.starts_with('+'));
    peer.send(&big).await;
    peer.send(b" {20000}\r\n").await;
    assert!(peer.line().await.starts_with("a BAD"), "a second message in one command");
    // The memory is given back: the next message finds room.
    let answer = peer.with_literal("APPEND INBOX ", &big, "").await;
    assert!(answer.result.starts_with("OK"), "{answer:?}");
    let long = format!("LIST \"\" \"{}\"", "*a%".repeat(1000));
    peer.fails(&long, "BAD").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_part_many_times_in_one_command_comes_whole_each_time() {
    let house = House::new().await;
    let mut peer = house.login().await;
    // NUL takes the way through the writer; it cannot be written straight from the file.
    let body = [b"Subject: x\r\n\r\n".to_vec(), vec![0; 1 << 17]].concat();
    let answer = peer.with_literal("APPEND INBOX ", &body, "").await;
    assert!(answer.result.starts_with("OK"), "{answer:?}");
    peer.ok("SELECT INBOX").await;
    let items = vec!["BODY.PEEK[]"; 16].join(" ");
    peer.send(format!("f FETCH 1 ({items})\r\n").as_bytes()).await;
    let answer = peer.answer("f").await;
    assert!(answer.result.starts_with("OK"), "{}", answer.result);
    assert_eq!(answer.untagged.iter().filter(|line| line.ends_with("BODY[] {131086}")).count(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_over_all_numbers_of_an_empty_mailbox_finds_nothing() {
    let house = House::new().await;
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;
    for question in ["SEARCH 1:*", "UID SEARCH *:*", "UID SEARCH 1:* NOT DELETED"] {
        assert_eq!(peer.ok(question).await, ["* SEARCH"], "{question}");
    }
    peer.fails("SEARCH 1", "BAD").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_of_nested_messages_and_many_parts_are_read_and_searched() {
    let house = House::new().await;
    house.deliver(&"Content-Type: message/rfc822\n\n".repeat(40_000)).await;
    let mut many = String::from("Content-Type: multipart/mixed; boundary=A\n\n");
    many.push_str(&"--A\nContent-Type: text/plain\n\nx\n".repeat(20_000));
    house.deliver(&many).await;
    house.deliver(MESSAGE).await;
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;
    let told = peer.ok("FETCH 1:3 (BODYSTRUCTURE ENVELOPE BODY.PEEK[1.1.1.1.1.HEADER])").await;
    assert!(has(&told, "* 3 FETCH"));
    assert_eq!(peer.ok("SEARCH TEXT Ann").await, ["* SEARCH 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_account_are_limited_and_end_at_shutdown() {
    let house = House::with(|config| config.sessions_per_account = 2).await;
    let mut first = house.login().await;
    let _second = house.login().await;
    let mut third = house.connect().await;
    third.fails(&format!("LOGIN {LOGIN} \"{PASSWORD}\""), "NO [LIMIT]").await;
    first.ok("LOGOUT").await;
    assert_eq!(first.rest().await, "");
    third.ok(&format!("LOGIN {LOGIN} \"{PASSWORD}\"")).await;
    house.shutdown.cancel();
    assert!(third.rest().await.starts_with("* BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_comes_back_unchanged_whatever_its_size_and_bytes() {
    let house = House::new().await;
    let mut peer = house.login().await;
    let mut large = b"Subject: l\r\n\r\n".to_vec();
    for n in 0..40_000 {
        large.extend_from_slice(format!("line {n} \u{fc}\r\n").as_bytes());
    }
    let odd = b"Subject: o\r\n\r\na\r\r\nb\r\n.\r\n".to_vec();
    for message in [&large, &odd] {
        let answer = peer.with_literal("APPEND Sent ", message, "").await;
        assert!(answer.result.starts_with("OK"), "{answer:?}");
    }
    peer.ok("SELECT Sent").await;
    for (number, message) in [(1, &large), (2, &odd)] {
        let fetched = peer.ok(&format!("FETCH {number} BODY.PEEK[]")).await;
        assert_eq!(fetched[0], format!("* {number} FETCH (BODY[] {{{}}}", message.len()));
        let body = fetched[1..].join("\r\n");
        assert!(body.strip_suffix(')').unwrap().as_bytes() == &**message, "message {number} changed");
    }
}

impl Peer {
    /// Whether the next line is a BYE, waiting only briefly.
    async fn line_is_bye(&mut self) -> bool {
        matches!(tokio::time::timeout(Duration::from_millis(200), self.line()).await, Ok(line) if line.starts_with("* BYE"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_or_falls_silent_is_let_go() {
    let house = House::with(|config| config.login_limit = mailgate_model::Span::from_millis(500)).await;
    let mut stranger = house.connect().await;
    assert!(stranger.rest().await.starts_with("* BYE Login"));
    // A house of its own: a machine that is busy takes longer than that to check a password.
    let house = House::with(|config| config.autologout = mailgate_model::Span::from_millis(1500)).await;
    let mut silent = house.login().await;
    assert!(silent.rest().await.starts_with("* BYE Autologout"));
    let mut idle = house.login().await;
    idle.send(b"i IDLE\r\n").await;
    assert!(idle.rest().await.contains("* BYE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_type_of_the_test_is_plain_where_it_says_so() {
    // The house's plain door really is plain: the STARTTLS tests would prove nothing otherwise.
    let house = House::new().await;
    let tcp = TcpStream::connect(house.plain).await.unwrap();
    let peer = Peer::greeted(Stream::Plain(tcp)).await;
    assert!(peer.greeting.starts_with("* OK"));
}

/// A message that reception took in under this id.
fn taken_in(id: &str) -> String {
    format!(
        "Return-Path: <a@example.org>\nReceived: from c.example ([192.0.2.1])\n\tby mx.example.test (mailgate) with ESMTP\n\
         \tid {id};\n\tThu, 1 Jan 1970 00:00:00 +0000\nSubject: {id}\n\nbody\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_junk_and_taken_out_of_it_is_told_by_its_queue_id() {
    let house = House::new().await;
    let ids = ["0123456789AB1", "0123456789AB2", "0123456789AB3"].map(|id| QueueId::parse(id).unwrap());
    for id in ids {
        house.deliver(&taken_in(&id.to_string())).await;
    }
    house
        .deliver(
            "Subject: of nobody\n\nReceived: by mx.example.test (mailgate) with SMTP id 0123456789AB1;\n",
        )
        .await;
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;

    peer.ok("COPY 4 Junk").await;
    peer.ok("COPY 1 Archive").await;
    assert_eq!(house.heard.take(), [], "no id, and no Junk");
    // As clients do that know no MOVE.
    peer.ok("UID COPY 1 Junk").await;
    peer.ok("STORE 1 +FLAGS (\\Deleted)").await;
    peer.ok("EXPUNGE").await;
    assert_eq!(house.heard.take(), [(ids[0], Called::Junk)]);
    peer.ok("MOVE 1:2 Junk").await;
    assert_eq!(house.heard.take(), [(ids[1], Called::Junk), (ids[2], Called::Junk)]);
    peer.fails("MOVE 1 Nowhere", "NO [TRYCREATE]").await;
    assert_eq!(house.heard.take(), []);

    peer.ok("SELECT Junk").await;
    let found = peer.ok("SEARCH SUBJECT 0123456789AB2").await;
    let number = found[0].trim_start_matches("* SEARCH ");
    peer.ok(&format!("MOVE {number} INBOX")).await;
    assert_eq!(house.heard.take(), [(ids[1], Called::Good)]);
    peer.ok("MOVE 1:* Trash").await;
    assert_eq!(house.heard.take(), [], "thrown away");

    let message = taken_in("0123456789AB2").replace('\n', "\r\n");
    for (mailbox, want) in [("INBOX", None), ("Junk", Some((ids[1], Called::Junk)))] {
        let answer = peer.with_literal(&format!("APPEND {mailbox} "), message.as_bytes(), "").await;
        assert!(answer.result.starts_with("OK"), "{answer:?}");
        assert_eq!(house.heard.take(), Vec::from_iter(want), "{mailbox}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thousands_put_into_junk_at_once_the_first_ones_count() {
    let house = House::new().await;
    for n in 0..300 {
        house.deliver(&taken_in(&format!("{n:013}"))).await;
    }
    let mut peer = house.login().await;
    peer.ok("SELECT INBOX").await;
    peer.ok("MOVE 1:* Junk").await;
    let heard = house.heard.take();
    assert_eq!(heard.len(), 256);
    assert_eq!(heard[255].0.to_string(), format!("{:013}", 255));
}
