use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every question alike, with `PORT` in the text replaced by its own. Returns its port.
async fn server(answer: String, tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = answer.replace("PORT", &port.to_string());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, tls) = (answer.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => speak(stream, &answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            speak(stream, &answer).await;
                        }
                    }
                }
            });
        }
    });
    port
}

async fn speak(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite, answer: &str) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut lines = BufReader::new(reader).lines();
    while lines.next_line().await.unwrap_or_default().is_some_and(|line| !line.is_empty()) {}
    let _ = writer.write_all(answer.as_bytes()).await;
    let _ = writer.shutdown().await;
}

async fn fetch(url: String, limit: u64, ca_file: Option<PathBuf>) -> Result<Document, String> {
    let wanted = Wanted { url, limit, timeout: PATIENCE, ca_file, ..Wanted::default() };
    match Http::new(None).fetch(&wanted).await {
        Ok(Answer::Document(document)) => Ok(document),
        Ok(Answer::Unchanged) => Err("unchanged".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn answered(answer: &str, limit: u64) -> Result<Document, String> {
    let port = server(answer.to_owned(), None).await;
    fetch(format!("http://127.0.0.1:{port}/a?b=c"), limit, None).await
}

#[tokio::test]
async fn a_document_comes_with_what_the_server_says_of_it() {
    let answer =
        "HTTP/1.1 200 OK\r\nETag: W/\"x\"\r\nContent-Type: Text/Plain\r\nContent-Length: 3\r\n\r\nabc";
    let document = answered(answer, 3).await.unwrap();
    assert_eq!(document.body, b"abc");
    assert_eq!((document.etag.as_deref(), document.kind.as_str()), (Some("W/\"x\""), "text/plain"));
}

#[tokio::test]
async fn documents_have_a_limit_whether_their_length_is_said_or_not() {
    let said = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n";
    let to_the_end = "HTTP/1.0 200 OK\r\n\r\nabcd";
    for answer in [said, chunked, to_the_end] {
        assert_eq!(answered(answer, 4).await.unwrap().body, b"abcd", "{answer}");
        assert!(answered(answer, 3).await.unwrap_err().contains("more than 3 bytes"), "{answer}");
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "220 mx.example.org ESMTP\r\n",
        "",
    ] {
        let said = answered(answer, 100).await.unwrap_err();
        assert!(said.contains("broke off"), "{answer:?}: {said}");
    }
}

#[tokio::test]
async fn endless_heads_are_not_read() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_LIMIT + 1));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(2 * HEAD_LIMIT));
    for answer in [many, long] {
        assert!(answered(&answer, 100).await.unwrap_err().contains("did not keep to HTTP"));
    }
}

#[tokio::test]
async fn redirections_are_followed_a_few_times_and_never_out_of_tls() {
    let target = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), None).await;
    let moved = format!("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:{target}/x\r\n\r\n");
    assert_eq!(answered(&moved, 9).await.unwrap().body, b"ok");
    let round = "HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n";
    assert!(answered(round, 9).await.unwrap_err().contains("more than 5 redirections"));
    let nowhere = "HTTP/1.1 302 Found\r\n\r\n";
    assert!(answered(nowhere, 9).await.unwrap_err().contains("to nowhere"));
    let https = url_of::parse("https://example.org/a").unwrap();
    assert!(url_of::redirected(&https, "http://example.org/a").unwrap_err().contains("keeps TLS"));
    assert!(url_of::redirected(&https, "file:///etc/passwd").unwrap_err().contains("is not fetched"));
    assert_eq!(url_of::redirected(&https, "../b?c").unwrap().as_str(), "https://example.org/b?c");
}

#[test]
fn urls_are_checked_before_anybody_is_asked() {
    for (url, want) in [
        ("example.org", "expected such as"),
        ("file:///etc/passwd", "file is not fetched"),
        ("http://", "expected such as"),
        ("http://u@example.org/", "found a user"),
        ("http://example.org:0/", "no host"),
    ] {
        let said = check(url).unwrap_err();
        assert!(said.contains(want), "{url}: {said}");
    }
    assert_eq!(check("https://[2001:db8::1]:8443/a"), Ok(()));
    assert!(check(&format!("http://x/{}", "a".repeat(LIMIT_OF_TEST))).is_err());
}

/// Longer than any URL may be.
const LIMIT_OF_TEST: usize = 9000;

#[tokio::test]
async fn over_tls_only_a_server_that_proves_who_it_is_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (ca, other) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    std::fs::write(&ca, certificate.pem()).unwrap();
    let stranger = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, stranger.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned();
    let port = server(answer, Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://127.0.0.1:{port}/");
    assert_eq!(fetch(url.clone(), 9, Some(ca)).await.unwrap().body, b"ok");
    let said = fetch(url.clone(), 9, Some(other)).await.unwrap_err();
    assert!(said.contains("certificate"), "{said}");
    std::fs::write(folder.path().join("junk.pem"), "junk").unwrap();
    let junk = Some(folder.path().join("junk.pem"));
    assert!(fetch(url, 9, junk).await.is_err());
}

#[tokio::test]
async fn names_need_somebody_who_knows_them() {
    let said = fetch("http://lists.example/".to_owned(), 9, None).await.unwrap_err();
    assert!(said.contains("nobody looks up lists.example here"), "{said}");
}
