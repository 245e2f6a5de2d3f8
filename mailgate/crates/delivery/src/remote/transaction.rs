//! One mail transaction with as many recipients as the peer takes (RFC 5321 §3.3).

use std::fmt::Write as _;

use bytes::Bytes;
use mailgate_model::{DsnReturn, Envelope, Outcome, Recipient, Status};
use mailgate_proto::smtp::{Answer, DataEncoder, Offered, xtext};
use mailgate_queue::{Attempted, DsnDuty};

use super::outcome::{clean, deferred, failed, from_answer};
use super::wire::{Broken, COMMAND, DATA_INITIATION, DATA_TERMINATION, Wire};

/// Commands sent before their replies are read: small enough for every socket buffer, so that both sides never wait
/// for each other (RFC 2920 §3.1).
const PIPELINE: usize = 2048;

/// A recipient without outcome yet, with its index.
pub(super) type Pending = (u32, Recipient);

/// What is sent, and what the peer needs for it.
pub(super) struct Message<'a> {
    pub(super) envelope: &'a Envelope,
    pub(super) content: &'a Bytes,
    pub(super) needs: Needs,
}

/// Extensions without which the message cannot be sent as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Octets above 127 in the content.
    pub(super) eight_bit: bool,
    /// Octets above 127 in the header section or the reverse-path; recipients are looked at one by one.
    pub(super) smtputf8: bool,
}

impl Needs {
    pub(super) fn of(envelope: &Envelope, content: &[u8]) -> Self {
        let end = content.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(content.len());
        let header = content.get(..end).unwrap_or(content);
        let path = envelope.reverse_path.address().is_some_and(mailgate_model::Address::needs_smtputf8);
        // A raw 8-bit header without SMTPUTF8 at MAIL is old, wrong and common; it goes as it came.
        let header = envelope.smtputf8 && !header.is_ascii();
        Self { eight_bit: !content.is_ascii(), smtputf8: path || header }
    }
}

/// Sends the message to as many of `pending` as the peer takes in one transaction. Recipients with an outcome move from
/// `pending` to `decided`; on `Err` those left in `pending` may be tried elsewhere.
pub(super) async fn transact(
    wire: &mut Wire,
    offered: &Offered,
    remote: &str,
    message: &Message<'_>,
    pending: &mut Vec<Pending>,
    decided: &mut Vec<Attempted>,
) -> Result<(), Broken> {
    if let Some(outcome) = impossible(offered, remote, message) {
        decide_all(pending, decided, &outcome);
        return Ok(());
    }
    if !offered.smtputf8 {
        refuse_international(remote, pending, decided);
    }
    if pending.is_empty() {
        return Ok(());
    }
    let mail = mail_command(offered, message, pending);
    let Some(accepted) = envelope(wire, offered, remote, &mail, pending, decided).await? else {
        return Ok(());
    };
    if accepted.is_empty() {
        // A peer may refuse RSET too; the caller ends the session or begins anew.
        wire.ask("RSET\r\n", COMMAND).await?;
        return Ok(());
    }
    content(wire, offered, remote, message, accepted, pending, decided).await
}

/// What no reply of the peer could change.
fn impossible(offered: &Offered, remote: &str, message: &Message<'_>) -> Option<Outcome> {
    let size = message.content.len() as u64;
    if let Some(limit) = offered.size.filter(|limit| *limit > 0 && *limit < size) {
        // RFC 1870 §6.3; RFC 3463 §3.4: X.3.4, message too big for system.
        let detail = format!("the message has {size} octets, the remote host takes {limit}");
        return Some(failed(Status::new(5, 3, 4), Some(remote), &detail));
    }
    if message.needs.smtputf8 && !offered.smtputf8 {
        // RFC 6531 §3.5 and §4.1: X.6.7.
        let detail = "the message needs SMTPUTF8, which the remote host does not offer";
        return Some(failed(Status::new(5, 6, 7), Some(remote), detail));
    }
    None
}

/// Recipients whose address the peer cannot read.
fn refuse_international(remote: &str, pending: &mut Vec<Pending>, decided: &mut Vec<Attempted>) {
    pending.retain(|(index, recipient)| {
        let refused = recipient.address.needs_smtputf8();
        if refused {
            let detail = "the address needs SMTPUTF8, which the remote host does not offer";
            decided.push(Attempted::new(*index, failed(Status::new(5, 6, 7), Some(remote), detail)));
        }
        !refused
    });
}

fn decide_all(pending: &mut Vec<Pending>, decided: &mut Vec<Attempted>, outcome: &Outcome) {
    decided.extend(pending.drain(..).map(|(index, _)| Attempted::new(index, outcome.clone())));
}

/// MAIL and all RCPT; gives the accepted recipients, still in `pending` as well. `None` when MAIL was refused.
async fn envelope(
    wire: &mut Wire,
    offered: &Offered,
    remote: &str,
    mail: &str,
    pending: &mut Vec<Pending>,
    decided: &mut Vec<Attempted>,
) -> Result<Option<Vec<u32>>, Broken> {
    let commands: Vec<String> =
        pending.iter().map(|(_, recipient)| rcpt_command(offered, recipient)).collect();
    let mut answers: Vec<Answer> = Vec::with_capacity(commands.len());
    if offered.pipelining {
        let mut mail_answer = None;
        let mut batch = mail.to_owned();
        let mut sent = 0;
        let mut commands = commands.iter().peekable();
        loop {
            while let Some(command) =
                commands.next_if(|command| batch.is_empty() || batch.len() + command.len() <= PIPELINE)
            {
                batch.push_str(command);
                sent += 1;
            }
            wire.send(&batch).await?;
            batch.clear();
            if mail_answer.is_none() {
                mail_answer = Some(wire.answer(COMMAND).await?);
            }
            while answers.len() < sent {
                answers.push(wire.answer(COMMAND).await?);
            }
            let mail_failed = mail_answer.as_ref().is_some_and(|answer| !answer.is_success());
            if mail_failed || commands.peek().is_none() {
                break;
            }
        }
        if let Some(answer) = mail_answer.filter(|answer| !answer.is_success()) {
            decide_all(pending, decided, &from_answer(&answer, remote));
            return Ok(None);
        }
    } else {
        let answer = wire.ask(mail, COMMAND).await?;
        if !answer.is_success() {
            decide_all(pending, decided, &from_answer(&answer, remote));
            return Ok(None);
        }
        for command in &commands {
            answers.push(wire.ask(command, COMMAND).await?);
        }
    }
    Ok(Some(sort_out(remote, &answers, pending, decided)))
}

/// Decides recipients by their RCPT replies; those accepted, or refused only because there were too many, stay pending.
fn sort_out(
    remote: &str,
    answers: &[Answer],
    pending: &mut Vec<Pending>,
    decided: &mut Vec<Attempted>,
) -> Vec<u32> {
    let mut accepted = Vec::new();
    let any = answers.iter().any(Answer::is_success);
    let mut answers = answers.iter();
    pending.retain(|(index, _)| {
        let Some(answer) = answers.next() else { return true };
        if answer.is_success() {
            accepted.push(*index);
            return true;
        }
        // RFC 5321 §4.5.3.1.10: too many recipients (552 is the same from old servers); the rest goes in the next
        // transaction, if this one gets on at all.
        if any && matches!(answer.code, 452 | 552) {
            return true;
        }
        let outcome = if answer.code == 552 {
            deferred(
                answer.status.filter(|s| s.class == 4).unwrap_or(Status::new(4, 5, 3)),
                Some(remote),
                &answer.one_line(),
            )
        } else {
            from_answer(answer, remote)
        };
        decided.push(Attempted::new(*index, outcome));
        false
    });
    accepted
}

/// DATA and the content. After the final dot nothing is tried elsewhere: the peer may have the message.
async fn content(
    wire: &mut Wire,
    offered: &Offered,
    remote: &str,
    message: &Message<'_>,
    accepted: Vec<u32>,
    pending: &mut Vec<Pending>,
    decided: &mut Vec<Attempted>,
) -> Result<(), Broken> {
    let mut decide = |pending: &mut Vec<Pending>, outcome: &Outcome, duty: DsnDuty| {
        pending.retain(|(index, _)| !accepted.contains(index));
        decided.extend(accepted.iter().map(|index| Attempted {
            index: *index,
            outcome: outcome.clone(),
            duty,
        }));
    };
    let Ok(pieces) = DataEncoder::new(message.content) else {
        // Reception refuses bare CR and LF, so this is a spool somebody edited. RFC 3463 §3.7: X.6.0.
        let outcome =
            failed(Status::new(5, 6, 0), None, "the message has a bare CR or LF and cannot be sent");
        decide(pending, &outcome, DsnDuty::Ours);
        wire.ask("RSET\r\n", COMMAND).await?;
        return Ok(());
    };
    let answer = wire.ask("DATA\r\n", DATA_INITIATION).await?;
    if !answer.is_intermediate() {
        decide(pending, &from_answer(&answer, remote), DsnDuty::Ours);
        // A 2xx here means that the peer is out of step; nothing it says next can be trusted.
        return if answer.is_success() { Err(Broken::Closed) } else { Ok(()) };
    }
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let sent = wire.send_content(piece).await;
        match (sent, pieces.peek()) {
            (Ok(()), _) => {}
            // Without the final dot the peer has nothing.
            (Err(broken), Some(_)) => return Err(broken),
            (Err(broken), None) => {
                decide(pending, &in_doubt(remote, &broken), DsnDuty::Ours);
                return Err(broken);
            }
        }
    }
    let answer = match wire.flush().await {
        Ok(()) => wire.answer(DATA_TERMINATION).await,
        Err(broken) => Err(broken),
    };
    match answer {
        Ok(answer) if answer.is_success() => {
            let detail = clean(&answer.one_line());
            let duty = if offered.dsn { DsnDuty::PassedOn } else { DsnDuty::Ours };
            decide(pending, &Outcome::Relayed { remote: remote.to_owned(), detail }, duty);
            Ok(())
        }
        Ok(answer) => {
            decide(pending, &from_answer(&answer, remote), DsnDuty::Ours);
            Ok(())
        }
        Err(broken) => {
            decide(pending, &in_doubt(remote, &broken), DsnDuty::Ours);
            Err(broken)
        }
    }
}

/// RFC 5321 §4.5.3.2.6: without a reply the message is sent again, even if that makes two of it. RFC 3463 §3.5: X.4.2.
fn in_doubt(remote: &str, broken: &Broken) -> Outcome {
    deferred(Status::new(4, 4, 2), Some(remote), &format!("after the end of the content: {broken}"))
}

/// MAIL with all parameters the peer offers to take.
fn mail_command(offered: &Offered, message: &Message<'_>, pending: &[Pending]) -> String {
    let envelope = message.envelope;
    let mut command = format!("MAIL FROM:<{}>", envelope.reverse_path);
    // Writing into a String cannot fail.
    if offered.size.is_some() {
        let _ = write!(command, " SIZE={}", message.content.len());
    }
    // Without 8BITMIME the content goes as it is (deviates from RFC 6152 §3: recoding would break signatures, and
    // hosts that really cut the eighth bit are gone).
    if offered.eight_bit && (message.needs.eight_bit || envelope.eight_bit) {
        command.push_str(" BODY=8BITMIME");
    }
    let international =
        message.needs.smtputf8 || pending.iter().any(|(_, recipient)| recipient.address.needs_smtputf8());
    if offered.smtputf8 && (international || envelope.smtputf8) {
        command.push_str(" SMTPUTF8");
    }
    if offered.dsn {
        match envelope.ret {
            Some(DsnReturn::Full) => command.push_str(" RET=FULL"),
            Some(DsnReturn::Headers) => command.push_str(" RET=HDRS"),
            None => {}
        }
        // Kept as xtext; decoding it first shows that it is, for it came from a stranger.
        if let Some(envid) = envelope.envid.as_deref().filter(|envid| xtext::decode(envid).is_some()) {
            let _ = write!(command, " ENVID={envid}");
        }
    }
    command.push_str("\r\n");
    command
}

/// RCPT with the DSN wishes, if the peer takes them.
fn rcpt_command(offered: &Offered, recipient: &Recipient) -> String {
    let mut command = format!("RCPT TO:<{}>", recipient.address);
    if offered.dsn {
        let notify = recipient.notify;
        let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        let words: Vec<_> = words.into_iter().filter_map(|(wanted, word)| wanted.then_some(word)).collect();
        // RFC 3461 §5.2.1: what was not said is not said on.
        if notify != mailgate_model::DsnNotify::default() {
            let list = if words.is_empty() { "NEVER".to_owned() } else { words.join(",") };
            let _ = write!(command, " NOTIFY={list}");
        }
        let orcpt = recipient.orcpt.as_deref().filter(|orcpt| is_orcpt(orcpt));
        if let Some(orcpt) = orcpt {
            let _ = write!(command, " ORCPT={orcpt}");
        }
    }
    command.push_str("\r\n");
    command
}

/// `type;xtext` (RFC 3461 §4.2) and nothing that could end the command.
fn is_orcpt(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    plain && text.split_once(';').is_some_and(|(kind, address)| !kind.is_empty() && !address.is_empty())
}
