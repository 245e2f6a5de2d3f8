//! `[access]`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mailgate_model::Span;
use serde::Deserialize;

/// How people reach their mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[access.imap]`.
    pub imap: Imap,
}

/// Who may say a password on a connection without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainLogin {
    /// Clients on this host.
    Loopback,
    /// Nobody.
    #[default]
    Never,
}

/// `[access.imap]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Imap {
    /// Addresses and ports with STARTTLS. Default `["0.0.0.0:143", "[::]:143"]`.
    pub listen: Vec<SocketAddr>,
    /// Addresses and ports with implicit TLS. Default `["0.0.0.0:993", "[::]:993"]`.
    pub listen_tls: Vec<SocketAddr>,
    /// Who may log in without TLS: `never` or `loopback`. Default `never`.
    pub plain_login: PlainLogin,
    /// Largest message that APPEND takes, in octets. Default 52428800 (50 MiB).
    pub message_limit: u32,
    /// Memory for message contents of all sessions together, in octets. Default 268435456 (256 MiB).
    pub content_memory: usize,
    /// Sessions at the same time. Default 2000.
    pub sessions: usize,
    /// Sessions at the same time from one IPv4 address or IPv6 /64. Default 200.
    pub sessions_per_source: usize,
    /// Sessions of one account at the same time; some clients open one per mailbox. Default 30.
    pub sessions_per_account: usize,
    /// How often an idle session looks for changes that other programs made. Default `1s`.
    pub poll: Span,
    /// Silence after which a session ends; RFC 3501 §5.4 wants at least 30 minutes. Default `30m`.
    pub autologout: Span,
    /// Time a client has to log in. Default `2m`.
    pub login_limit: Span,
    /// How long the answer to a wrong password is held back. Default `2s`.
    pub wrong_password_delay: Span,
    /// `[access.imap.special_use]`.
    pub special_use: SpecialUse,
}

impl Default for Imap {
    fn default() -> Self {
        let everywhere = |port| {
            vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ]
        };
        Self {
            listen: everywhere(143),
            listen_tls: everywhere(993),
            plain_login: PlainLogin::Never,
            message_limit: 50 * 1024 * 1024,
            content_memory: 256 * 1024 * 1024,
            sessions: 2000,
            sessions_per_source: 200,
            sessions_per_account: 30,
            poll: Span::from_secs(1),
            autologout: Span::from_secs(1800),
            login_limit: Span::from_secs(120),
            wrong_password_delay: Span::from_secs(2),
            special_use: SpecialUse::default(),
        }
    }
}

/// `[access.imap.special_use]`: mailboxes with a use (RFC 6154), made and subscribed at the first login. Empty: none.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecialUse {
    /// Old mail. Default `Archive`.
    pub archive: String,
    /// Unfinished mail. Default `Drafts`.
    pub drafts: String,
    /// Spam. Default `Junk`.
    pub junk: String,
    /// What was sent. Default `Sent`.
    pub sent: String,
    /// What was deleted. Default `Trash`.
    pub trash: String,
}

impl Default for SpecialUse {
    fn default() -> Self {
        Self {
            archive: "Archive".to_owned(),
            drafts: "Drafts".to_owned(),
            junk: "Junk".to_owned(),
            sent: "Sent".to_owned(),
            trash: "Trash".to_owned(),
        }
    }
}

impl SpecialUse {
    /// Attribute and mailbox of each use that has one.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("\\Archive", &self.archive),
            ("\\Drafts", &self.drafts),
            ("\\Junk", &self.junk),
            ("\\Sent", &self.sent),
            ("\\Trash", &self.trash),
        ]
        .into_iter()
        .map(|(attribute, name)| (attribute, name.as_str()))
        .filter(|(_, name)| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_and_defaults_fill_in() {
        let config: Config = serde_json::from_str(
            r#"{"imap": {"plain_login": "loopback", "poll": "5s", "special_use": {"junk": ""}}}"#,
        )
        .unwrap();
        assert_eq!(config.imap.plain_login, PlainLogin::Loopback);
        assert_eq!(config.imap.special_use.each().count(), 4);
        assert!(serde_json::from_str::<Config>(r#"{"imap": {"plainlogin": "never"}}"#).is_err());
    }
}
