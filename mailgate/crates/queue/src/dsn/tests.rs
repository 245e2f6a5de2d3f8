use mail_parser::{MessageParser, MimeHeaders, PartType};
use mailgate_model::IdGenerator;
use mailgate_store::spool::{RecipientRow, State};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_100_000);
const MESSAGE: &[u8] = b"From: a@example.org\r\nSubject: hello\r\n\r\nbody line\r\n";

fn settled(address: &str, notice: Notice, outcome: Outcome) -> Settled {
    let recipient = Recipient::plain(Address::parse(address).unwrap());
    let row = RecipientRow {
        number: 0,
        recipient,
        state: State::Queued,
        attempts: 3,
        next_attempt: NOW,
        delay_said: false,
        changed: NOW,
        outcome: None,
    };
    Settled { row, outcome, state: State::Failed, next_attempt: NOW, notice: Some(notice), delay_said: false }
}

fn failed(detail: &str) -> Outcome {
    Outcome::Failed {
        status: Status::new(5, 1, 1),
        remote: Some("mx.example.net[192.0.2.7]:25".to_owned()),
        detail: detail.to_owned(),
    }
}

fn envelope() -> Envelope {
    Envelope {
        reverse_path: ReversePath::Address("sender@example.org".parse().unwrap()),
        recipients: vec![],
        envid: Some("QQ314+2B159".to_owned()),
        ret: Some(DsnReturn::Full),
        smtputf8: false,
        eight_bit: false,
    }
}

fn written(notice: Notice, envelope: &Envelope, content: &'static [u8], concerned: &[&Settled]) -> Report {
    let ids = IdGenerator::new(1);
    let subject = Subject {
        hostname: &"mx.example.com".parse().unwrap(),
        original: ids.queue_id(Timestamp::from_secs(1_700_000_000)),
        now: NOW,
        arrived: Timestamp::from_secs(1_700_000_000),
        expiry: Timestamp::from_secs(1_700_432_000),
        envelope,
        content: &Bytes::from_static(content),
    };
    write(ids.queue_id(NOW), envelope.reverse_path.address().unwrap(), notice, &subject, concerned)
}

/// The text of a part, whatever kind the parser thinks it is.
fn part(report: &Report, number: usize) -> String {
    let message = MessageParser::default().parse(&report.content[..]).unwrap();
    let root = match &message.parts[0].body {
        PartType::Multipart(parts) => parts.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(root.len(), 3);
    let part = &message.parts[root[number] as usize];
    let range = part.offset_body as usize..part.offset_end as usize;
    String::from_utf8(report.content[range].to_vec()).unwrap()
}

fn kinds(report: &Report) -> Vec<String> {
    let message = MessageParser::default().parse(&report.content[..]).unwrap();
    let kind = |part: &mail_parser::MessagePart| {
        let kind = part.content_type().unwrap();
        format!("{}/{}", kind.c_type, kind.c_subtype.as_deref().unwrap())
    };
    let PartType::Multipart(parts) = &message.parts[0].body else { panic!("no multipart") };
    let mut kinds = vec![kind(&message.parts[0])];
    kinds.extend(parts.iter().map(|part| kind(&message.parts[*part as usize])));
    kinds
}

#[test]
fn a_failure_is_a_multipart_report_with_three_parts() {
    let one = settled("no@b.example", Notice::Failed, failed("550 5.1.1 no such user"));
    let report = written(Notice::Failed, &envelope(), MESSAGE, &[&one]);
    assert_eq!(
        kinds(&report),
        ["multipart/report", "text/plain", "message/delivery-status", "message/rfc822"]
    );
    let message = MessageParser::default().parse(&report.content[..]).unwrap();
    assert_eq!(message.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("sender@example.org"));
    assert_eq!(message.content_type().unwrap().attribute("report-type"), Some("delivery-status"));

    assert_eq!(report.envelope.reverse_path, ReversePath::Null);
    assert_eq!(report.envelope.recipients[0].address.to_string(), "sender@example.org");
    let notify = report.envelope.recipients[0].notify;
    assert!(!notify.failure && !notify.delay && !notify.success);

    let status = part(&report, 1);
    for line in [
        "Original-Envelope-Id: QQ314+159\r\n",
        "Reporting-MTA: dns; mx.example.com\r\n",
        "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\r\nFinal-Recipient: rfc822; no@b.example\r\n",
        "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.net\r\n",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
    ] {
        assert!(status.contains(line), "{line:?} is not in\n{status}");
    }
    assert!(!status.contains("Original-Recipient") && !status.contains("Will-Retry-Until"));
    assert!(part(&report, 2).contains("body line"));
}

#[test]
fn without_ret_full_only_the_header_section_goes_back() {
    let one = settled("no@b.example", Notice::Failed, failed("550 no"));
    for (notice, ret) in [
        (Notice::Failed, None),
        (Notice::Failed, Some(DsnReturn::Headers)),
        // RET speaks of failures only.
        (Notice::Delayed, Some(DsnReturn::Full)),
    ] {
        let report = written(notice, &Envelope { ret, ..envelope() }, MESSAGE, &[&one]);
        assert_eq!(kinds(&report)[3], "text/rfc822-headers");
        let returned = part(&report, 2);
        assert!(returned.contains("Subject: hello") && !returned.contains("body line"), "{returned}");
    }
}

#[test]
fn a_delay_says_until_when() {
    let outcome =
        Outcome::Deferred { status: Status::new(4, 4, 1), remote: None, detail: "no answer".into() };
    let one = settled("slow@b.example", Notice::Delayed, outcome);
    let report = written(Notice::Delayed, &envelope(), MESSAGE, &[&one]);
    let status = part(&report, 1);
    assert!(
        status.contains("Action: delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: x-mailgate; no answer\r\n")
    );
    assert!(status.contains("Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n"), "{status}");
}

#[test]
fn where_an_alias_leads_is_not_told() {
    let mut one = settled("secret@inner.example", Notice::Failed, failed("550 no"));
    one.row.recipient.original = ForwardPath::Address("sales@example.com".parse().unwrap());
    one.row.recipient.orcpt = Some("rfc822;sal+65s@example.com".to_owned());
    let report = written(Notice::Failed, &envelope(), MESSAGE, &[&one]);
    let status = part(&report, 1);
    assert!(status.contains("Final-Recipient: rfc822; sales@example.com\r\n"));
    assert!(status.contains("Original-Recipient: rfc822; sales@example.com\r\n"));
    assert!(!String::from_utf8_lossy(&report.content).contains("inner.example"));
}

#[test]
fn international_addresses_make_an_international_report() {
    let one = settled("ü@b.example", Notice::Failed, failed("550 no"));
    let report = written(Notice::Failed, &envelope(), MESSAGE, &[&one]);
    assert!(report.envelope.smtputf8 && report.envelope.eight_bit);
    assert_eq!(kinds(&report)[2], "message/global-delivery-status");
    assert!(String::from_utf8_lossy(&report.content).contains("Final-Recipient: utf-8; ü@b.example\r\n"));
}

#[test]
fn a_message_that_knows_the_boundary_does_not_break_out() {
    let one = settled("no@b.example", Notice::Failed, failed("550 no"));
    let id = written(Notice::Failed, &envelope(), MESSAGE, &[&one]).id;
    let hostile = format!("Subject: x\r\n\r\n--=_{id}.0--\r\nescaped\r\n").into_bytes();
    let report = written(Notice::Failed, &envelope(), Vec::leak(hostile), &[&one]);
    assert!(part(&report, 2).contains("escaped"));
}

#[test]
fn an_endless_header_section_is_cut_at_a_line() {
    let one = settled("no@b.example", Notice::Failed, failed("550 no"));
    let long = "X-Long: 0123456789\r\n".repeat(10_000).into_bytes();
    let report = written(Notice::Failed, &Envelope { ret: None, ..envelope() }, Vec::leak(long), &[&one]);
    assert!(report.content.len() < HEADER_LIMIT + 4096);
    assert!(part(&report, 2).trim_end().ends_with("0123456789"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_of_a_stranger_adds_a_line(
        detail in "(?s).{0,60}", envid in "[!-~\r\n]{0,20}", orcpt in "[a-z0-9;+\r\n =]{0,30}", remote in "(?s).{0,30}",
    ) {
        let outcome = |detail: &str, remote: &str| Outcome::Failed {
            status: Status::new(5, 0, 0), remote: Some(remote.to_owned()), detail: detail.to_owned(),
        };
        let lines = |detail: &str, envid: &str, orcpt: &str, remote: &str| {
            let mut one = settled("no@b.example", Notice::Failed, outcome(detail, remote));
            one.row.recipient.orcpt = Some(orcpt.to_owned());
            let envelope = Envelope { envid: Some(envid.to_owned()), ..envelope() };
            let report = written(Notice::Failed, &envelope, MESSAGE, &[&one]);
            let text = String::from_utf8_lossy(&report.content).into_owned();
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
            // Fields that come or go with a value that is no xtext, or with an empty text.
            let optional = ["Original-Envelope-Id:", "Original-Recipient:", "Diagnostic-Code:", "    "];
            text.split("\r\n").filter(|line| !optional.iter().any(|name| line.starts_with(name))).count()
        };
        proptest::prop_assert_eq!(lines(&detail, &envid, &orcpt, &remote), lines("x", "x", "rfc822;x", "x"));
    }
}
