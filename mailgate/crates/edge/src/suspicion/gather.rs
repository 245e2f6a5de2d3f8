//! Asking the DNS while the session goes on. Nobody waits longer than the budget of a step; an answer that comes later
//! counts from then on.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mailgate_lists::TableName;
use mailgate_model::{Clock, Timestamp};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::dnsbl::{Hit, Zones};
use super::{Facts, HeloLeads, Reverse, Spf};

/// Names that a name said at HELO may have at most (RFC 1035 §2.3.4); longer ones are not asked for.
const NAME_LIMIT: usize = 253;

/// What came of asking for the records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names<T> {
    /// These.
    Found(Vec<T>),
    /// No answer, or none that says anything.
    Late,
    /// There are none.
    Nothing,
}

/// The names of an address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reversed {
    /// The first, true or not.
    pub said: Option<String>,
    /// The first that leads back.
    pub confirmed: Option<String>,
}

/// An answer to come.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Who knows what the DNS says. Joined to the resolver and to message authentication in `wire.rs`; the edge knows neither
/// SPF nor its library.
pub trait Inquiry: Send + Sync + 'static {
    /// The names of an address; `None` when the DNS did not say.
    fn reverse(&self, ip: IpAddr) -> Answer<Option<Reversed>>;
    /// All addresses of a host.
    fn addresses(&self, host: String) -> Answer<Names<IpAddr>>;
    /// The IPv4 addresses of a name; DNS lists answer with them.
    fn ipv4(&self, name: String) -> Answer<Names<Ipv4Addr>>;
    /// SPF of the reverse-path (without brackets), of the HELO name when that is empty.
    fn spf(&self, ip: IpAddr, helo: String, reverse_path: String) -> Answer<Spf>;
}

/// What is asked for every session.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) inquiry: Arc<dyn Inquiry>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) budget: Duration,
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    reverse: Option<Reversed>,
    helo_leads: HeloLeads,
    spf: Spf,
    zones: Vec<Hit>,
}

impl Gathered {
    /// As facts about an attempt; what else is known stands in `others`.
    pub(crate) fn facts<'a>(&'a self, others: Facts<'a>) -> Facts<'a> {
        let reverse = match &self.reverse {
            None => Reverse::Late,
            Some(Reversed { confirmed: Some(name), .. }) => Reverse::Confirmed(name),
            Some(Reversed { said: Some(name), .. }) => Reverse::Unconfirmed(name),
            Some(_) => Reverse::None,
        };
        Facts { reverse, helo_leads: self.helo_leads, spf: self.spf, zones: &self.zones, ..others }
    }

    /// The confirmed name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.reverse.as_ref()?.confirmed.as_deref()
    }
}

/// The questions of one session. Dropping it ends them.
pub(crate) struct Gathering {
    around: Surroundings,
    ip: IpAddr,
    shared: Arc<Mutex<Gathered>>,
    /// Questions without an answer.
    open: watch::Sender<usize>,
    deadline: Timestamp,
    tasks: Vec<AbortHandle>,
    helo: Option<AbortHandle>,
    spf: Option<AbortHandle>,
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.tasks.iter().chain(&self.helo).chain(&self.spf).for_each(AbortHandle::abort);
    }
}

/// Counts one question as answered, also when its task ends otherwise.
struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

impl Gathering {
    /// Begins with what can be asked of an address alone.
    pub(crate) fn begin(around: &Surroundings, ip: IpAddr) -> Self {
        let mut gathering = Self {
            around: around.clone(),
            ip,
            shared: Arc::default(),
            open: watch::Sender::new(0),
            deadline: around.clock.now().plus(around.budget),
            tasks: Vec::new(),
            helo: None,
            spf: None,
        };
        let names = around.inquiry.reverse(ip);
        let task = gathering.ask(names, |gathered, names| gathered.reverse = names);
        gathering.tasks.push(task);
        for n in 0..around.zones.len() {
            let (zones, inquiry) = (Arc::clone(&around.zones), Arc::clone(&around.inquiry));
            let asked = async move { zones.ask(n, ip, &*inquiry).await };
            let task = gathering.ask(asked, |gathered, hit| gathered.zones.extend(hit));
            gathering.tasks.push(task);
        }
        gathering
    }

    /// The client said its name; what was known of another name is forgotten.
    pub(crate) fn said_helo(&mut self, name: &str) {
        self.helo.take().iter().for_each(AbortHandle::abort);
        self.with(|gathered| gathered.helo_leads = HeloLeads::Late);
        let name = name.trim_end_matches('.');
        if !name.contains('.')
            || name.starts_with('[')
            || name.len() > NAME_LIMIT
            || name.parse::<IpAddr>().is_ok()
        {
            return;
        }
        let (addresses, ip) = (self.around.inquiry.addresses(name.to_owned()), self.ip);
        self.helo = Some(self.ask(addresses, move |gathered, addresses| {
            gathered.helo_leads = match addresses {
                Names::Found(found) if found.contains(&ip) => HeloLeads::Here,
                Names::Found(_) => HeloLeads::Elsewhere,
                Names::Nothing => HeloLeads::Nowhere,
                Names::Late => HeloLeads::Late,
            };
        }));
    }

    /// The client said a reverse-path; what was known of another is forgotten.
    pub(crate) fn said_mail(&mut self, helo: &str, reverse_path: &str) {
        self.spf.take().iter().for_each(AbortHandle::abort);
        self.with(|gathered| gathered.spf = Spf::Late);
        let asked = self.around.inquiry.spf(self.ip, helo.to_owned(), reverse_path.to_owned());
        self.spf = Some(self.ask(asked, |gathered, spf| gathered.spf = spf));
    }

    /// Waits until everything is answered, or the budget of the last step is used up; what is known then.
    pub(crate) async fn settle(&self) -> Gathered {
        let mut open = self.open.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as this.
            _ = open.wait_for(|open| *open == 0) => {}
            () = self.around.clock.sleep_until(self.deadline) => {}
        }
        self.with(|gathered| gathered.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Gathered) -> T) -> T {
        look(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask<T: Send + 'static>(
        &mut self,
        question: impl Future<Output = T> + Send + 'static,
        take: impl FnOnce(&mut Gathered, T) + Send + 'static,
    ) -> AbortHandle {
        self.deadline = self.around.clock.now().plus(self.around.budget);
        self.open.send_modify(|open| *open += 1);
        let (open, shared) = (Open(self.open.clone()), Arc::clone(&self.shared));
        let task = async move {
            let answer = question.await;
            take(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), answer);
            drop(open);
        };
        tokio::spawn(task).abort_handle()
    }
}

/// What tables add to the facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) score: Vec<TableName>,
    pub(crate) grey: bool,
}
