//! How long a client waits for a greeting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::report::millis;
use crate::{Namespace, SmtpClient};

/// Pause between greetings, so that the client itself is little load.
const PAUSE: Duration = Duration::from_millis(2);

/// Times from connecting to the answer of EHLO.
#[derive(Default)]
pub(super) struct Latency {
    times: Vec<Duration>,
    /// Connections that were not greeted.
    failed: usize,
}

impl Latency {
    /// Greets over and over while `work` goes on, and adds what that took.
    pub(super) fn during<T>(
        &mut self,
        from: &Namespace,
        to: SocketAddr,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = from.within(move || {
            // A thread inherits the namespace of the one that makes it.
            Ok(std::thread::spawn(move || greet(to, &told)))
        })?;
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let seen = thread.join().map_err(|_| anyhow!("the client died"))?;
        self.times.extend(seen.times);
        self.times.sort_unstable();
        self.failed += seen.failed;
        done
    }

    /// So many in a hundred waited no longer than this.
    pub(super) fn part(&self, percent: usize) -> Duration {
        let at = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(at).copied().unwrap_or_default()
    }

    /// Whether every connection was greeted.
    pub(super) fn is_whole(&self) -> bool {
        self.failed == 0 && !self.times.is_empty()
    }

    /// For the table.
    pub(super) fn figures(&self) -> [String; 5] {
        let (half, most, last) = (self.part(50), self.part(99), self.part(100));
        [
            format!("p50 {}", millis(half)),
            format!("p99 {}", millis(most)),
            format!("longest {}", millis(last)),
            format!("{} greetings", self.times.len()),
            format!("{} without", self.failed),
        ]
    }
}

fn greet(to: SocketAddr, stop: &AtomicBool) -> Latency {
    let mut seen = Latency::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match SmtpClient::connect(to).and_then(|mut client| client.greet("client.example.org")) {
            Ok(_) => seen.times.push(began.elapsed()),
            Err(_) => seen.failed += 1,
        }
        std::thread::park_timeout(PAUSE);
    }
    seen
}
