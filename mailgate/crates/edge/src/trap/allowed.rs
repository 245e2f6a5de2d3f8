//! The domains that are ours, from the configuration and from a file as `/etc/mail/spamd.alloweddomains`, which is
//! followed: a change acts within seconds. Compared label by label: `example.org` does not hold `notexample.org`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use mailgate_model::{Address, Clock, Domain, ForwardPath};
use tokio::io::AsyncReadExt as _;

use crate::config::TrapsConfig;

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);
/// Largest file read, in octets: tens of thousands of domains.
const FILE_LIMIT: u64 = 1024 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ours {
    /// A domain and all below it.
    Within(Domain),
    /// A domain and none below it: `@example.org`.
    Exactly(Domain),
    /// One address.
    Address(Address),
}

impl Ours {
    /// `None` for what is neither.
    fn parse(line: &str) -> Option<Self> {
        match line.rsplit_once('@') {
            None => Domain::parse(line.trim_start_matches('.')).ok().map(Self::Within),
            Some(("", domain)) => Domain::parse(domain).ok().map(Self::Exactly),
            Some(_) => Address::parse(line).ok().map(Self::Address),
        }
    }

    fn holds(&self, address: &Address, domain: &Domain) -> bool {
        match self {
            Self::Within(ours) => domain.is_within(ours),
            Self::Exactly(ours) => domain == ours,
            Self::Address(ours) => ours.to_string().eq_ignore_ascii_case(&address.to_string()),
        }
    }
}

/// What is ours now.
#[derive(Debug)]
pub(super) struct Allowed {
    fixed: Vec<Ours>,
    file: Option<PathBuf>,
    read: RwLock<Arc<Vec<Ours>>>,
}

/// What changes when a file does.
type Stamp = (SystemTime, u64);

impl Allowed {
    pub(super) fn new(config: &TrapsConfig) -> Self {
        let fixed = config.allowed_domains.iter().cloned().map(Ours::Within).collect();
        Self { fixed, file: config.allowed_domains_file.clone(), read: RwLock::default() }
    }

    /// Whether a recipient is none of ours. Bare postmaster and address literals belong to every server; and where
    /// nothing says what is ours, everything is.
    pub(super) fn is_outside(&self, path: &ForwardPath) -> bool {
        let ForwardPath::Address(address) = path else { return false };
        let Some(domain) = address.domain() else { return false };
        let read = Arc::clone(&self.read.read().unwrap_or_else(PoisonError::into_inner));
        let mut all = self.fixed.iter().chain(read.iter()).peekable();
        all.peek().is_some() && !all.any(|ours| ours.holds(address, domain))
    }

    /// Reads the file now and whenever it changes.
    pub(super) async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut seen = None;
        loop {
            match read_if_changed(file, seen).await {
                Ok(Some((text, stamp))) => {
                    seen = Some(stamp);
                    self.take(file, &text);
                }
                Ok(None) => {}
                // What was read last holds; a file that was never read restricts nobody.
                Err(error) if seen.take().is_some() => tracing::warn!(
                    target: "edge", event = "allowed-domains", file = %file.display(), reason = %error,
                    "cannot be read; what was read before holds"
                ),
                Err(error) => tracing::debug!(
                    target: "edge", event = "allowed-domains", file = %file.display(), reason = %error
                ),
            }
            clock.sleep(LOOK).await;
        }
    }

    fn take(&self, file: &Path, text: &str) {
        let mut all = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            match Ours::parse(line) {
                Some(ours) => all.push(ours),
                None => tracing::warn!(
                    target: "edge", event = "allowed-domains", file = %file.display(), line = number + 1,
                    found = line, "expected a domain, @domain or address; left out"
                ),
            }
        }
        tracing::info!(target: "edge", event = "allowed-domains", file = %file.display(), count = all.len());
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }
}

async fn read_if_changed(file: &Path, seen: Option<Stamp>) -> std::io::Result<Option<(String, Stamp)>> {
    let metadata = tokio::fs::metadata(file).await?;
    let stamp = (metadata.modified()?, metadata.len());
    if seen == Some(stamp) {
        return Ok(None);
    }
    let mut text = String::new();
    tokio::fs::File::open(file).await?.take(FILE_LIMIT).read_to_string(&mut text).await?;
    Ok(Some((text, stamp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Allowed {
        let allowed = Allowed::new(&TrapsConfig::default());
        allowed.take(Path::new("alloweddomains"), text);
        allowed
    }

    fn is_outside(allowed: &Allowed, path: &str) -> bool {
        allowed.is_outside(&ForwardPath::try_from(path.to_owned()).unwrap())
    }

    #[test]
    fn defect_08_domains_are_compared_label_by_label() {
        let allowed =
            allowed("# ours\nobtuse.com\n@Example.org # this one only\nbob@example.net\n\nno domain!\n");
        for (path, outside) in [
            ("a@obtuse.com", false),
            ("a@OBTUSE.com", false),
            ("a@mail.obtuse.com", false),
            ("a@notobtuse.com", true),
            ("a@obtuse.com.evil.org", true),
            ("a@example.org", false),
            ("a@sub.example.org", true),
            ("Bob@Example.net", false),
            ("eve@example.net", true),
            ("postmaster", false),
        ] {
            assert_eq!(is_outside(&allowed, path), outside, "{path}");
        }
    }

    #[test]
    fn where_nothing_is_said_everything_is_ours() {
        assert!(!is_outside(&allowed("# nothing yet\n"), "a@anything.org"));
    }
}
