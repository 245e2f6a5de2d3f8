//! One virtual machine: starts it, reads its report, ends it. It has no network, and the host's files read-only.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::archive::Archive;
use super::debian::{self, Kernel};
use super::report::{Case, Report};

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The processor itself.
    Kvm,
    /// qemu, which translates them.
    Translation,
}

impl Engine {
    fn words(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Translation => ["-accel", "tcg,thread=multi", "-cpu", TRANSLATED],
        }
    }

    /// What the kernel is told besides.
    const fn command_line(self) -> &'static str {
        match self {
            Self::Kvm => "",
            // 112 is X86_FEATURE_REP_GOOD: see `TRANSLATED`. Guards against speculation guard nothing here and cost.
            Self::Translation => " mitigations=off nokaslr clearcpuid=112",
        }
    }

    /// Longest time from the start to the first word of our programs.
    const fn boot(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(20),
            Self::Translation => Duration::from_secs(180),
        }
    }

    /// How many times longer tests wait for something than on the host; as text.
    const fn patience(self) -> &'static str {
        match self {
            Self::Kvm => "2",
            Self::Translation => "8",
        }
    }

    /// Longest time of one test.
    const fn one(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(120),
            Self::Translation => Duration::from_secs(600),
        }
    }
}

/// What is to be run.
pub(crate) struct Plan<'a> {
    pub(crate) kernel: &'a Kernel,
    /// See [`debian::busybox`].
    pub(crate) busybox: &'a Path,
    /// The test binary, and the daemon.
    pub(crate) binary: &'a Path,
    pub(crate) daemon: &'a Path,
    /// Where tests run: the folder of their package.
    pub(crate) folder: &'a Path,
    pub(crate) tests: &'a [String],
    /// Longest time of all of them.
    pub(crate) limit: Duration,
    pub(crate) engine: Engine,
}

/// What came of it.
pub(crate) enum Played {
    /// The machine's programs ran.
    Ran(Vec<Case>),
    /// It did not come that far: why.
    NoMachine(String),
}

/// The processor that qemu translates for. It has no fast string instructions: qemu executes those byte by byte, and a
/// kernel that trusts in them clears and copies the verifier's states with them, which was nearly half of a test's time.
/// And no fifth level of page tables, which makes every look-up of an address longer.
const TRANSLATED: &str = "max,erms=off,fsrm=off,la57=off";
/// Processors of the machine, and tests that run at a time: loading the programs keeps one busy.
const PROCESSORS: usize = 2;
/// The most failures that are tried again: where more fail, it is not for want of time.
const AGAIN: usize = 5;
/// What every kernel is told: to say little, and to end rather than to hang.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 loglevel=5 random.trust_cpu=on";
/// Memory of the machine; the host gives it as it is touched.
const MEMORY: &str = "3G";
/// The modules that the first program needs to reach the host's files; the others are loaded from there when asked for.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "virtiofs", "overlay"];
/// Where Debian has the program that shares the host's files: of qemu 7, and by itself since.
const SHARERS: &[&str] = &["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
/// Longest time for the machine to be gone after its last word.
const FAREWELL: Duration = Duration::from_secs(20);
/// Lines of the console that are told when a machine does not start.
const LAST_LINES: usize = 4;

/// The program that shares the host's files, if it is there.
pub(crate) fn sharer() -> Option<&'static str> {
    SHARERS.iter().copied().find(|file| Path::new(file).is_file())
}

/// Ends with this value.
struct Ours(Child);

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the tests of a plan.
///
/// # Errors
/// When something on this side cannot be written or started.
pub(crate) fn play(plan: &Plan<'_>, told: &mut dyn FnMut(&Case)) -> Result<Played> {
    let folder = debian::folder().join("runs").join(&plan.kernel.release);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let archive = folder.join("first.cpio");
    fs::write(&archive, first_files(plan)?)?;
    let _sharer = share(&folder)?;
    let console = folder.join("console.log");
    let mut machine = start(plan, &archive, &folder)?;
    let mut report = Report::default();
    let why = follow(&mut machine, plan, &mut report, told)?;
    if report.is_done {
        wait(&mut machine.0);
    }
    let _ = fs::remove_file(&archive);
    if report.up.is_none() {
        return Ok(Played::NoMachine(format!("{why}; its last words: {}", last_words(&console))));
    }
    let unfinished = format!("{why}; the console is in {}", console.display());
    Ok(Played::Ran(report.finish(plan.tests, &unfinished)))
}

/// Reads the report until it is done, the machine ends, or time is up; why it ended.
fn follow(
    machine: &mut Ours,
    plan: &Plan<'_>,
    report: &mut Report,
    told: &mut dyn FnMut(&Case),
) -> Result<String> {
    let output = machine.0.stdout.take().context("qemu has no output")?;
    let (give, lines) = mpsc::channel();
    // Ends with the pipe, which ends with the machine.
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if give.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    let begun = Instant::now();
    while !report.is_done {
        let limit = if report.up.is_some() { plan.limit } else { plan.engine.boot() };
        match lines.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(line) => {
                if let Some(case) = report.line(&line) {
                    told(case);
                }
            }
            Err(RecvTimeoutError::Timeout) if report.up.is_some() => {
                report.is_out_of_time = true;
                return Ok(format!("no time was left after {} s", limit.as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => {
                return Ok(format!("the machine did not start within {} s", limit.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => return Ok("the machine ended before its time".to_owned()),
        }
    }
    Ok("the machine did not run it".to_owned())
}

/// Waits for the machine to turn itself off; what does not is ended with its value.
fn wait(machine: &mut Child) {
    let begun = Instant::now();
    while begun.elapsed() < FAREWELL && matches!(machine.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the kernel unpacks first: busybox, the modules that lead to the host's files, our two programs and what to do.
fn first_files(plan: &Plan<'_>) -> Result<Vec<u8>> {
    let Kernel { release, modules, .. } = plan.kernel;
    let mut archive = Archive::default();
    archive.file("init", include_bytes!("init.sh"));
    archive.copy("bin/busybox", plan.busybox)?;
    archive.copy("bin/sh", plan.busybox)?;
    archive.file("machine/tests.sh", include_bytes!("tests.sh"));
    let mut words = vec![
        ("LIMIT", plan.engine.one().as_secs().to_string()),
        ("WORKERS", PROCESSORS.to_string()),
        ("AGAIN", AGAIN.to_string()),
        ("MAILGATE_PATIENCE", plan.engine.patience().to_owned()),
    ];
    if plan.engine == Engine::Translation {
        words.push(("MAILGATE_TRANSLATED", "1".to_owned()));
    }
    for (name, path) in [
        ("BINARY", plan.binary),
        ("MAILGATE_BIN", plan.daemon),
        ("FOLDER", plan.folder),
        ("MODULES", modules),
    ] {
        words.push((name, path.to_str().context("a path that is no text")?.to_owned()));
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let lines: Vec<String> =
        words.iter().map(|(name, word)| format!("export {name}={}\n", quoted(word))).collect();
    archive.file("machine/plan", lines.concat().as_bytes());
    archive.file("machine/list", (plan.tests.join("\n") + "\n").as_bytes());
    let place = format!("lib/modules/{release}");
    let needs = fs::read_to_string(modules.join("modules.dep"))?;
    archive.file(&format!("{place}/modules.dep"), needs.as_bytes());
    for module in needed(&needs) {
        archive.copy(&format!("{place}/{module}"), &modules.join(&module))?;
    }
    Ok(archive.finish())
}

/// The files of [`MODULES`] and of those they need, from `modules.dep` (modules.dep(5)). One that is built in has none.
fn needed(dependencies: &str) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for line in dependencies.lines() {
        let Some((file, others)) = line.split_once(':') else { continue };
        let name = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if MODULES.contains(&name) {
            files.push(file.to_owned());
            files.extend(others.split_whitespace().map(str::to_owned));
        }
    }
    files.sort();
    files.dedup();
    files
}

/// Shares the host's files; ends when the machine does.
fn share(folder: &Path) -> Result<Ours> {
    let Some(program) = sharer() else { bail!("virtiofsd is missing") };
    // A name without a file: nothing is left of it, and it is never too long.
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(socket())?)?;
    // It is handed over: so the program needs no folder of its own below /run.
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let log = File::create(folder.join("virtiofsd.log"))?;
    let child = bound(program)
        .arg(format!("--fd={}", listener.as_raw_fd()))
        .arg("--rlimit-nofile=0")
        .args(["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always", "-o", "log_level=warn"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    Ok(Ours(child))
}

/// Where virtiofsd and qemu meet.
fn socket() -> String {
    format!("mailgate-kernels-{}", std::process::id())
}

fn start(plan: &Plan<'_>, archive: &Path, folder: &Path) -> Result<Ours> {
    let mut qemu = bound("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"])
        .args(["-machine", "q35,memory-backend=memory", "-m", MEMORY])
        .args(["-smp", &PROCESSORS.to_string()])
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")])
        .args(plan.engine.words())
        .arg("-kernel")
        .arg(&plan.kernel.image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &format!("{COMMAND_LINE}{}", plan.engine.command_line())])
        .args(["-chardev", &format!("file,id=console,path={}", folder.join("console.log").display())])
        .args(["-serial", "chardev:console"])
        .args(["-chardev", "file,id=report,path=/dev/stdout", "-device", "virtio-serial-pci"])
        .args(["-device", "virtserialport,chardev=report,name=report"])
        .args(["-chardev", &format!("socket,id=files,abstract=on,path={}", socket())])
        .args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"])
        .args([
            "-object",
            "rng-random,id=random,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=random",
        ]);
    let log = File::create(folder.join("qemu.log"))?;
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
    Ok(Ours(child.context("cannot start qemu-system-x86_64")?))
}

/// A program that the kernel ends with us, however we end.
fn bound(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// The end of what a machine that did not start said.
fn last_words(console: &Path) -> String {
    let qemu = console.with_file_name("qemu.log");
    let files = console.with_file_name("virtiofsd.log");
    let text: String = [console, &qemu, &files]
        .into_iter()
        .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned() + "\n")
        .collect();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    if last.is_empty() { "none".to_owned() } else { last.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_with_those_they_need_and_built_in_ones_are_left_out() {
        let dependencies = "kernel/fs/fuse/fuse.ko:\nkernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/v.ko\n\
                            kernel/net/veth.ko:\nkernel/v.ko:\nkernel/overlay.ko: kernel/v.ko\n";
        let files =
            ["kernel/fs/fuse/fuse.ko", "kernel/fs/fuse/virtiofs.ko", "kernel/overlay.ko", "kernel/v.ko"];
        assert_eq!(needed(dependencies), files);
    }
}
