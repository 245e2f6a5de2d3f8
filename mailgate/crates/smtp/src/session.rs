//! One session: line in, command, reply out.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mailgate_model::{Client, Permanence, Reply, Service, SessionId};
use mailgate_net::{Place, Stream};
use mailgate_proto::smtp::{self, Charset, Command, Misbehaved};

use crate::received::Hello;
use crate::reply;
use crate::transaction::State;
use crate::wire::{Gone, Wire};
use crate::{Error, Resumed, Server};

/// Commands such as NOOP and RSET between two messages before the session is closed: honest clients say a few, others
/// keep a place that way.
const IDLE_LIMIT: u32 = 100;

/// What follows a command.
#[derive(Debug)]
pub(crate) enum Next {
    /// This is said, and the session ends.
    Close(Reply),
    /// This is said.
    Say(Reply),
    /// Everything was said already.
    Silent,
}

/// What was counted in this session, against its limits.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) errors: u32,
    /// Commands that lead nowhere, since the last accepted message.
    pub(crate) idle: u32,
    pub(crate) messages: u32,
    pub(crate) sasl_failures: u32,
    pub(crate) unknown_recipients: u32,
}

/// One connection and how far it is.
pub(crate) struct Session {
    pub(crate) server: Arc<Server>,
    pub(crate) service: Service,
    pub(crate) id: SessionId,
    pub(crate) client: Client,
    pub(crate) hello: Option<Hello>,
    pub(crate) state: State,
    /// The refusal of a MAIL that the edge had accepted for us.
    pub(crate) owed: Option<Reply>,
    pub(crate) counts: Counts,
    pub(crate) wire: Wire,
}

impl Session {
    /// Before the greeting.
    pub(crate) fn new(
        server: Arc<Server>,
        service: Service,
        stream: Stream,
        client: Client,
        id: SessionId,
    ) -> Self {
        Self::with_pending(server, service, stream, client, id, BytesMut::new())
    }

    fn with_pending(
        server: Arc<Server>,
        service: Service,
        stream: Stream,
        mut client: Client,
        id: SessionId,
        pending: BytesMut,
    ) -> Self {
        client.tls = stream.tls_facts();
        let wire = Wire::new(stream, pending, Arc::clone(&server.parts.clock));
        Self {
            server,
            service,
            id,
            client,
            hello: None,
            state: State::Greeted,
            owed: None,
            counts: Counts::default(),
            wire,
        }
    }

    /// From the greeting to the end.
    pub(crate) async fn run(mut self) {
        let Some(_place) = self.place().await else { return };
        tracing::info!(target: "smtp", s = %self.id, event = "connect", service = ?self.service, peer = %self.client.peer,
            local = %self.client.local, tls = self.client.tls.is_some());
        self.wire.reply(&smtp::reply::greeting(&self.server.parts.hostname));
        self.talk(None).await;
    }

    /// From where the edge left it to the end.
    pub(crate) async fn resume(server: Arc<Server>, resumed: Resumed) {
        let Resumed { stream, client, session, helo, mail, rcpt, pending } = resumed;
        let mut session = Self::with_pending(server, Service::Mx, stream, client, session, pending);
        let Some(_place) = session.place().await else { return };
        tracing::info!(target: "smtp", s = %session.id, event = "resume", peer = %session.client.peer,
            tls = session.client.tls.is_some());
        for line in [helo, mail].into_iter().flatten() {
            session.replay(&line);
        }
        session.talk(rcpt).await;
    }

    /// A place among the sessions, or goodbye.
    async fn place(&mut self) -> Option<Place> {
        let place = self.server.places.take(self.client.ip());
        if let Err(full) = &place {
            tracing::warn!(target: "smtp", s = %self.id, event = "refused", peer = %self.client.peer, reason = %full);
            self.wire.reply(&reply::TOO_MANY_SESSIONS);
            // Farewell would hold more connections than the limit allows; a short word is all there is.
            let _ = self.wire.flush(Duration::from_secs(1)).await;
        }
        place.ok()
    }

    /// Performs a line that the edge has answered already; a refusal is owed to the RCPT that follows.
    fn replay(&mut self, line: &str) {
        let reply = match Command::parse(line.as_bytes(), Charset::Ascii) {
            Ok(Command::Ehlo(name)) => self.ehlo(name),
            Ok(Command::Helo(name)) => self.helo(name),
            Ok(Command::Mail(_)) if self.hello.is_none() => return,
            Ok(Command::Mail(mail)) => self.open(mail),
            Ok(_) => reply::SAY_MAIL,
            Err(misbehaved) => smtp::reply::refusal(&misbehaved),
        };
        if reply.permanence().is_some() {
            self.owed = Some(reply);
        }
    }

    /// To the end; with the RCPT line of a content that the client is sending already.
    async fn talk(mut self, begun: Option<String>) {
        let end = self.converse(begun).await;
        let reason = match &end {
            Ok(()) => "quit",
            Err(gone) => gone.reason(),
        };
        tracing::info!(target: "smtp", s = %self.id, event = "disconnect", reason, messages = self.counts.messages,
            errors = self.counts.errors);
        if let Err(Gone::Failed(error)) = &end {
            tracing::debug!(target: "smtp", s = %self.id, event = "disconnect", error = %error);
        }
        match end {
            Ok(()) => {}
            Err(Gone::TimedOut) => self.wire.reply(&reply::IDLE),
            Err(Gone::ShuttingDown) => self.wire.reply(&reply::SHUTTING_DOWN),
            Err(Gone::Closed | Gone::Failed(_)) => return,
        }
        self.wire.farewell().await;
    }

    /// Until QUIT or our own decision to close, whose reply is in line then.
    async fn converse(&mut self, begun: Option<String>) -> Result<(), Gone> {
        let shutdown = self.server.parts.shutdown.clone();
        let limit = self.server.parts.config.timeouts.command.duration();
        let mut begun = begun;
        loop {
            let next = if let Some(line) = begun.take() {
                Box::pin(self.begun(&line)).await?
            } else {
                let line = self.wire.line(limit, &shutdown).await?;
                match line.and_then(|line| Command::parse(&line, self.charset())) {
                    Ok(command) => self.perform(command).await?,
                    Err(misbehaved) => self.misbehaved(&misbehaved),
                }
            };
            match next {
                Next::Say(reply) => self.wire.reply(&reply),
                Next::Silent => {}
                Next::Close(reply) => {
                    self.wire.reply(&reply);
                    return Ok(());
                }
            }
        }
    }

    async fn perform(&mut self, command: Command) -> Result<Next, Gone> {
        let verb = command.verb();
        if matches!(verb, "EHLO" | "EXPN" | "HELO" | "HELP" | "NOOP" | "RSET" | "VRFY") {
            self.counts.idle += 1;
            if self.counts.idle > IDLE_LIMIT {
                return Ok(Next::Close(reply::TOO_MANY_ERRORS));
            }
        }
        let next = match command {
            Command::Auth { mechanism, initial } => Box::pin(self.identify(&mechanism, initial)).await?,
            Command::Bdat { size, last } => Box::pin(self.bdat(size, last)).await?,
            Command::Data => Box::pin(self.data()).await?,
            Command::Ehlo(name) => Next::Say(self.ehlo(name)),
            Command::Expn(_) | Command::Lhlo(_) => Next::Say(reply::NOT_IMPLEMENTED),
            Command::Helo(name) => Next::Say(self.helo(name)),
            Command::Help => Next::Say(reply::HELP),
            Command::Mail(mail) => Box::pin(self.mail(mail)).await,
            Command::Noop => Next::Say(reply::OK),
            Command::Quit => Next::Close(reply::BYE),
            Command::Rcpt(rcpt) => return Ok(Box::pin(self.rcpt(rcpt)).await),
            Command::Rset => Next::Say(self.rset()),
            Command::StartTls => Box::pin(self.starttls()).await?,
            Command::Vrfy(_) => Next::Say(reply::CANNOT_VERIFY),
        };
        // What content is worth is no matter of manners.
        let is_content = matches!(verb, "DATA" | "BDAT");
        Ok(match next {
            Next::Say(reply) if !is_content && reply.permanence() == Some(Permanence::Permanent) => {
                self.wrong(reply)
            }
            next => next,
        })
    }

    fn misbehaved(&mut self, misbehaved: &Misbehaved) -> Next {
        tracing::info!(target: "smtp", s = %self.id, event = "misbehaved", reason = %misbehaved);
        let reply = smtp::reply::refusal(misbehaved);
        if *misbehaved == Misbehaved::BareLineFeed {
            // What follows may be a command that somebody smuggled into an address (RFC 5321 §2.3.8).
            return Next::Close(reply);
        }
        self.wrong(reply)
    }

    /// Counts a wrong command; one too many ends the session.
    pub(crate) fn wrong(&mut self, reply: Reply) -> Next {
        self.counts.errors += 1;
        if self.counts.errors < self.server.parts.config.errors {
            return Next::Say(reply);
        }
        tracing::info!(target: "smtp", s = %self.id, event = "refused", peer = %self.client.peer, reason = "too-many-errors");
        Next::Close(reply::TOO_MANY_ERRORS)
    }

    /// The world failed: the operator reads why, the peer comes again.
    pub(crate) fn failed(&self, event: &str, error: &Error) -> Reply {
        tracing::warn!(target: "smtp", s = %self.id, event, result = "deferred", error = %error);
        match error {
            Error::Spool(mailgate_store::Error::Full(_)) => reply::OUT_OF_STORAGE,
            _ => reply::LOCAL_ERROR,
        }
    }

    /// What addresses of the open transaction may have.
    pub(crate) fn charset(&self) -> Charset {
        match &self.state {
            State::Greeted => Charset::Ascii,
            State::MailGiven(transaction) | State::RcptGiven(transaction) | State::Chunks(transaction, _) => {
                transaction.mail.charset
            }
        }
    }

    /// Recipients of one message in this service.
    pub(crate) fn recipient_limit(&self) -> usize {
        let config = &self.server.parts.config;
        if self.service == Service::Msa { config.msa.recipients } else { config.mx.recipients }
    }
}
