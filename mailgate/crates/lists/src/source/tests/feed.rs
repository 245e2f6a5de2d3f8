//! A server of one list on loopback, which says what it is told to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

/// What the server sends next, and until it is told otherwise.
#[derive(Clone)]
pub(super) struct Sent {
    status: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent.
    sent: usize,
}

impl Sent {
    pub(super) fn text(body: &[u8]) -> Self {
        Self { status: "200 OK", fields: Vec::new(), body: body.to_vec(), sent: body.len() }
    }

    pub(super) fn status(status: &'static str) -> Self {
        Self { status, ..Self::text(b"") }
    }

    /// Closes without a word.
    pub(super) fn nothing() -> Self {
        Self::status("")
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Stops in the middle of the body.
    pub(super) fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        if self.status.is_empty() {
            return Vec::new();
        }
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.status,
            self.body.len()
        );
        if self.status.starts_with("304") {
            head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", self.status);
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body[..self.sent]].concat()
    }
}

/// The server; it goes with the runtime of its test.
pub(super) struct Feed {
    port: u16,
    sends: Arc<Mutex<Sent>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Feed {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sends, asked) = (Arc::new(Mutex::new(Sent::nothing())), Arc::<Mutex<Vec<String>>>::default());
        let (sending, asking) = (Arc::clone(&sends), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (reader, mut writer) = stream.split();
                let mut lines = BufReader::new(reader).lines();
                let mut said = String::new();
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.is_empty() {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if said.is_empty() {
                        said = line.trim_end_matches(" HTTP/1.1").to_owned();
                    } else if let Some(value) = lower.strip_prefix("if-none-match: ") {
                        said.push_str(&format!(" If-None-Match: {value}"));
                    } else if lower.starts_with("if-modified-since: ") {
                        said.push_str(&format!(
                            " If-Modified-Since: {}",
                            &line["if-modified-since: ".len()..]
                        ));
                    }
                }
                asking.lock().unwrap().push(said);
                let bytes = sending.lock().unwrap().bytes();
                let _ = writer.write_all(&bytes).await;
                let _ = writer.shutdown().await;
            }
        });
        Self { port, sends, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn says(&self, sent: Sent) {
        *self.sends.lock().unwrap() = sent;
    }

    /// What has been asked since this was last called.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}
