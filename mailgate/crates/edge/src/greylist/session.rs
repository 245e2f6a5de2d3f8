//! One session with an unknown client: reads lines, answers, lets the greylist judge each RCPT, and hands the
//! connection on at the moment in which the client qualifies.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mailgate_model::{Client, FirstContact, Reply, SessionId, Timestamp};
use mailgate_net::Stream;
use mailgate_proto::smtp::{LineSplitter, Rcpt, reply as shared};
use mailgate_store::greylist::{Said, Standing};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::contact::{Contact, Judged, Manners};
use super::dialogue::{Dialogue, News, Reaction, Tls};
use super::policy::Verdict;
use crate::accept::Edge;
use crate::handoff::Handover;
use crate::reply;
use crate::suspicion::{Gathered, Gathering, Tables};
use crate::tarpit::{About, Held, Why};
use crate::trap::Step;
use crate::why::Because;

/// How long a peer may take to fetch our last words.
const FAREWELL: Duration = Duration::from_secs(10);
/// Read at once. What waits in our memory is at most this and one line.
const READ_SIZE: usize = 4096;
/// For how long who talked before the greeting was complete is answered one byte at a time.
const EARLY_STUTTER: Duration = Duration::from_secs(30);

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
        dialogue: Dialogue::new(edge.hostname.clone(), edge.content_limit, tls, edge.handoff.offers()),
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
}

/// How a session ends here.
enum End {
    /// It is over; what was said is sent.
    Close(&'static str),
    /// The peer is gone or does not listen; nothing more can be said.
    Gone(&'static str),
    /// The client qualified with this RCPT line.
    HandOver(BytesMut),
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
                match reaction {
                    Reaction::Judge(rcpt) => return Some(self.judge(&rcpt, line).await),
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
            // Judged by the caller, which has the line.
            Reaction::Judge(_) => {}
        }
        let limits = &self.edge.config.limits;
        if self.mistakes >= limits.mistakes || self.commands >= limits.commands {
            self.say(&reply::TOO_MANY_MISTAKES);
            return Err(End::Close("mistakes"));
        }
        Ok(())
    }

    /// The greeting. Who is suspicious before it said anything hears it in two parts and must be silent in between, as
    /// mail servers are (RFC 5321 §4.3.1).
    async fn greet(&mut self) -> Result<(), End> {
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

    /// Whether the client says something within `span`, although it is not its turn.
    async fn hear(&mut self, span: Duration) -> Result<bool, End> {
        self.input.reserve(READ_SIZE);
        let mut limited = (&mut self.stream).take(READ_SIZE as u64);
        tokio::select! {
            biased;
            () = self.edge.shutdown.cancelled() => Ok(false),
            read = limited.read_buf(&mut self.input) => match read {
                Ok(0) => Err(End::Gone("closed by peer")),
                Ok(_) => Ok(true),
                Err(_) => Err(End::Gone("connection lost")),
            },
            () = self.edge.clock.sleep(span) => Ok(false),
        }
    }

    /// What the last line told of the client is looked into while the session goes on.
    fn listen(&mut self) {
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

    /// RCPT: the moment of decision.
    async fn judge(&mut self, rcpt: &Rcpt, line: BytesMut) -> Result<(), End> {
        let edge = self.edge;
        let ip = self.client.ip();
        match edge.greylist.standing(ip) {
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
            return if trapped { Err(End::Tarpit(Why::Trapped)) } else { self.qualified(line) };
        }
        let Judged { judgement, weighed, spared } = self.contact(gathered.as_ref()).judge(&said);
        match judgement.verdict {
            Verdict::Defer { wait, .. } if !spared => self.react(Reaction::Say(reply::deferred(wait))),
            Verdict::Accept { .. } | Verdict::Defer { .. } => {
                let words = Because { judgement, weighed: &weighed, spared }.words();
                let identity = weighed.identity().to_string();
                self.client.rdns = gathered.and_then(|gathered| gathered.name().map(str::to_owned));
                self.identity = Some(FirstContact { identity, words });
                self.qualified(line)
            }
        }
    }

    /// The client may speak to the server: on this connection if that can be, else on its next one.
    fn qualified(&mut self, line: BytesMut) -> Result<(), End> {
        if self.edge.handoff.takes_sessions() {
            return Err(End::HandOver(line));
        }
        self.react(Reaction::Say(reply::COME_AGAIN))
    }

    fn say(&mut self, reply: &Reply) {
        self.output.push_str(&reply.to_wire());
    }

    /// Until when the peer may keep us waiting, and why the session ends then.
    fn deadline(&self) -> Timestamp {
        self.edge.clock.now().plus(self.edge.config.limits.idle.duration()).min(self.ends)
    }

    async fn read(&mut self) -> Result<(), End> {
        let deadline = self.deadline();
        self.input.reserve(READ_SIZE);
        let mut limited = (&mut self.stream).take(READ_SIZE as u64);
        tokio::select! {
            // In this order: who talks without a pause must not outlive the limits.
            biased;
            () = self.edge.shutdown.cancelled() => {
                self.say(&reply::SHUTTING_DOWN);
                Err(End::Close("shutdown"))
            }
            () = self.edge.clock.sleep_until(deadline) => {
                self.say(&reply::TIMEOUT);
                Err(End::Close("timeout"))
            }
            read = limited.read_buf(&mut self.input) => match read {
                Ok(0) => Err(End::Gone("closed by peer")),
                Ok(_) => Ok(()),
                Err(_) => Err(End::Gone("connection lost")),
            },
        }
    }

    /// Sends what was said, byte by byte while the session is young if the configuration wants that.
    async fn flush(&mut self) -> Result<(), End> {
        let output = std::mem::take(&mut self.output);
        let deadline = self.deadline();
        let clock = &self.edge.clock;
        let interval = self.edge.config.tarpit.interval.duration();
        let (stream, stutter_until) = (&mut self.stream, self.stutter_until);
        let send = async {
            let mut rest = output.as_bytes();
            while clock.now() < stutter_until
                && let Some((byte, tail)) = rest.split_first()
            {
                clock.sleep(interval).await;
                stream.write_all(std::slice::from_ref(byte)).await?;
                stream.flush().await?;
                rest = tail;
            }
            stream.write_all(rest).await?;
            stream.flush().await
        };
        tokio::select! {
            sent = send => sent.map_err(|_| End::Gone("connection lost")),
            () = clock.sleep_until(deadline) => Err(End::Gone("timeout")),
            () = self.edge.shutdown.cancelled() => Err(End::Gone("shutdown")),
        }
    }

    /// Nothing that came in clear text is heard inside TLS. `None` when the connection is gone.
    async fn start_tls(mut self) -> Option<Self> {
        if let Err(End::Gone(reason) | End::Close(reason)) = self.flush().await {
            self.log_end(reason);
            return None;
        }
        self.input.clear();
        self.lines = LineSplitter::commands();
        let (Some(tls), Stream::Plain(tcp)) = (&self.edge.tls, self.stream) else { return None };
        match tls.accept(tcp).await {
            Ok(stream) => {
                self.client.tls = stream.tls_facts();
                self.stream = stream;
                self.dialogue.tls_began();
                Some(self)
            }
            Err(error) => {
                tracing::debug!(
                    target: "edge", s = %self.session, event = "starttls", result = "failed", reason = %error
                );
                None
            }
        }
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
            End::HandOver(line) => {
                // TLS keeps what does not fill a record.
                let _ = self.stream.flush().await;
                self.hand_over(&line);
            }
            End::StartTls => {}
            End::Tarpit(why) => {
                let about = About::new(self.client.ip(), self.session, why, self.edge.clock.now());
                self.edge.tarpit.hold(self.stream, about, Held::after_recipient(&self.input));
            }
        }
    }

    fn hand_over(mut self, line: &[u8]) {
        let mut pending = BytesMut::with_capacity(line.len() + 2 + self.input.len());
        pending.extend_from_slice(line);
        pending.extend_from_slice(b"\r\n");
        pending.extend_from_slice(&self.input);
        self.client.helo = self.dialogue.hello_name().map(str::to_owned);
        self.client.contact = self.identity;
        self.edge.handoff.hand_over(Handover {
            stream: self.stream,
            client: self.client,
            session: self.session,
            greeted: true,
            helo: self.dialogue.hello_line().map(str::to_owned),
            mail: self.dialogue.mail_line().map(str::to_owned),
            pending,
        });
    }

    fn log_end(&self, reason: &str) {
        tracing::debug!(target: "edge", s = %self.session, event = "close", reason, commands = self.commands);
    }
}
