//! Interfaces that come, go and change their names while the filter runs.

use std::time::Duration;

use anyhow::Result;
use mailgate_packet::xdp::sys;
use mailgate_packet::{Config, PacketFilter as _};
use mailgate_tests::{Namespace, until};

use crate::station::{config, missing, namespace, open, pins, ways};

/// The daemon hears of a change at once; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the filter inside, its watch included.
fn inside(namespace: &Namespace, config: Config) -> mailgate_packet::xdp::Xdp {
    let (give, take) = std::sync::mpsc::channel();
    namespace
        .within(move || -> Result<()> {
            give.send(open(&config)?)?;
            Ok(())
        })
        .unwrap();
    take.recv().unwrap()
}

#[test]
fn interfaces_are_filtered_when_they_come_under_every_name_that_is_meant() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let namespace = namespace("coming");
    let filter = inside(
        &namespace,
        Config { interfaces: vec!["v0".into(), "wan*".into(), "ppp0".into()], ..config() },
    );
    let stands = |expected: &[(&str, &'static str)]| {
        let expected: Vec<_> = expected.iter().map(|(name, way)| ((*name).to_owned(), *way)).collect();
        let done = until(&format!("{expected:?}"), PATIENCE, || (ways(&filter) == expected).then_some(()));
        done.unwrap_or_else(|error| panic!("{error:#}: {:?}", filter.status().interfaces));
    };
    // Whether the pin with the name of this interface is of a link on it.
    let folder = pins(&filter);
    let is_linked = |name: &str| {
        let (pin, name) = (folder.join(format!("xdp-native-{name}")), name.to_owned());
        let asked = namespace.within(move || {
            let index = nix::net::if_::if_nametoindex(name.as_str()).unwrap_or(0);
            let link = sys::pinned_link(&pin).ok().and_then(|link| link.on);
            Ok(link == Some(sys::LinkOn::Interface(index)))
        });
        asked.unwrap()
    };
    stands(&[("ppp0", "waiting"), ("v0", "native"), ("wan*", "waiting")]);
    let reason = filter.status().interfaces[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("there is no such interface yet"));

    namespace.ip("link add wan7 type veth peer name w7").unwrap();
    namespace.ip("link add wan8 type veth peer name ppp0").unwrap();
    stands(&[("ppp0", "native"), ("v0", "native"), ("wan7", "native"), ("wan8", "native")]);
    assert!(is_linked("wan7"), "pinned, and on this very interface");

    namespace.ip("link set wan7 name wan9").unwrap();
    stands(&[("ppp0", "native"), ("v0", "native"), ("wan8", "native"), ("wan9", "native")]);
    assert!(is_linked("wan9"), "the pin has the new name");

    namespace.ip("link set wan9 name lan9").unwrap();
    stands(&[("ppp0", "native"), ("v0", "native"), ("wan8", "native")]);
    assert!(!is_linked("wan9") && !is_linked("lan9"), "a name that is not meant is let go");

    namespace.ip("link delete ppp0").unwrap();
    stands(&[("ppp0", "waiting"), ("v0", "native"), ("wan*", "waiting")]);
    namespace.ip("link add ppp0 type veth peer name p1").unwrap();
    stands(&[("ppp0", "native"), ("v0", "native"), ("wan*", "waiting")]);
    assert!(is_linked("ppp0"), "made anew under the same name");

    let filter = namespace
        .within(move || {
            filter.detach()?;
            Ok(filter)
        })
        .unwrap();
    namespace.ip("link add wan5 type veth peer name w5").unwrap();
    assert!(filter.status().interfaces.is_empty(), "after detach nothing is attached any more");
}

#[test]
fn a_filter_whose_interfaces_are_all_absent_waits_for_them_and_keeps_what_it_is_told() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let namespace = namespace("absent");
    let filter = inside(&namespace, Config { interfaces: vec!["wan7".into()], ..config() });
    assert_eq!(ways(&filter), [("wan7".to_owned(), "waiting")]);
    filter.apply(vec![crate::station::tables(&[], &["198.18.3.0/24"], &[], &[])]).unwrap();
    namespace.ip("link add wan7 type veth peer name w7").unwrap();
    until("wan7", PATIENCE, || (ways(&filter) == [("wan7".to_owned(), "native")]).then_some(())).unwrap();
    namespace.within(move || Ok(filter.detach()?)).unwrap();
}
