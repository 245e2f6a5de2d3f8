//! Answers about domains, accounts, aliases and signing keys; also while no daemon runs.

use std::sync::Arc;

use mailgate_accounts::Secret;
use mailgate_edge::config::Behind;
use mailgate_model::{Clock, Domain};
use mailgate_msgauth::Algorithm;
use mailgate_net::SystemClock;
use serde::Serialize;

use super::answers::{Result, data, edge_only};
use super::call::{Answer, Call, Failure};
use crate::cli::exit;
use crate::config::Place;
use crate::wire::Records;

/// Answers a call about records while no daemon runs.
pub async fn answer_records(place: &Place, call: Call) -> Answer {
    let opened = place.load().and_then(|config| {
        if config.edge.behind == Behind::Foreign {
            return Err(edge_only());
        }
        let records = config.state_dir.join("records.db");
        // Looking must not make a state folder where somebody mistyped its name.
        if !records.exists() && !matches!(call, Call::DomainAdd { .. }) {
            return Err(Failure {
                message: format!(
                    "nothing is kept in {} yet; name another folder with --state-dir, or begin with \
                     `mailgate domain add example.org`",
                    config.state_dir.display()
                ),
                exit: exit::DATA,
            });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Records::open(&config, &clock)
    });
    match opened {
        Ok(people) => answer(&people, call).await,
        Err(failure) => Answer::Failed(failure),
    }
}

/// Answers a call about domains, accounts, aliases and keys.
pub(super) async fn answer(people: &Records, call: Call) -> Answer {
    let accounts = &people.accounts;
    let answered = match call {
        Call::DomainList => rows(accounts.domains().await),
        Call::DomainAdd { domain } => {
            told(accounts.add_domain(&domain).await, || format!("mail for {domain} is received here"))
        }
        Call::DomainDelete { domain } => told(accounts.delete_domain(&domain).await, || {
            format!("mail for {domain} is no longer received here")
        }),
        Call::AccountList => rows(accounts.list().await),
        Call::AccountAdd { address, password, hash, maildir } => match secret(password, hash) {
            Ok(secret) => told(accounts.add_account(&address, secret, maildir).await, || {
                format!("account {address} made")
            }),
            Err(failure) => Err(failure),
        },
        Call::AccountPassword { address, password, hash } => match secret(password, hash) {
            Ok(secret) => told(accounts.set_password(&address, secret).await, || {
                format!("{address} has a new password")
            }),
            Err(failure) => Err(failure),
        },
        Call::AccountDelete { address } => told(accounts.delete_account(&address).await, || {
            format!("account {address} deleted; its mail stays on disk")
        }),
        Call::AccountImport { passwd } => rows(accounts.import_passwd(&passwd).await),
        Call::AliasList => rows(accounts.aliases().await),
        Call::AliasAdd { source, targets } => told(accounts.add_alias(&source, &targets).await, || {
            let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
            format!("{source} leads to {}", targets.join(", "))
        }),
        Call::AliasDelete { source } => {
            told(accounts.delete_alias(&source).await, || format!("alias {source} deleted"))
        }
        Call::DkimList => rows(people.signer.keys(None).await),
        Call::DkimCreate { domain, selector, algorithm } => {
            dkim_create(people, &domain, &selector, &algorithm).await
        }
        Call::DnsRecords { domain } => dns_records(people, &domain).await,
        other => Err(Failure { message: format!("nobody answers {other:?}"), exit: exit::SOFTWARE }),
    };
    answered.unwrap_or_else(Answer::Failed)
}

async fn dkim_create(people: &Records, domain: &Domain, selector: &str, algorithm: &str) -> Result<Answer> {
    let algorithm = Algorithm::of(algorithm).ok_or_else(|| Failure {
        message: format!("found algorithm {algorithm:?}, expected rsa or ed25519"),
        exit: exit::DATA,
    })?;
    expect_local(people, domain).await?;
    let key = people.signer.create_key(domain, selector, algorithm).await.map_err(data)?;
    Ok(Answer::done([zone_line(&key.name, &key.record)]))
}

async fn expect_local(people: &Records, domain: &Domain) -> Result<()> {
    if people.accounts.is_local(domain).await.map_err(data)? {
        return Ok(());
    }
    Err(Failure {
        message: format!("{domain} is not local; add it with `mailgate domain add {domain}`"),
        exit: exit::DATA,
    })
}

/// What a domain should publish: MX, SPF, DKIM, DMARC.
async fn dns_records(people: &Records, domain: &Domain) -> Result<Answer> {
    expect_local(people, domain).await?;
    let hostname = people.hostname.as_ref().unwrap_or(domain);
    let mut lines =
        vec![format!("{domain}.\tIN MX 10 {hostname}."), zone_line(domain.as_str(), "v=spf1 mx -all")];
    for key in people.signer.keys(Some(domain)).await.map_err(data)? {
        lines.push(zone_line(&key.name, &key.record));
    }
    lines.push(zone_line(
        &format!("_dmarc.{domain}"),
        &format!("v=DMARC1; p=none; rua=mailto:postmaster@{domain}"),
    ));
    Ok(Answer::done(lines))
}

/// A TXT record; strings of one have at most 255 octets (RFC 1035 §3.3).
fn zone_line(owner: &str, text: &str) -> String {
    let parts: Vec<String> =
        text.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
    format!("{owner}.\tIN TXT ( {} )", parts.join(" "))
}

fn secret(password: Option<String>, hash: Option<String>) -> Result<Secret> {
    match (password, hash) {
        (Some(password), None) => Ok(Secret::Password(password)),
        (None, Some(hash)) => Ok(Secret::Hash(hash)),
        _ => Err(Failure { message: "expected either a password or a hash".to_owned(), exit: exit::USAGE }),
    }
}

fn rows<T: Serialize, E: std::fmt::Display>(found: std::result::Result<T, E>) -> Result<Answer> {
    found.map(Answer::done).map_err(data)
}

fn told<E: std::fmt::Display>(
    done: std::result::Result<(), E>,
    sentence: impl FnOnce() -> String,
) -> Result<Answer> {
    done.map(|()| Answer::done(sentence())).map_err(data)
}
