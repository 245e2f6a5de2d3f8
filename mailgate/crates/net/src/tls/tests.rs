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
