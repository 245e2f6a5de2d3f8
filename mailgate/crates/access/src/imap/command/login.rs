//! LOGIN and AUTHENTICATE (RFC 3501 §6.2.2, §6.2.3, RFC 4959), and what a first login furnishes.

use mailgate_accounts::Error as AccountsError;
use mailgate_accounts::sasl::{Exchange, Mechanism, Step};
use mailgate_store::Error as StoreError;
use mailgate_store::mailboxes::{Maildir, Name};

use super::super::connection::{End, Received};
use super::super::reply::{Bye, Reply};
use super::super::session::{Fault, Login, Session, WRONG_PASSWORDS};
use crate::config::PlainLogin;

impl Session {
    /// Whether a password may cross this connection.
    pub(crate) fn may_say_password(&self) -> bool {
        self.connection.is_tls()
            || (self.server.parts.config.plain_login == PlainLogin::Loopback
                && self.client.ip().is_loopback())
    }

    fn before_login(&self) -> Result<(), Fault> {
        if self.login.is_some() {
            return Err(Reply::wrong_state().into());
        }
        if self.may_say_password() { Ok(()) } else { Err(Reply::needs_tls().into()) }
    }

    pub(crate) async fn login(&mut self, login: &str, password: &str) -> Result<Reply, Fault> {
        self.before_login()?;
        self.admit_person(login, password).await
    }

    pub(crate) async fn authenticate(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
    ) -> Result<Reply, Fault> {
        self.before_login()?;
        let mechanism = Mechanism::of(mechanism).ok_or_else(Reply::unknown_mechanism)?;
        let (mut exchange, mut step) = Exchange::begin(mechanism, initial);
        loop {
            match step {
                Step::Challenge(challenge) => {
                    self.connection.continuation(challenge);
                    match self.connection.receive(self.patience()).await? {
                        Received::Command(line) => step = exchange.take(&String::from_utf8_lossy(&line)),
                        Received::Literal(_) => {
                            self.connection.refuse();
                            step = Step::Malformed;
                        }
                    }
                }
                Step::Done(credentials) => {
                    return self.admit_person(&credentials.login, &credentials.password).await;
                }
                Step::Cancelled => return Ok(Reply::cancelled()),
                Step::Malformed => return Ok(Reply::malformed_credentials()),
            }
        }
    }

    async fn admit_person(&mut self, login: &str, password: &str) -> Result<Reply, Fault> {
        let accounts = self.server.parts.accounts.clone();
        let address = match accounts.authenticate(login, password, self.client.ip()).await {
            Ok(Some(address)) => address,
            Ok(None) => return self.wrong_password(login).await,
            Err(AccountsError::Throttled) => {
                self.wrong_password(login).await?;
                return Ok(Reply::throttled());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(account) = accounts.account(&address).await? else {
            return self.wrong_password(login).await;
        };
        let Some(seat) = self.server.seat(&address) else { return Ok(Reply::too_many_sessions()) };
        let maildir = self.server.parts.mailboxes.maildir(&account.maildir);
        self.furnish(&maildir).await?;
        tracing::info!(target: "access", s = %self.id, event = "imap.login", account = %address, result = "ok");
        self.client.identity = Some(address);
        self.login = Some(Login { maildir, _seat: seat });
        Ok(Reply::ok("Logged in").code(format!("CAPABILITY {}", self.capabilities())))
    }

    async fn wrong_password(&mut self, login: &str) -> Result<Reply, Fault> {
        let shown: String = login.chars().take(80).collect();
        tracing::info!(target: "access", s = %self.id, event = "imap.login", ip = %self.client.ip(), login = ?shown,
            result = "wrong-password");
        // Guessing must not be faster than typing.
        let delay = self.server.parts.config.wrong_password_delay.duration();
        self.server.parts.clock.sleep(delay).await;
        self.wrong_passwords += 1;
        if self.wrong_passwords >= WRONG_PASSWORDS {
            return Err(End::Bye(Bye::WrongPasswords).into());
        }
        Ok(Reply::wrong_password())
    }

    /// Makes the mailboxes with a use for somebody who never had a session here.
    async fn furnish(&self, maildir: &Maildir) -> Result<(), Fault> {
        if !maildir.subscriptions().await?.is_empty() {
            return Ok(());
        }
        let mut names = vec![Name::inbox()];
        for (_, text) in self.server.parts.config.special_use.each() {
            let name = Name::parse(text)?;
            match maildir.create(&name).await {
                Ok(()) | Err(StoreError::Conflict(_)) => names.push(name),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(maildir.subscribe(names).await?)
    }
}
