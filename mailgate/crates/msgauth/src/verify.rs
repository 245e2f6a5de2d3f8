//! Checking what a message claims.

use std::fmt;
use std::time::Duration;

use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::{Canonicalization, DkimError};
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, AuthenticationResults, DkimOutput, DkimResult, DmarcResult, IprevResult,
    MessageAuthenticator, SpfResult,
};
use mailgate_model::{Client, Domain, ReversePath};
use mailgate_net::Resolver;

/// Time for all checks of one message; a client waits at least ten minutes for its reply (RFC 5321 §4.5.3.2.6).
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Signatures checked per message: each costs a question to the DNS and a public key operation (RFC 6376 §6.1 lets
/// verifiers limit them).
const SIGNATURE_LIMIT: usize = 10;

/// Longest results field that is written as it is; a stranger chooses the texts in it. Above it stand results only.
const FIELD_LIMIT: usize = 8 * 1024;
/// Longest line of a message without its CRLF (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;

/// A result in the words of RFC 8601 §2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The check failed.
    Fail,
    /// The owner of the name makes no statement.
    Neutral,
    /// There is nothing to check.
    None,
    /// The check passed.
    Pass,
    /// What is published cannot be understood.
    PermError,
    /// The owner of the name doubts it, without being sure (SPF only).
    SoftFail,
    /// The DNS did not answer.
    TempError,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
        })
    }
}

/// What was found out about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The whole `Authentication-Results` field, folded, with its CRLF.
    pub header: String,
    /// The reverse name leads back to the address.
    pub iprev: Verdict,
    /// SPF of the reverse-path's domain, of the HELO name for the null reverse-path.
    pub spf: Verdict,
    /// The best of all signatures.
    pub dkim: Verdict,
    /// DMARC of the author's domain.
    pub dmarc: Verdict,
    rejects: bool,
}

impl Verified {
    /// Whether DMARC failed and the author's domain asks to reject then.
    #[must_use]
    pub fn wants_reject(&self) -> bool {
        self.rejects
    }
}

/// Checks messages; clones share resolver and name.
#[derive(Clone)]
pub struct Verifier {
    authenticator: MessageAuthenticator,
    hostname: String,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Asks `resolver`; `hostname` is the authserv-id of the results (RFC 8601 §2.2).
    #[must_use]
    pub fn new(resolver: &Resolver, hostname: impl Into<String>) -> Self {
        Self { authenticator: MessageAuthenticator(resolver.hickory().clone()), hostname: hostname.into() }
    }

    /// Checks everything that can be checked. `helo` is the name said at HELO, perhaps empty; `content` begins with
    /// the header section as it was received.
    pub async fn verify(
        &self,
        client: &Client,
        helo: &str,
        reverse_path: &ReversePath,
        content: &[u8],
    ) -> Verified {
        let checks = self.checks(client, helo, reverse_path, content);
        let mut verified = match tokio::time::timeout(TIME_LIMIT, checks).await {
            Ok(verified) => verified,
            Err(_) => Verified {
                header: String::new(),
                iprev: Verdict::TempError,
                spf: Verdict::TempError,
                dkim: Verdict::TempError,
                dmarc: Verdict::TempError,
                rejects: false,
            },
        };
        if !is_fit(&verified.header) {
            verified.header = self.bare(&verified);
        }
        verified
    }

    /// SPF alone, of `reverse_path` (without brackets), of the HELO name when that is empty (RFC 7208 §2.3, §2.4).
    pub async fn spf(&self, ip: std::net::IpAddr, helo: &str, reverse_path: &str) -> Verdict {
        let helo = Domain::parse(helo).map_or_else(|_| "unknown.invalid".to_owned(), String::from);
        let question = if reverse_path.is_empty() {
            SpfParameters::verify_ehlo(ip, &helo, &self.hostname)
        } else {
            SpfParameters::verify_mail_from(ip, &helo, &self.hostname, reverse_path)
        };
        let asked = tokio::time::timeout(TIME_LIMIT, self.authenticator.verify_spf(question)).await;
        asked.map_or(Verdict::TempError, |output| of_spf(output.result()))
    }

    /// The results alone, without any text of a stranger.
    fn bare(&self, verified: &Verified) -> String {
        let Verified { iprev, spf, dkim, dmarc, .. } = verified;
        format!(
            "Authentication-Results: {};\r\n\tiprev={iprev};\r\n\tspf={spf};\r\n\tdkim={dkim};\r\n\tdmarc={dmarc}\r\n",
            self.hostname
        )
    }

    async fn checks(
        &self,
        client: &Client,
        helo: &str,
        reverse_path: &ReversePath,
        content: &[u8],
    ) -> Verified {
        let ip = client.ip();
        let mail_from = reverse_path.to_string();
        // An address literal or nonsense has no SPF record, and nonsense must not reach the field.
        let helo_domain = Domain::parse(helo).map_or_else(|_| "unknown.invalid".to_owned(), String::from);
        let helo_domain = helo_domain.as_str();
        let spf_question = if mail_from.is_empty() {
            SpfParameters::verify_ehlo(ip, helo_domain, &self.hostname)
        } else {
            SpfParameters::verify_mail_from(ip, helo_domain, &self.hostname, &mail_from)
        };
        let message = AuthenticatedMessage::parse(content).map(limited);
        // Same content but for white space at its end; see `trimmed`.
        let is_signed = message.as_ref().is_some_and(|message| !message.dkim_headers.is_empty());
        let trimmed = if is_signed { trimmed(content) } else { None };
        let twin = trimmed.as_deref().and_then(AuthenticatedMessage::parse).map(limited);
        let (iprev, spf, dkim) = tokio::join!(
            self.authenticator.verify_iprev(ip),
            self.authenticator.verify_spf(spf_question),
            self.signatures(message.as_ref(), twin.as_ref()),
        );
        let mut results = AuthenticationResults::new(&self.hostname).with_iprev_result(&iprev, ip);
        results = if mail_from.is_empty() {
            results.with_spf_ehlo_result(&spf, ip, helo_domain)
        } else {
            results.with_spf_mailfrom_result(&spf, ip, &mail_from, helo_domain)
        };
        let mut verified = Verified {
            header: String::new(),
            iprev: of_iprev(&iprev.result),
            spf: of_spf(spf.result()),
            dkim: best(&dkim),
            dmarc: Verdict::None,
            rejects: false,
        };
        if let Some(message) = &message {
            let domain = mail_from.rsplit_once('@').map_or(helo_domain, |(_, domain)| domain);
            let question = DmarcParameters::new(message, &dkim, domain, &spf);
            let dmarc = self.authenticator.verify_dmarc(question).await;
            results = results.with_dkim_results(&dkim, message.from());
            if dkim.is_empty() {
                verified.dkim = Verdict::None;
            }
            results = results.with_dmarc_result(&dmarc);
            verified.dmarc = of_dmarc(&dmarc.result());
            verified.rejects = verified.dmarc == Verdict::Fail && dmarc.policy() == Policy::Reject;
        }
        verified.header = field(&results);
        verified
    }

    /// All signatures; one that failed by its body hash alone gets a second look at the twin.
    async fn signatures<'x>(
        &self,
        message: Option<&'x AuthenticatedMessage<'x>>,
        twin: Option<&'x AuthenticatedMessage<'x>>,
    ) -> Vec<DkimOutput<'x>> {
        let Some(message) = message else { return Vec::new() };
        let mut found = self.authenticator.verify_dkim(message).await;
        if let Some(twin) = twin.filter(|_| found.iter().any(needs_second_look)) {
            let second = self.authenticator.verify_dkim(twin).await;
            for (first, second) in found.iter_mut().zip(second) {
                if needs_second_look(first) && *second.result() == DkimResult::Pass {
                    *first = second;
                }
            }
        }
        // Malformed signatures come first, then the others in the order of the message.
        let malformed = found.len().saturating_sub(message.dkim_headers.len());
        for (output, header) in found.iter_mut().skip(malformed).zip(&message.dkim_headers) {
            if is_other_body(output) {
                let error = mail_auth::Error::Dkim(DkimError::FailedBodyHashMatch);
                *output = DkimOutput::fail(error).with_signature(&header.header);
            }
        }
        found
    }
}

/// A body that is not the signed one. mail-auth says `neutral`, RFC 8601 §2.7.1 keeps that for signatures that cannot be
/// processed.
fn is_other_body(output: &DkimOutput<'_>) -> bool {
    matches!(output.result(), DkimResult::Neutral(mail_auth::Error::Dkim(DkimError::FailedBodyHashMatch)))
}

/// Whether a field can stand in a message: one field, no line too long, no byte that is no text.
fn is_fit(field: &str) -> bool {
    let Some(body) = field.strip_suffix("\r\n") else { return false };
    field.len() <= FIELD_LIMIT
        && body.split("\r\n").enumerate().all(|(index, line)| {
            line.len() <= LINE_LIMIT
                && (index == 0 || line.starts_with(['\t', ' ']))
                && !line.trim().is_empty()
                && !line.chars().any(|c| c.is_control() && c != '\t')
        })
}

fn field(results: &AuthenticationResults<'_>) -> String {
    let mut bytes = Vec::new();
    results.write_header(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn limited(mut message: AuthenticatedMessage<'_>) -> AuthenticatedMessage<'_> {
    message.dkim_headers.truncate(SIGNATURE_LIMIT);
    // Malformed signatures are listed in the field, one line each.
    message.errors.truncate(SIGNATURE_LIMIT);
    message
}

/// mail-auth 0.13 keeps lines of white space at the end of the body, which relaxed canonicalisation removes
/// (RFC 6376 §3.4.4). For relaxed bodies both texts are the same; for simple ones they are not, hence the check.
fn needs_second_look(output: &DkimOutput<'_>) -> bool {
    is_other_body(output)
        && output.signature().is_some_and(|signature| signature.cb == Canonicalization::Relaxed)
}

/// `content` without lines of white space at its end; `None` when there are none.
fn trimmed(content: &[u8]) -> Option<Vec<u8>> {
    let end = content.iter().rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))? + 1;
    let tail = content.get(end..)?;
    let line_end = tail.iter().position(|byte| *byte == b'\n').map(|at| at + 1)?;
    let rest = tail.get(line_end..)?;
    if !rest.iter().any(|byte| matches!(byte, b' ' | b'\t')) {
        return None;
    }
    content.get(..end + line_end).map(<[u8]>::to_vec)
}

fn best(outputs: &[DkimOutput<'_>]) -> Verdict {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Pass => 0,
        Verdict::TempError => 1,
        Verdict::Fail => 2,
        Verdict::PermError => 3,
        Verdict::Neutral | Verdict::SoftFail => 4,
        Verdict::None => 5,
    };
    outputs.iter().map(|output| of_dkim(output.result())).min_by_key(|v| rank(*v)).unwrap_or(Verdict::None)
}

fn of_dkim(result: &DkimResult) -> Verdict {
    match result {
        DkimResult::Pass => Verdict::Pass,
        DkimResult::Neutral(_) => Verdict::Neutral,
        DkimResult::Fail(_) => Verdict::Fail,
        DkimResult::PermError(_) => Verdict::PermError,
        DkimResult::TempError(_) => Verdict::TempError,
        DkimResult::None => Verdict::None,
    }
}

fn of_spf(result: SpfResult) -> Verdict {
    match result {
        SpfResult::Pass => Verdict::Pass,
        SpfResult::Fail => Verdict::Fail,
        SpfResult::SoftFail => Verdict::SoftFail,
        SpfResult::Neutral => Verdict::Neutral,
        SpfResult::TempError => Verdict::TempError,
        SpfResult::PermError => Verdict::PermError,
        SpfResult::None => Verdict::None,
    }
}

fn of_dmarc(result: &DmarcResult) -> Verdict {
    match result {
        DmarcResult::Pass => Verdict::Pass,
        DmarcResult::Fail(_) => Verdict::Fail,
        DmarcResult::TempError(_) => Verdict::TempError,
        DmarcResult::PermError(_) => Verdict::PermError,
        DmarcResult::None => Verdict::None,
    }
}

fn of_iprev(result: &IprevResult) -> Verdict {
    match result {
        IprevResult::Pass => Verdict::Pass,
        IprevResult::Fail(_) => Verdict::Fail,
        IprevResult::TempError(_) => Verdict::TempError,
        IprevResult::PermError(_) => Verdict::PermError,
        IprevResult::None => Verdict::None,
    }
}

#[cfg(test)]
mod tests;
