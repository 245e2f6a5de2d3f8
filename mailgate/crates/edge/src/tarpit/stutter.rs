//! One byte at a time to everybody who is held in clear text: one task, one wheel, no event queue. A held socket is
//! looked at only when its next byte is due, so it needs no registration with the kernel and no buffer of ours: what
//! the client says stays in the kernel until we are ready for its next command.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mailgate_lists::TableName;
use mailgate_model::Timestamp;
use tokio::sync::mpsc;

use super::dialogue::{Dialogue, Say, Then};
use super::wheel::Wheel;
use super::{About, Arrival, IDLE, SEND_BUFFER, Shared, Why, tls};

/// Looked at of the input at once; longer lines take several turns.
const LOOK: usize = 512;
/// Clients served before others of this thread have their turn.
const BITE: usize = 512;
/// What lists say is waited for so long; then something more general is said.
const TEXT_PATIENCE: Duration = Duration::from_secs(30);
/// Longest header line of a held message that is logged, in octets.
const NOTED: usize = 200;

/// Bytes of one held connection in our memory, besides `About` on the heap.
#[cfg(test)]
pub(crate) const VICTIM_SIZE: usize = size_of::<Victim>() + size_of::<About>();

/// One held connection.
struct Victim {
    tcp: TcpStream,
    dialogue: Dialogue,
    /// What is being said; `None` while we listen.
    say: Option<Say>,
    /// Bytes of it already sent.
    offset: u16,
    /// Bytes sent in all.
    sent: u32,
    generation: u32,
    /// The last word once it is known.
    last_word: Option<Box<str>>,
    /// The lists were asked for it.
    asked: bool,
    /// Input that was read before the client came here.
    unread: Option<Box<[u8]>>,
    heard: Timestamp,
    about: Box<About>,
}

/// What becomes of a client after its turn.
enum Turn {
    Again,
    /// The lists are to be asked for the last word.
    Ask,
    Gone(&'static str),
    StartTls,
}

/// What the lists say to a client, by number and generation.
struct Told {
    id: u32,
    generation: u32,
    messages: Vec<(TableName, String)>,
}

struct Pit {
    shared: Arc<Shared>,
    tell: mpsc::UnboundedSender<Told>,
    wheel: Wheel,
    victims: Vec<Option<Victim>>,
    free: Vec<u32>,
    held: usize,
    generation: u32,
    /// Who came when: number and generation, the oldest first. Who is gone is skipped.
    listed: VecDeque<(u32, u32)>,
    trapped: VecDeque<(u32, u32)>,
}

/// Works until shutdown, then lets everybody go.
pub(super) async fn run(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Arrival>) {
    let clock = Arc::clone(&shared.clock);
    let shutdown = shared.shutdown.clone();
    let interval = shared.config.interval.duration();
    // Each client asks once.
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut pit = Pit {
        wheel: Wheel::new(interval, clock.now()),
        shared,
        tell,
        victims: Vec::new(),
        free: Vec::new(),
        held: 0,
        generation: 0,
        listed: VecDeque::new(),
        trapped: VecDeque::new(),
    };
    let mut due = Vec::new();
    loop {
        let next = pit.wheel.next();
        tokio::select! {
            () = shutdown.cancelled() => return,
            arrival = arrivals.recv() => {
                let Some(arrival) = arrival else { return };
                pit.turn(clock.now(), &mut due).await;
                pit.admit(arrival);
                continue;
            }
            Some(told) = told.recv() => {
                pit.told(&told, clock.now());
                continue;
            }
            () = async { match next {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
        }
        pit.turn(clock.now(), &mut due).await;
    }
}

impl Pit {
    async fn turn(&mut self, now: Timestamp, due: &mut Vec<u32>) {
        self.wheel.turn(now, due);
        self.wheel.set_interval(self.interval());
        for (count, id) in due.drain(..).enumerate() {
            self.serve(id, now);
            if count % BITE == BITE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What was configured, or so much longer that all together keep to the pace.
    fn interval(&self) -> Duration {
        let config = &self.shared.config;
        let held = u32::try_from(self.held).unwrap_or(u32::MAX);
        config.interval.duration().max(Duration::from_secs(1) * held / config.pace.max(1))
    }

    fn admit(&mut self, arrival: Arrival) {
        let Arrival { tcp, about, held } = arrival;
        while self.held >= self.shared.config.capacity {
            if !self.shed() {
                return self.shared.let_go(&about, "shed", 0);
            }
        }
        let Ok(tcp) = tcp.into_std() else { return self.shared.let_go(&about, "connection lost", 0) };
        shrink(&tcp, self.shared.config.window);
        let (dialogue, say, unread) = held.begin(self.shared.tls_state());
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.victims.push(None);
                u32::try_from(self.victims.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let now = self.shared.clock.now();
        let queue = match about.why {
            Why::Listed(_) => &mut self.listed,
            Why::Trapped => &mut self.trapped,
        };
        queue.push_back((id, self.generation));
        let victim = Victim {
            tcp,
            dialogue,
            say: Some(say),
            offset: 0,
            sent: 0,
            generation: self.generation,
            last_word: None,
            asked: false,
            unread,
            heard: now,
            about: Box::new(about),
        };
        if let Some(place) = self.victims.get_mut(id as usize) {
            *place = Some(victim);
            self.held += 1;
            self.wheel.set(id, now);
        }
        self.tidy();
        self.shared.held_plain.store(self.held, Ordering::Relaxed);
    }

    /// Lets the oldest listed client go, a trapped one when there is no other. False when nobody is held.
    fn shed(&mut self) -> bool {
        while let Some((id, generation)) = self.listed.pop_front().or_else(|| self.trapped.pop_front()) {
            if self.is_held(id, generation) {
                self.shared.statistics.shed();
                self.release(id, "shed");
                return true;
            }
        }
        false
    }

    fn is_held(&self, id: u32, generation: u32) -> bool {
        let victim = self.victims.get(id as usize).and_then(Option::as_ref);
        victim.is_some_and(|victim| victim.generation == generation)
    }

    /// Forgets who is gone, once they are more than those who are held.
    fn tidy(&mut self) {
        if self.listed.len() + self.trapped.len() <= 2 * self.held + BITE {
            return;
        }
        let victims = &self.victims;
        let held = |(id, generation): &(u32, u32)| {
            victims.get(*id as usize).and_then(Option::as_ref).is_some_and(|v| v.generation == *generation)
        };
        self.listed.retain(held);
        self.trapped.retain(held);
    }

    /// The number stays out of use until the wheel has come past it once more.
    fn release(&mut self, id: u32, reason: &str) {
        if let Some(victim) = self.victims.get_mut(id as usize).and_then(Option::take) {
            self.held -= 1;
            self.shared.held_plain.store(self.held, Ordering::Relaxed);
            self.shared.let_go(&victim.about, reason, u64::from(victim.sent));
        }
    }

    /// The lists have answered: the first byte of it need not wait for the next turn.
    fn told(&mut self, told: &Told, now: Timestamp) {
        if !self.is_held(told.id, told.generation) {
            return;
        }
        let Some(Some(victim)) = self.victims.get_mut(told.id as usize) else { return };
        let words = self.shared.script.last_word(victim.about.ip, &victim.about.why, &told.messages);
        victim.last_word = Some(words.into_boxed_str());
        // Its place in the wheel it has already; an end is seen there.
        let _ = victim.speak(Say::LastWord, &self.shared, now);
    }

    fn serve(&mut self, id: u32, now: Timestamp) {
        let Some(place) = self.victims.get_mut(id as usize) else { return };
        let Some(victim) = place else {
            // Released while it waited; now nothing refers to the number any more.
            self.free.push(id);
            return;
        };
        let turn = victim.take_turn(&self.shared, now);
        self.after(id, turn, now);
    }

    fn after(&mut self, id: u32, turn: Turn, now: Timestamp) {
        let Some(place) = self.victims.get_mut(id as usize) else { return };
        match turn {
            Turn::Again => self.wheel.set(id, now),
            Turn::Ask => {
                if let (Some(victim), Some(texts)) = (place, &self.shared.texts) {
                    let (ip, generation) = (victim.about.ip, victim.generation);
                    let (texts, tell) = (Arc::clone(texts), self.tell.clone());
                    tokio::spawn(async move {
                        let messages = texts.messages(ip).await;
                        // The tarpit may have ended.
                        let _ = tell.send(Told { id, generation, messages });
                    });
                }
                self.wheel.set(id, now);
            }
            Turn::Gone(reason) => {
                self.release(id, reason);
                self.free.push(id);
            }
            Turn::StartTls => {
                if let Some(victim) = place.take() {
                    self.held -= 1;
                    self.shared.held_plain.store(self.held, Ordering::Relaxed);
                    let Victim { tcp, dialogue, sent, about, .. } = victim;
                    tls::spawn_handshake(&self.shared, tcp, dialogue, *about, u64::from(sent));
                }
                self.free.push(id);
            }
        }
    }
}

impl Victim {
    fn take_turn(&mut self, shared: &Shared, now: Timestamp) -> Turn {
        match self.say {
            Some(say) => self.speak(say, shared, now),
            None => self.listen(shared, now),
        }
    }

    fn speak(&mut self, say: Say, shared: &Shared, now: Timestamp) -> Turn {
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
fn shrink(tcp: &TcpStream, window: u32) {
    let socket = socket2::SockRef::from(tcp);
    if window > 0 {
        let _ = socket.set_recv_buffer_size(usize::try_from(window).unwrap_or(usize::MAX));
    }
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    // Without this the kernel would gather bytes until the last is acknowledged.
    let _ = socket.set_tcp_nodelay(true);
}
