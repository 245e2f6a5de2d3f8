//! Programs that we did not write: find them, run them with a limit, stop them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::until;

/// Time a child gets between SIGTERM and SIGKILL.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where a program is, if the machine has it.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin"])
        .map(|folder| Path::new(folder).join(program))
        .find(|file| file.is_file())
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output and standard error, in this order.
    pub output: String,
}

impl Finished {
    /// The output, if the program ended with success.
    ///
    /// # Errors
    /// When it did not; the message holds the output.
    pub fn success(self) -> Result<String> {
        anyhow::ensure!(self.status.success(), "ended with {}: {}", self.status, self.output.trim());
        Ok(self.output)
    }
}

/// Runs a program to its end; it is killed after `limit`.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(command: Command, limit: Duration) -> Result<Finished> {
    run_with(command, "", limit)
}

/// As [`run`], with a short text on standard input.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with(command: Command, input: &str, limit: Duration) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = bound(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input is free to do so.
        let _ = pipe.write_all(input.as_bytes());
    }
    // Read both at once, or a child that fills one pipe would wait for ever.
    let readers = [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].map(|pipe| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut text);
            }
            text
        })
    });
    let ended = until(&format!("{name} to end"), limit, || child.try_wait().ok().flatten());
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let output: Vec<u8> = readers.into_iter().flat_map(|reader| reader.join().unwrap_or_default()).collect();
    let output = String::from_utf8_lossy(&output).into_owned();
    let (status, _) = ended.with_context(|| format!("its output so far: {output}"))?;
    Ok(Finished { status, output })
}

/// The same command, bound to the calling thread: setpriv becomes the program and has the kernel kill it when the thread
/// ends, so that no orphan survives us, not even after kill -9.
fn bound(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

fn boxed(pipe: impl std::io::Read + Send + 'static) -> Box<dyn std::io::Read + Send> {
    Box::new(pipe)
}

/// A program in the background; it ends when this value is dropped or when the thread that started it ends.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Starts a program whose output goes to the file `log`.
///
/// # Errors
/// When it cannot be started or the file cannot be written.
pub fn start(command: &Command, log: &Path) -> Result<Running> {
    let name = command.get_program().to_string_lossy().into_owned();
    let file =
        File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
    // A group of its own: Ctrl-C reaches us alone, and we end the children in order.
    let child = bound(command)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut running = Running { name, child, log: log.to_path_buf() };
    // Until setpriv has done its work and become the program, a thread that ends would leave an orphan.
    let ours = std::env::current_exe().ok();
    let exe = format!("/proc/{}/exe", running.id());
    until("the program to take over", FAREWELL, || {
        let exe = std::fs::read_link(&exe).ok();
        let became = exe.is_some_and(|exe| !exe.ends_with("setpriv") && Some(&exe) != ours.as_ref());
        (became || running.ended().is_some()).then_some(())
    })?;
    Ok(running)
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, as a power cut does it, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and SIGKILL when that was not enough; true when it ended by itself.
    pub fn stop(&mut self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let ended = until(&format!("{} to end", self.name), FAREWELL, || self.ended()).is_ok();
        if !ended {
            self.kill();
        }
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
