//! Who clients are, as far as it was proved, and who of them earned trust.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Greylist;
use super::writer::Change;

/// Identities kept at once, about 150 MB. Each had at least one message accepted, so only senders of mail fill this.
const IDENTITIES_LIMIT: usize = 1_000_000;
/// Longest domain name in octets (RFC 1035 §2.3.4).
const DOMAIN_LIMIT: usize = 255;
/// Octets of the digest of a message: enough that two messages never share one.
pub const MESSAGE_DIGEST: usize = 16;
/// After so long without a good deed half of the deeds before count no more, but never so few that trust ends: that is up
/// to the time it lasts. So what was earned long ago is soon lost by spam.
const HALF_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Accepted messages after which an identity is trusted.
const MESSAGES_FOR_TRUST: u32 = 2;

/// Who a client is: the key of what is remembered of it. Which proof counts is judged by the edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Identity {
    /// A network, where no name is proved.
    Network(IpNet),
    /// The organisational domain of its confirmed reverse name, in lower case.
    Rdns(String),
    /// The organisational domain for which SPF says pass, in lower case.
    Spf(String),
    /// Nobody in particular: who hands in the message with this digest, whatever address it comes from. Only tuples have
    /// such a client; nobody is trusted under it.
    Message([u8; MESSAGE_DIGEST]),
}

impl fmt::Display for Identity {
    /// `192.0.2.0/24`, `rdns:example.org`, `spf:example.org` or `msg:` with hexadecimal digits; read back by `FromStr`. No
    /// network begins like a word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{network}"),
            Self::Rdns(domain) => write!(f, "rdns:{domain}"),
            Self::Spf(domain) => write!(f, "spf:{domain}"),
            Self::Message(digest) => write!(f, "msg:{:032x}", u128::from_be_bytes(*digest)),
        }
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let domain = |domain: &str| -> Result<String, String> {
            let fits =
                !domain.is_empty() && domain.len() <= DOMAIN_LIMIT && !domain.contains(char::is_whitespace);
            if fits {
                Ok(domain.to_lowercase())
            } else {
                Err(format!("found {text:?}, expected a domain after the colon"))
            }
        };
        if let Some(rest) = text.strip_prefix("rdns:") {
            return domain(rest).map(Self::Rdns);
        }
        if let Some(rest) = text.strip_prefix("spf:") {
            return domain(rest).map(Self::Spf);
        }
        if let Some(rest) = text.strip_prefix("msg:") {
            let is_hex =
                rest.len() == 2 * MESSAGE_DIGEST && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
            let digest = u128::from_str_radix(rest, 16).ok().filter(|_| is_hex);
            let digest = digest
                .ok_or_else(|| format!("found {text:?}, expected 32 hexadecimal digits after the colon"));
            return digest.map(|digest| Self::Message(digest.to_be_bytes()));
        }
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| Self::Network(network.trunc())).map_err(|_| {
            let found: String = text.chars().take(80).collect();
            format!("found {found:?}, expected a network, rdns:DOMAIN, spf:DOMAIN or msg:DIGEST")
        })
    }
}

impl TryFrom<String> for Identity {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

impl From<IpNet> for Identity {
    fn from(network: IpNet) -> Self {
        Self::Network(network)
    }
}

impl From<IpAddr> for Identity {
    fn from(ip: IpAddr) -> Self {
        Self::Network(ip.into())
    }
}

/// What an identity did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its first good mail, or first retry.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// Messages accepted.
    pub messages: u32,
    /// Times that it came again as a mail server does.
    pub retries: u32,
}

impl Known {
    /// Whether it has earned trust: by two accepted messages, or by coming again once.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.messages >= MESSAGES_FOR_TRUST || self.retries > 0
    }

    /// What is left after spam; nothing when it had earned little.
    fn discredited(self, now: Timestamp) -> Option<Self> {
        let expires = now.plus(self.expires.since(now) / 2);
        let halved = Self { messages: self.messages / 2, retries: self.retries / 2, expires, ..self };
        (halved.messages + halved.retries > 0).then_some(halved)
    }

    /// What is known after one more deed: kept for `span` from `now`, and never shorter than before.
    #[must_use]
    pub fn credited(known: Option<Self>, credit: Credit, span: Duration, now: Timestamp) -> Self {
        let fresh = Self { first: now, last: now, expires: now, messages: 0, retries: 0 };
        let mut known = known.filter(|known| known.expires > now).unwrap_or(fresh);
        known.messages = decayed(known.messages, MESSAGES_FOR_TRUST, now.since(known.last));
        known.retries = decayed(known.retries, 1, now.since(known.last));
        match credit {
            Credit::Message => known.messages = known.messages.saturating_add(1),
            Credit::Reply | Credit::Retry => known.retries = known.retries.saturating_add(1),
        }
        known.last = now;
        known.expires = known.expires.max(now.plus(span));
        known
    }
}

/// A count as it is after `idle`; never less than `least`, if it was as much.
fn decayed(count: u32, least: u32, idle: Duration) -> u32 {
    let halvings = u32::try_from(idle.as_secs() / HALF_LIFE.as_secs()).unwrap_or(u32::MAX);
    count.checked_shr(halvings).unwrap_or(0).max(count.min(least))
}

/// What earns trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// A message of it was accepted and was no spam.
    Message,
    /// It answered a message of ours.
    Reply,
    /// It came again after it was deferred.
    Retry,
}

/// Identities in memory.
#[derive(Default)]
pub(super) struct Identities(RwLock<HashMap<Identity, Known>>);

impl Identities {
    pub(super) fn at(&self, identity: &Identity) -> Option<Known> {
        self.read().get(identity).copied()
    }

    pub(super) fn put(&self, identity: Identity, known: Known) {
        self.write().insert(identity, known);
    }

    pub(super) fn sweep(&self, until: Timestamp) -> usize {
        let mut all = self.write();
        let before = all.len();
        all.retain(|_, known| known.expires > until);
        before - all.len()
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Identity, Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Identity, Known>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Greylist {
    /// What is known of exactly this identity now. Never waits.
    #[must_use]
    pub fn known(&self, identity: &Identity) -> Option<Known> {
        let now = self.0.clock.now();
        self.0.identities.at(identity).filter(|known| known.expires > now)
    }

    /// Whether exactly this identity has earned trust.
    #[must_use]
    pub fn is_trusted(&self, identity: &Identity) -> bool {
        self.known(identity).is_some_and(|known| known.is_trusted())
    }

    /// An identity did something good; remembered for `span` from now. Returns what is known then; `None` when there are
    /// too many identities to remember one more.
    pub fn credit(&self, identity: &Identity, credit: Credit, span: Duration) -> Option<Known> {
        let now = self.0.clock.now();
        let mut all = self.0.identities.write();
        let before = all.get(identity).copied();
        if before.is_none() && all.len() >= IDENTITIES_LIMIT {
            self.0.writer.count_unsaved();
            return None;
        }
        let known = Known::credited(before, credit, span, now);
        all.insert(identity.clone(), known);
        // Under the lock, so that the order on disk is the same.
        self.0.writer.push(Change::Identity(identity.clone(), known));
        Some(known)
    }

    /// An identity sent spam: half of what it had earned counts no more, and half of the time; who had earned little has
    /// to earn trust anew. What is known then; `None` where nothing is.
    pub fn discredit(&self, identity: &Identity) -> Option<Known> {
        let now = self.0.clock.now();
        self.change_identity(identity, |state| {
            *state = state.filter(|known| known.expires > now).and_then(|known| known.discredited(now));
            *state
        })
    }

    /// Forgets an identity. Says whether it was known.
    pub fn forget_identity(&self, identity: &Identity) -> bool {
        let mut all = self.0.identities.write();
        let was = all.remove(identity).is_some();
        if was {
            self.0.writer.push(Change::ForgetIdentity(identity.clone()));
        }
        was
    }

    /// Changes or looks at one identity under the lock.
    pub(super) fn change_identity<T>(
        &self,
        identity: &Identity,
        change: impl FnOnce(&mut Option<Known>) -> T,
    ) -> T {
        let mut all = self.0.identities.write();
        let before = all.get(identity).copied();
        let mut known = before;
        let answer = change(&mut known);
        match known {
            _ if known == before => {}
            Some(known) if before.is_some() || all.len() < IDENTITIES_LIMIT => {
                all.insert(identity.clone(), known);
                self.0.writer.push(Change::Identity(identity.clone(), known));
            }
            Some(_) => self.0.writer.count_unsaved(),
            None => {
                all.remove(identity);
                self.0.writer.push(Change::ForgetIdentity(identity.clone()));
            }
        }
        answer
    }

    /// Takes over what another knows of an identity: the earlier beginning, the later end, the higher counts.
    pub fn merge_identity(&self, identity: &Identity, other: Known) -> Known {
        let mut all = self.0.identities.write();
        let merged = all.get(identity).map_or(other, |known| Known {
            first: known.first.min(other.first),
            last: known.last.max(other.last),
            expires: known.expires.max(other.expires),
            messages: known.messages.max(other.messages),
            retries: known.retries.max(other.retries),
        });
        if all.get(identity) != Some(&merged) {
            all.insert(identity.clone(), merged);
            self.0.writer.push(Change::Identity(identity.clone(), merged));
        }
        merged
    }

    /// Every identity that has not expired, sorted, at most `limit`; only those whose text holds `part`.
    #[must_use]
    pub fn identities(&self, part: Option<&str>, limit: usize) -> Vec<(Identity, Known)> {
        let now = self.0.clock.now();
        let all = self.0.identities.read();
        let fits = |identity: &Identity| part.is_none_or(|part| identity.to_string().contains(part));
        let live = all.iter().filter(|(identity, known)| known.expires > now && fits(identity));
        let mut found: Vec<(Identity, Known)> =
            live.map(|(identity, known)| (identity.clone(), *known)).collect();
        drop(all);
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found.truncate(limit);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mailgate_model::{Clock as _, ManualClock};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn identities_read_back_what_they_print() {
        let message = "msg:00ff000000000000000000000000000a";
        for text in ["192.0.2.0/24", "2001:db8::/64", "rdns:example.org", "spf:example.org", message] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1".parse::<Identity>().unwrap().to_string(), "192.0.2.1/32");
        assert_eq!("spf:Example.ORG".parse::<Identity>().unwrap(), Identity::Spf("example.org".into()));
        for text in ["", "spf:", "rdns:a b", "nonsense", "msg:", "msg:+0ff000000000000000000000000000a"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn two_messages_or_one_retry_earn_trust_until_long_after_the_last_one() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let list = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let (mails, retries) = (Identity::Spf("a.example".into()), Identity::Rdns("b.example".into()));
        list.credit(&mails, Credit::Message, DAY * 45);
        assert!(!list.is_trusted(&mails) && list.known(&mails).is_some());
        clock.advance(DAY * 40);
        list.credit(&mails, Credit::Message, DAY * 45);
        list.credit(&retries, Credit::Retry, DAY * 45);
        assert!(list.is_trusted(&mails) && list.is_trusted(&retries));
        clock.advance(DAY * 44);
        assert!(list.is_trusted(&mails));
        clock.advance(DAY);
        assert!(!list.is_trusted(&mails) && list.known(&retries).is_none());
        assert_eq!(list.credit(&mails, Credit::Message, DAY).unwrap().messages, 1, "from the beginning");
        assert!(list.discredit(&mails).is_none() && list.known(&mails).is_none());
    }

    #[tokio::test]
    async fn old_glory_fades_and_spam_halves_what_is_left() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let list = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let sender = Identity::Spf("a.example".into());
        let credit = |credit| list.credit(&sender, credit, DAY * 45).unwrap();
        for _ in 0..40 {
            credit(Credit::Message);
        }
        clock.advance(DAY * 29);
        assert_eq!(credit(Credit::Message).messages, 41);
        clock.advance(DAY * 31);
        assert_eq!(credit(Credit::Message).messages, 21, "half of 41, and one");
        for messages in [10, 5, 2, 1] {
            let left = list.discredit(&sender).unwrap();
            assert_eq!((left.messages, left.is_trusted()), (messages, messages > 1));
        }
        assert!(list.discredit(&sender).is_none() && list.known(&sender).is_none());
        // One letter a month stays trusted, whatever fades.
        for month in 0..24 {
            assert_eq!(credit(Credit::Message).is_trusted(), month > 0, "{month}");
            clock.advance(DAY * 31);
        }
        credit(Credit::Retry);
        assert_eq!(list.discredit(&sender).unwrap().retries, 0);
    }

    #[tokio::test]
    async fn identities_survive_reopening_and_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("greylist.db");
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
        let (stays, goes) = (Identity::Spf("a.example".into()), "192.0.2.0/24".parse::<Identity>().unwrap());
        let known = list.credit(&stays, Credit::Retry, DAY * 45).unwrap();
        list.credit(&goes, Credit::Message, DAY);
        list.flush().await.unwrap();
        drop(list);
        let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
        assert_eq!(list.identities(None, 10).len(), 2);
        assert_eq!(list.known(&stays), Some(known));
        clock.advance(DAY * 2);
        list.sweep().await.unwrap();
        assert_eq!(list.0.identities.len(), 1);
        list.flush().await.unwrap();
        drop(list);
        let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
        assert_eq!(list.identities(None, 10), [(stays.clone(), known)]);
        assert!(list.forget_identity(&stays));
        assert!(list.identities(Some("a.exa"), 10).is_empty());
    }

    #[tokio::test]
    async fn what_two_hosts_know_is_merged() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let list = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let identity = Identity::Spf("a.example".into());
        let ours = list.credit(&identity, Credit::Message, DAY * 10).unwrap();
        let earlier = Timestamp::from_secs(1_600_000_000);
        let theirs =
            Known { first: earlier, last: earlier, expires: clock.now().plus(DAY), messages: 5, retries: 0 };
        let merged = list.merge_identity(&identity, theirs);
        assert_eq!((merged.first, merged.expires, merged.messages), (earlier, ours.expires, 5));
    }
}
