//! One session with an unknown client: reads lines, answers, lets the greylist judge each RCPT or the content behind it,
//! and hands the connection on at the moment in which the client qualifies.

mod content;
mod judge;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mailgate_model::{Client, FirstContact, Reply, SessionId, Timestamp};
use mailgate_net::Stream;
use mailgate_proto::smtp::LineSplitter;
use tokio::io::AsyncWriteExt as _;

use self::content::PutOff;
use super::contact::Manners;
use super::dialogue::{Dialogue, Reaction, Tls};
use crate::accept::Edge;
use crate::config::Decide;
use crate::handoff::Handover;
use crate::reply;
use crate::suspicion::{Gathering, Tables};
use crate::tarpit::{About, Held, Why};

pub(crate) use self::content::CONTENTS;

/// How long a peer may take to fetch our last words.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves `stream` until it ends or goes on elsewhere.
pub(crate) async fn serve(edge: &Arc<Edge>, stream: Stream, client: Client, session: SessionId) {
    let now = edge.clock.now();
    let config = &edge.config;
    let grey_ip = client.ip();
    let tls = if edge.tls.is_some() { Tls::Offered } else { Tls::Unavailable };
    let mut grey = Session {
        edge,
        stream,
        client,
        session,
        dialogue: dialogue(edge, tls),
        lines: LineSplitter::commands(),
        input: BytesMut::new(),
        output: String::new(),
        discard: None,
        commands: 0,
        mistakes: 0,
        ends: now.plus(config.limits.session.duration()),
        stutter_until: now.plus(config.greylist.stutter_for.duration()),
        gathering: None,
        tables: edge.tables(grey_ip),
        manners: Manners::default(),
        was_greeted: false,
        identity: None,
        put_off: None,
    };
    if !edge.policy.is_classic() {
        grey.gathering = edge.around.as_ref().map(|around| Gathering::begin(around, grey_ip));
    }
    if let Err(end) = grey.greet().await {
        return grey.finish(end).await;
    }
    loop {
        match grey.run().await {
            End::StartTls => match grey.start_tls().await {
                Some(inside) => grey = inside,
                None => return,
            },
            end => return grey.finish(end).await,
        }
    }
}

fn dialogue(edge: &Edge, tls: Tls) -> Dialogue {
    let dialogue = Dialogue::new(edge.hostname.clone(), edge.content_limit, tls, edge.handoff.offers());
    match edge.config.greylist.decide {
        Decide::Data => dialogue.without_chunking(),
        Decide::Rcpt => dialogue,
    }
}

struct Session<'a> {
    edge: &'a Arc<Edge>,
    stream: Stream,
    client: Client,
    session: SessionId,
    dialogue: Dialogue,
    lines: LineSplitter,
    /// Read and not yet answered.
    input: BytesMut,
    /// Said and not yet sent: the replies to commands that came together go together (RFC 2920 §3.2).
    output: String,
    /// Octets of a chunk still to be swallowed, and what is said after them.
    discard: Option<(u64, Reply)>,
    commands: u32,
    mistakes: u32,
    ends: Timestamp,
    stutter_until: Timestamp,
    /// What the DNS says; `None` where nobody asks.
    gathering: Option<Gathering>,
    /// What tables add to the suspicion.
    tables: Tables,
    manners: Manners,
    /// It has heard once what we offer, PIPELINING among it.
    was_greeted: bool,
    /// What the hand-over tells reception.
    identity: Option<FirstContact>,
    /// The recipient of the open transaction that is judged after the content.
    put_off: Option<PutOff>,
}

/// What the server goes on with.
struct Pending {
    /// The RCPT line that was answered, and DATA behind it.
    rcpt: Option<String>,
    bytes: BytesMut,
}

/// How a session ends here.
enum End {
    /// It is over; what was said is sent.
    Close(&'static str),
    /// The peer is gone or does not listen; nothing more can be said.
    Gone(&'static str),
    /// The client qualified.
    HandOver(Pending),
    /// TLS begins.
    StartTls,
    /// The client stepped into a trap, and hears that the recipient is accepted.
    Tarpit(Why),
}

impl Session<'_> {
    async fn run(&mut self) -> End {
        loop {
            while let Some(answered) = self.answer_one().await {
                if let Err(end) = answered {
                    return end;
                }
            }
            if let Err(end) = self.flush().await {
                return end;
            }
            if let Err(end) = self.read().await {
                return end;
            }
        }
    }

    /// Answers the next line of the input; `None` when there is none.
    async fn answer_one(&mut self) -> Option<Result<(), End>> {
        if let Some((octets, reply)) = self.discard.take() {
            let here = usize::try_from(octets).unwrap_or(usize::MAX).min(self.input.len());
            self.input.advance(here);
            let left = octets - here as u64;
            if left > 0 {
                self.discard = Some((left, reply));
                return None;
            }
            self.say(&reply);
        }
        let reaction = match self.lines.next_line(&mut self.input)? {
            Err(misbehaved) => Dialogue::misbehaved(&misbehaved),
            Ok(line) => {
                self.commands += 1;
                let reaction = self.dialogue.line(&line);
                self.listen();
                if self.dialogue.mail().is_none() {
                    self.put_off = None;
                }
                match reaction {
                    Reaction::Judge(rcpt) => return Some(self.judge(&rcpt, line).await),
                    Reaction::Data => return Some(self.data().await),
                    other => other,
                }
            }
        };
        Some(self.react(reaction))
    }

    fn react(&mut self, reaction: Reaction) -> Result<(), End> {
        match reaction {
            Reaction::Discard(octets, reply) => self.discard = Some((octets, reply)),
            Reaction::Last(reply) => {
                self.say(&reply);
                return Err(End::Close("quit"));
            }
            Reaction::Mistake(reply) => {
                self.mistakes += 1;
                self.say(&reply);
            }
            Reaction::Say(reply) => self.say(&reply),
            // In the clear, and not to be taken for something said inside TLS (RFC 3207 §6; CVE-2011-0411).
            Reaction::StartTls(_) if !self.input.is_empty() => {
                self.say(&reply::NOTHING_AFTER_STARTTLS);
                return Err(End::Close("input after STARTTLS"));
            }
            Reaction::StartTls(reply) => {
                self.say(&reply);
                return Err(End::StartTls);
            }
            // Performed by the caller, which has the line.
            Reaction::Data | Reaction::Judge(_) => {}
        }
        let limits = &self.edge.config.limits;
        if self.mistakes >= limits.mistakes || self.commands >= limits.commands {
            self.say(&reply::TOO_MANY_MISTAKES);
            return Err(End::Close("mistakes"));
        }
        Ok(())
    }

    fn say(&mut self, reply: &Reply) {
        self.output.push_str(&reply.to_wire());
    }

    async fn finish(mut self, end: End) {
        // What was said before the end is sent before anything else happens to the connection.
        let output = std::mem::take(&mut self.output);
        let end = tokio::select! {
            biased;
            sent = self.stream.write_all(output.as_bytes()) => sent.map_or(End::Gone("connection lost"), |()| end),
            () = self.edge.clock.sleep(FAREWELL) => End::Gone("timeout"),
        };
        match end {
            End::Close(reason) => {
                self.log_end(reason);
                tokio::select! {
                    // The peer may be gone already.
                    _ = self.stream.shutdown() => {}
                    () = self.edge.clock.sleep(FAREWELL) => {}
                }
            }
            End::Gone(reason) => self.log_end(reason),
            End::HandOver(pending) => {
                // TLS keeps what does not fill a record.
                let _ = self.stream.flush().await;
                self.hand_over(pending);
            }
            End::StartTls => {}
            End::Tarpit(why) => {
                let about = About::new(self.client.ip(), self.session, why, self.edge.clock.now());
                self.edge.tarpit.hold(self.stream, about, Held::after_recipient(&self.input));
            }
        }
    }

    fn hand_over(mut self, pending: Pending) {
        self.client.helo = self.dialogue.hello_name().map(str::to_owned);
        self.client.contact = self.identity;
        self.edge.handoff.hand_over(Handover {
            stream: self.stream,
            client: self.client,
            session: self.session,
            greeted: true,
            helo: self.dialogue.hello_line().map(str::to_owned),
            mail: self.dialogue.mail_line().map(str::to_owned),
            rcpt: pending.rcpt,
            pending: pending.bytes,
        });
    }

    fn log_end(&self, reason: &str) {
        tracing::debug!(target: "edge", s = %self.session, event = "close", reason, commands = self.commands);
    }
}
