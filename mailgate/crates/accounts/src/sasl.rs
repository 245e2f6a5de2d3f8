//! The server's side of the SASL mechanisms PLAIN (RFC 4616) and LOGIN.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest line of an exchange in octets before decoding: RFC 4954 §4 asks for 12288.
pub const LINE_LIMIT: usize = 12_288;

/// A login name with its secret, as the client said them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Login name.
    pub login: String,
    /// The secret.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("login", &self.login).finish_non_exhaustive()
    }
}

/// The mechanisms that are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// LOGIN, asked for by old clients; it has no standard.
    Login,
    /// PLAIN (RFC 4616).
    Plain,
}

impl Mechanism {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Login];

    /// Its name as it is offered.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of a name, in any case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// What the server says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this challenge, already in base64 (perhaps empty), and wait for a line.
    Challenge(&'static str),
    /// The exchange is complete.
    Done(Credentials),
    /// The client broke the exchange off with `*`.
    Cancelled,
    /// What the client sent is no response of this mechanism.
    Malformed,
}

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    login: Option<String>,
}

/// `Username:` in base64, what clients of LOGIN wait for.
const ASK_LOGIN: &str = "VXNlcm5hbWU6";
/// `Password:` in base64.
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

impl Exchange {
    /// Begins; `initial` is the initial response in base64, `=` for an empty one (RFC 4954 §4).
    #[must_use]
    pub fn begin(mechanism: Mechanism, initial: Option<&str>) -> (Self, Step) {
        let mut exchange = Self { mechanism, login: None };
        let step = match (initial, mechanism) {
            (Some("="), _) => exchange.take(""),
            (Some(initial), _) => exchange.take(initial),
            (None, Mechanism::Plain) => Step::Challenge(""),
            (None, Mechanism::Login) => Step::Challenge(ASK_LOGIN),
        };
        (exchange, step)
    }

    /// Takes the client's next line, in base64, without its line end.
    #[must_use]
    pub fn take(&mut self, line: &str) -> Step {
        if line == "*" {
            return Step::Cancelled;
        }
        let decoded = (line.len() <= LINE_LIMIT)
            .then(|| STANDARD.decode(line).ok())
            .flatten()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(text) = decoded else { return Step::Malformed };
        match (self.mechanism, self.login.take()) {
            (Mechanism::Plain, _) => plain(&text),
            (Mechanism::Login, None) => {
                self.login = Some(text);
                Step::Challenge(ASK_PASSWORD)
            }
            (Mechanism::Login, Some(login)) => Step::Done(Credentials { login, password: text }),
        }
    }
}

/// `[authzid] NUL authcid NUL password`. Acting for somebody else is not offered.
fn plain(text: &str) -> Step {
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(act_as), Some(login), Some(password), None)
            if !login.is_empty() && (act_as.is_empty() || act_as.eq_ignore_ascii_case(login)) =>
        {
            Step::Done(Credentials { login: login.to_owned(), password: password.to_owned() })
        }
        _ => Step::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn done(login: &str, password: &str) -> Step {
        Step::Done(Credentials { login: login.into(), password: password.into() })
    }

    #[test]
    fn plain_takes_one_line_early_or_late() {
        let response = encode("\0tim\0tanstaaftanstaaf");
        assert_eq!(Exchange::begin(Mechanism::Plain, Some(&response)).1, done("tim", "tanstaaftanstaaf"));
        let (mut exchange, step) = Exchange::begin(Mechanism::Plain, None);
        assert_eq!(step, Step::Challenge(""));
        assert_eq!(exchange.take(&response), done("tim", "tanstaaftanstaaf"));
    }

    #[test]
    fn login_asks_twice() {
        let (mut exchange, step) = Exchange::begin(Mechanism::Login, None);
        assert_eq!(step, Step::Challenge(ASK_LOGIN));
        assert_eq!(exchange.take(&encode("tim")), Step::Challenge(ASK_PASSWORD));
        assert_eq!(exchange.take(&encode("secret")), done("tim", "secret"));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for text in ["", "a", "\0\0x", "someone\0tim\0x", "\0a\0b\0c"] {
            assert_eq!(Exchange::begin(Mechanism::Plain, Some(&encode(text))).1, Step::Malformed, "{text:?}");
        }
        assert_eq!(Exchange::begin(Mechanism::Plain, Some("%%%")).1, Step::Malformed);
        assert_eq!(Exchange::begin(Mechanism::Plain, Some("*")).1, Step::Cancelled);
        assert_eq!(Exchange::begin(Mechanism::Login, Some(&"A".repeat(LINE_LIMIT + 4))).1, Step::Malformed);
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        assert!(!format!("{:?}", done("tim", "hunter2")).contains("hunter2"));
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_an_exchange_panic(lines in proptest::collection::vec(".{0,60}", 1..4), login: bool) {
            let mechanism = if login { Mechanism::Login } else { Mechanism::Plain };
            let (mut exchange, _) = Exchange::begin(mechanism, lines.first().map(String::as_str));
            for line in &lines {
                let _ = exchange.take(line);
                let _ = exchange.take(&encode(line));
            }
        }
    }
}
