//! ENVELOPE (RFC 3501 §7.4.2): fields of the header, addresses taken apart, encoded words left as they are.

use mailgate_proto::imap::Writer;

use crate::mime::{self, Address};

/// Writes the envelope of a header.
pub(crate) fn write(header: &[u8], out: &mut Writer) {
    let text = |name: &str| mime::field(header, name).map(|field| mime::unfolded(field.value));
    let list = |name: &str| match mime::field(header, name) {
        Some(field) => mime::addresses(field.value),
        None => Vec::new(),
    };
    let from = list("From");
    // A missing or empty Sender or Reply-To is From.
    let or_from = |addresses: Vec<Address>| if addresses.is_empty() { from.clone() } else { addresses };
    out.raw("(").nstring(text("Date").as_deref()).raw(" ").nstring(text("Subject").as_deref());
    let lists = [
        from.clone(),
        or_from(list("Sender")),
        or_from(list("Reply-To")),
        list("To"),
        list("Cc"),
        list("Bcc"),
    ];
    for addresses in lists {
        out.raw(" ");
        write_addresses(&addresses, out);
    }
    out.raw(" ")
        .nstring(text("In-Reply-To").as_deref())
        .raw(" ")
        .nstring(text("Message-ID").as_deref())
        .raw(")");
}

fn write_addresses(addresses: &[Address], out: &mut Writer) {
    if addresses.is_empty() {
        out.raw("NIL");
        return;
    }
    out.raw("(");
    for address in addresses {
        match address {
            Address::GroupEnd => drop(out.raw("(NIL NIL NIL NIL)")),
            Address::GroupStart(name) => drop(out.raw("(NIL NIL ").string(name).raw(" NIL)")),
            Address::Mailbox { name, route, local, domain } => {
                // A domain that is NIL would make it a group, so an absent one is empty.
                out.raw("(").nstring(name.as_deref()).raw(" ").nstring(route.as_deref()).raw(" ");
                out.string(local).raw(" ").string(domain).raw(")");
            }
        }
    }
    out.raw(")");
}
