//! A DNS that knows what a test tells it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use crate::suspicion::{Answer, Inquiry, Names, Reversed, Spf};

/// Names and addresses by question; what is not here does not exist.
#[derive(Default)]
pub(crate) struct Dns {
    pub(crate) reverse: Mutex<HashMap<IpAddr, Reversed>>,
    pub(crate) addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(crate) ipv4: Mutex<HashMap<String, Vec<Ipv4Addr>>>,
    /// By domain of the reverse-path, or HELO name.
    pub(crate) spf: Mutex<HashMap<String, Spf>>,
    /// It never answers.
    pub(crate) silent: bool,
}

impl Dns {
    /// `ip` has this name, which leads back.
    pub(crate) fn host(&self, name: &str, ip: &str) {
        let ip: IpAddr = ip.parse().unwrap();
        let names = Reversed { said: Some(name.into()), confirmed: Some(name.into()) };
        self.reverse.lock().unwrap().insert(ip, names);
        self.addresses.lock().unwrap().entry(name.into()).or_default().push(ip);
    }

    /// What SPF says of a domain, for any address.
    pub(crate) fn spf(&self, domain: &str, result: Spf) {
        self.spf.lock().unwrap().insert(domain.into(), result);
    }

    fn answer<T: Send + 'static>(&self, answer: T) -> Answer<T> {
        if self.silent { Box::pin(std::future::pending()) } else { Box::pin(std::future::ready(answer)) }
    }

    fn names<T: Clone>(map: &Mutex<HashMap<String, Vec<T>>>, name: &str) -> Names<T> {
        map.lock().unwrap().get(name).map_or(Names::Nothing, |found| Names::Found(found.clone()))
    }
}

impl Inquiry for Dns {
    fn reverse(&self, ip: IpAddr) -> Answer<Option<Reversed>> {
        if self.silent {
            return Box::pin(std::future::pending());
        }
        self.answer(Some(self.reverse.lock().unwrap().get(&ip).cloned().unwrap_or_default()))
    }

    fn addresses(&self, host: String) -> Answer<Names<IpAddr>> {
        self.answer(Self::names(&self.addresses, &host))
    }

    fn ipv4(&self, name: String) -> Answer<Names<Ipv4Addr>> {
        if self.silent {
            return Box::pin(std::future::ready(Names::Late));
        }
        self.answer(Self::names(&self.ipv4, &name))
    }

    fn spf(&self, _: IpAddr, helo: String, reverse_path: String) -> Answer<Spf> {
        let domain = reverse_path.rsplit_once('@').map_or(helo, |(_, domain)| domain.to_owned());
        self.answer(self.spf.lock().unwrap().get(&domain).copied().unwrap_or(Spf::None))
    }
}
