//! `mailgate trace` tells what the filter does, without a daemon, and writes what tshark reads.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use mailgate_packet::{Config, PacketFilter as _};
use mailgate_tests::{Daemon, Network, until};

use crate::station::{config, missing, open, tables};
use crate::wire::{EVIL, GOOD, HUB, MX, glance};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn dropped_packets_are_traced_by_address_and_written_for_tshark() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let Some(tshark) = mailgate_tests::find("tshark") else {
        return mailgate_tests::skip("tshark is not installed (cargo xtask setup)");
    };
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let _bound = mx.within(|| Ok(std::net::TcpListener::bind((MX.v4, 25))?)).unwrap();
    let (give, take) = mpsc::channel();
    mx.within(move || -> Result<()> {
        let filter = open(&Config { interfaces: vec!["eth0".into()], ..config() })?;
        filter.apply(vec![tables(&[], &["198.18.3.0/24", "198.18.2.0/24"], &[], &[])])?;
        give.send(filter)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mailgate.toml");
    let text =
        "hostname = \"mx.example.test\"\n[edge.packet]\ninterfaces = [\"eth0\"]\ninstance = \"test\"\n";
    std::fs::write(&file, text).unwrap();
    let trace = |words: &[&str]| {
        let mut command = Command::new(Daemon::binary().unwrap());
        command.arg("--config").arg(&file).arg("trace").args(words);
        command
    };
    let capture = folder.path().join("trace.pcapng");
    let words = ["-n", "2", "--address", "198.18.3.0/24", "--pcap", capture.to_str().unwrap()];
    let mut running = mx.start(trace(&words), &folder.path().join("trace.log")).unwrap();
    // Packets of the other source are dropped too, and left out.
    until("the trace to have its packets", PATIENCE, || {
        glance(good, (MX.v4, 25).into());
        glance(evil, (MX.v4, 25).into());
        running.ended()
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", running.log()));
    assert!(running.log().contains("2 packets, 0 lost"), "{}", running.log());
    let read = Command::new(tshark)
        .arg("-r")
        .arg(&capture)
        .args(["-T", "fields", "-e", "ip.src", "-e", "tcp.dstport", "-e", "frame.interface_name"])
        .args(["-e", "frame.comment"])
        .output()
        .unwrap();
    let lines = String::from_utf8(read.stdout).unwrap();
    assert_eq!(
        lines,
        "198.18.3.1\t25\teth0\tdrop (rule table drop) [drop]\n".repeat(2),
        "rule and table have their names without a daemon too"
    );

    let done = mx.run(trace(&["--within", "1s", "--reason", "pass"]), PATIENCE).unwrap();
    assert!(done.output.contains("0 packets"), "{}", done.output);
    assert_eq!(filter.counter(mailgate_common::Reason::EventLost), 0);
    mx.within(move || Ok(filter.detach()?)).unwrap();
    let gone = mx.run(trace(&["--within", "1s"]), PATIENCE).unwrap();
    assert!(gone.output.contains("found no filter under"), "{}", gone.output);
}
