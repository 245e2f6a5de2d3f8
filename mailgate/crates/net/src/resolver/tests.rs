use std::net::SocketAddr;
use std::time::Instant;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX, NS, PTR, TXT};
use tokio::net::UdpSocket;

use mailgate_model::{Permanence, Span};

use super::*;

/// What the server of a test says to one question.
enum Say {
    Code(ResponseCode),
    Nothing,
    /// Name servers of somebody else, and no answer.
    Referral,
    Records(Vec<RData>),
}

fn answer(name: &str, wanted: RecordType) -> Say {
    let host = |text: &str| Name::from_ascii(text).unwrap();
    match (name, wanted) {
        ("a.test.", RecordType::MX) => Say::Records(vec![
            RData::MX(MX::new(20, host("Second.test."))),
            RData::MX(MX::new(10, host("first.test."))),
        ]),
        ("null.test.", RecordType::MX) => Say::Records(vec![RData::MX(MX::new(0, Name::root()))]),
        ("first.test.", RecordType::A) => Say::Records(vec![RData::A(A::new(192, 0, 2, 9))]),
        ("first.test.", RecordType::AAAA) => {
            Say::Records(vec![RData::AAAA(AAAA::new(0, 0, 0, 0, 0, 0, 0, 9))])
        }
        ("half.test.", RecordType::A) => Say::Records(vec![RData::A(A::new(192, 0, 2, 8))]),
        ("half.test." | "broken.test.", _) => Say::Code(ResponseCode::ServFail),
        ("refused.test.", _) => Say::Code(ResponseCode::Refused),
        (name, _) if name.ends_with("silent.test.") => Say::Nothing,
        ("referred.test.", _) => Say::Referral,
        ("empty.test.", _) => Say::Records(vec![]),
        ("txt.test.", RecordType::TXT) => {
            Say::Records(vec![RData::TXT(TXT::new(vec!["v=spf1 ".into(), "-all".into()]))])
        }
        ("9.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            Say::Records(vec![RData::PTR(PTR(host("liar.test."))), RData::PTR(PTR(host("FIRST.test.")))])
        }
        ("7.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            Say::Records(vec![RData::PTR(PTR(host("first.test.")))])
        }
        ("4.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            let names = (0..9).map(|n| RData::PTR(PTR(host(&format!("{n}.silent.test.")))));
            Say::Records(names.collect())
        }
        ("6.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            Say::Records(vec![RData::PTR(PTR(host("broken.test.")))])
        }
        _ => Say::Code(ResponseCode::NXDomain),
    }
}

/// A server on loopback that answers as [`answer`] says.
async fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let query = asked.queries[0].clone();
            let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
            reply.metadata.recursion_available = true;
            match answer(&query.name().to_ascii().to_lowercase(), query.query_type()) {
                Say::Nothing => continue,
                Say::Referral => {
                    let ns = NS(Name::from_ascii("ns.elsewhere.").unwrap());
                    reply.add_authority(Record::from_rdata(query.name().clone(), 60, RData::NS(ns)));
                }
                Say::Code(code) => reply.metadata.response_code = code,
                Say::Records(data) => {
                    reply.add_answers(
                        data.into_iter().map(|d| Record::from_rdata(query.name().clone(), 60, d)),
                    );
                }
            }
            reply.add_query(query);
            socket.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    address
}

/// How long a question may take: longer than a busy machine needs to answer itself.
const TIMEOUT: Span = Span::from_secs(10);
/// Time for everything but waiting, on a machine that is busy; with it still less than for two questions.
const BUSY: Duration = Duration::from_secs(9);

async fn resolver() -> Resolver {
    Resolver::new(&ResolverConfig { servers: vec![server().await], timeout: TIMEOUT }).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

#[tokio::test]
async fn exchangers_come_in_the_order_of_preference() {
    let found = resolver().await.mx(&domain("a.test")).await.unwrap();
    let found: Vec<(u16, &str)> = found.iter().map(|mx| (mx.preference, mx.host.as_str())).collect();
    assert_eq!(found, [(10, "first.test"), (20, "second.test")]);
}

#[tokio::test]
async fn a_null_mx_has_an_empty_host_and_no_mx_is_not_found() {
    let resolver = resolver().await;
    assert_eq!(resolver.mx(&domain("null.test")).await, Ok(vec![Mx { preference: 0, host: String::new() }]));
    assert_eq!(resolver.mx(&domain("empty.test")).await, Err(LookupError::NotFound));
    assert_eq!(resolver.mx(&domain("nowhere.test")).await, Err(LookupError::NotFound));
}

#[tokio::test]
async fn only_the_dns_itself_can_say_no() {
    let resolver = resolver().await;
    for name in ["broken.test", "refused.test", "referred.test"] {
        let error = resolver.mx(&domain(name)).await.unwrap_err();
        assert_eq!(error.permanence(), Permanence::Transient, "{name}: {error}");
        let error = resolver.addresses(name).await.unwrap_err();
        assert_eq!(error.permanence(), Permanence::Transient, "{name}: {error}");
    }
    assert_eq!(resolver.addresses("nowhere.test").await, Err(LookupError::NotFound));
}

#[tokio::test]
async fn silence_is_temporary_and_bounded() {
    let begun = Instant::now();
    let error = resolver().await.mx(&domain("silent.test")).await.unwrap_err();
    assert_eq!(error.permanence(), Permanence::Transient, "{error}");
    assert!(begun.elapsed() < TIMEOUT.duration() + BUSY, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reverse_name_of_a_silent_host_takes_no_longer_than_one_question() {
    let begun = Instant::now();
    let error = resolver().await.rdns("192.0.2.4".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.permanence(), Permanence::Transient, "{error}");
    assert!(begun.elapsed() < TIMEOUT.duration() + BUSY, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn addresses_of_both_families_are_found_and_one_family_is_enough() {
    let resolver = resolver().await;
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(resolver.addresses("first.test").await, Ok(vec![ip("::9"), ip("192.0.2.9")]));
    assert_eq!(resolver.addresses("half.test").await, Ok(vec![ip("192.0.2.8")]));
    assert_eq!(resolver.addresses("192.0.2.1").await, Err(LookupError::NotFound), "no host has such a name");
}

#[tokio::test]
async fn a_reverse_name_counts_only_when_it_leads_back() {
    let resolver = resolver().await;
    let rdns = async |text: &str| resolver.rdns(text.parse().unwrap()).await;
    assert_eq!(rdns("192.0.2.9").await, Ok(Some("first.test".into())));
    assert_eq!(rdns("::ffff:192.0.2.9").await, Ok(Some("first.test".into())));
    assert_eq!(rdns("192.0.2.7").await, Ok(None));
    assert_eq!(rdns("192.0.2.5").await, Ok(None));
    assert!(matches!(rdns("192.0.2.6").await, Err(LookupError::Temporary(_))));
}

#[tokio::test]
async fn strings_of_a_text_record_are_joined() {
    assert_eq!(resolver().await.txt("txt.test").await, Ok(vec!["v=spf1 -all".into()]));
}

#[tokio::test]
async fn names_the_dns_cannot_carry_are_not_found() {
    let resolver = resolver().await;
    for name in ["", ".", &format!("{}.test", "a".repeat(64)), "a..b"] {
        assert_eq!(resolver.txt(name).await, Err(LookupError::NotFound), "{name:?}");
    }
}
