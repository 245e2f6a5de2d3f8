use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use mailgate_model::{Address, Domain, ManualClock};
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
        let world = Self::asking(zone, address);
        world.add(".", RData::SOA(SOA::new(name("ns."), name("postmaster."), 1, 60, 60, 600, 1))).await;
        world.txt("example.org", "v=spf1 ip4:192.0.2.1 -all").await;
        world.txt("_dmarc.example.org", "v=DMARC1; p=reject").await;
        world.add("mx.example.org", RData::A(A::new(192, 0, 2, 1))).await;
        world.add("1.2.0.192.in-addr.arpa", RData::PTR(PTR(name("mx.example.org")))).await;
        world
    }

    fn asking(zone: Arc<InMemoryZoneHandler>, address: SocketAddr) -> Self {
        let config =
            ResolverConfig { servers: vec![address], timeout: mailgate_model::Span::from_millis(500) };
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
    // mail-auth calls a body that does not match `neutral`, a header section that does not match `fail`.
    let content = world.signed(CONTENT).await.replace("Hello", "Hullo");
    assert_eq!(world.verify([192, 0, 2, 1], &content).await.dkim, Verdict::Neutral);
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
    let world = World::asking(zone, silent.local_addr().unwrap());
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
    assert_eq!(world.verify([192, 0, 2, 1], &changed).await.dkim, Verdict::Neutral);
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
