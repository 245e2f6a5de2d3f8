//! The filter outlives the daemon, is replaced in place, and goes when told to.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Result;
use mailgate_model::ManualClock;
use mailgate_packet::xdp::sys;
use mailgate_packet::{Config, Mode, PacketFilter as _, Where};
use mailgate_tests::Network;

use crate::station::{config, missing, open, pins, tables, ways};
use crate::wire::{EVIL, GOOD, HUB, MX, connect, glance};

#[test]
fn pinned_filter_keeps_its_verdicts_without_us_and_the_next_start_replaces_it() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let _bound = mx.within(|| Ok(std::net::TcpListener::bind((MX.v4, 25))?)).unwrap();
    let to: SocketAddr = (MX.v4, 25).into();
    let there = Config { interfaces: vec!["eth0".into()], ..config() };
    let first = there.clone();
    let generation = mx
        .within(move || {
            let filter = open(&first)?;
            filter.apply(vec![tables(&[], &["198.18.3.0/24"], &[], &[])])?;
            Ok(filter.status().generation)
        })
        .unwrap();
    assert!(glance(evil, to).is_none(), "the daemon is gone, the verdict is not");
    assert!(connect(good, to).is_some());

    let again = there.clone();
    mx.within(move || -> Result<()> {
        let filter = open(&again)?;
        for name in ["xdp-native-eth0", "steer"] {
            sys::open_pin(&pins(&filter).join(name))?;
        }
        let (verdict, _) = sys::test_run(
            filter.program("ingress")?.as_fd(),
            &crate::frames::Frame::tcp(25).ip("198.18.3.1").ethernet(),
            &mut [],
            1,
        )?;
        assert_eq!(verdict, 1, "the new program uses the old tables until the first reload");
        filter.apply(vec![tables(&[], &["198.18.2.0/24"], &[], &[])])?;
        assert!(filter.status().generation > generation, "generations go on counting");
        Ok(())
    })
    .unwrap();
    assert!(glance(good, to).is_none(), "the new tables are in force");
    assert!(connect(evil, to).is_some(), "the old ones are not");

    let generic = Config { mode: Mode::Generic, ..there.clone() };
    mx.within(move || -> Result<()> {
        let filter = open(&generic)?;
        assert_eq!(ways(&filter), [("eth0".to_owned(), "generic")]);
        Ok(())
    })
    .unwrap();
    assert!(glance(good, to).is_none(), "also in generic mode");

    let off = Config { mode: Mode::Off, ..there };
    mx.within(move || -> Result<()> {
        let clock = std::sync::Arc::new(ManualClock::default());
        let filter = mailgate_packet::open(&off, clock)?;
        assert_eq!(filter.status().acts, Where::Memory);
        assert!(!Path::new("/sys/fs/bpf/mailgate").exists(), "no pin is left");
        Ok(())
    })
    .unwrap();
    assert!(connect(good, to).is_some(), "switched off");
}
