//! One held client: what it hears, byte by byte, and what it said.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use mailgate_model::Timestamp;

use super::super::dialogue::{Dialogue, Say, Then};
use super::super::{About, IDLE, SEND_BUFFER, Shared, Why};

/// Looked at of the input at once; longer lines take several turns.
const LOOK: usize = 512;
/// What lists say is waited for so long; then something more general is said.
const TEXT_PATIENCE: Duration = Duration::from_secs(30);
/// Longest header line of a held message that is logged, in octets.
const NOTED: usize = 200;

/// Bytes of one held connection in our memory, besides `About` on the heap.
#[cfg(test)]
pub(crate) const VICTIM_SIZE: usize = size_of::<Victim>() + size_of::<About>();

/// One held connection.
pub(super) struct Victim {
    pub(super) tcp: TcpStream,
    pub(super) dialogue: Dialogue,
    /// What is being said; `None` while we listen.
    say: Option<Say>,
    /// Bytes of it already sent.
    offset: u16,
    /// Bytes sent in all.
    pub(super) sent: u32,
    pub(super) generation: u32,
    /// The last word once it is known.
    pub(super) last_word: Option<Box<str>>,
    /// The lists were asked for it.
    asked: bool,
    /// Input that was read before the client came here.
    unread: Option<Box<[u8]>>,
    heard: Timestamp,
    pub(super) about: Box<About>,
}

/// What becomes of a client after its turn.
pub(super) enum Turn {
    Again,
    /// The lists are to be asked for the last word.
    Ask,
    Gone(&'static str),
    StartTls,
}

impl Victim {
    /// A client that has just come, and what it hears first.
    pub(super) fn new(
        tcp: TcpStream,
        begun: (Dialogue, Say, Option<Box<[u8]>>),
        about: About,
        now: Timestamp,
        generation: u32,
    ) -> Self {
        let (dialogue, say, unread) = begun;
        Self {
            tcp,
            dialogue,
            say: Some(say),
            offset: 0,
            sent: 0,
            generation,
            last_word: None,
            asked: false,
            unread,
            heard: now,
            about: Box::new(about),
        }
    }

    pub(super) fn take_turn(&mut self, shared: &Shared, now: Timestamp) -> Turn {
        match self.say {
            Some(say) => self.speak(say, shared, now),
            None => self.listen(shared, now),
        }
    }

    pub(super) fn speak(&mut self, say: Say, shared: &Shared, now: Timestamp) -> Turn {
        let words = match shared.script.words(say) {
            Some(words) => words,
            None => {
                if self.last_word.is_none() && self.awaits_text(shared, now) {
                    return if std::mem::replace(&mut self.asked, true) { Turn::Again } else { Turn::Ask };
                }
                &**self.last_word.get_or_insert_with(|| {
                    shared.script.last_word(self.about.ip, &self.about.why, &[]).into_boxed_str()
                })
            }
        };
        if let Some(byte) = words.as_bytes().get(usize::from(self.offset)) {
            match self.tcp.write(std::slice::from_ref(byte)) {
                Ok(1..) => {
                    self.offset += 1;
                    self.sent = self.sent.saturating_add(1);
                    self.heard = now;
                    shared.statistics.stuttered();
                }
                Ok(0) => return Turn::Gone("closed by peer"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    // The client fetches nothing; it is held all the same, until it is silent for too long.
                    return if now.since(self.heard) > IDLE { Turn::Gone("timeout") } else { Turn::Again };
                }
                Err(_) => return Turn::Gone("connection lost"),
            }
        }
        if usize::from(self.offset) < words.len() {
            return Turn::Again;
        }
        (self.say, self.offset) = (None, 0);
        match say.then() {
            Then::Close => Turn::Gone("end"),
            Then::Listen => Turn::Again,
            Then::StartTls => Turn::StartTls,
        }
    }

    /// Whether the lists have something to say that is not here yet.
    fn awaits_text(&self, shared: &Shared, now: Timestamp) -> bool {
        let can_ask = shared.texts.is_some() && matches!(self.about.why, Why::Listed(_));
        can_ask && !(self.asked && now.since(self.heard) > TEXT_PATIENCE)
    }

    /// Logs who a held message says it is from, to and about, as spamd(8) `-v`; only lines that are here whole.
    fn note(&self, look: &[u8]) {
        if !self.dialogue.is_at_header_line() || !tracing::enabled!(target: "edge", tracing::Level::DEBUG) {
            return;
        }
        for line in look.split_inclusive(|byte| *byte == b'\n') {
            let line = line.get(..line.len().min(NOTED)).unwrap_or_default();
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end();
            if text.is_empty() {
                return;
            }
            let name = text.split(':').next().unwrap_or_default();
            if ["from", "to", "subject"].iter().any(|noted| name.eq_ignore_ascii_case(noted)) {
                tracing::debug!(target: "edge", s = %self.about.session, event = "held", ip = %self.about.ip, header = ?text);
            }
        }
    }

    fn listen(&mut self, shared: &Shared, now: Timestamp) -> Turn {
        if let Some(unread) = self.unread.take() {
            let heard = self.dialogue.hear(&unread);
            let rest = unread.get(heard.consumed..).unwrap_or_default();
            self.unread = (!rest.is_empty()).then(|| rest.into());
            self.say = heard.say;
            return Turn::Again;
        }
        let mut look = [0; LOOK];
        match self.tcp.peek(&mut look) {
            Ok(0) => Turn::Gone("closed by peer"),
            Ok(count) => {
                let look_at = look.get(..count).unwrap_or_default();
                self.note(look_at);
                let heard = self.dialogue.hear(look_at);
                // Only what was understood is taken; the next command waits in the kernel.
                let taken = look.get_mut(..heard.consumed).map_or(Ok(0), |taken| self.tcp.read(taken));
                if taken.is_err() {
                    return Turn::Gone("connection lost");
                }
                self.heard = now;
                self.say = heard.say;
                // The first byte of the answer need not wait for another turn.
                match self.say {
                    Some(say) => self.speak(say, shared, now),
                    None => Turn::Again,
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if now.since(self.heard) > IDLE { Turn::Gone("timeout") } else { Turn::Again }
            }
            Err(_) => Turn::Gone("connection lost"),
        }
    }
}

/// Small buffers on both sides; the kernel may refuse, and then only memory is lost.
pub(super) fn shrink(tcp: &TcpStream, window: u32) {
    let socket = socket2::SockRef::from(tcp);
    if window > 0 {
        let _ = socket.set_recv_buffer_size(usize::try_from(window).unwrap_or(usize::MAX));
    }
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    // Without this the kernel would gather bytes until the last is acknowledged.
    let _ = socket.set_tcp_nodelay(true);
}
