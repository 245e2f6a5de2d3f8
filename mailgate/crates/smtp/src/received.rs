//! `Received`: the trace field of each message we take (RFC 5321 §4.4).

use mailgate_model::{Client, Domain, ForwardPath, Host, QueueId, Timestamp};
use mailgate_proto::smtp::Charset;

/// How the client introduced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hello {
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
}

/// What the field tells.
#[derive(Debug)]
pub(crate) struct Trace<'a> {
    pub(crate) client: &'a Client,
    pub(crate) hello: Hello,
    pub(crate) charset: Charset,
    pub(crate) hostname: &'a Domain,
    pub(crate) id: QueueId,
    /// Said only when there is one: with more, each would learn of the others.
    pub(crate) only_recipient: Option<&'a ForwardPath>,
    pub(crate) now: Timestamp,
}

impl Trace<'_> {
    /// The whole field with folding and CRLF.
    pub(crate) fn field(&self) -> String {
        let literal = Host::Literal(self.client.ip());
        // RFC 5321 §4.1.4: a HELO name may be wrong; what is not even a name stays out of the header.
        let said = self.client.helo.as_deref().and_then(|helo| Host::parse(helo).ok());
        let from = said.unwrap_or_else(|| literal.clone());
        // The DNS of a stranger may hold any octets.
        let rdns = self.client.rdns.as_deref().and_then(|name| Domain::parse(name).ok());
        let rdns = rdns.map(|name| format!("{name} ")).unwrap_or_default();
        let tls = self.client.tls.as_ref().map_or_else(String::new, |tls| {
            format!("\r\n\t(using {} with cipher {})", word(&tls.version), word(&tls.cipher))
        });
        let contact =
            self.client.contact.as_ref().map_or_else(String::new, |contact| {
                format!("\r\n\t(first contact: {})", words(&contact.words))
            });
        let recipient = self.only_recipient.map(|path| format!("\r\n\tfor <{path}>")).unwrap_or_default();
        format!(
            "Received: from {from} ({rdns}{literal}){tls}{contact}\r\n\tby {} (mailgate) with {}\r\n\tid {}{recipient};\r\n\t{}\r\n",
            self.hostname,
            self.protocol(),
            self.id,
            self.now.rfc5322()
        )
    }

    /// RFC 3848 and RFC 6531 §4.3.
    fn protocol(&self) -> String {
        if self.hello == Hello::Helo {
            return "SMTP".to_owned();
        }
        let base = match self.charset {
            Charset::Ascii => "ESMTP",
            Charset::Utf8 => "UTF8SMTP",
        };
        let tls = if self.client.tls.is_some() { "S" } else { "" };
        let identity = if self.client.identity.is_some() { "A" } else { "" };
        format!("{base}{tls}{identity}")
    }
}

/// What may stand in a comment.
fn word(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).collect()
}

/// Longest comment about the first contact; a line has at most 998 octets (RFC 5322 §2.1.1).
const WORDS_LIMIT: usize = 400;

/// What may stand in a comment, of several words.
fn words(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | ' ' | ';');
    text.chars().filter(fits).take(WORDS_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use mailgate_model::{Address, TlsFacts};

    use super::*;

    fn client() -> Client {
        let mut client = Client::new("192.0.2.1:4000".parse().unwrap(), "192.0.2.2:25".parse().unwrap());
        client.helo = Some("mx.example.net".into());
        client
    }

    fn field(client: &Client, hello: Hello, charset: Charset, recipient: Option<&ForwardPath>) -> String {
        let hostname = Domain::parse("mx.example.org").unwrap();
        let id = mailgate_model::QueueId::parse("0123456789ABC").unwrap();
        let now = Timestamp::from_secs(0);
        Trace { client, hello, charset, hostname: &hostname, id, only_recipient: recipient, now }.field()
    }

    #[test]
    fn the_field_names_both_ends_the_protocol_the_id_and_the_time() {
        let recipient = ForwardPath::Address(Address::parse("a@example.org").unwrap());
        assert_eq!(
            field(&client(), Hello::Ehlo, Charset::Ascii, Some(&recipient)),
            "Received: from mx.example.net ([192.0.2.1])\r\n\tby mx.example.org (mailgate) with ESMTP\r\n\t\
             id 0123456789ABC\r\n\tfor <a@example.org>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn the_protocol_word_says_tls_identity_and_utf8() {
        let mut client = client();
        assert!(field(&client, Hello::Helo, Charset::Ascii, None).contains("with SMTP\r\n"));
        client.tls =
            Some(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_256_GCM_SHA384".into(), sni: None });
        assert!(field(&client, Hello::Ehlo, Charset::Ascii, None).contains("with ESMTPS\r\n"));
        client.identity = Some(Address::parse("a@example.org").unwrap());
        let with_all = field(&client, Hello::Ehlo, Charset::Utf8, None);
        assert!(with_all.contains("with UTF8SMTPSA\r\n"));
        assert!(with_all.contains("(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)"));
    }

    #[test]
    fn what_first_contact_said_is_a_comment() {
        let mut client = client();
        let words = "low-suspicion; spf-pass (x)\r\nBcc: y".to_owned();
        client.contact = Some(mailgate_model::FirstContact { identity: "spf:example.net".into(), words });
        let text = field(&client, Hello::Ehlo, Charset::Ascii, None);
        assert!(text.contains("\r\n\t(first contact: low-suspicion; spf-pass xBcc y)\r\n\tby "), "{text}");
    }

    #[test]
    fn a_helo_that_is_no_name_stays_out() {
        let mut client = client();
        client.helo = Some("x;y@z".into());
        client.rdns = Some("rdns.example.net".into());
        let text = field(&client, Hello::Ehlo, Charset::Ascii, None);
        assert!(text.starts_with("Received: from [192.0.2.1] (rdns.example.net [192.0.2.1])\r\n"), "{text}");
    }
}
