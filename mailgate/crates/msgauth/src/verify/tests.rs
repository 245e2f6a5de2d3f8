use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use mailgate_model::{Address, Domain, ManualClock, Span};
use mailgate_net::ResolverConfig;
use mailgate_store::Records;

use super::*;
use crate::{Algorithm, Signer};

const CONTENT: &str = "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: hi\r\n\
                       Date: Sat, 21 Nov 2026 04:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n \t\r\n\r\n";

/// A world with one name server, which knows everything there is.
struct World {
    zone: Arc<InMemoryZoneHandler>,
    verifier: Verifier,
    signer: Signer,
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

impl World {
    async fn new() -> Self {
        let zone =
            Arc::new(InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, None));
        let mut catalog = Catalog::new();
        catalog.upsert(Name::root().into(), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        tokio::spawn(async move { server.block_until_done().await });
        // Longer than a busy machine takes to answer itself.
        let world = Self::asking(zone, address, Span::from_secs(20));
        world.add(".", RData::SOA(SOA::new(name("ns."), name("postmaster."), 1, 60, 60, 600, 1))).await;
        world.txt("example.org", "v=spf1 ip4:192.0.2.1 -all").await;
        world.txt("_dmarc.example.org", "v=DMARC1; p=reject").await;
        world.add("mx.example.org", RData::A(A::new(192, 0, 2, 1))).await;
        world.add("1.2.0.192.in-addr.arpa", RData::PTR(PTR(name("mx.example.org")))).await;
        world
    }

    fn asking(zone: Arc<InMemoryZoneHandler>, address: SocketAddr, timeout: Span) -> Self {
        let config = ResolverConfig { servers: vec![address], timeout };
        let resolver = Resolver::new(&config).unwrap();
        let records = Records::memory(Arc::new(ManualClock::default())).unwrap();
        Self { zone, verifier: Verifier::new(&resolver, "mx.example.net"), signer: Signer::new(records) }
    }

    async fn add(&self, owner: &str, data: RData) {
        assert!(self.zone.upsert(Record::from_rdata(name(owner), 1, data), 1).await);
    }

    async fn txt(&self, owner: &str, text: &str) {
        let parts: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
        self.add(owner, RData::TXT(TXT::from_bytes(parts))).await;
    }

    async fn key(&self, selector: &str, algorithm: Algorithm) {
        let key = self
            .signer
            .create_key(&Domain::parse("example.org").unwrap(), selector, algorithm)
            .await
            .unwrap();
        self.txt(&key.name, &key.record).await;
    }

    async fn signed(&self, content: &str) -> String {
        let fields =
            self.signer.sign(&Domain::parse("example.org").unwrap(), content.as_bytes()).await.unwrap();
        fields.unwrap_or_default() + content
    }

    async fn verify(&self, ip: [u8; 4], content: &str) -> Verified {
        let client = Client::new(SocketAddr::from((ip, 4000)), SocketAddr::from(([203, 0, 113, 1], 25)));
        let path = ReversePath::Address(Address::parse("alice@example.org").unwrap());
        self.verifier.verify(&client, "mx.example.org", &path, content.as_bytes()).await
    }
}

#[tokio::test]
async fn a_signed_message_from_the_right_host_passes_everything() {
    let world = World::new().await;
    world.key("one", Algorithm::Rsa).await;
    world.key("two", Algorithm::Ed25519).await;
    let content = world.signed(CONTENT).await;
    assert_eq!(content.matches("DKIM-Signature:").count(), 2, "{content}");
    let verified = world.verify([192, 0, 2, 1], &content).await;
    let all = [verified.iprev, verified.spf, verified.dkim, verified.dmarc];
    assert_eq!(all, [Verdict::Pass; 4], "{}", verified.header);
    assert!(verified.header.starts_with("Authentication-Results: mx.example.net;"), "{}", verified.header);
    assert!(verified.header.ends_with("\r\n") && !verified.header.trim_end().contains("\n\n"));
    assert_eq!(verified.header.matches("dkim=pass").count(), 2, "{}", verified.header);
}

#[tokio::test]
async fn a_forged_message_fails_and_the_policy_asks_for_rejection() {
    let world = World::new().await;
    let verified = world.verify([198, 51, 100, 7], CONTENT).await;
    assert_eq!((verified.spf, verified.dkim, verified.dmarc), (Verdict::Fail, Verdict::None, Verdict::Fail));
    assert!(verified.wants_reject());
}

#[tokio::test]
async fn a_message_changed_on_the_way_fails_dkim() {
    let world = World::new().await;
    world.key("one", Algorithm::Rsa).await;
    let content = world.signed(CONTENT).await.replace("Hello", "Hullo");
    let verified = world.verify([192, 0, 2, 1], &content).await;
    assert_eq!(verified.dkim, Verdict::Fail);
    assert!(
        verified.header.contains("dkim=fail") && verified.header.contains("header.s=one"),
        "{}",
        verified.header
    );
    let content = world.signed(CONTENT).await.replace("Subject: hi", "Subject: ho");
    assert_eq!(world.verify([192, 0, 2, 1], &content).await.dkim, Verdict::Fail);
    let content = world.signed(CONTENT).await.replacen(
        "From: Alice",
        "From: Mallory <m@example.com>\r\nFrom: Alice",
        1,
    );
    assert_ne!(world.verify([192, 0, 2, 1], &content).await.dkim, Verdict::Pass);
}

#[tokio::test]
async fn a_name_server_that_is_silent_is_never_a_rejection() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let zone = Arc::new(InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, None));
    let world = World::asking(zone, silent.local_addr().unwrap(), Span::from_millis(500));
    let verified = world.verify([192, 0, 2, 1], CONTENT).await;
    assert_eq!(
        (verified.spf, verified.iprev),
        (Verdict::TempError, Verdict::TempError),
        "{}",
        verified.header
    );
    assert!(!verified.wants_reject());
}

#[tokio::test]
async fn a_relaxed_body_that_ends_with_white_space_lines_verifies() {
    // What another signer computes: relaxed canonicalisation removes the last lines, mail-auth's does not.
    let world = World::new().await;
    let trimmed_content = "From: alice@example.org\r\nSubject: hi\r\n\r\nhi\r\n";
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&key).unwrap();
    let private = rustls_pki_types::PrivateKeyDer::Pkcs8(der.as_ref().into());
    let signing =
        mail_auth::common::crypto::RsaKey::<mail_auth::common::crypto::Sha256>::from_key_der(private)
            .unwrap();
    let public = {
        use aws_lc_rs::signature::KeyPair as _;
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(key.public_key()).unwrap();
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der.as_ref())
    };
    world.txt("r._domainkey.example.org", &format!("v=DKIM1; k=rsa; p={public}")).await;
    let signature = mail_auth::dkim::DkimSigner::from_key(signing)
        .domain("example.org")
        .selector("r")
        .headers(["From", "Subject"])
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Relaxed)
        .sign(trimmed_content.as_bytes())
        .unwrap()
        .to_header();
    let sent = format!("{signature}{trimmed_content} \r\n\t\r\n");
    assert_eq!(world.verify([192, 0, 2, 1], &sent).await.dkim, Verdict::Pass);
    let changed = sent.replace("hi\r\n \r\n", "ho\r\n \r\n");
    assert_eq!(world.verify([192, 0, 2, 1], &changed).await.dkim, Verdict::Fail);
}

#[tokio::test]
async fn texts_of_strangers_cannot_break_out_of_the_field() {
    let world = World::new().await;
    let client =
        Client::new(SocketAddr::from(([192, 0, 2, 1], 4000)), SocketAddr::from(([203, 0, 113, 1], 25)));
    let helo = "x\r\nX-Injected: yes";
    let verified = world.verifier.verify(&client, helo, &ReversePath::Null, b"\r\n\xff\xfe").await;
    assert!(!verified.header.contains("\nX-Injected"), "{}", verified.header);
}

/// What a reader of the field could take for results: everything outside of comments and quotes, cut at `;`.
fn results(field: &str) -> Vec<String> {
    let (mut plain, mut depth, mut quoted, mut escaped) = (String::new(), 0, false, false);
    for c in field.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            _ => plain.push(c),
        }
    }
    plain
        .split(';')
        .skip(1)
        .map(|part| part.split_whitespace().next().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn no_address_of_a_stranger_adds_a_result() {
    let world = World::new().await;
    let client =
        Client::new(SocketAddr::from(([198, 51, 100, 7], 4000)), SocketAddr::from(([203, 0, 113, 1], 25)));
    let evil = [
        r#""x) ; dkim=pass header.d=bank.test ("@example.org"#,
        r#""a;dkim=pass"@example.org"#,
        r#""a\"; dkim=pass; b=\""@example.org"#,
        r#""a\\"@example.org"#,
    ];
    for from in evil {
        let path = ReversePath::Address(Address::parse(from).unwrap());
        let content = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=y; h=from; i={from}; bh=AAAA; b=AAAA\r\nFrom: {from}\r\n\r\nx\r\n"
        );
        for helo in ["x); dkim=pass (", "x;dkim=pass", "[192.0.2.1]", "", "mx.example.org"] {
            let verified = world.verifier.verify(&client, helo, &path, content.as_bytes()).await;
            let results = results(&verified.header);
            assert!(
                !results.iter().any(|result| result == "dkim=pass"),
                "{from} {helo}: {}",
                verified.header
            );
            let count = |name: &str| results.iter().filter(|result| result.starts_with(name)).count();
            assert_eq!((count("iprev="), count("spf="), count("dmarc=")), (1, 1, 1), "{}", verified.header);
            assert!(is_fit(&verified.header), "{}", verified.header);
        }
    }
}

#[tokio::test]
async fn thousands_of_signatures_make_neither_a_long_field_nor_many_questions() {
    let world = World::new().await;
    let identity = "i".repeat(2000);
    let long = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=y; h=from; i=@{identity}.x.test; bh=AAAA; b=AAAA\r\n"
    );
    let content = "DKIM-Signature: nonsense\r\n".repeat(2000) + &long.repeat(50) + CONTENT;
    let verified = world.verify([192, 0, 2, 1], &content).await;
    assert!(is_fit(&verified.header) && verified.header.len() <= FIELD_LIMIT, "{}", verified.header.len());
    assert_ne!(verified.dkim, Verdict::Pass);
}

#[tokio::test]
async fn a_message_nested_forty_thousand_times_is_checked_like_any_other() {
    let world = World::new().await;
    world.key("one", Algorithm::Ed25519).await;
    let bomb = "Content-Type: message/rfc822\r\n\r\n".repeat(40_000);
    let content = world.signed(&format!("From: alice@example.org\r\n{bomb}")).await;
    assert_eq!(world.verify([192, 0, 2, 1], &content).await.dkim, Verdict::Pass);
}

#[tokio::test]
async fn a_domain_that_publishes_nothing_has_no_results() {
    let world = World::new().await;
    let client =
        Client::new(SocketAddr::from(([198, 51, 100, 7], 4000)), SocketAddr::from(([203, 0, 113, 1], 25)));
    let path = ReversePath::Address(Address::parse("a@nothing.test").unwrap());
    let content = b"From: a@nothing.test\r\n\r\nx\r\n";
    let verified = world.verifier.verify(&client, "mx.nothing.test", &path, content).await;
    let found = (verified.spf, verified.dkim, verified.dmarc);
    assert_eq!(found, (Verdict::None, Verdict::None, Verdict::None), "{}", verified.header);
    assert_ne!(verified.iprev, Verdict::Pass);
}

#[tokio::test]
async fn the_null_reverse_path_is_judged_by_the_name_of_the_host() {
    let world = World::new().await;
    world.txt("mx.example.org", "v=spf1 a -all").await;
    let local = SocketAddr::from(([203, 0, 113, 1], 25));
    for (ip, want) in [([192, 0, 2, 1], Verdict::Pass), ([198, 51, 100, 7], Verdict::Fail)] {
        let client = Client::new(SocketAddr::from((ip, 4000)), local);
        let verified =
            world.verifier.verify(&client, "MX.example.org", &ReversePath::Null, CONTENT.as_bytes()).await;
        assert_eq!(verified.spf, want, "{}", verified.header);
        assert!(verified.header.contains("smtp.helo=mx.example.org"), "{}", verified.header);
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_temporary_for_every_check() {
    // Without a zone the server answers REFUSED to everything.
    let mut server = Server::new(Catalog::new());
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    server.register_socket(udp);
    tokio::spawn(async move { server.block_until_done().await });
    let zone = Arc::new(InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, None));
    let world = World::asking(zone, address, Span::from_secs(20));
    world.signer.create_key(&Domain::parse("example.org").unwrap(), "one", Algorithm::Ed25519).await.unwrap();
    let content = world.signed(CONTENT).await;
    let verified = world.verify([192, 0, 2, 1], &content).await;
    let all = [verified.iprev, verified.spf, verified.dkim, verified.dmarc];
    assert_eq!(all, [Verdict::TempError; 4], "{}", verified.header);
    assert!(!verified.wants_reject());
}

#[tokio::test]
async fn dmarc_wants_the_names_to_belong_together() {
    let world = World::new().await;
    world.txt("other.test", "v=spf1 ip4:192.0.2.1 -all").await;
    let client =
        Client::new(SocketAddr::from(([192, 0, 2, 1], 4000)), SocketAddr::from(([203, 0, 113, 1], 25)));
    let path = ReversePath::Address(Address::parse("spam@other.test").unwrap());
    let verified = world.verifier.verify(&client, "mx.other.test", &path, CONTENT.as_bytes()).await;
    assert_eq!((verified.spf, verified.dmarc), (Verdict::Pass, Verdict::Fail), "{}", verified.header);
    assert!(verified.wants_reject());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn trimming_keeps_the_relaxed_body(body in "[a \t\r\n]{0,40}") {
        let body = body.replace('\n', "").replace('\r', "\r\n");
        let content = format!("From: a@b.test\r\n\r\n{body}");
        if let Some(trimmed) = trimmed(content.as_bytes()) {
            proptest::prop_assert!(content.as_bytes().starts_with(&trimmed));
            let lost = &content.as_bytes()[trimmed.len()..];
            proptest::prop_assert!(lost.iter().all(|byte| b" \t\r\n".contains(byte)));
        }
    }
}

#[tokio::test]
async fn a_second_author_recipient_or_subject_breaks_the_signature() {
    let world = World::new().await;
    world.key("one", Algorithm::Rsa).await;
    let signed = world.signed(CONTENT).await;
    for added in ["From: m@example.com\r\n", "To: m@example.com\r\n", "Subject: other\r\n"] {
        let before = format!("{added}{signed}");
        assert_eq!(world.verify([192, 0, 2, 1], &before).await.dkim, Verdict::Fail, "{added} in front");
        let after = signed.replacen("\r\n\r\n", &format!("\r\n{added}\r\n"), 1);
        assert_eq!(world.verify([192, 0, 2, 1], &after).await.dkim, Verdict::Fail, "{added} at the end");
    }
    let traced = format!("Received: from x by y; Sat, 21 Nov 2026 04:00:00 +0000\r\n{signed}");
    assert_eq!(
        world.verify([192, 0, 2, 1], &traced).await.dkim,
        Verdict::Pass,
        "a trace field breaks nothing"
    );
}
