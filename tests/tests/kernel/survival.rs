//! The filter outlives the daemon, is replaced in place, and goes when told to.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Result;
use mailgate_edge::packet::xdp::sys;
use mailgate_edge::packet::{Config, Mode, PacketFilter as _, Where};
use mailgate_model::ManualClock;
use mailgate_tests::Network;

use crate::station::{config, missing, namespace, open, tables};
use crate::wire::{EVIL, GOOD, HUB, MX, connect};

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
    assert!(connect(evil, to).is_none(), "the daemon is gone, the verdict is not");
    assert!(connect(good, to).is_some());

    let again = there.clone();
    mx.within(move || -> Result<()> {
        let link = |name: &str| -> Result<()> {
            sys::open_pin(Path::new("/sys/fs/bpf/mailgate/test/v1").join(name).as_path())?;
            Ok(())
        };
        link("xdp-native-eth0")?;
        link("steer")?;
        let filter = open(&again)?;
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
    assert!(connect(good, to).is_none(), "the new tables are in force");
    assert!(connect(evil, to).is_some(), "the old ones are not");

    let generic = Config { mode: Mode::Generic, ..there.clone() };
    mx.within(move || -> Result<()> {
        let filter = open(&generic)?;
        assert_eq!(filter.status().interfaces, [("eth0".to_owned(), "generic")]);
        Ok(())
    })
    .unwrap();
    assert!(connect(good, to).is_none(), "also in generic mode");

    let off = Config { mode: Mode::Off, ..there };
    mx.within(move || -> Result<()> {
        let clock = std::sync::Arc::new(ManualClock::default());
        let filter = mailgate_edge::packet::open(&off, clock);
        assert_eq!(filter.status().acts, Where::Memory);
        assert!(!Path::new("/sys/fs/bpf/mailgate").exists(), "no pin is left");
        Ok(())
    })
    .unwrap();
    assert!(connect(good, to).is_some(), "switched off");
}

#[test]
fn a_program_of_somebody_else_is_left_alone_and_said() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("foreign")
        .within(|| -> Result<()> {
            let other = open(&Config { instance: "other".into(), ..config() })?;
            let error = open(&config()).err().expect("the interface is taken");
            assert_eq!(error.to_string(), "interface v0 already has an XDP program of another owner");
            let clock = std::sync::Arc::new(ManualClock::default());
            let status = mailgate_edge::packet::open(&config(), clock).status();
            assert_eq!(
                status.reason.as_deref(),
                Some("interface v0 already has an XDP program of another owner")
            );
            other.detach()?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("absent")
        .within(|| -> Result<()> {
            let absent = Config { interfaces: vec!["v0".into(), "wan7".into()], ..config() };
            let error = open(&absent).err().expect("there is no wan7");
            assert_eq!(error.to_string(), "there is no interface wan7");
            assert!(
                !Path::new("/sys/fs/bpf/mailgate/test/v1/xdp-native-v0").exists(),
                "nothing half attached"
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn links_of_another_layout_are_taken_over_and_nothing_stays_when_the_filter_cannot_be_had() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("layouts")
        .within(|| -> Result<()> {
            let instance = config().folder();
            drop(open(&config())?);
            std::fs::rename(instance.join("v1"), instance.join("v0"))?;
            let filter = open(&config())?;
            assert_eq!(filter.status().interfaces, [("v0".to_owned(), "native")]);
            assert!(!instance.join("v0").exists() && instance.join("v1/xdp-native-v0").exists());
            drop(filter);

            let absent = Config { interfaces: vec!["wan7".into()], ..config() };
            let clock = std::sync::Arc::new(ManualClock::default());
            assert_eq!(mailgate_edge::packet::open(&absent, clock).status().acts, Where::Memory);
            assert!(!instance.exists(), "no filter goes on with tables of yesterday");
            Ok(())
        })
        .unwrap();
}
