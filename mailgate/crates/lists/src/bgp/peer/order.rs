//! What the administrator orders.

use mailgate_proto::bgp::{Event, Refresh};

use super::super::order::{Order, page};
use super::Peer;

impl Peer {
    pub(super) fn ordered(&mut self, order: Order) {
        match order {
            Order::Clear { text, done } => {
                self.happened(Event::Reset(&text));
                let _ = done.send(Ok(format!("{} begins anew", self.name())));
            }
            Order::Refresh { done } => {
                let said = match self.machine.session().map(|session| session.refresh) {
                    None => {
                        Err(format!("{} has no session; it gets all routes with the next one", self.name()))
                    }
                    Some(Refresh::None) => Err(format!(
                        "{} cannot send its routes anew; `mailgate bgp clear` ends the session",
                        self.name()
                    )),
                    Some(_) => {
                        self.happened(Event::Refresh);
                        Ok(format!("{} was asked for all its routes", self.name()))
                    }
                };
                let _ = done.send(said);
            }
            Order::Rib { asked, done } => {
                let _ = done.send(page(&self.rib, &asked, &self.name()));
            }
        }
    }
}
