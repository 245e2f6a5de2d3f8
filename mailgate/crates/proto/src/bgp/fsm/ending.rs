//! How connections and sessions end.

use std::time::Duration;

use mailgate_model::Timestamp;

use super::link::Link;
use super::{Command, Loss, Machine, State, Way};
use crate::bgp::{Cease, Message, Misbehaved, Notification};

impl Machine {
    pub(super) fn misbehaved(&mut self, way: Way, misbehaved: &Misbehaved, now: Timestamp) -> Vec<Command> {
        let notification = misbehaved.notification();
        let mut commands: Vec<Command> =
            self.send(way, &Message::Notification(notification), now).into_iter().collect();
        let is_graceful = self.link(way).is_some_and(Link::survives_notification);
        commands.extend(self.lose(way, misbehaved.to_string(), is_graceful, now));
        commands
    }

    pub(super) fn notified(&mut self, way: Way, notification: &Notification, now: Timestamp) -> Vec<Command> {
        let Some(link) = self.link(way) else { return Vec::new() };
        let (is_opening, survives) = (link.state == State::OpenSent, link.survives_notification());
        // RFC 5492 §3: a peer that knows no optional parameters is asked again without any.
        self.is_plain = is_opening && (notification.code, notification.subcode) == (2, 4);
        let is_graceful = survives && !notification.is_hard();
        self.lose(way, format!("the peer says: {notification}"), is_graceful, now)
    }

    /// A connection is over. When it was the last, the session is, and the next try has to wait.
    pub(super) fn lose(&mut self, way: Way, why: String, is_graceful: bool, now: Timestamp) -> Vec<Command> {
        let mut commands = vec![Command::Close(way)];
        let Some(link) = self.place(way).take() else { return commands };
        let session = (link.state == State::Established).then_some(link.session);
        if session.is_some() || (self.link(way.other()).is_none() && self.base != State::Connect) {
            self.wait(State::Idle, now);
            let is_graceful = is_graceful && session.is_some_and(|session| session.restart.is_some());
            commands.push(Command::Down(Loss { why, is_graceful, session }));
        }
        commands
    }

    pub(super) fn end(
        &mut self,
        notification: &Notification,
        after: Option<Duration>,
        now: Timestamp,
    ) -> Vec<Command> {
        let mut commands = self.leave(notification, now);
        if commands.is_empty() {
            return commands;
        }
        self.established_at = None;
        self.base = State::Idle;
        self.retry_at = Some(now.plus(self.pause.ended(after)));
        commands.push(down(notification.to_string()));
        commands
    }

    pub(super) fn reset(&mut self, text: &str, now: Timestamp) -> Vec<Command> {
        if self.is_stopped {
            return Vec::new();
        }
        let mut commands = self.leave(&Notification::cease(Cease::AdministrativeReset, text), now);
        if commands.is_empty() {
            return self.start(now);
        }
        self.pause.forget();
        self.wait(State::Idle, now);
        commands.push(down("reset by the administrator".into()));
        commands
    }

    pub(super) fn stop(&mut self, text: &str, now: Timestamp) -> Vec<Command> {
        let mut commands = self.leave(&Notification::cease(Cease::AdministrativeShutdown, text), now);
        if !commands.is_empty() {
            commands.push(down("shut down".into()));
        }
        (self.base, self.retry_at, self.is_stopped) = (State::Idle, None, true);
        commands
    }

    /// Ends all connections, and says why to whoever can hear it.
    fn leave(&mut self, notification: &Notification, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        for way in Way::ALL {
            commands.extend(self.send(way, &Message::Notification(notification.clone()), now));
            if self.place(way).take().is_some() || (way == Way::Out && self.base == State::Connect) {
                commands.push(Command::Close(way));
            }
        }
        commands
    }
}

/// What never was a session is over.
pub(super) fn down(why: String) -> Command {
    Command::Down(Loss { why, is_graceful: false, session: None })
}
