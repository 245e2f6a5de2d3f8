//! Where hosts lead: to mailboxes of ours, to a static next hop, or to whom the DNS names.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mailgate_model::{Host, Outcome, Status};
use mailgate_queue::{Destination, Route};

use crate::{Config, Directory};

/// The queue's [`Route`] from accounts and static routes; domains of ours come first.
#[derive(Clone)]
pub struct Routes {
    directory: Arc<dyn Directory>,
    config: Config,
}

impl Routes {
    /// The same configuration as the remote agent's.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, config: Config) -> Self {
        Self { directory, config }
    }

    async fn destination(&self, host: &Host) -> Result<Destination, Outcome> {
        let Host::Domain(domain) = host else { return Ok(Destination::Remote(host.clone())) };
        match self.directory.is_local(domain).await {
            Ok(true) => return Ok(Destination::Local),
            Ok(false) => {}
            Err(reason) => {
                tracing::warn!(target: "delivery", event = "route", %domain, result = "deferred", reason);
                // RFC 3463 §3.4: X.3.0, other mail system status.
                return Err(Outcome::Deferred {
                    status: Status::new(4, 3, 0),
                    remote: None,
                    detail: "the table of our domains cannot be read at the moment".to_owned(),
                });
            }
        }
        let fixed = self.config.route.iter().find(|route| route.domain.fits(domain));
        Ok(fixed.map_or_else(|| Destination::Remote(host.clone()), |route| Destination::Via(route.hop())))
    }
}

impl Route for Routes {
    fn route<'a>(
        &'a self,
        host: &'a Host,
    ) -> Pin<Box<dyn Future<Output = Result<Destination, Outcome>> + Send + 'a>> {
        Box::pin(self.destination(host))
    }
}
