//! Real frames, as fast as one processor makes them, and the processor time that they cost.
//!
//! A BPF program runs on live frames (`BPF_F_TEST_XDP_LIVE_FRAMES`): it gives each the next source of a list and sends
//! it into a veth pair, whose other end takes it within the same thread. So the time of that thread is what a packet
//! costs: making it, bringing it over, and whatever the receiver does with it.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use mailgate_packet::xdp::{OBJECT, sys};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

use crate::Result;
use crate::addresses::{Family, Random, Sources, halves};
use crate::place::{MAC, run};

/// Frames that the kernel makes at once.
const BATCH: u32 = 64;
/// Frames of one call in a flood.
const BURST: u32 = 32_768;
/// Where frames say they go: an address of nobody (RFC 5737), so that a stack that gets one drops it after routing.
const NOBODY: [u8; 4] = [203, 0, 113, 1];
/// The same of IPv6 (RFC 3849).
const NOBODY6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What sending cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Time of the sending thread.
    pub(crate) thread: Duration,
    /// Time of the kernel thread that takes over when there is too much to do.
    pub(crate) softirq: Duration,
}

impl Cost {
    pub(crate) fn all(self) -> Duration {
        self.thread + self.softirq
    }
}

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// In IPv4; in IPv6 always to nobody.
    pub(crate) to: [u8; 4],
    pub(crate) port: u16,
    /// The flags of TCP.
    pub(crate) flags: u8,
}

impl Segment {
    const SYN: u8 = 2;
    const ACK: u8 = 16;

    /// The beginning of a connection to an address of nobody, for mail.
    pub(crate) fn syn() -> Self {
        Self { to: NOBODY, port: 25, flags: Self::SYN }
    }

    /// The middle of a connection that does not exist.
    pub(crate) fn ack() -> Self {
        Self { flags: Self::ACK, ..Self::syn() }
    }

    /// The beginning of a connection to a service that is for nobody.
    pub(crate) fn unwanted() -> Self {
        Self { port: 8080, ..Self::syn() }
    }

    /// The beginning of a connection for mail to this address.
    pub(crate) fn syn_to(to: std::net::Ipv4Addr) -> Self {
        Self { to: to.octets(), ..Self::syn() }
    }
}

/// Sends segments from a list of sources, over and over.
pub(crate) struct Generator {
    loaded: Ebpf,
    program: &'static str,
    words: Array<MapData, u32>,
    frame: Vec<u8>,
    family: Family,
}

impl Generator {
    /// With these sources, in this order; at least one.
    pub(crate) fn new(sources: Sources<'_>, segment: Segment) -> Result<Self> {
        let family = sources.family();
        let (program, list) = match family {
            Family::V4 => ("bench_generate", "BENCH_SOURCES"),
            Family::V6 => ("bench_generate6", "BENCH_SOURCES6"),
        };
        let count = u32::try_from(sources.len())?;
        let mut loaded = EbpfLoader::new().map_max_entries(list, count).load(OBJECT)?;
        let loads: &mut Xdp =
            loaded.program_mut(program).ok_or("the object has no bench programs")?.try_into()?;
        loads.load()?;
        let Some(Map::Array(list)) = loaded.map(list) else { return Err("no sources".into()) };
        let (fd, places) = (list.fd().as_fd(), (0..count).collect::<Vec<u32>>());
        match sources {
            Sources::V4(all) => {
                let all: Vec<u32> = all.iter().map(|source| source.to_be()).collect();
                sys::map_update_batch(fd, &places, &all)?;
            }
            Sources::V6(all) => {
                let all: Vec<[u64; 2]> = all.iter().map(|source| halves(*source)).collect();
                sys::map_update_batch(fd, &places, &all)?;
            }
        }
        let mut words: Array<_, u32> = loaded.take_map("BENCH_GENERATOR").ok_or("no words")?.try_into()?;
        words.set(0, count, 0)?;
        Ok(Self { loaded, program, words, frame: frame(segment, family), family })
    }

    /// Sends so many through the interface with this index, on the processor `cpu`.
    pub(crate) fn send(&mut self, interface: u32, packets: u32, cpu: usize) -> Result<Cost> {
        self.words.set(1, interface, 0)?;
        let burst = || metered(cpu, || self.burst(packets));
        // A thread of its own, because it is tied to a processor.
        let sent = std::thread::scope(|scope| scope.spawn(burst).join());
        sent.map_err(|_| "the sender panicked")?.map(|((), cost)| cost)
    }

    /// Sends on the calling thread, which it ties to the processor `cpu`, until `done`: so many a second, or as fast
    /// as it can. How many were sent, and what that cost.
    pub(crate) fn flood(
        &mut self,
        interface: u32,
        cpu: usize,
        rate: Option<u32>,
        done: &AtomicBool,
    ) -> Result<(u64, Cost)> {
        self.words.set(1, interface, 0)?;
        metered(cpu, || {
            let begun = Instant::now();
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                let Some(rate) = rate else {
                    self.burst(BURST)?;
                    sent += u64::from(BURST);
                    continue;
                };
                let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                let missing = u32::try_from(due - sent)?.min(BURST);
                if missing < BATCH {
                    std::thread::sleep(Duration::from_millis(5));
                } else {
                    self.burst(missing)?;
                    sent += u64::from(missing);
                }
            }
            Ok(sent)
        })
    }

    /// Sends other segments from now on.
    pub(crate) fn change(&mut self, segment: Segment) {
        self.frame = frame(segment, self.family);
    }

    fn burst(&self, packets: u32) -> Result<()> {
        let program: &Xdp = self.loaded.program(self.program).ok_or("no generator")?.try_into()?;
        program.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        Ok(())
    }
}

/// Keeps the processor `cpu` busy with nothing until `done`; what that cost.
pub(crate) fn spin(cpu: usize, done: &AtomicBool) -> Result<Cost> {
    let count = || {
        let mut random = Random(1);
        while !done.load(Ordering::Relaxed) {
            std::hint::black_box(random.next());
        }
        Ok(())
    };
    metered(cpu, count).map(|((), cost)| cost)
}

/// Does something on the calling thread, tied to a processor; what that cost.
fn metered<T>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    pin(cpu)?;
    let kernel = kernel_thread(cpu);
    let (thread, softirq) = (own_time()?, run_time(kernel));
    let done = work()?;
    let cost = Cost {
        thread: own_time()?.saturating_sub(thread),
        softirq: run_time(kernel).saturating_sub(softirq),
    };
    Ok((done, cost))
}

/// Ties the calling thread to a processor and puts it before everybody else there, as the interrupts of a device would
/// be that bring packets.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    run("renice", &["-n", "-20", "-p", &gettid().to_string()]).map(drop)
}

/// Processor time of the calling thread.
fn own_time() -> nix::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// The kernel thread that does what interrupts of this processor leave over.
fn kernel_thread(cpu: usize) -> Option<u32> {
    let name = format!("ksoftirqd/{cpu}");
    let processes = std::fs::read_dir("/proc").ok()?;
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Kernel threads of the first processors have small numbers.
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    let is_it = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    numbers.into_iter().find(is_it)
}

/// Processor time of a process (proc_pid_schedstat: nanoseconds on a processor come first).
pub(crate) fn run_time(pid: Option<u32>) -> Duration {
    let text = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok());
    let first = text.as_deref().and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

/// A segment in its packet and frame. Source, identification and low half of the sequence number are zero; the generator fills them in
/// so that both checksums stay right.
fn frame(Segment { to, port, flags }: Segment, family: Family) -> Vec<u8> {
    let destination: &[u8] = if family == Family::V4 { &to } else { &NOBODY6 };
    let mut segment = [0_u8; 20];
    segment[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment[14..16].copy_from_slice(&65_535_u16.to_be_bytes());
    // The pseudo header: no source, destination, protocol, length (RFC 9293 §3.1, RFC 8200 §8.1).
    let checksum = checksum(&[destination, &[0, 6, 0, 20], &segment]);
    segment[16..18].copy_from_slice(&checksum);
    let stations = [&MAC[..], &[2, 0, 0, 0, 0, 1]].concat();
    match family {
        Family::V4 => [&stations[..], &[8, 0], &header4(to), &segment].concat(),
        Family::V6 => [&stations[..], &[0x86, 0xdd], &header6(), &segment].concat(),
    }
}

fn header4(destination: [u8; 4]) -> [u8; 20] {
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[3] = 40;
    header[8] = 64;
    header[9] = 6;
    header[16..].copy_from_slice(&destination);
    let checksum = self::checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum);
    header
}

fn header6() -> [u8; 40] {
    let mut header = [0_u8; 40];
    header[0] = 0x60;
    header[5] = 20;
    header[6] = 6;
    header[7] = 64;
    header[24..].copy_from_slice(&NOBODY6);
    header
}

/// RFC 1071; every part has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
