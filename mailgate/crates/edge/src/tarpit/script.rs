//! The words of the tarpit, made once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mailgate_lists::TableName;
use mailgate_model::Domain;
use mailgate_proto::smtp::{Extensions, StartTls, reply as shared};

use super::Why;
use super::dialogue::Say;
use crate::config::{LastWord, TarpitConfig};
use crate::reply;

/// Longest last word in octets; more lists than fit are left out.
const LAST_WORD_LIMIT: usize = 4096;

/// All that is said to held clients.
#[derive(Debug)]
pub(crate) struct Script {
    greeting: String,
    ehlo: String,
    ehlo_in_tls: String,
    helo: String,
    fixed: Fixed,
    last_word: LastWord,
    trapped_message: String,
    listed_message: String,
    messages: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Fixed {
    bye: String,
    hello_first: String,
    mail_first: String,
    no_tls: String,
    ok: String,
    recipient_ok: String,
    sender_ok: String,
    start_content: String,
    start_tls: String,
    unknown_command: String,
}

impl Script {
    pub(crate) fn new(hostname: &Domain, content_limit: usize, config: &TarpitConfig) -> Self {
        let ehlo = |starttls| shared::ehlo(hostname, &Extensions::mx(content_limit, starttls)).to_wire();
        Self {
            greeting: shared::greeting(hostname).to_wire(),
            ehlo: ehlo(StartTls::Offered),
            ehlo_in_tls: ehlo(StartTls::Hidden),
            helo: shared::helo(hostname).to_wire(),
            fixed: Fixed {
                bye: reply::BYE.to_wire(),
                hello_first: reply::HELO_FIRST.to_wire(),
                mail_first: reply::MAIL_FIRST.to_wire(),
                no_tls: reply::NO_TLS.to_wire(),
                ok: reply::OK.to_wire(),
                recipient_ok: reply::RECIPIENT_OK.to_wire(),
                sender_ok: reply::SENDER_OK.to_wire(),
                start_content: reply::START_CONTENT.to_wire(),
                start_tls: reply::START_TLS.to_wire(),
                unknown_command: reply::UNKNOWN_COMMAND.to_wire(),
            },
            last_word: config.last_word,
            trapped_message: config.trapped_message.clone(),
            listed_message: config.listed_message.clone(),
            messages: config.messages.clone(),
        }
    }

    /// The words; `None` for the last word, which is made for each client.
    pub(crate) fn words(&self, say: Say) -> Option<&str> {
        let fixed = &self.fixed;
        let words = match say {
            Say::Bye => &fixed.bye,
            Say::Ehlo => &self.ehlo,
            Say::EhloInTls => &self.ehlo_in_tls,
            Say::Greeting => &self.greeting,
            Say::HelloFirst => &fixed.hello_first,
            Say::Helo => &self.helo,
            Say::LastWord => return None,
            Say::MailFirst => &fixed.mail_first,
            Say::NoTls => &fixed.no_tls,
            Say::Ok => &fixed.ok,
            Say::RecipientOk => &fixed.recipient_ok,
            Say::SenderOk => &fixed.sender_ok,
            Say::StartContent => &fixed.start_content,
            Say::StartTls => &fixed.start_tls,
            Say::UnknownCommand => &fixed.unknown_command,
        };
        Some(words)
    }

    /// The messages of everything that lists the client, as one reply (spamd(8)); `told` is what the lists themselves say,
    /// complete.
    pub(crate) fn last_word(&self, ip: IpAddr, why: &Why, told: &[(TableName, String)]) -> String {
        let messages = match why {
            Why::Trapped => expand(&self.trapped_message, ip, ""),
            Why::Listed(tables) => self.listed(ip, tables, told),
        };
        reply::last_word(self.last_word, &messages).to_wire()
    }

    /// Each table once: what we were configured to say, else what its lists say, else what is said of any list.
    fn listed(&self, ip: IpAddr, tables: &[TableName], told: &[(TableName, String)]) -> String {
        let mut text = String::new();
        for table in tables {
            let lists = told.iter().filter(|(named, _)| named == table).map(|(_, message)| message.clone());
            let messages: Vec<String> = match self.messages.get(table.as_str()) {
                Some(message) => vec![expand(message, ip, table.as_str())],
                None => lists.collect(),
            };
            if messages.is_empty() {
                append(&mut text, &expand(&self.listed_message, ip, table.as_str()));
            }
            messages.iter().for_each(|message| append(&mut text, message));
        }
        // A table that is gone by now still has its say.
        if text.is_empty() { expand(&self.listed_message, ip, "block") } else { text }
    }
}

fn append(text: &mut String, message: &str) {
    if text.len() + message.len() <= LAST_WORD_LIMIT {
        text.push_str(message.trim_end_matches('\n'));
        text.push('\n');
    }
}

/// Puts in `%A` (the client's address), `%T` (the table) and `%%`, and takes `\n`, `\"` and `\\` for a line end, a quote
/// and a backslash (spamd.conf(5)); other signs stay.
fn expand(message: &str, ip: IpAddr, table: &str) -> String {
    let mut text = String::with_capacity(message.len() + 40);
    let mut chars = message.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('%', Some('A')) => text.push_str(&ip.to_string()),
            ('%', Some('T')) => text.push_str(table),
            ('%', Some('%')) => text.push('%'),
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some(quoted @ ('"' | '\\'))) => text.push(*quoted),
            _ => {
                text.push(c);
                continue;
            }
        }
        chars.next();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(messages: &[(&str, &str)]) -> Script {
        let messages =
            messages.iter().map(|(table, text)| ((*table).to_owned(), (*text).to_owned())).collect();
        let config = TarpitConfig { messages, ..TarpitConfig::default() };
        Script::new(&Domain::parse("mx.example.org").unwrap(), 1000, &config)
    }

    fn tables(names: &[&str]) -> Why {
        Why::Listed(names.iter().map(|name| TableName::parse(name).unwrap()).collect())
    }

    #[test]
    fn parity_the_messages_of_all_lists_are_one_reply_of_many_lines() {
        let script =
            script(&[("spews", "No mail from %A,\nsee http://x.org/?%%41=%A\n"), ("odd", "100% %X%")]);
        let ip = "2001:db8::1".parse().unwrap();
        assert_eq!(
            script.last_word(ip, &tables(&["spews", "feed", "odd"]), &[]),
            "450-4.7.1 No mail from 2001:db8::1,\r\n450-4.7.1 see http://x.org/?%41=2001:db8::1\r\n\
             450-4.7.1 Your address 2001:db8::1 is in the list feed\r\n450 4.7.1 100% %X%\r\n"
        );
    }

    #[test]
    fn parity_percent_a_and_the_escapes_of_spamd_conf_also_at_the_very_end() {
        for (written, want) in [
            ("%A", "192.0.2.1"),
            ("see %A", "see 192.0.2.1"),
            ("%%A 100%%", "%A 100%"),
            ("one\\ntwo", "one\ntwo"),
            ("say \\\"no\\\"", "say \"no\""),
            ("a\\\\n", "a\\n"),
            ("ends with A", "ends with A"),
            ("ends with n", "ends with n"),
            ("%", "%"),
            ("\\", "\\"),
            ("50%x \\y", "50%x \\y"),
        ] {
            assert_eq!(expand(written, "192.0.2.1".parse().unwrap(), "t"), want, "{written}");
        }
    }

    #[test]
    fn what_lists_say_comes_in_their_order_unless_we_were_told_better() {
        let script = script(&[("mine", "Ours of %T")]);
        let table = |name: &str| TableName::parse(name).unwrap();
        let told = [
            (table("spews"), "first %A\nand more".to_owned()),
            (table("mine"), "never said".to_owned()),
            (table("spews"), "second".to_owned()),
        ];
        assert_eq!(
            script.last_word("192.0.2.1".parse().unwrap(), &tables(&["mine", "spews", "bare"]), &told),
            "450-4.7.1 Ours of mine\r\n450-4.7.1 first %A\r\n450-4.7.1 and more\r\n450-4.7.1 second\r\n\
             450 4.7.1 Your address 192.0.2.1 is in the list bare\r\n"
        );
    }

    #[test]
    fn trapped_clients_have_a_message_of_their_own_and_many_lists_are_bounded() {
        let script = script(&[("long", &"x".repeat(3000))]);
        let ip = "192.0.2.1".parse().unwrap();
        assert!(
            script.last_word(ip, &Why::Trapped, &[]).starts_with("450 4.7.1 Your address 192.0.2.1 sent")
        );
        assert!(script.last_word(ip, &tables(&["long"; 5]), &[]).len() < LAST_WORD_LIMIT);
        assert!(script.last_word(ip, &tables(&[]), &[]).contains("192.0.2.1"));
    }

    #[test]
    fn a_held_client_sees_the_server_it_would_see_otherwise() {
        let script = script(&[]);
        let hostname = Domain::parse("mx.example.org").unwrap();
        assert_eq!(script.words(Say::Greeting), Some(shared::greeting(&hostname).to_wire().as_str()));
        let ehlo = Extensions::mx(1000, StartTls::Offered).answer(&hostname).to_wire();
        assert_eq!(script.words(Say::Ehlo), Some(ehlo.as_str()));
    }
}
