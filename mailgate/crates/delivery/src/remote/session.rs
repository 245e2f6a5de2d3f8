//! One session with one address of a remote host: greeting, EHLO, STARTTLS, transactions, QUIT.

use std::net::SocketAddr;
use std::sync::Arc;

use mailgate_model::{Clock, Outcome, Status};
use mailgate_net::{Source, Stream, dial};
use mailgate_proto::smtp::{Answer, Offered};
use mailgate_queue::Attempted;

use super::names::Encrypt;
use super::outcome::{deferred, from_answer};
use super::transaction::{Message, Pending, transact};
use super::wire::{Broken, COMMAND, GREETING, Wire, within};
use crate::TlsPolicy;

/// Everything a session needs besides the message.
pub(super) struct Setting {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) encrypt: Arc<dyn Encrypt>,
    pub(super) helo: String,
    pub(super) connect_timeout: std::time::Duration,
    pub(super) source: Source,
    pub(super) tls: TlsPolicy,
    /// Whether a connection to one of our own addresses is a mail loop or wanted (static routes).
    pub(super) own_address: OwnAddress,
}

/// What a connection means that ends on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnAddress {
    /// The operator configured it.
    Fine,
    /// An MX record led to us.
    Loop,
}

/// Why this address did not take the message; the next may.
pub(super) struct Unusable(pub(super) Outcome);

/// Tries to hand the message over at `peer`. Recipients with an outcome move to `decided`; when some are left in
/// `pending`, the error says why the session ended before them.
pub(super) async fn hand_over(
    setting: &Setting,
    host: &str,
    peer: SocketAddr,
    message: &Message<'_>,
    pending: &mut Vec<Pending>,
    decided: &mut Vec<Attempted>,
) -> Result<(), Unusable> {
    let remote = format!("{host}[{}]:{}", peer.ip(), peer.port());
    let (mut wire, offered) = open(setting, host, peer, &remote).await?;
    if let Some(protection) = wire.protection() {
        tracing::debug!(target: "delivery", event = "tls", remote, protection);
    }
    while !pending.is_empty() {
        let before = pending.len();
        if let Err(broken) = transact(&mut wire, &offered, &remote, message, pending, decided).await {
            return Err(unusable(&remote, &broken));
        }
        if pending.len() == before {
            // `transact` decides at least one or fails; this only guards the loop.
            break;
        }
    }
    wire.quit().await;
    Ok(())
}

/// Connects and gets through EHLO, with TLS if policy and peer agree. A handshake that fails costs a second connection
/// in the clear, if the policy lets it (RFC 7435 §3).
async fn open(
    setting: &Setting,
    host: &str,
    peer: SocketAddr,
    remote: &str,
) -> Result<(Wire, Offered), Unusable> {
    let (mut wire, offered) = greet(setting, peer, remote).await?;
    if setting.tls == TlsPolicy::Never {
        return Ok((wire, offered));
    }
    if !offered.starttls {
        return plain_or_refuse(setting, remote, "STARTTLS is not offered").map(|()| (wire, offered));
    }
    let answer = ask(&mut wire, remote, "STARTTLS\r\n").await?;
    if !answer.is_success() {
        return plain_or_refuse(setting, remote, &answer.one_line()).map(|()| (wire, offered));
    }
    let why = match encrypted(setting, host, wire).await {
        Ok(stream) => {
            let mut wire = Wire::new(stream, Arc::clone(&setting.clock));
            // RFC 3207 §4.2: what was learnt in the clear is forgotten.
            match hello(setting, &mut wire, remote).await {
                Ok(offered) => return Ok((wire, offered)),
                Err(Unusable(outcome)) => outcome_text(&outcome),
            }
        }
        Err(broken) => broken.to_string(),
    };
    tracing::info!(target: "delivery", event = "starttls", result = "failed", remote, reason = %why);
    plain_or_refuse(setting, remote, &why)?;
    greet(setting, peer, remote).await
}

async fn encrypted(setting: &Setting, host: &str, wire: Wire) -> Result<Stream, Broken> {
    if wire.has_unread() {
        return Err(Broken::Io(std::io::Error::other("bytes came before the handshake")));
    }
    let Stream::Plain(tcp) = wire.into_stream() else {
        return Err(Broken::Io(std::io::Error::other("TLS inside TLS")));
    };
    within(&setting.clock, COMMAND, async { Ok(setting.encrypt.connect(tcp, host).await?) }).await
}

/// RFC 3463 §3.8: X.7.10, encryption needed.
fn plain_or_refuse(setting: &Setting, remote: &str, why: &str) -> Result<(), Unusable> {
    if setting.tls == TlsPolicy::Require {
        let detail = format!("TLS is required and cannot be had: {why}");
        return Err(Unusable(deferred(Status::new(4, 7, 10), Some(remote), &detail)));
    }
    Ok(())
}

/// Connection, greeting, EHLO.
async fn greet(setting: &Setting, peer: SocketAddr, remote: &str) -> Result<(Wire, Offered), Unusable> {
    let connecting = async { Ok(dial(peer, setting.source).await?) };
    let tcp = within(&setting.clock, setting.connect_timeout, connecting).await.map_err(|broken| {
        // RFC 3463 §3.5: X.4.1, no answer from host.
        Unusable(deferred(Status::new(4, 4, 1), Some(remote), &format!("cannot connect: {broken}")))
    })?;
    let loops = tcp.local_addr().is_ok_and(|local| local.ip() == peer.ip());
    if loops && setting.own_address == OwnAddress::Loop {
        // RFC 5321 §6.3. Transient: a wrong record or address is mended sooner than a bounce is taken back.
        return Err(Unusable(deferred(
            Status::new(4, 4, 6),
            Some(remote),
            "the host is this one: mail would loop",
        )));
    }
    let mut wire = Wire::new(Stream::Plain(tcp), Arc::clone(&setting.clock));
    let greeting = wire.answer(GREETING).await.map_err(|broken| unusable(remote, &broken))?;
    if !greeting.is_success() {
        wire.quit().await;
        return Err(Unusable(from_answer(&greeting, remote)));
    }
    let offered = hello(setting, &mut wire, remote).await?;
    Ok((wire, offered))
}

/// EHLO, or HELO where EHLO is unknown (RFC 5321 §3.2).
async fn hello(setting: &Setting, wire: &mut Wire, remote: &str) -> Result<Offered, Unusable> {
    let answer = ask(wire, remote, &format!("EHLO {}\r\n", setting.helo)).await?;
    if answer.is_success() {
        return Ok(Offered::from_answer(&answer));
    }
    if answer.class() == 5 {
        let answer = ask(wire, remote, &format!("HELO {}\r\n", setting.helo)).await?;
        if answer.is_success() {
            return Ok(Offered::default());
        }
        return Err(Unusable(from_answer(&answer, remote)));
    }
    Err(Unusable(from_answer(&answer, remote)))
}

async fn ask(wire: &mut Wire, remote: &str, command: &str) -> Result<Answer, Unusable> {
    wire.ask(command, COMMAND).await.map_err(|broken| unusable(remote, &broken))
}

/// RFC 3463 §3.5: X.4.2, bad connection.
fn unusable(remote: &str, broken: &Broken) -> Unusable {
    Unusable(deferred(Status::new(4, 4, 2), Some(remote), &broken.to_string()))
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Deferred { detail, .. }
        | Outcome::Failed { detail, .. }
        | Outcome::Relayed { detail, .. } => detail.clone(),
        Outcome::Delivered => String::new(),
    }
}
