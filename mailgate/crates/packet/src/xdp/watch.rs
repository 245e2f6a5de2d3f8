//! Interfaces that come, go and change their names while we run; the one thread that attaches and detaches.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::shared::Shared;
use super::attach::Links;
use super::device;

/// How often the interfaces are looked at though nothing was heard: a program of somebody else may be gone.
const LOOK: Duration = Duration::from_secs(5);

/// What is done between two looks, and where its end is said.
type Job = (fn(&mut Links), mpsc::Sender<()>);

/// Looks while it lives.
pub(super) struct Watch {
    /// Where the thread is woken; its end is the thread's.
    wake: Option<OwnedFd>,
    jobs: mpsc::Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins, in the network namespace and with the mounts of this thread, whoever asks later.
    pub(super) fn begin(links: &Arc<Mutex<Links>>, shared: &Arc<Shared>) -> io::Result<Self> {
        let changes = device::changes()?;
        let (woken, wake) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)?;
        let (jobs, work) = mpsc::channel::<Job>();
        let (links, shared) = (Arc::clone(links), Arc::clone(shared));
        let thread = std::thread::Builder::new().name("interfaces".to_owned()).spawn(move || {
            while device::wait(changes.as_fd(), woken.as_fd(), LOOK) {
                let mut links = links.lock().unwrap_or_else(PoisonError::into_inner);
                for (job, done) in work.try_iter() {
                    job(&mut links);
                    // Who asked may have given up.
                    let _ = done.send(());
                }
                let changed = links.refresh();
                drop(links);
                // Rules name interfaces, the kernel knows their numbers.
                if changed && let Err(error) = shared.renumber() {
                    tracing::warn!(target: "edge", event = "packet", %error, "rules keep the interfaces of before");
                }
            }
        })?;
        Ok(Self { wake: Some(wake), jobs, thread: Some(thread) })
    }

    /// Has something done there, and waits for its end; `false` when the thread is gone.
    pub(super) fn run(&self, job: fn(&mut Links)) -> bool {
        let (done, is_done) = mpsc::channel();
        let asked = self.jobs.send((job, done)).is_ok();
        // A full pipe wakes as well as one more byte would.
        let _ = self.wake.as_ref().map(|wake| nix::unistd::write(wake, &[0]));
        asked && is_done.recv().is_ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It ended by a panic at worst; then nothing is watched, and nothing is to be said here.
            let _ = thread.join();
        }
    }
}
