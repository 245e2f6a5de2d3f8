//! How long a client waits for a greeting.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::{Namespace, SmtpClient};

/// Pause between greetings, so that the client itself is no load.
const PAUSE: Duration = Duration::from_millis(5);

/// Sorted times from connecting to the answer of EHLO.
pub(super) struct Latency(Vec<Duration>);

impl Latency {
    /// Greets over and over while `work` goes on.
    pub(super) fn during(
        from: &Namespace,
        to: SocketAddr,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = from.within(move || {
            // A thread inherits the namespace of the one that makes it.
            Ok(std::thread::spawn(move || {
                let mut times = Vec::new();
                while !told.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let greeted =
                        SmtpClient::connect(to).and_then(|mut client| client.greet("client.example.org"));
                    if greeted.is_ok() {
                        times.push(began.elapsed());
                    }
                    std::thread::park_timeout(PAUSE);
                }
                times
            }))
        })?;
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let mut times = thread.join().map_err(|_| anyhow!("the client died"))?;
        done?;
        times.sort_unstable();
        Ok(Self(times))
    }

    fn part(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (half, most, last) = (self.part(50), self.part(99), self.part(100));
        write!(f, "{} greetings, p50 {half:.1} ms, p99 {most:.1} ms, longest {last:.1} ms", self.0.len())
    }
}
