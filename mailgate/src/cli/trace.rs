//! `mailgate trace`: what the kernel filter does with single packets, as tcpdump would show it on pflog.
//!
//! Reads the filter's ring buffer through its pins, so it works while no daemon runs.

#[cfg(feature = "ebpf")]
mod line;
#[cfg(feature = "ebpf")]
mod pcap;

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use super::{exit, failure};
use crate::admin::Failure;
use crate::config::Place;

/// What is shown of what the filter does.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Also packets that pass, not only those that are dropped, refused, held or logged by a rule.
    #[arg(long)]
    all: bool,
    /// With --all, only one in so many of the packets that pass.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u32,
    /// Events per second and processor at most; what is more is counted as lost. 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u32,
    /// Only packets from or to this address or prefix; may be repeated.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    address: Vec<IpNet>,
    /// Only packets with this reason, such as drop or bad-flags (see the counters of `mailgate status`); may be repeated.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Vec<&'static str>,
    /// End after so many packets.
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// End after this time, such as 10s.
    #[arg(long, value_name = "SPAN")]
    within: Option<mailgate_model::Span>,
    /// Write the packets to this file as pcapng, with the reason as each packet's comment.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let host = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| host()).map_err(|_| {
        format!("found {text:?}, expected an address or prefix such as 192.0.2.1 or 2001:db8::/32")
    })
}

fn reason(text: &str) -> Result<&'static str, String> {
    use mailgate_common::{Kind, Reason};
    let of_packets = |reason: &&Reason| matches!(reason.kind(), Kind::Passed | Kind::Dropped);
    let names = || Reason::ALL.iter().filter(of_packets).map(|reason| reason.name());
    names()
        .find(|name| *name == text)
        .ok_or_else(|| format!("found {text:?}, expected one of {}", names().collect::<Vec<_>>().join(", ")))
}

#[cfg(not(feature = "ebpf"))]
pub(super) fn run(_: &Place, _: &Arguments, _: bool) -> Result<(), Failure> {
    Err(failure(
        exit::UNAVAILABLE,
        "this program was built without the kernel filter, so there is nothing to trace",
    ))
}

#[cfg(feature = "ebpf")]
pub(super) fn run(place: &Place, arguments: &Arguments, json: bool) -> Result<(), Failure> {
    use mailgate_packet::xdp::trace::{Tracer, Wanted};

    let config = place.load()?.edge.packet;
    let wanted = Wanted { all: arguments.all, sample: arguments.sample, rate: arguments.rate };
    let mut file = arguments.pcap.as_deref().map(pcap::Writer::create).transpose()?;
    let system = |error: mailgate_packet::Error| failure(exit::UNAVAILABLE, error.to_string());
    let mut tracer = Tracer::open(&config, wanted).map_err(system)?;
    let names = line::Names::ask(place, || tracer.labels());
    let lost = tracer.lost();
    stop::on_signals()?;
    let begun = std::time::Instant::now();
    let ends = arguments.within.map(mailgate_model::Span::duration);
    let mut shown = 0_u64;
    while !stop::asked()
        && arguments.count.is_none_or(|count| shown < count)
        && ends.is_none_or(|ends| begun.elapsed() < ends)
    {
        let Some(event) = tracer.next(stop::PATIENCE).map_err(system)? else { continue };
        if !is_wanted(arguments, &event) {
            continue;
        }
        shown += 1;
        let told = line::Told::of(&event, &names);
        match &mut file {
            Some(file) => file.write(&event, &told)?,
            None if !told.print(json) => break,
            None => {}
        }
    }
    if let Some(file) = file {
        file.finish()?;
    }
    eprintln!("{shown} packets, {} lost", tracer.lost().saturating_sub(lost));
    Ok(())
}

#[cfg(feature = "ebpf")]
fn is_wanted(arguments: &Arguments, event: &mailgate_packet::xdp::trace::Traced) -> bool {
    let reason = arguments.reason.is_empty() || arguments.reason.contains(&event.reason.name());
    if arguments.address.is_empty() || !reason {
        return reason;
    }
    let Ok(packet) = mailgate_common::parse(&event.snap.as_slice()) else { return false };
    let ends = [packet.source, packet.destination].map(line::address);
    arguments.address.iter().any(|net| ends.iter().any(|end| net.contains(end)))
}

/// Ending when the person at the keyboard has seen enough: the filter must be told.
#[cfg(feature = "ebpf")]
mod stop {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::{Failure, exit, failure};

    /// How long one wait for an event takes at most.
    pub(super) const PATIENCE: Duration = Duration::from_millis(250);
    static ASKED: AtomicBool = AtomicBool::new(false);

    /// From now on SIGINT and SIGTERM only ask.
    pub(super) fn on_signals() -> Result<(), Failure> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waits = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let mut end = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                let _ = sender.send(());
                tokio::select! { _ = end.recv() => {} _ = interrupt.recv() => {} }
                ASKED.store(true, Ordering::Relaxed);
                Ok::<_, std::io::Error>(())
            })
        });
        let ready = waits.is_ok() && receiver.recv().is_ok();
        if ready { Ok(()) } else { Err(failure(exit::SYSTEM, "signals cannot be waited for")) }
    }

    pub(super) fn asked() -> bool {
        ASKED.load(Ordering::Relaxed)
    }
}
