//! One byte at a time to everybody who is held in clear text: one task, one wheel, no event queue. A held socket is
//! looked at only when its next byte is due, so it needs no registration with the kernel and no buffer of ours: what
//! the client says stays in the kernel until we are ready for its next command.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mailgate_model::Timestamp;
use tokio::sync::mpsc;

use super::dialogue::{Dialogue, Say, Then};
use super::wheel::Wheel;
use super::{About, Arrival, IDLE, RECEIVE_BUFFER, SEND_BUFFER, Shared, Why, tls};

/// Looked at of the input at once; longer lines take several turns.
const LOOK: usize = 512;
/// Clients served before others of this thread have their turn.
const BITE: usize = 512;

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
    /// The last word once it is being said.
    last_word: Option<Box<str>>,
    /// Input that was read before the client came here.
    unread: Option<Box<[u8]>>,
    heard: Timestamp,
    about: Box<About>,
}

/// What becomes of a client after its turn.
enum Turn {
    Again,
    Gone(&'static str),
    StartTls,
}

struct Pit {
    shared: Arc<Shared>,
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
    let mut pit = Pit {
        wheel: Wheel::new(interval, clock.now()),
        shared,
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
        for (count, id) in due.drain(..).enumerate() {
            self.serve(id, now);
            if count % BITE == BITE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn admit(&mut self, arrival: Arrival) {
        while self.held >= self.shared.config.capacity {
            if !self.shed() {
                return;
            }
        }
        let Arrival { tcp, about, held } = arrival;
        let Ok(tcp) = tcp.into_std() else { return };
        shrink(&tcp);
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
            self.shared.log_end(&victim.about, reason, u64::from(victim.sent));
        }
    }

    fn serve(&mut self, id: u32, now: Timestamp) {
        let Some(place) = self.victims.get_mut(id as usize) else { return };
        let Some(victim) = place else {
            // Released while it waited; now nothing refers to the number any more.
            self.free.push(id);
            return;
        };
        match victim.take_turn(&self.shared, now) {
            Turn::Again => self.wheel.set(id, now),
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
            None => &**self.last_word.get_or_insert_with(|| {
                shared.script.last_word(self.about.ip, &self.about.why).into_boxed_str()
            }),
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
                let heard = self.dialogue.hear(look.get(..count).unwrap_or_default());
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
fn shrink(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    // Without this the kernel would gather bytes until the last is acknowledged.
    let _ = socket.set_tcp_nodelay(true);
}
