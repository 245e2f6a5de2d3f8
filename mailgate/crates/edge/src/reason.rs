//! Why something was decided: one list of words for log, counters, trace header and `mailgate why`.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A named reason. The words are stable: scripts and dashboards may depend on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Reason {
            /// All of them, in the order of this list.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for logs, counters, headers and listings.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    // --- the layers, in their order (`classify.rs`) ---
    /// It is in a local network, which nothing blocks.
    Local = "local",
    /// A table with action bypass holds it.
    Bypass = "bypass",
    /// A table with action drop holds it.
    Dropped = "dropped",
    /// A table with action reject holds it.
    Rejected = "rejected",
    /// The administrator said that it passes.
    Admitted = "admitted",
    /// It stepped into a trap, or the administrator said so.
    Trapped = "trapped",
    /// A table with action tarpit holds it.
    Listed = "listed",
    /// It passed the greylist before.
    Passed = "passed",
    /// A table with action bypass that a feed fills holds it.
    FeedBypass = "feed-bypass",
    /// Nothing is known, and greylisting is off.
    Unknown = "unknown",
    /// Too many sessions, in all or with this source.
    Limit = "limit",

    // --- what makes a client suspicious, or the contrary (`suspicion.rs`) ---
    /// Its address has no name.
    NoReverse = "no-reverse",
    /// Its address has a name that does not lead back to it.
    ReverseUnconfirmed = "reverse-unconfirmed",
    /// Its name is one that access providers give to subscribers.
    DynamicName = "dynamic-name",
    /// Its name is made of its address.
    GenericName = "generic-name",
    /// It said an address literal at HELO.
    HeloLiteral = "helo-literal",
    /// It said an address literal at HELO that is not its own.
    HeloOtherLiteral = "helo-other-literal",
    /// It said a name without a dot at HELO.
    HeloBare = "helo-bare",
    /// It said our own name or address at HELO.
    HeloOurs = "helo-ours",
    /// The name said at HELO does not exist.
    HeloUnresolvable = "helo-unresolvable",
    /// The name said at HELO leads elsewhere and is no relative of its own name.
    HeloMismatch = "helo-mismatch",
    /// It talked before the greeting was complete (RFC 5321 §4.3.1).
    EarlyTalk = "early-talk",
    /// It sent several commands at once before PIPELINING was offered (RFC 2920 §3.1).
    EarlyPipelining = "early-pipelining",
    /// SPF says fail.
    SpfFail = "spf-fail",
    /// SPF says softfail.
    SpfSoftfail = "spf-softfail",
    /// SPF says none or neutral.
    SpfNone = "spf-none",
    /// The SPF record cannot be understood.
    SpfPermerror = "spf-permerror",
    /// SPF says pass.
    SpfPass = "spf-pass",
    /// A DNS block list has its address.
    Dnsbl = "dnsbl",
    /// A DNS list of known senders has its address with low trust.
    DnswlLow = "dnswl-low",
    /// A DNS list of known senders has its address with medium or high trust.
    Dnswl = "dnswl",
    /// A table with action score holds it.
    ScoreTable = "score-table",
    /// A table with action grey holds it.
    GreyTable = "grey-table",

    // --- what the greylist made of it (`greylist/policy.rs`) ---
    /// The recipient does not want greylisting.
    OptedOut = "opted-out",
    /// Somebody here wrote to this sender lately.
    Correspondent = "correspondent",
    /// Its identity has handed in good mail before.
    KnownIdentity = "known-identity",
    /// Too little speaks against it to make it wait.
    LowSuspicion = "low-suspicion",
    /// It came again after the delay.
    Retried = "retried",
    /// The same message came again after the delay, from another address of its sender's pool.
    SameMessage = "same-message",
    /// It answers a message that one of ours sent lately, or reports its failure.
    Answer = "answer",
    /// The first attempt, or the first after a long time.
    FirstAttempt = "first-attempt",
    /// It came again before the delay was over.
    TooEarly = "too-early",
    /// Too many attempts of its identity wait already; this one is not remembered.
    Throttled = "throttled",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_fit_a_header_and_a_metric() {
        let mut words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
        assert!(
            words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')),
            "{words:?}"
        );
    }

    #[test]
    fn the_word_is_what_is_serialised() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
        }
    }
}
