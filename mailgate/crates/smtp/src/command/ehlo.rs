//! EHLO and HELO (RFC 5321 §4.1.1.1).

use mailgate_model::{Reply, Service};
use mailgate_proto::smtp::{self, Extensions, Sasl, StartTls};

use crate::received::Hello;
use crate::session::Session;
use crate::transaction::State;

impl Session {
    /// EHLO: ends an open transaction (RFC 5321 §4.1.4) and says what we offer now.
    pub(crate) fn ehlo(&mut self, name: String) -> Reply {
        self.introduced(name, Hello::Ehlo);
        let parts = &self.server.parts;
        self.extensions().answer(&parts.hostname)
    }

    /// HELO.
    pub(crate) fn helo(&mut self, name: String) -> Reply {
        self.introduced(name, Hello::Helo);
        smtp::reply::helo(&self.server.parts.hostname)
    }

    fn introduced(&mut self, name: String, hello: Hello) {
        tracing::info!(target: "smtp", s = %self.id, event = "helo", name = %name, kind = ?hello);
        self.client.helo = Some(name);
        self.hello = Some(hello);
        self.state = State::Greeted;
        self.owed = None;
    }

    fn extensions(&self) -> Extensions {
        let config = &self.server.parts.config;
        let is_tls = self.client.tls.is_some();
        let starttls = if is_tls { StartTls::Hidden } else { StartTls::Offered };
        let may_identify = self.service == Service::Msa && (is_tls || !config.msa.auth_require_tls);
        let sasl = if may_identify { Sasl::Offered } else { Sasl::Hidden };
        Extensions { size: config.message_size, starttls, sasl }
    }
}
