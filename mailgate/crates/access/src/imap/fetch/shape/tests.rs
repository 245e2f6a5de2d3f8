use bytes::Bytes;
use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder as _;

use super::*;
use crate::mime::Structure;

fn open(message: &str) -> Opened {
    let content = Bytes::copy_from_slice(message.as_bytes());
    Opened { structure: Structure::parse(&content), content }
}

fn shape(message: &str, detail: Detail) -> String {
    let mut out = Writer::new();
    write(&open(message), 0, detail, &mut out);
    String::from_utf8_lossy(&out.take()).into_owned()
}

fn envelope_of(message: &str) -> String {
    let opened = open(message);
    let mut out = Writer::new();
    envelope::write(section::header(&opened, 0), &mut out);
    String::from_utf8_lossy(&out.take()).into_owned()
}

/// An independent implementation of the client's side must read what we write.
fn assert_read_by_another(message: &str) {
    for (item, text) in [
        ("BODY", shape(message, Detail::Basic)),
        ("BODYSTRUCTURE", shape(message, Detail::Extended)),
        ("ENVELOPE", envelope_of(message)),
    ] {
        let wire = format!("* 1 FETCH ({item} {text})\r\n");
        let read = ResponseCodec::new().decode(wire.as_bytes());
        let (rest, _) = read.unwrap_or_else(|error| panic!("{error:?}: {wire}"));
        assert!(rest.is_empty(), "{wire}");
    }
}

const MIXED: &str = "Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\nFrom: Fred Foobar <foobar@Blurdybloop.COM>\r\n\
    Subject: afternoon \"meeting\"\r\nTo: mooch@owatagu.siam.edu, Group: a@b, c;\r\nMessage-Id: <B27397-0100000@B>\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\
    Content-Language: en, de\r\n\r\nHello\r\nJoe\r\n--A\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nFrom: x@y\r\n\r\n\
    inner\r\n--A\r\nContent-Type: image/png; name=\"a b.png\"\r\nContent-ID: <i@d>\r\nContent-Transfer-Encoding: BASE64\r\n\
    Content-Disposition: attachment; filename=\"a\\\"b.png\"\r\n\r\naGk=\r\n--A--\r\n";

#[test]
fn a_mixed_message_is_told_as_the_standard_shows() {
    assert_eq!(
        shape(MIXED, Detail::Extended),
        "((\"text\" \"plain\" (\"charset\" \"US-ASCII\") NIL NIL \"7bit\" 10 1 NIL NIL (\"en\" \"de\") NIL)\
         (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 31 (NIL \"in\" ((NIL NIL \"x\" \"y\")) ((NIL NIL \"x\" \"y\")) \
         ((NIL NIL \"x\" \"y\")) NIL NIL NIL NIL NIL) (\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 0 NIL NIL NIL NIL) 3 \
         NIL NIL NIL NIL)(\"image\" \"png\" (\"name\" \"a b.png\") \"<i@d>\" NIL \"base64\" 4 NIL (\"attachment\" \
         (\"filename\" \"a\\\"b.png\")) NIL NIL) \"mixed\" (\"boundary\" \"A\") NIL NIL NIL)"
    );
    assert_eq!(
        envelope_of(MIXED),
        "(\"Mon, 7 Feb 1994 21:52:25 -0800 (PST)\" \"afternoon \\\"meeting\\\"\" \
         ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.COM\")) ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.COM\")) \
         ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.COM\")) ((NIL NIL \"mooch\" \"owatagu.siam.edu\")\
         (NIL NIL \"Group\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"\")(NIL NIL NIL NIL)) NIL NIL NIL \
         \"<B27397-0100000@B>\")"
    );
}

#[test]
fn what_we_write_is_read_by_another_implementation() {
    for message in [
        MIXED,
        "",
        "no header at all",
        "Subject: only\r\n",
        "Subject: =?utf-8?q?x?=\r\nFrom: \"a\\\\b\" <>\r\nTo: ;,<@>\r\n\r\n",
        "Content-Type: multipart/mixed\r\n\r\nx",
        "Content-Type: multipart/mixed; boundary=A\r\n\r\nnothing",
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==",
        "Content-Type: message/rfc822\r\n\r\n",
        "Content-Type: nonsense; =; x\r\nContent-Disposition: ;\r\n\r\n",
        "Content-Type: text/html; name*0*=utf-8''a; name*1=b\r\nContent-MD5: Q2hlY2s=\r\nContent-Location: x\r\n\r\nx",
    ] {
        assert_read_by_another(message);
    }
    // The other implementation does not read this deep; ours must still be well-formed and small.
    let bomb = shape(&"Content-Type: message/rfc822\r\n\r\n".repeat(40_000), Detail::Extended);
    assert_eq!(bomb.matches('(').count(), bomb.matches(')').count());
    assert!(bomb.len() < 20_000);
}

proptest::proptest! {
    #[test]
    fn whatever_the_message_the_response_is_read_by_another_implementation(pieces in proptest::collection::vec(
        proptest::sample::select(vec![
            "Content-Type: multipart/mixed; boundary=A\r\n", "Content-Type: text/plain; charset=\"x\\\"y\"\r\n",
            "Content-Type: message/rfc822\r\n", "--A\r\n", "--A--\r\n", "\r\n", "text\r\n", "From: a (b) <c@d>, e: f;\r\n",
            "Subject: ü\r\n", "Content-Disposition: inline; filename=x\r\n", "To: \"a\r\n", "Content-ID: \t<x>\r\n",
        ]), 0..25)) {
        assert_read_by_another(&pieces.concat());
    }
}
