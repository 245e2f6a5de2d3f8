//! Held clients inside TLS: the same words at the same pace, each byte a TLS record of its own, so that encryption is no
//! way out of the tarpit (spamd(8) never stutters inside TLS). Each has a task; how many there may be is configured.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mailgate_net::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dialogue::{self, Dialogue, Say, Then};
use super::{About, Held, IDLE, Shared};

/// Read at once; what was not yet understood is kept.
const READ_SIZE: usize = 512;

/// One of the places inside TLS; free again when dropped.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let capacity = shared.config.tls_capacity;
        let taken = shared
            .held_tls
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < capacity).then_some(held + 1));
        taken.is_ok().then(|| Self(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held_tls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Goes on with a client that said STARTTLS and heard that we are ready. What it said after that in clear text must not
/// be taken for something said inside TLS; none of it was read, so the handshake fails on it.
pub(super) fn spawn_handshake(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    mut dialogue: Dialogue,
    about: About,
    sent: u64,
) {
    let (Some(place), Some(tls)) = (Place::take(shared), shared.tls.clone()) else {
        return shared.let_go(&about, "shed", sent);
    };
    // TLS records do not fit into the smallest window.
    let socket = socket2::SockRef::from(&tcp);
    let _ = socket.set_recv_buffer_size(4096);
    let _ = socket.set_send_buffer_size(4096);
    let Ok(tcp) = tokio::net::TcpStream::from_std(tcp) else {
        return shared.let_go(&about, "connection lost", sent);
    };
    tokio::spawn(async move {
        let shared = &place.0;
        let stream = tokio::select! {
            stream = tls.accept(tcp) => stream,
            () = shared.shutdown.cancelled() => return shared.let_go(&about, "shutdown", sent),
        };
        match stream {
            Ok(stream) => {
                dialogue.tls_began();
                let inside = Inside { shared, stream, dialogue, unread: Vec::new(), sent };
                inside.hold(None, about).await;
            }
            Err(_) => shared.let_go(&about, "handshake", sent),
        }
    });
}

/// Takes a client that is inside TLS already.
pub(super) fn spawn_inside(shared: &Arc<Shared>, stream: Stream, about: About, held: Held) {
    let Some(place) = Place::take(shared) else { return shared.let_go(&about, "shed", 0) };
    let (dialogue, say, unread) = held.begin(dialogue::Tls::Active);
    tokio::spawn(async move {
        let unread = unread.map(Vec::from).unwrap_or_default();
        let inside = Inside { shared: &place.0, stream, dialogue, unread, sent: 0 };
        inside.hold(Some(say), about).await;
    });
}

struct Inside<'a> {
    shared: &'a Arc<Shared>,
    stream: Stream,
    dialogue: Dialogue,
    unread: Vec<u8>,
    sent: u64,
}

impl Inside<'_> {
    async fn hold(mut self, say: Option<Say>, about: About) {
        let shared = Arc::clone(self.shared);
        let reason = tokio::select! {
            reason = self.talk(say, &about) => reason,
            () = shared.shutdown.cancelled() => "shutdown",
        };
        shared.let_go(&about, reason, self.sent);
    }

    async fn talk(&mut self, mut say: Option<Say>, about: &About) -> &'static str {
        loop {
            match say.take() {
                Some(words) => {
                    if self.speak(words, about).await.is_none() {
                        return "connection lost";
                    }
                    if words.then() == Then::Close {
                        // The peer may be gone already.
                        let _ = self.stream.shutdown().await;
                        return "end";
                    }
                }
                None => match self.listen().await {
                    Ok(heard) => say = heard,
                    Err(reason) => return reason,
                },
            }
        }
    }

    async fn speak(&mut self, say: Say, about: &About) -> Option<()> {
        let shared = self.shared;
        let last_word;
        let words = match shared.script.words(say) {
            Some(words) => words,
            None => {
                last_word = shared.last_word(about).await;
                &last_word
            }
        };
        for byte in words.as_bytes() {
            shared.clock.sleep(shared.config.interval.duration()).await;
            let send = async {
                self.stream.write_all(std::slice::from_ref(byte)).await?;
                self.stream.flush().await
            };
            tokio::select! {
                sent = send => sent.ok()?,
                () = shared.clock.sleep(IDLE) => return None,
            }
            self.sent += 1;
            shared.statistics.stuttered();
        }
        Some(())
    }

    async fn listen(&mut self) -> Result<Option<Say>, &'static str> {
        if self.unread.is_empty() {
            let mut buffer = [0; READ_SIZE];
            let count = tokio::select! {
                read = self.stream.read(&mut buffer) => read.map_err(|_| "connection lost")?,
                () = self.shared.clock.sleep(IDLE) => return Err("timeout"),
            };
            if count == 0 {
                return Err("closed by peer");
            }
            self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        let heard = self.dialogue.hear(&self.unread);
        self.unread.drain(..heard.consumed.min(self.unread.len()));
        Ok(heard.say)
    }
}
