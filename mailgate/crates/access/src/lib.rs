//! Access: people read their mail.
//!
//! **Purpose**: IMAP over the mailboxes of the store (what is here listens and says goodbye; the server is being built).
//! **In**: connections. **Out**: a BYE.
//! **Trust**: nothing is read. **Standards**: RFC 3501 §7.1.5. **Failure**: none.
//! **Start reading at**: [`imap`].

use serde::Deserialize;

/// `[access]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[access.imap]`.
    pub imap: imap::Config,
}

/// IMAP.
pub mod imap {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use mailgate_model::{Client, Clock, Domain, SessionId};
    use mailgate_net::{Stream, Tls};
    use serde::Deserialize;
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::sync::CancellationToken;

    /// `[access.imap]`.
    #[derive(Debug, Clone, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Config {
        /// Addresses and ports with STARTTLS. Default `["0.0.0.0:143", "[::]:143"]`.
        pub listen: Vec<SocketAddr>,
        /// Addresses and ports with implicit TLS. Default `["0.0.0.0:993", "[::]:993"]`.
        pub listen_tls: Vec<SocketAddr>,
        /// Sessions at the same time. Default 2000.
        pub sessions: usize,
        /// Sessions at the same time from one IPv4 address or IPv6 /64. Default 200.
        pub sessions_per_source: usize,
    }

    impl Default for Config {
        fn default() -> Self {
            let everywhere = |port| {
                vec![
                    SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, port)),
                    SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
                ]
            };
            Self {
                listen: everywhere(143),
                listen_tls: everywhere(993),
                sessions: 2000,
                sessions_per_source: 200,
            }
        }
    }

    /// Everything a server needs.
    pub struct Parts {
        /// `[access.imap]`.
        pub config: Config,
        /// Our name.
        pub hostname: Domain,
        /// Who may log in.
        pub accounts: mailgate_accounts::Accounts,
        /// Where mail is.
        pub mailboxes: mailgate_store::Mailboxes,
        /// For STARTTLS.
        pub tls: Tls,
        /// Time.
        pub clock: Arc<dyn Clock>,
        /// Ends sessions.
        pub shutdown: CancellationToken,
    }

    /// The server.
    pub struct Server {
        _parts: Parts,
    }

    impl Server {
        /// Joins the parts.
        #[must_use]
        pub fn new(parts: Parts) -> Arc<Self> {
            Arc::new(Self { _parts: parts })
        }

        /// Serves one connection.
        pub async fn serve(self: &Arc<Self>, mut stream: Stream, _: Client, _: SessionId) {
            let _ = stream.write_all(b"* BYE not yet\r\n").await;
        }
    }
}
