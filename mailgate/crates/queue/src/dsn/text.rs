//! The part of a DSN that people read.

use std::fmt::Write as _;

use super::field::clean;
use super::{Subject, addressed, facts};
use crate::work::{Notice, Settled};

/// The Subject field.
pub(super) fn title(notice: Notice) -> &'static str {
    match notice {
        Notice::Delayed => "Delivery of your message is delayed",
        Notice::Delivered => "Your message was delivered",
        Notice::Failed => "Your message could not be delivered",
        Notice::Relayed => "Your message was passed on",
    }
}

/// What happened, to whom, why, and what the reader has to do.
pub(super) fn explanation(notice: Notice, subject: &Subject<'_>, concerned: &[&Settled]) -> String {
    let mut text = format!("This is the mail system at {}.\r\n\r\n", subject.hostname);
    text.push_str(match notice {
        Notice::Delayed => {
            "Your message has not yet been delivered to the recipients below. You need not do\r\n\
             anything: delivery will be tried further, until\r\n"
        }
        Notice::Delivered => "Your message was delivered to the mailboxes of these recipients.\r\n",
        Notice::Failed => {
            "Your message could not be delivered to the recipients below, and will not be\r\n\
             tried again. The reason stands beside each.\r\n"
        }
        Notice::Relayed => {
            "Your message was passed on towards these recipients. The next mail system does\r\n\
             not report deliveries, so this is the last you hear unless it fails.\r\n"
        }
    });
    // Writing into a String cannot fail.
    if notice == Notice::Delayed {
        let _ = write!(text, "{}.\r\n", subject.expiry.rfc5322());
    }
    text.push_str("\r\n");
    for settled in concerned {
        let _ = write!(text, "<{}>\r\n", clean(&addressed(settled, subject.hostname)));
        let (status, remote, detail) = facts(notice, &settled.outcome);
        match (remote, detail) {
            (_, "") => {}
            (Some(remote), detail) => {
                let _ = write!(text, "    {} said:\r\n    {}\r\n", clean(remote), clean(detail));
            }
            (None, detail) => {
                let _ = write!(text, "    {status} {}\r\n", clean(detail));
            }
        }
    }
    let _ = write!(
        text,
        "\r\nThe message arrived here on {}\r\nand has the queue id {}.\r\n",
        subject.arrived.rfc5322(),
        subject.original
    );
    text
}
