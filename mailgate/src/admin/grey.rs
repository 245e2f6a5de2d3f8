//! Answers about the greylist: what it knows, why it decided, and changes by hand.

use std::str::FromStr as _;

use mailgate_edge::learn::Called;
use mailgate_edge::{Asked, Edge, Given, Query};
use mailgate_store::greylist::Kind;
use serde_json::json;

use super::answers::{Result, counted, data};
use super::call::{Answer, Call, Failure, GreyKind};
use crate::cli::exit;

/// Lines of `grey identities`.
const GREY_LINES: usize = 10_000;

pub(super) async fn answer(edge: &Edge, call: Call) -> Result<Answer> {
    Ok(match call {
        Call::Why { about } => Answer::done(edge.why(&about).await.map_err(data)?),
        Call::GreyIdentities { part } => Answer::done(edge.identities(part.as_deref(), GREY_LINES)),
        Call::GreySimulate { supposed } => Answer::done(edge.simulate(&supposed).await),
        Call::GreyList { kind, address, from, to, limit, spamdb } => {
            let query = Query { kind: kind.map(kind_of), network: address, from, to, limit };
            if spamdb {
                let dump = edge.grey_dump(query).await.map_err(data)?;
                Answer::done(dump.lines().collect::<Vec<_>>())
            } else {
                Answer::done(edge.grey_list(query).await.map_err(data)?)
            }
        }
        Call::GreyAdd { kind, key } => {
            edge.grey_add(given(kind, &key)?).await.map_err(data)?;
            Answer::done(format!("{key} is {}", said(kind)))
        }
        Call::GreyDelete { kind, key } => {
            let asked = Asked { kind: kind.map(kind_of), what: key.clone() };
            match edge.grey_delete(&asked).await.map_err(data)? {
                0 => {
                    return Err(Failure {
                        message: format!("nothing of the greylist concerns {key}"),
                        exit: exit::DATA,
                    });
                }
                count => Answer::done(format!("{} deleted", counted(count, "entry", "entries"))),
            }
        }
        Call::GreyCalled { message, junk } => {
            let called = if junk { Called::Junk } else { Called::Good };
            let changed = edge.called(&message, called).await.map_err(data)?;
            Answer::done(match changed.as_slice() {
                [] => {
                    format!("{message} changes nothing: no such message is known, or it was called so before")
                }
                who => format!("{message} counts for {}", who.join(", ")),
            })
        }
        Call::GreyImport { rows } => Answer::done(edge.grey_import(&rows.join("\n")).await.map_err(data)?),
        _ => {
            let delays = edge.delays().await.map_err(data)?;
            let mut statistics = serde_json::to_value(edge.statistics()).unwrap_or_default();
            if let Some(fields) = statistics.as_object_mut() {
                fields.insert("delays".to_owned(), json!(delays));
            }
            Answer::done(statistics)
        }
    })
}

fn kind_of(kind: GreyKind) -> Kind {
    match kind {
        GreyKind::Grey => Kind::Grey,
        GreyKind::Passed => Kind::Passed,
        GreyKind::Trapped => Kind::Trapped,
        GreyKind::TrapAddress => Kind::TrapAddress,
    }
}

fn said(kind: GreyKind) -> &'static str {
    match kind {
        GreyKind::Grey => "grey",
        GreyKind::Passed => "passed",
        GreyKind::Trapped => "trapped",
        GreyKind::TrapAddress => "a trap address",
    }
}

fn given(kind: GreyKind, key: &str) -> Result<Given> {
    let network = || {
        ipnet::IpNet::from_str(key)
            .or_else(|_| std::net::IpAddr::from_str(key).map(ipnet::IpNet::from))
            .map_err(|_| Failure {
                message: format!("found {key:?}, expected an address or a prefix"),
                exit: exit::DATA,
            })
    };
    match kind {
        GreyKind::Passed => Ok(Given::Passed { network: network()?, lasts: None }),
        GreyKind::Trapped => Ok(Given::Trapped { network: network()?, lasts: None }),
        GreyKind::TrapAddress => Ok(Given::TrapAddress { address: key.to_owned() }),
        GreyKind::Grey => Err(Failure {
            message:
                "a grey tuple comes into being by an attempt; add --kind passed, trapped or trap-address"
                    .to_owned(),
            exit: exit::USAGE,
        }),
    }
}
