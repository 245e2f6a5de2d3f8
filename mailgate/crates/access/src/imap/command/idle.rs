//! IDLE (RFC 2177): news without being asked.

use mailgate_proto::imap::Numbering;

use super::super::connection::{End, Patience, Received};
use super::super::reply::{Bye, Reply};
use super::super::session::{Fault, Session};
use super::super::view::Expunges;

/// An idle client that is gone is noticed by something it must take.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(120);

impl Session {
    pub(crate) async fn idle(&mut self) -> Result<Reply, Fault> {
        self.logged_in()?;
        self.connection.continuation("idling");
        let clock = self.server.parts.clock.clone();
        let poll = self.server.parts.config.poll.duration();
        let mut watch = self.view.as_ref().map(|view| view.selected.watch());
        let deadline = clock.now().plus(self.server.parts.config.autologout.duration());
        let mut keepalive = clock.now().plus(KEEPALIVE);
        loop {
            self.tell_news(Expunges::Tell, Numbering::Sequence).await?;
            if clock.now() >= keepalive {
                self.connection.untagged("OK Still here");
                keepalive = clock.now().plus(KEEPALIVE);
            }
            if clock.now() >= deadline {
                return Err(End::Bye(Bye::Autologout).into());
            }
            self.connection.flush().await?;
            // Cancelling either side loses nothing: what was read stays in the reader, what changed is asked for.
            let patience = Patience::Until(deadline);
            tokio::select! {
                biased;
                received = self.connection.receive(patience) => {
                    return match received? {
                        Received::Command(line) if line.eq_ignore_ascii_case(b"DONE") => Ok(Reply::ok("Done")),
                        Received::Command(_) => Ok(Reply::malformed("Expected DONE")),
                        Received::Literal(_) => Err(End::Bye(Bye::LiteralTooBig).into()),
                    };
                }
                () = changed(&mut watch) => {}
                // Other programs change Maildirs without telling us.
                () = clock.sleep(poll) => {}
            }
        }
    }
}

async fn changed(watch: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    if let Some(watch) = watch
        && watch.changed().await.is_ok()
    {
        return;
    }
    // No mailbox open, so no news; the sender lives as long as an open mailbox.
    std::future::pending().await
}
