//! What a session asks itself about its client: at the greeting, at each line, and at RCPT.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mailgate_model::FirstContact;
use mailgate_proto::smtp::{Rcpt, reply as shared};
use mailgate_store::greylist::{Said, Standing};

use super::content::PutOff;
use super::{End, Pending, Session};
use crate::greylist::contact::{Contact, Judged};
use crate::greylist::dialogue::{News, Reaction};
use crate::greylist::letter::Letter;
use crate::greylist::policy::Verdict;
use crate::reply;
use crate::suspicion::Gathered;
use crate::tarpit::Why;
use crate::trap::Step;
use crate::why::Because;

/// For how long who talked before the greeting was complete is answered one byte at a time.
const EARLY_STUTTER: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// The greeting. Who is suspicious before it said anything hears it in two parts and must be silent in between, as
    /// mail servers are (RFC 5321 §4.3.1).
    pub(super) async fn greet(&mut self) -> Result<(), End> {
        let greeting = shared::greeting(&self.edge.hostname);
        let config = &self.edge.config.suspicion;
        let silence = config.silence.duration();
        let gathered = match &self.gathering {
            Some(gathering) if !silence.is_zero() => gathering.settle().await,
            _ => {
                self.say(&greeting);
                return Ok(());
            }
        };
        let silence_at = config.silence_at;
        let contact = self.contact(Some(&gathered));
        let nothing = Said::default();
        if contact.weighed(&contact.facts(&nothing)).points < silence_at {
            self.say(&greeting);
            return Ok(());
        }
        let wire = reply::one_moment(&greeting).to_wire();
        let (first, second) = wire.split_at(wire.find('\n').map_or(0, |at| at + 1));
        self.output.push_str(first);
        self.flush().await?;
        self.manners.early_talk = self.hear(silence).await?;
        if self.manners.early_talk {
            self.edge.statistics.early_talk();
            self.stutter_until = self.edge.clock.now().plus(EARLY_STUTTER);
        }
        self.output.push_str(second);
        Ok(())
    }

    /// What the last line told of the client is looked into while the session goes on.
    pub(super) fn listen(&mut self) {
        match self.dialogue.take_news() {
            Some(News::Hello) => {
                self.manners.early_pipelining |= !self.was_greeted && !self.input.is_empty();
                self.was_greeted = true;
                let name = self.dialogue.hello_name().unwrap_or_default();
                if let Some(gathering) = &mut self.gathering {
                    gathering.said_helo(name);
                }
            }
            Some(News::Mail) => {
                let (helo, mail) = (self.dialogue.hello_name().unwrap_or_default(), self.dialogue.mail());
                if let (Some(gathering), Some(mail)) = (&mut self.gathering, mail) {
                    gathering.said_mail(helo, &mail.path.to_string());
                }
            }
            None => {}
        }
    }

    fn contact<'a>(&'a self, gathered: Option<&'a Gathered>) -> Contact<'a> {
        Contact {
            edge: self.edge,
            client: &self.client,
            session: self.session,
            gathered,
            tables: &self.tables,
            manners: self.manners,
        }
    }

    /// RCPT: the moment of decision, or where the content may say more, of the question whether to read it.
    pub(super) async fn judge(&mut self, rcpt: &Rcpt, line: BytesMut) -> Result<(), End> {
        let edge = self.edge;
        let ip = self.client.ip();
        match edge.greylist.standing(ip) {
            // The recipient before waits for its content, and only one can.
            Standing::Passed(..) if self.put_off.is_some() => {
                return self.react(Reaction::Say(reply::ONE_AT_A_TIME));
            }
            // A parallel session of the same client qualified, or the administrator said so.
            Standing::Passed(..) => return self.qualified(line),
            Standing::Trapped(..) => return Err(End::Tarpit(Why::Trapped)),
            Standing::Unknown => {}
        }
        let Some(mail) = self.dialogue.mail() else { return Ok(()) };
        let said = Said {
            ip: Some(ip),
            helo: self.dialogue.hello_name().unwrap_or_default().to_owned(),
            reverse_path: mail.path.to_string(),
            forward_path: rcpt.path.to_string(),
        };
        let gathered = match &self.gathering {
            Some(gathering) => Some(gathering.settle().await),
            None => None,
        };
        let contact = self.contact(gathered.as_ref());
        let (is_new, excuses) = contact.excuses(&said);
        let step = Step { client: &self.client, recipient: &rcpt.path, is_new, excuses };
        if let Some(reason) = edge.traps.look(&edge.greylist, &step).await {
            let trapped = edge.trap(ip, self.session, &rcpt.path.to_string(), reason);
            return match trapped {
                true => Err(End::Tarpit(Why::Trapped)),
                false if self.put_off.is_some() => self.react(Reaction::Say(reply::ONE_AT_A_TIME)),
                false => self.qualified(line),
            };
        }
        if self.put_off.is_some() {
            return self.react(Reaction::Say(reply::ONE_AT_A_TIME));
        }
        let contact = self.contact(gathered.as_ref());
        if contact.is_undecided(&said)
            && let Ok(place) = Arc::clone(&edge.contents).try_acquire_owned()
        {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.put_off = Some(PutOff { line, said, gathered, _place: place });
            return self.react(Reaction::Say(reply::RECIPIENT_OK));
        }
        match self.judged(&said, gathered, None) {
            Some(wait) => self.react(Reaction::Say(reply::deferred(wait))),
            None => self.qualified(line),
        }
    }

    /// Judges an attempt, with its content where that was read. How long it has to wait; `None` when it goes on, and
    /// then reception will hear why.
    pub(super) fn judged(
        &mut self,
        said: &Said,
        gathered: Option<Gathered>,
        letter: Option<&Letter>,
    ) -> Option<Duration> {
        let Judged { judgement, weighed, spared } = self.contact(gathered.as_ref()).judge(said, letter);
        if let Verdict::Defer { wait, .. } = judgement.verdict
            && !spared
        {
            return Some(wait);
        }
        let words = Because { judgement, weighed: &weighed, spared, message_id: None }.words();
        let identity = weighed.identity().to_string();
        self.client.rdns = gathered.and_then(|gathered| gathered.name().map(str::to_owned));
        self.identity = Some(FirstContact { identity, words });
        None
    }

    /// The client may speak to the server: on this connection if that can be, else on its next one.
    fn qualified(&mut self, line: BytesMut) -> Result<(), End> {
        if self.edge.handoff.takes_sessions() {
            let mut bytes = BytesMut::with_capacity(line.len() + 2 + self.input.len());
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(b"\r\n");
            bytes.unsplit(self.input.split());
            return Err(End::HandOver(Pending { rcpt: None, bytes }));
        }
        self.react(Reaction::Say(reply::COME_AGAIN))
    }
}
