//! RSET (RFC 5321 §4.1.1.5).

use mailgate_model::Reply;

use crate::reply;
use crate::session::Session;
use crate::transaction::State;

impl Session {
    /// Drops the open transaction, content of BDAT included.
    pub(crate) fn rset(&mut self) -> Reply {
        self.state = State::Greeted;
        self.owed = None;
        reply::OK
    }
}
