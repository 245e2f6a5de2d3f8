//! What the MTA offers, and whether a session can be handed over to it without danger. Asked now and then, so that the
//! edge promises its clients nothing that the MTA would not keep.

use std::time::Duration;

use mailgate_proto::smtp::{Answer, Offered};

use super::config::Way;
use super::mta::{Mta, Trouble};
use super::{Foreign, present};

/// For one look.
const LOOK: Duration = Duration::from_secs(30);
/// Between two looks when all is well: each leaves a line in the MTA's log.
const CALM: Duration = Duration::from_secs(600);
/// Between two looks when the MTA did not answer.
const ANXIOUS: Duration = Duration::from_secs(5);

/// What is known of the MTA.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// What it offers.
    pub(super) offered: Offered,
    /// How sessions are handed over; `None` when they are not.
    pub(super) way: Option<Way>,
    /// Why not.
    pub(super) reason: Option<String>,
}

impl Default for Known {
    /// Before it answered for the first time, nobody is turned away for want of an extension that it may have.
    fn default() -> Self {
        let offered = Offered {
            eight_bit: true,
            chunking: true,
            dsn: true,
            enhanced_status: true,
            pipelining: true,
            size: Some(0),
            smtputf8: true,
            starttls: true,
            ..Offered::default()
        };
        Self { offered, way: None, reason: Some("it has not answered yet".to_owned()) }
    }
}

impl Known {
    /// It answered EHLO and XCLIENT is not among its offers.
    pub(super) fn without_xclient(answer: &Answer) -> Self {
        let reason = Some(Trouble::NoXclient.to_string());
        Self { offered: Offered::from_answer(answer), way: None, reason }
    }
}

/// Looks until the daemon ends.
pub(super) async fn forever(foreign: Foreign) {
    let (clock, shutdown) = (foreign.0.parts.clock.clone(), foreign.0.parts.shutdown.clone());
    let mut told = None;
    loop {
        let looked = tokio::select! {
            looked = look(&foreign) => looked,
            () = clock.sleep(LOOK) => Err(Trouble::Slow(LOOK.as_secs())),
            () = shutdown.cancelled() => return,
        };
        let pause = if looked.is_ok() { CALM } else { ANXIOUS };
        let known = looked.unwrap_or_else(|trouble| Known {
            way: None,
            reason: Some(trouble.to_string()),
            ..foreign.known()
        });
        let now = (known.way, known.reason.clone());
        if told.as_ref() != Some(&now) {
            tell(&now.0, now.1.as_deref());
            told = Some(now);
        }
        foreign.learn(known);
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn tell(way: &Option<Way>, reason: Option<&str>) {
    match (way, reason) {
        (Some(way), _) => tracing::info!(target: "edge", event = "foreign", handover = super::way_word(*way),
            "clients that qualify go on at the mail server in the same session"),
        (None, Some(reason)) => {
            tracing::warn!(target: "edge", event = "foreign", handover = "defer", %reason,
            "clients that qualify are told to connect again, and then reach the mail server directly")
        }
        (None, None) => tracing::info!(target: "edge", event = "foreign", handover = "defer",
            "clients that qualify are told to connect again, and then reach the mail server directly"),
    }
}

async fn look(foreign: &Foreign) -> Result<Known, Trouble> {
    let parts = &foreign.0.parts;
    let configured = parts.config.handover;
    let mut mta = Mta::connect(&foreign.addresses(parts.port)).await?;
    if configured == Way::Proxy {
        mta.send(&present::proxy_header(None)).await?;
    }
    mta.greeting().await?;
    let answer = mta.want(&format!("EHLO {}", parts.hostname), "EHLO").await?;
    let known = match configured {
        Way::Auto | Way::Xclient => match present::xclient_offer(&answer) {
            Some(_) => usable(&answer, Way::Xclient),
            None => Known::without_xclient(&answer),
        },
        Way::Proxy => usable(&answer, Way::Proxy),
        Way::Plain => match relays(&mut mta).await? {
            Some(said) => {
                Known { reason: Some(Trouble::Relays(said).to_string()), ..Known::without_xclient(&answer) }
            }
            None => usable(&answer, Way::Plain),
        },
        Way::Defer => Known { offered: Offered::from_answer(&answer), way: None, reason: None },
    };
    mta.quit().await;
    Ok(known)
}

fn usable(answer: &Answer, way: Way) -> Known {
    Known { offered: Offered::from_answer(answer), way: Some(way), reason: None }
}

/// Whether it would take a message from our address to anybody in the world: its answer if so. Nothing is sent. Two
/// recipients, because some refuse domains that do not exist before they ask who sends, and others address literals.
async fn relays(mta: &mut Mta) -> Result<Option<String>, Trouble> {
    mta.want("MAIL FROM:<>", "MAIL").await?;
    for recipient in ["relay-test@[192.0.2.1]", "relay-test@edge-relay-test.invalid"] {
        let answer = mta.ask(&format!("RCPT TO:<{recipient}>")).await?;
        // Only a plain no is a no.
        if answer.class() != 5 {
            return Ok(Some(answer.one_line()));
        }
    }
    Ok(None)
}
