//! What is learned of mail itself: whom our people write to, and what they call junk or take back out of it.
//!
//! Who sends good mail is learned by [`Edge::accepted`]; here is what comes from the other side. Everything counts from
//! the last good mail and is forgotten by itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Span;
use mailgate_store::Outbound;
use mailgate_store::greylist::{Credit, Decision, Identity, Origin, Peer, PeerKind, Standing};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::{Edge, identity};

pub use mailgate_store::greylist::Called;
pub use mailgate_store::outbound::Wrote;

/// How often what is over is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// `[edge.learn]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnConfig {
    /// How long an address that one of our users wrote to is no stranger, from the last message; 1 h to 400 d. `"0s"`
    /// remembers nothing. Default `"45d"`: long enough for monthly mail.
    pub outbound_for: Span,
}

impl Default for LearnConfig {
    fn default() -> Self {
        Self { outbound_for: Span::from_secs(45 * 86_400) }
    }
}

impl LearnConfig {
    /// What is wrong with the values.
    pub(crate) fn problems(&self) -> Option<String> {
        let fits = Span::from_secs(3600)..=Span::from_secs(400 * 86_400);
        let found = self.outbound_for;
        (found != Span::from_secs(0) && !fits.contains(&found)).then(|| {
            format!("edge.learn.outbound_for: found {found}, expected 1h to 400d, for example \"45d\", or \"0s\" for never")
        })
    }
}

impl Edge {
    /// From now on `outbound` remembers whom our users write to. To be called once, inside a tokio runtime.
    pub fn remember_outbound(self: &Arc<Self>, outbound: Outbound) {
        if self.outbound.set(outbound.clone()).is_err() {
            return;
        }
        let (clock, shutdown): (_, CancellationToken) = (Arc::clone(&self.clock), self.shutdown.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = clock.sleep(SWEEP_INTERVAL) => {}
                }
                if let Err(error) = outbound.sweep().await {
                    tracing::warn!(target: "edge", event = "outbound", %error);
                }
            }
        });
    }

    /// A message that the authenticated user `local` sent to `remotes` was accepted. Must not be called for recipients of
    /// our own. Never waits.
    pub fn sent<'a>(
        &self,
        local: &str,
        remotes: impl IntoIterator<Item = &'a str>,
        message_id: Option<&str>,
    ) {
        let span = self.config.learn.outbound_for.duration();
        if let Some(outbound) = self.outbound.get().filter(|_| !span.is_zero()) {
            outbound.sent(local, remotes, message_id, span);
        }
    }

    /// Whether `local` wrote to `remote` lately, or anybody here to its domain, which counts only where SPF says that the
    /// domain is the sender's.
    #[must_use]
    pub fn wrote_to(&self, local: &str, remote: &str) -> Wrote {
        self.outbound.get().map_or(Wrote::Never, |outbound| outbound.wrote_to(local, remote))
    }

    /// Whether a Message-ID is of a message that one of ours sent lately: what refers to it is an answer or a bounce.
    #[must_use]
    pub fn issued(&self, message_id: &str) -> bool {
        self.outbound.get().is_some_and(|outbound| outbound.issued(message_id))
    }

    /// Somebody said that a message is junk, or that it is none after all, for instance by moving it. `about` is its queue
    /// id, which stands in its `Received` field, or its Message-ID. Whoever handed it in loses half of what it had earned,
    /// by its proved name, its network and its own address; or gets credit for one good message. Once for each message,
    /// however often it is moved. Says of whom something changed.
    ///
    /// # Errors
    /// When the database cannot be written, or several clients used that Message-ID.
    pub async fn called(&self, about: &str, called: Called) -> Result<Vec<String>, Error> {
        let mut changed = Vec::new();
        for Decision { ip, identity, .. } in self.greylist.called(about, called).await? {
            let host = identity::host(ip);
            let named = identity.parse::<Identity>().ok();
            match called {
                Called::Junk => {
                    let known = [Some(&host), named.as_ref()]
                        .into_iter()
                        .flatten()
                        .filter(|one| self.greylist.known(one).is_some());
                    let known: Vec<Identity> = known.cloned().collect();
                    for one in &known {
                        self.greylist.discredit(one);
                    }
                    changed.extend(known.iter().map(ToString::to_string));
                    if self.junk(ip) {
                        changed.push(ip.to_string());
                    }
                }
                Called::Good => {
                    let who = named.unwrap_or(host);
                    if !self.policy.is_classic() {
                        self.greylist.credit(&who, Credit::Message, self.policy.trusted_for());
                        changed.push(who.to_string());
                    }
                }
            }
        }
        changed.sort();
        changed.dedup();
        tracing::info!(target: "edge", event = "called", ?called, about, changed = changed.join(" "));
        Ok(changed)
    }

    /// What `ip` had earned as a network that passed is halved, the time too; who had earned little is a stranger again. A
    /// command of the administrator stays. Says whether anything changed.
    fn junk(&self, ip: IpAddr) -> bool {
        let now = self.clock.now();
        let Standing::Passed(network, peer) = self.greylist.standing(ip) else { return false };
        if peer.origin == Origin::Admin {
            return false;
        }
        let passed = peer.passed / 2;
        if passed == 0 {
            return self.greylist.forget_peer(network, PeerKind::Passed);
        }
        let lowered = Peer { passed, expires: now.plus(peer.expires.since(now) / 2), ..peer };
        self.greylist.learn(network, lowered);
        true
    }
}

#[cfg(test)]
mod tests {
    use mailgate_model::{Client, Clock as _, FirstContact, SessionId};
    use mailgate_store::greylist::Standing;

    use super::*;
    use crate::tests::world::{START, World};

    const DAY: Duration = Duration::from_secs(86_400);

    fn passed(world: &World) -> Option<(u32, u64)> {
        match world.edge.greylist.standing(IP.parse().unwrap()) {
            Standing::Passed(_, peer) => {
                Some((peer.passed, peer.expires.since(world.clock.now()).as_secs() / 86_400))
            }
            Standing::Trapped(..) | Standing::Unknown => None,
        }
    }

    const IP: &str = "192.0.2.1";

    #[tokio::test]
    async fn good_mail_keeps_a_client_from_the_last_one_on_and_junk_lowers_it() {
        let world = World::usual().await;
        let ip = IP.parse().unwrap();
        let expires = START.plus(DAY * 36);
        let (kind, origin) = (PeerKind::Passed, Origin::Learned);
        let peer = Peer { kind, origin, first: START, pass: START, expires, blocked: 1, passed: 0 };
        world.edge.greylist.learn("192.0.2.1/32".parse().unwrap(), peer);
        world.clock.advance(DAY * 30);
        for _ in 0..4 {
            world.edge.greylist.accepted(ip, DAY * 36);
        }
        assert_eq!(passed(&world), Some((4, 36)), "from the last good mail");
        assert!(world.edge.junk(ip));
        assert_eq!(passed(&world), Some((2, 18)));
        assert!(world.edge.junk(ip) && world.edge.junk(ip));
        assert_eq!(passed(&world), None);
        assert!(!world.edge.junk(ip));
        world.edge.greylist.admit(
            "192.0.2.1/32".parse().unwrap(),
            Peer { origin: Origin::Admin, expires: expires.plus(DAY), ..peer },
        );
        assert!(!world.edge.junk(ip), "a command stays");
    }

    /// An accepted message of a client whose name SPF proved.
    fn accepted(world: &World, session: u64, queue_id: &str) {
        let mut client = Client::new("192.0.2.1:1".parse().unwrap(), "192.0.2.25:25".parse().unwrap());
        client.contact =
            Some(FirstContact { identity: "spf:sender.example".into(), words: "low-suspicion".into() });
        let session = SessionId::from_bits(session);
        world.edge.greylist.decided(Decision {
            at: START,
            session: session.to_string(),
            ip: client.ip(),
            identity: "spf:sender.example".into(),
            helo: String::new(),
            reverse_path: String::new(),
            forward_path: String::new(),
            result: "accepted".into(),
            reason: "low-suspicion".into(),
            findings: "[]".into(),
            points: 0,
            waited: None,
            queue_id: String::new(),
            message_id: String::new(),
        });
        world.edge.accepted(&client, session, queue_id, &format!("<{queue_id}@sender.example>"));
    }

    #[tokio::test]
    async fn a_message_moved_to_junk_costs_its_identity_half_and_moved_back_gives_one_credit() {
        let world = World::new(|config| config.mode = crate::config::Mode::Selective).await;
        let name: Identity = "spf:sender.example".parse().unwrap();
        for n in 0..4 {
            accepted(&world, n, &format!("Q{n}"));
        }
        let messages = || world.edge.greylist.known(&name).map(|known| known.messages);
        assert_eq!(messages(), Some(4));
        for _ in 0..3 {
            world.edge.called("<Q1@sender.example>", Called::Junk).await.unwrap();
            assert_eq!(messages(), Some(2), "once, however often it is moved");
        }
        let decision = world.edge.why("Q1").await.unwrap().decisions.remove(0);
        assert_eq!((decision.result.as_str(), decision.reason.as_str()), ("junk", "low-suspicion"));
        assert_eq!(world.edge.called("Q1", Called::Good).await.unwrap(), ["spf:sender.example"]);
        assert_eq!(messages(), Some(3));
        for (queue_id, left) in [("Q0", Some(1)), ("Q2", None), ("Q3", None)] {
            world.edge.called(queue_id, Called::Junk).await.unwrap();
            assert_eq!(messages(), left, "{queue_id}");
        }
        assert!(!world.edge.greylist.is_trusted(&name), "it has to earn trust anew");
        assert!(world.edge.called("of nobody", Called::Junk).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_was_written_to_is_no_stranger_unless_that_is_switched_off() {
        for (span, wrote) in [("45d", Wrote::Address), ("0s", Wrote::Never)] {
            let world = World::new(|config| config.learn.outbound_for = span.parse().unwrap()).await;
            world.edge.sent("alice@example.org", ["early@example.net"], None);
            let outbound = Outbound::memory(Arc::new(world.clock.clone())).await.unwrap();
            world.edge.remember_outbound(outbound);
            world.edge.sent("alice@example.org", ["bob@example.net"], Some("<1@mx>"));
            assert_eq!(world.edge.wrote_to("alice@example.org", "bob@example.net"), wrote);
            assert_eq!(world.edge.issued("1@mx"), wrote == Wrote::Address);
        }
        let wrong = LearnConfig { outbound_for: Span::from_secs(5) };
        assert!(wrong.problems().unwrap().starts_with("edge.learn.outbound_for: found 5s"));
    }
}
