//! What first contact asks the DNS and message authentication, of which it knows neither.

use std::net::{IpAddr, Ipv4Addr};

use mailgate_edge::suspicion::{Answer, Inquiry, Names, Reversed, Spf};
use mailgate_msgauth::{Verdict, Verifier};
use mailgate_net::{LookupError, Resolver};

/// Asks the resolver, and the verifier for SPF.
pub(super) struct ToDns {
    resolver: Resolver,
    verifier: Verifier,
}

impl ToDns {
    pub(super) fn new(resolver: &Resolver, hostname: &str) -> Self {
        Self { resolver: resolver.clone(), verifier: Verifier::new(resolver, hostname) }
    }
}

fn names<T>(answer: Result<Vec<T>, LookupError>) -> Names<T> {
    match answer {
        Ok(found) if !found.is_empty() => Names::Found(found),
        Ok(_) | Err(LookupError::NotFound) => Names::Nothing,
        Err(_) => Names::Late,
    }
}

impl Inquiry for ToDns {
    fn reverse(&self, ip: IpAddr) -> Answer<Option<Reversed>> {
        let resolver = self.resolver.clone();
        Box::pin(async move {
            let reverse = resolver.reverse(ip).await.ok()?;
            Some(Reversed { said: reverse.said, confirmed: reverse.confirmed })
        })
    }

    fn addresses(&self, host: String) -> Answer<Names<IpAddr>> {
        let resolver = self.resolver.clone();
        Box::pin(async move { names(resolver.addresses(&host).await) })
    }

    fn ipv4(&self, name: String) -> Answer<Names<Ipv4Addr>> {
        let resolver = self.resolver.clone();
        Box::pin(async move { names(resolver.ipv4(&name).await) })
    }

    fn spf(&self, ip: IpAddr, helo: String, reverse_path: String) -> Answer<Spf> {
        let verifier = self.verifier.clone();
        Box::pin(async move {
            match verifier.spf(ip, &helo, &reverse_path).await {
                Verdict::Fail => Spf::Fail,
                Verdict::Neutral | Verdict::None => Spf::None,
                Verdict::Pass => Spf::Pass,
                Verdict::PermError => Spf::Permerror,
                Verdict::SoftFail => Spf::Softfail,
                Verdict::TempError => Spf::Late,
            }
        })
    }
}

/// The tables that others fill: every source but a file of the administrator's.
pub(super) fn feeds(config: &mailgate_lists::Config) -> Vec<mailgate_lists::TableName> {
    config.sources().iter().filter(|source| !source.is_local()).flat_map(|source| source.tables()).collect()
}
