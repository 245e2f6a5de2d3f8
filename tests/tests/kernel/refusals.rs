//! What stands in the way of the filter is named, with its owner and what to do.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use mailgate_model::ManualClock;
use mailgate_packet::PacketFilter as _;
use mailgate_packet::xdp::sys;
use mailgate_packet::{Config, Error, Where};

use crate::station::{config, missing, namespace, open, tables, ways};

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn a_program_of_somebody_else_is_left_alone_and_named_with_its_owner() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let namespace = namespace("foreign");
    namespace.ip("link add w0 type veth peer name w1").unwrap();
    namespace
        .within(|| -> Result<()> {
            let other = open(&Config { instance: "other".into(), ..config() })?;
            let error = open(&config()).err().expect("the interface is taken").to_string();
            let process = format!("held by process {} (", std::process::id());
            let expected = [
                "interface v0 already has an XDP program of another owner: instance \"other\" of mailgate, program ",
                "\"ingress\" (tag ",
                ", loaded by user 0, pinned at /sys/fs/bpf/mailgate/other/v",
                "/xdp-native-v0, ",
                &process,
                "take v0 out of edge.packet.interfaces",
            ];
            contains(&error, &expected);
            let alone = Config { backend: mailgate_packet::Backend::Ebpf, ..config() };
            let status =
                mailgate_packet::open(&alone, Arc::new(ManualClock::default()))?.status();
            assert_eq!(status.acts, Where::Memory);
            contains(&status.reason.unwrap_or_default(), &expected[..1]);
            assert!(!config().folder().exists(), "nothing of ours stays");
            assert_eq!(ways(&other), [("v0".to_owned(), "native")]);

            // One that is free is filtered all the same; the other is tried again and taken when it becomes free.
            let both = open(&Config { interfaces: vec!["v0".into(), "w0".into()], ..config() })?;
            assert_eq!(ways(&both), [("v0".to_owned(), "refused"), ("w0".to_owned(), "native")]);
            other.detach()?;
            mailgate_tests::until("v0 to be taken", std::time::Duration::from_secs(20), || {
                (ways(&both) == [("v0".to_owned(), "native"), ("w0".to_owned(), "native")]).then_some(())
            })?;
            both.detach()?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_program_that_nobody_pinned_is_named_with_the_process_that_holds_it() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("unpinned")
        .within(|| -> Result<()> {
            let filter = open(&config())?;
            let program = filter.program("ingress")?;
            filter.detach()?;
            drop(filter);
            let index = nix::net::if_::if_nametoindex("v0")?;
            let _link = sys::attach_xdp(program.as_fd(), index, sys::XDP_FLAGS_SKB_MODE)?;
            let error = open(&config()).err().expect("the interface is taken").to_string();
            let process = format!("loaded by user 0, held by process {} (", std::process::id());
            contains(&error, &["another owner: program ", &process, "ip link set dev v0 xdp off"]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_same_instance_twice_is_refused_and_the_first_goes_on() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("twice")
        .within(|| -> Result<()> {
            let first = open(&config())?;
            first.apply(vec![tables(&[], &["198.18.3.0/24"], &[], &[])])?;
            let off = Config { interfaces: Vec::new(), ..config() };
            for again in [config(), off] {
                let error = mailgate_packet::open(&again, Arc::new(ManualClock::default()))
                    .err()
                    .expect("it is in use");
                assert!(matches!(error, Error::Held { .. }), "{error}");
                let process = format!("\"test\" is in use by process {} (", std::process::id());
                contains(&error.to_string(), &[&process, "edge.packet.instance"]);
            }
            let config = config();
            assert!(matches!(mailgate_packet::xdp::remove(&config), Err(Error::Held { .. })));
            assert_eq!(ways(&first), [("v0".to_owned(), "native")]);
            let frame = crate::frames::Frame::tcp(25).ip("198.18.3.1").ethernet();
            let (verdict, _) = sys::test_run(first.program("ingress")?.as_fd(), &frame, &mut [], 1)?;
            assert_eq!(verdict, 1, "its tables are in force");
            drop(first);
            assert!(mailgate_packet::xdp::remove(&config)?, "nobody uses it any more");
            assert!(!config.folder().exists());
            assert!(!mailgate_packet::xdp::remove(&config)?, "there is nothing to remove");
            Ok(())
        })
        .unwrap();
}

#[test]
fn pins_need_a_bpf_file_system() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("nobpffs")
        .within(|| -> Result<()> {
            let folder = tempfile::tempdir()?;
            let error =
                open(&Config { pin_dir: folder.path().to_owned(), ..config() }).err().expect("no bpffs");
            contains(
                &error.to_string(),
                &["edge.packet.pin_dir", "is not on a bpf file system", "/sys/fs/bpf"],
            );
            // Where none is mounted at the usual place, it is mounted.
            nix::mount::umount("/sys/fs/bpf")?;
            let filter = open(&config())?;
            assert!(Path::new("/sys/fs/bpf/mailgate/test").exists());
            filter.detach()?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_driver_that_cannot_is_attached_to_behind_it_with_its_reason_and_refused_when_native_is_asked_for() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let namespace = namespace("generic");
    // A veth pair takes native XDP up to an MTU of about 3.5 KiB: a frame must fit into one page.
    namespace.ip("link set v0 mtu 9000").unwrap();
    namespace.ip("link set v1 mtu 9000").unwrap();
    namespace
        .within(|| -> Result<()> {
            let automatic = Config { mode: mailgate_packet::Mode::Auto, ..config() };
            let filter = open(&automatic)?;
            assert_eq!(ways(&filter), [("v0".to_owned(), "generic")]);
            let reason = filter.status().interfaces[0].reason.clone().unwrap_or_default();
            contains(&reason, &["the driver does not take the filter: ", "MTU"]);
            filter.detach()?;
            drop(filter);
            let error = open(&config()).err().expect("the driver cannot").to_string();
            contains(&error, &["attaching to v0: the driver does not take the filter", "mode = \"auto\""]);
            assert!(!config().folder().join("steer").exists());
            Ok(())
        })
        .unwrap();
}
