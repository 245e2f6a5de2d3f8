use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::internet::{self, GATE, STRANGER};
use crate::{Postfix, Sink, SmtpClient, find, is_root, skip, until};

/// The far half of the lab alone: a message travels from Postfix by MX over the bridge.
#[test]
fn postfix_delivers_by_the_labs_dns_to_a_sink_in_another_namespace() {
    if !is_root() {
        return skip("namespaces need root");
    }
    if find("postfix").is_none() {
        return skip("postfix is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (network, _dns) = internet::build().unwrap();
    let gate = network.node(GATE.label).unwrap();
    let sink = Sink::start(gate.within(|| Ok(TcpListener::bind((GATE.v4, 25))?)).unwrap()).unwrap();
    let stranger = network.node(STRANGER.label).unwrap();
    let postfix = Postfix::start(stranger, folder.path(), internet::SENDER, internet::AWAY).unwrap();
    let mut client = stranger.within(|| SmtpClient::connect(([127, 0, 0, 1], 25).into())).unwrap();
    client.greet("localhost").unwrap();
    client.message("ann@example.net", &["bob@example.org"], "Subject: by MX\r\n\r\nhello\r\n").unwrap();
    until("the message", Duration::from_secs(20), || sink.received().pop())
        .map_err(|error| format!("{error}\n{}", postfix.log()))
        .unwrap();
}
