//! One byte at a time to everybody who is held in clear text: one task, one wheel, no event queue. A held socket is
//! looked at only when its next byte is due, so it needs no registration with the kernel and no buffer of ours: what
//! the client says stays in the kernel until we are ready for its next command.

mod victim;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mailgate_lists::TableName;
use mailgate_model::Timestamp;
use tokio::sync::mpsc;

use self::victim::{Turn, Victim, shrink};
use super::dialogue::Say;
use super::wheel::Wheel;
use super::{Arrival, Shared, Why, tls};

#[cfg(test)]
pub(crate) use self::victim::VICTIM_SIZE;

/// Clients served before others of this thread have their turn.
const BITE: usize = 512;

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
        let begun = held.begin(self.shared.tls_state());
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
        let victim = Victim::new(tcp, begun, about, now, self.generation);
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
