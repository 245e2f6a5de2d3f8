use bytes::BytesMut;
use mailgate_model::{Address, Domain, DsnNotify, DsnReturn, ForwardPath, ReversePath, Status};

use super::*;

fn parse(line: &str) -> Result<Command, Misbehaved> {
    Command::parse(line.as_bytes(), Charset::Ascii)
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mail(line: &str) -> Mail {
    match parse(line) {
        Ok(Command::Mail(mail)) => mail,
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt_path(line: &str) -> ForwardPath {
    match parse(line) {
        Ok(Command::Rcpt(rcpt)) => rcpt.path,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn verbs_are_read_in_any_case_and_trailing_space_is_tolerated() {
    for (line, want) in [
        ("EHLO mx.example.org", Command::Ehlo("mx.example.org".into())),
        ("ehlo [192.0.2.1] ", Command::Ehlo("[192.0.2.1]".into())),
        ("HeLo x", Command::Helo("x".into())),
        ("LHLO x", Command::Lhlo("x".into())),
        ("DATA ", Command::Data),
        ("quit", Command::Quit),
        ("rset", Command::Rset),
        ("NOOP whatever", Command::Noop),
        ("HELP MAIL", Command::Help),
        ("STARTTLS", Command::StartTls),
        ("VRFY joe", Command::Vrfy("joe".into())),
        ("EXPN list", Command::Expn("list".into())),
        ("BDAT 86", Command::Bdat { size: 86, last: false }),
        ("bdat 0 last", Command::Bdat { size: 0, last: true }),
        ("AUTH plain", Command::Auth { mechanism: "PLAIN".into(), initial: None }),
        ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN".into(), initial: Some("=".into()) }),
    ] {
        assert_eq!(parse(line), Ok(want), "{line}");
    }
}

#[test]
fn malformed_commands_are_named() {
    for line in [
        "EHLO",
        "EHLO a b",
        "EHLO a)(b",
        "HELO",
        "DATA x",
        "QUIT now",
        "RSET x",
        "STARTTLS x",
        "BDAT",
        "BDAT x",
        "BDAT -1",
        "BDAT 1 LATER",
        "BDAT 99999999999999999999",
        "AUTH",
        "AUTH A B C",
        "AUTH P!LAIN",
        "VRFY",
        "MAIL",
        "MAIL TO:<a@b.c>",
        "MAIL FROM <a@b.c>",
        "RCPT FROM:<a@b.c>",
        "MAIL FROM:<a@b.c>SIZE=1",
        "MAIL FROM:<a@b.c> =1",
    ] {
        assert!(matches!(parse(line), Err(Misbehaved::Syntax(_))), "{line}: {:?}", parse(line));
    }
    for line in ["", "FOO", "GET / HTTP/1.1", "Ünsinn x", "MAILFROM:<a@b.c>"] {
        assert_eq!(parse(line), Err(Misbehaved::UnknownCommand), "{line}");
    }
    assert_eq!(parse("NOOP \0"), Err(Misbehaved::Control));
    assert_eq!(Command::parse(b"NOOP \xff", Charset::Utf8), Err(Misbehaved::NotUtf8));
    assert_eq!(parse("EHLO bücher.example"), Err(Misbehaved::NotAscii));
}

#[test]
fn paths_are_read_as_rfc_5321_says() {
    assert_eq!(mail("MAIL FROM:<>").path, ReversePath::Null);
    assert_eq!(mail("mail from: <a@b.org>").path, ReversePath::Address(address("a@b.org")));
    for (line, want) in [
        ("RCPT TO:<a@b.org>", "a@b.org"),
        ("RCPT TO:<@x.org,@y.org:a@b.org>", "a@b.org"),
        ("RCPT TO:<\"a>b\"@b.org>", "\"a>b\"@b.org"),
        ("RCPT TO:<\"a \\\"@x\"@b.org>", "\"a \\\"@x\"@b.org"),
        ("RCPT TO:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("RCPT TO:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("RCPT TO:<a%x.org@b.org>", "a%x.org@b.org"),
        ("RCPT TO:<x.org!a@b.org>", "x.org!a@b.org"),
    ] {
        assert_eq!(rcpt_path(line), ForwardPath::Address(address(want)), "{line}");
    }
    assert_eq!(rcpt_path("RCPT TO:<PostMaster>"), ForwardPath::Postmaster);
    for line in [
        "RCPT TO:a@b.org",
        "RCPT TO:<a@b.org",
        "RCPT TO:<>",
        "RCPT TO:<a>",
        "RCPT TO:<@x.org a@b.org>",
        "RCPT TO:<@x.org:>",
        "RCPT TO:<x:a@b.org>",
        "RCPT TO:<a b@c.org>",
        "MAIL FROM:a@b.org",
        "MAIL FROM:<\"a@b.org>",
        "MAIL FROM:<postmaster>",
    ] {
        assert!(matches!(parse(line), Err(Misbehaved::Path(_))), "{line}: {:?}", parse(line));
    }
    let long = format!("RCPT TO:<{}@{}org>", "a".repeat(64), "abcdefghi.".repeat(19));
    assert!(matches!(parse(&long), Err(Misbehaved::Path(_))));
}

#[test]
fn mail_parameters_are_read() {
    let mail = mail("MAIL FROM:<a@b.org> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 AUTH=<>");
    assert_eq!(mail.size, Some(1000));
    assert_eq!((mail.body, mail.charset), (Body::EightBitMime, Charset::Utf8));
    assert_eq!((mail.ret, mail.envid.as_deref()), (Some(DsnReturn::Headers), Some("QQ+2B1")));
    assert_eq!(mail.submitter.as_deref(), Some("<>"));
    for (line, want) in [
        ("MAIL FROM:<> SIZE=1 size=2", Misbehaved::DuplicateParameter("SIZE")),
        ("MAIL FROM:<> SIZE=x", Misbehaved::Parameter("SIZE=octets")),
        ("MAIL FROM:<> SIZE", Misbehaved::Parameter("SIZE=octets")),
        ("MAIL FROM:<> BODY=BINARYMIME", Misbehaved::Parameter("BODY=7BIT or BODY=8BITMIME")),
        ("MAIL FROM:<> SMTPUTF8=1", Misbehaved::Parameter("SMTPUTF8 without a value")),
        ("MAIL FROM:<> ENVID=a+0D+0Ab", Misbehaved::Parameter("ENVID=xtext of 1 to 100 octets")),
        ("MAIL FROM:<> XOORG=1", Misbehaved::UnknownParameter("XOORG".into())),
    ] {
        assert_eq!(parse(line), Err(want), "{line}");
    }
}

#[test]
fn rcpt_parameters_are_read() {
    let Ok(Command::Rcpt(rcpt)) = parse("RCPT TO:<a@b.org> NOTIFY=SUCCESS,delay ORCPT=rfc822;a+2Bx@b.org")
    else {
        panic!("no RCPT");
    };
    assert_eq!(rcpt.notify, Some(DsnNotify { success: true, failure: false, delay: true }));
    assert_eq!(rcpt.orcpt.as_deref(), Some("rfc822;a+2Bx@b.org"));
    for line in [
        "RCPT TO:<a@b.org> NOTIFY=NEVER,DELAY",
        "RCPT TO:<a@b.org> NOTIFY=DELAY,DELAY",
        "RCPT TO:<a@b.org> NOTIFY=",
        "RCPT TO:<a@b.org> ORCPT=a@b.org",
        "RCPT TO:<a@b.org> ORCPT=rfc822;a+0Ab",
    ] {
        assert!(matches!(parse(line), Err(Misbehaved::Parameter(_))), "{line}");
    }
}

#[test]
fn utf8_addresses_need_smtputf8() {
    assert_eq!(parse("MAIL FROM:<ü@b.org>"), Err(Misbehaved::NotAscii));
    assert_eq!(parse("RCPT TO:<ü@b.org>"), Err(Misbehaved::NotAscii));
    assert_eq!(parse("RCPT TO:<a@bücher.example>"), Err(Misbehaved::NotAscii));
    assert_eq!(mail("MAIL FROM:<ü@b.org> SMTPUTF8").path.to_string(), "ü@b.org");
    assert!(Command::parse("RCPT TO:<ü@b.org>".as_bytes(), Charset::Utf8).is_ok());
}

fn split(wire: &[u8]) -> Vec<Result<Vec<u8>, Misbehaved>> {
    let mut splitter = LineSplitter::commands();
    let mut input = BytesMut::from(wire);
    std::iter::from_fn(|| splitter.next_line(&mut input)).map(|line| line.map(|l| l.to_vec())).collect()
}

#[test]
fn only_crlf_ends_a_line() {
    assert_eq!(split(b"NOOP\r\nQUIT\r\nx"), [Ok(b"NOOP".to_vec()), Ok(b"QUIT".to_vec())]);
    assert_eq!(split(b"NOOP\nQUIT\r\n"), [Err(Misbehaved::BareLineFeed), Ok(b"QUIT".to_vec())]);
    assert_eq!(
        split(b"NO\rRSET\nRSET\r\nQUIT\r\n"),
        [Err(Misbehaved::BareCarriageReturn), Ok(b"QUIT".to_vec())]
    );
}

#[test]
fn a_line_over_the_limit_is_reported_once_and_skipped() {
    let at_limit = [vec![b'x'; COMMAND_LINE_LIMIT - 2], b"\r\n".to_vec()].concat();
    assert_eq!(split(&at_limit).len(), 1);
    assert!(split(&at_limit)[0].is_ok());
    let over = [vec![b'x'; COMMAND_LINE_LIMIT - 1], b"\r\nQUIT\r\n".to_vec()].concat();
    assert_eq!(split(&over), [Err(Misbehaved::LineTooLong), Ok(b"QUIT".to_vec())]);
    let sasl = [b"AUTH PLAIN ".to_vec(), vec![b'A'; 8000], b"\r\n".to_vec()].concat();
    assert!(split(&sasl)[0].is_ok());
}

#[test]
fn a_hundred_megabytes_without_an_end_of_line_cost_no_memory() {
    let mut splitter = LineSplitter::commands();
    let mut input = BytesMut::new();
    let mut reported = 0;
    for _ in 0..1600 {
        input.extend_from_slice(&[b'x'; 65_536]);
        while let Some(line) = splitter.next_line(&mut input) {
            assert_eq!(line, Err(Misbehaved::LineTooLong));
            reported += 1;
        }
        assert!(input.len() <= 65_536);
    }
    assert_eq!(reported, 1);
}

const LIMITS: ContentLimits = ContentLimits { size: 1000, line: 100 };

fn decode(wire: &[u8]) -> (Result<Vec<u8>, Flaw>, Step) {
    let mut content = Content::new(LIMITS);
    let step = DataDecoder::new().push(wire, &mut content);
    (content.finish().map(|bytes| bytes.to_vec()), step)
}

#[test]
fn dots_are_removed_and_the_end_is_found() {
    for (wire, want) in [
        (&b".\r\n"[..], &b""[..]),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..a\r\n.\r\n", b".a\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
        (b"a\r\n.b\r\n.\r\n", b"a\r\nb\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
    ] {
        let followed = [wire, b"QUIT\r\n"].concat();
        let (content, step) = decode(&followed);
        assert_eq!(content.as_deref(), Ok(want), "{}", wire.escape_ascii());
        assert_eq!(step, Step { consumed: wire.len(), ended: true });
    }
}

#[test]
fn nothing_but_crlf_dot_crlf_ends_data() {
    for (false_end, flaw) in [
        (&b"\n.\n"[..], Flaw::BareLineFeed),
        (b"\n.\r\n", Flaw::BareLineFeed),
        (b"\r.\r\n", Flaw::BareCarriageReturn),
        (b"\r\n.\r", Flaw::BareCarriageReturn),
        (b"\r\n.\n", Flaw::BareLineFeed),
        (b"\r.\r", Flaw::BareCarriageReturn),
        (b"\r\n\0.\r\n", Flaw::Nul),
        (b"\r\n.\0\r\n", Flaw::Nul),
        (b"\r\r\n.\r\r\n", Flaw::BareCarriageReturn),
    ] {
        let wire = [b"a", false_end, b"MAIL FROM:<b@c.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"].concat();
        let (content, step) = decode(&wire);
        assert_eq!(content, Err(flaw), "{}", false_end.escape_ascii());
        assert_eq!(step, Step { consumed: wire.len() - 6, ended: true }, "{}", false_end.escape_ascii());
    }
}

#[test]
fn content_over_a_limit_is_refused_and_not_kept() {
    assert_eq!(decode(&[&[b'x'; 99][..], b"\r\n.\r\n"].concat()).0, Err(Flaw::LineTooLong));
    assert!(decode(&[&[b'x'; 98][..], b"\r\n.\r\n"].concat()).0.is_ok());
    let lines = b"0123456789abcdefghij1234567\r\n".repeat(40);
    let mut content = Content::new(LIMITS);
    DataDecoder::new().push(&lines, &mut content);
    assert_eq!((content.flaw(), content.len()), (Some(Flaw::TooBig), 0));
}

#[test]
fn a_chunk_takes_exactly_its_octets() {
    let mut content = Content::new(LIMITS);
    let mut chunk = ChunkReceiver::new(5);
    assert_eq!(chunk.push(b"ab", &mut content), Step { consumed: 2, ended: false });
    assert_eq!(chunk.push(b"\r\ncQUIT\r\n", &mut content), Step { consumed: 3, ended: true });
    assert!(ChunkReceiver::new(0).is_complete());
    assert_eq!(content.finish().as_deref(), Ok(&b"ab\r\nc\r\n"[..]));
}

#[test]
fn content_is_encoded_with_doubled_dots_and_an_end() {
    for (content, want) in [
        (&b""[..], &b".\r\n"[..]),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n..\r\n", b"..\r\n...\r\n.\r\n"),
        (b"a\r\n.b\r\n.", b"a\r\n..b\r\n..\r\n.\r\n"),
    ] {
        assert_eq!(DataEncoder::new(content).unwrap().to_vec(), want, "{}", content.escape_ascii());
    }
    assert_eq!(DataEncoder::new(b"a\n.\nb").err(), Some(Flaw::BareLineFeed));
    assert_eq!(DataEncoder::new(b"a\r.\r\n").err(), Some(Flaw::BareCarriageReturn));
    assert_eq!(DataEncoder::new(b"a\r").err(), Some(Flaw::BareCarriageReturn));
}

fn answers(wire: &[u8]) -> Result<Vec<Answer>, Misbehaved> {
    let mut reader = AnswerReader::new();
    let mut input = BytesMut::from(wire);
    let mut all = Vec::new();
    while let Some(answer) = reader.next_answer(&mut input)? {
        all.push(answer);
    }
    Ok(all)
}

#[test]
fn answers_of_several_lines_are_put_together() {
    let all = answers(b"250-mx.example.org hi\r\n250-SIZE 1000\r\n250-auth plain LOGIN\r\n250 STARTTLS\r\n550 5.1.1 no\r\n221\r\n");
    let [ehlo, no, bye] = &all.unwrap()[..] else { panic!("not three") };
    let offered = Offered::from_answer(ehlo);
    assert_eq!((offered.name.as_str(), offered.size, offered.starttls), ("mx.example.org", Some(1000), true));
    assert_eq!(offered.mechanisms, ["PLAIN", "LOGIN"]);
    assert!(!offered.pipelining);
    assert_eq!((no.code, no.status), (550, Some(Status::new(5, 1, 1))));
    assert_eq!((bye.code, bye.is_success()), (221, true));
}

#[test]
fn answers_that_are_none_are_refused() {
    for (wire, want) in [
        (&b"250-a\r\n251 b\r\n"[..], Misbehaved::CodeChanges),
        (b"hello\r\n", Misbehaved::Reply),
        (b"150 x\r\n", Misbehaved::Reply),
        (b"650 x\r\n", Misbehaved::Reply),
        (b"25\r\n", Misbehaved::Reply),
        (b"250x\r\n", Misbehaved::Reply),
        (b"250 x\n", Misbehaved::BareLineFeed),
    ] {
        assert_eq!(answers(wire), Err(want), "{}", wire.escape_ascii());
    }
    assert_eq!(answers(&b"250-x\r\n".repeat(200)), Err(Misbehaved::TooManyLines));
    assert_eq!(answers(&[b'2'; 5000]), Err(Misbehaved::LineTooLong));
}

#[test]
fn our_answer_to_ehlo_reads_back() {
    let extensions = Extensions { size: 52_428_800, starttls: StartTls::Offered, sasl: Sasl::Offered };
    let wire = extensions.answer(&Domain::parse("mx.example.org").unwrap()).to_wire();
    let offered = Offered::from_answer(&answers(wire.as_bytes()).unwrap()[0]);
    let want = Offered {
        name: "mx.example.org".into(),
        eight_bit: true,
        chunking: true,
        dsn: true,
        enhanced_status: true,
        pipelining: true,
        size: Some(52_428_800),
        smtputf8: true,
        starttls: true,
        mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
    };
    assert_eq!(offered, want);
    let hidden = Extensions::mx(1, StartTls::Hidden).keywords().join(" ");
    assert!(!hidden.contains("STARTTLS") && !hidden.contains("AUTH"));
}

#[test]
fn in_front_of_another_server_we_offer_what_both_have_and_its_size() {
    let own = Extensions { size: 1, starttls: StartTls::Offered, sasl: Sasl::Offered };
    let behind = Offered { size: Some(10_240_000), eight_bit: true, ..Offered::default() };
    assert_eq!(own.keywords_behind(&behind), ["SIZE 10240000", "8BITMIME"]);
    let behind = Offered { pipelining: true, starttls: true, dsn: true, ..Offered::default() };
    assert_eq!(own.keywords_behind(&behind), ["PIPELINING", "DSN", "STARTTLS"]);
    let hidden = Extensions::mx(1, StartTls::Hidden);
    assert_eq!(hidden.keywords_behind(&behind), ["PIPELINING", "DSN"]);
}

#[test]
fn an_answer_is_passed_on_as_it_came() {
    for wire in
        ["250 ok\r\n", "250-mx.example.org\r\n250-PIPELINING\r\n250 SIZE 1000\r\n", "450 4.7.1 later\r\n"]
    {
        assert_eq!(answers(wire.as_bytes()).unwrap()[0].to_wire(), wire);
    }
}

#[test]
fn refusals_carry_the_codes_of_their_kind_and_no_control_characters() {
    for (line, want) in [
        ("FOO", "500 5.5.1"),
        ("EHLO", "501 5.5.4"),
        ("RCPT TO:<a>", "501 5.1.3"),
        ("MAIL FROM:<> X=1", "555 5.5.4"),
        ("RCPT TO:<ü@b.org>", "553 5.6.7"),
    ] {
        let wire = reply::refusal(&parse(line).unwrap_err()).to_wire();
        assert!(wire.starts_with(want), "{line}: {wire}");
        assert!(wire.is_ascii() && wire.ends_with("\r\n") && wire.matches('\r').count() == 1);
    }
}
