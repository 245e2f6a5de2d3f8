use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

async fn certificate_seen(tls: &Tls, name: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (server, client) = tokio::join!(tls.accept(server), tls.connect(client, name));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.write_all(b"EHLO").await.unwrap();
    client.flush().await.unwrap();
    let mut said = [0; 4];
    server.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"EHLO");
    assert_eq!(server.tls_facts().unwrap().version, "TLSv1.3");
    let Stream::Tls(inner) = client else { panic!("expected TLS") };
    inner.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn make_pair(folder: &Path, name: &str) -> crate::Pair {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let pair = crate::Pair {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
    pair
}

#[tokio::test]
async fn without_a_pair_a_self_signed_certificate_is_made_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let hostname = Domain::parse("mx.example.org").unwrap();
    let first = Tls::open(&TlsConfig::default(), folder.path(), &hostname).unwrap();
    let again = Tls::open(&TlsConfig::default(), folder.path(), &hostname).unwrap();
    assert_eq!(
        certificate_seen(&first, "mx.example.org").await,
        certificate_seen(&again, "mx.example.org").await
    );
    let mode = std::fs::metadata(folder.path().join("tls/self-signed.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_name_chooses_the_pair_and_a_changed_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = vec![make_pair(folder.path(), "one.example"), make_pair(folder.path(), "two.example")];
    let config = TlsConfig { pair: pairs.clone() };
    let tls = Tls::open(&config, folder.path(), &Domain::parse("one.example").unwrap()).unwrap();
    let one = certificate_seen(&tls, "one.example").await;
    let two = certificate_seen(&tls, "two.example").await;
    assert_ne!(one, two);
    assert_eq!(certificate_seen(&tls, "elsewhere.example").await, one, "the first is the default");

    std::fs::write(&pairs[1].certificate, "garbage").unwrap();
    assert!(!tls.reload(), "garbage changes nothing");
    assert_eq!(certificate_seen(&tls, "two.example").await, two);
    make_pair(folder.path(), "two.example");
    assert!(tls.reload());
    assert_ne!(certificate_seen(&tls, "two.example").await, two);
}

#[test]
fn a_missing_pair_is_named() {
    let config = TlsConfig {
        pair: vec![crate::Pair { certificate: "/nowhere/x.pem".into(), key: "/nowhere/x.key".into() }],
    };
    let error =
        Tls::open(&config, Path::new("/nowhere"), &Domain::parse("one.example").unwrap()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.pem"), "{error}");
}

#[tokio::test]
async fn another_host_name_or_a_broken_file_makes_another_self_signed_certificate() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tls/self-signed.pem");
    let open = |name: &str| {
        Tls::open(&TlsConfig::default(), folder.path(), &Domain::parse(name).unwrap()).unwrap();
        std::fs::read(&file).unwrap()
    };
    let first = open("mx.example.org");
    let second = open("mx.example.net");
    assert_ne!(first, second);
    std::fs::write(&file, "garbage").unwrap();
    assert_ne!(open("mx.example.net"), second);
    let mode = std::fs::metadata(folder.path().join("tls")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn the_watch_finds_a_new_pair_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let config = TlsConfig { pair: vec![make_pair(folder.path(), "one.example")] };
    let tls = Tls::open(&config, folder.path(), &Domain::parse("one.example").unwrap()).unwrap();
    let old = certificate_seen(&tls, "one.example").await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (watched, token) = (tls.clone(), shutdown.clone());
    // An hour: only a report of the system can make it in time.
    let watch = tokio::spawn(async move { watched.watch(Duration::from_secs(3600), token).await });
    let arrived = async {
        while certificate_seen(&tls, "one.example").await == old {
            // Again and again, since the watch may not have begun at the first time.
            make_pair(folder.path(), "one.example");
            tokio::time::sleep(SETTLED).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("the new certificate is used");
    shutdown.cancel();
    watch.await.unwrap();
}

/// Longer than the silence after which a change counts as finished.
const SETTLED: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (make_pair(folder.path(), "one.example"), make_pair(folder.path(), "two.example"));
    let config = TlsConfig { pair: vec![crate::Pair { certificate: one.certificate, key: two.key }] };
    let error = Tls::open(&config, folder.path(), &Domain::parse("one.example").unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("two.example.key") && text.contains("one.example.pem"), "{text}");
}

async fn judged(tls: &Tls, name: &str) -> PeerCertificate {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (server, client) = tokio::join!(tls.accept(server), tls.connect_and_judge(client, name));
    server.unwrap();
    client.unwrap().1
}

#[tokio::test]
async fn every_certificate_encrypts_and_only_one_that_would_verify_is_judged_verified() {
    use rustls_pki_types::pem::PemObject as _;
    let folder = tempfile::tempdir().unwrap();
    let pair = make_pair(folder.path(), "one.example");
    let config = TlsConfig { pair: vec![pair.clone()] };
    let open = || Tls::open(&config, folder.path(), &Domain::parse("one.example").unwrap()).unwrap();
    assert!(matches!(judged(&open(), "one.example").await, PeerCertificate::Unverified(_)));

    let tls = open();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_file(&pair.certificate).unwrap()).unwrap();
    assert!(tls.roots.set(client::Roots::new(roots, &tls.provider)).is_ok());
    assert_eq!(judged(&tls, "one.example").await, PeerCertificate::Verified);
    for name in ["two.example", "not a name", ""] {
        assert!(matches!(judged(&tls, name).await, PeerCertificate::Unverified(_)), "{name}");
    }
}

#[tokio::test]
async fn plain_text_instead_of_a_handshake_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let hostname = Domain::parse("mx.example.org").unwrap();
    let tls = Tls::open(&TlsConfig::default(), folder.path(), &hostname).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.write_all(b"EHLO plain.example\r\n").await.unwrap();
    assert!(tls.accept(server).await.is_err());
}
