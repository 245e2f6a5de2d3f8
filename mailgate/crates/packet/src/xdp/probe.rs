//! What this host lacks for a filter in the kernel, said so that it can be had.

use std::fs;
use std::io;

use nix::sys::utsname::uname;

use super::super::Error;
use super::sys;

/// `bpf_xdp_load_bytes`, by which `ingress` shows packets to the trace, came with 5.18; older kernels lack more.
const LEAST: (u32, u32) = (5, 18);
/// Bits of capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;
/// `Seccomp:` of proc(5): filters are in force.
const SECCOMP_FILTER: &str = "2";
/// The map of user ids of a process that is in no user namespace of its own.
const EVERYBODY: [&str; 3] = ["0", "0", "4294967295"];

/// Tries the smallest thing of all.
///
/// # Errors
/// [`Error::Missing`] with what is missing and what to do.
pub(super) fn check() -> Result<(), Error> {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let process = Process::here();
    if let Some(text) = too_old(&release) {
        return Err(Error::Missing(text));
    }
    if let Err(error) = sys::value_map("probe", 8) {
        return Err(match refusal(&error, &process) {
            Some(text) => Error::Missing(text),
            None => Error::kernel("bpf(2)", error),
        });
    }
    match process.lacking() {
        Some(text) => Err(Error::Missing(text)),
        None => Ok(()),
    }
}

/// What was refused, with the reason if it is one of those that can be found out.
pub(super) fn explain(step: impl Into<String>, error: io::Error) -> Error {
    let step = step.into();
    match refusal(&error, &Process::here()) {
        Some(text) => Error::Missing(format!("{step}: {text}")),
        None => Error::kernel(step, error),
    }
}

fn too_old(release: &str) -> Option<String> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    let (least_major, least_minor) = LEAST;
    ((major, minor) < LEAST).then(|| {
        format!("found Linux {release}, expected {least_major}.{least_minor} or newer: start a newer kernel")
    })
}

/// What the kernel says about this process.
#[derive(Debug, Default)]
struct Process {
    capabilities: Option<u64>,
    seccomp: bool,
    /// Inside a user namespace, where no capability counts for bpf(2).
    inside: bool,
    lockdown: Option<String>,
}

impl Process {
    fn here() -> Self {
        // Capabilities are a matter of the thread.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        Self::read(&status, &users, &lockdown)
    }

    fn read(status: &str, users: &str, lockdown: &str) -> Self {
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let chosen = lockdown.split(['[', ']']).nth(1).filter(|chosen| *chosen != "none");
        Self {
            capabilities: field("CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok()),
            seccomp: field("Seccomp") == Some(SECCOMP_FILTER),
            inside: !users.is_empty() && !users.split_whitespace().eq(EVERYBODY),
            lockdown: chosen.map(str::to_owned),
        }
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities.is_none_or(|mask| mask >> capability & 1 == 1)
    }

    /// The capabilities that are missing, and where to get them.
    fn lacking(&self) -> Option<String> {
        let lacks = |capability| !self.has(capability) && !self.has(CAP_SYS_ADMIN);
        let names: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")]
            .into_iter()
            .filter_map(|(capability, name)| lacks(capability).then_some(name))
            .collect();
        (!names.is_empty()).then(|| {
            let [lacks, both] = [names.join(" and "), "CAP_BPF CAP_NET_ADMIN".to_owned()];
            format!("the process lacks {lacks}: start it as root, or under systemd with AmbientCapabilities={both}")
        })
    }
}

/// Why bpf(2) was refused, if it can be found out.
fn refusal(error: &io::Error, process: &Process) -> Option<String> {
    match error.raw_os_error()? {
        libc::ENOSYS => Some(
            "this kernel has no bpf(2): start one that was built with CONFIG_BPF_SYSCALL (every distribution's)"
                .to_owned(),
        ),
        libc::EPERM | libc::EACCES => Some(forbidden(process)),
        _ => None,
    }
}

fn forbidden(process: &Process) -> String {
    if let Some(text) = process.lacking() {
        text
    } else if process.inside {
        "the process runs in a user namespace (a rootless container), where the kernel allows no bpf(2): \
         run it on the host, or in a container with its users"
            .to_owned()
    } else if process.seccomp {
        "a seccomp filter forbids bpf(2), though the capabilities are there: allow it (systemd: \
         SystemCallFilter=bpf, containers: a seccomp profile with bpf)"
            .to_owned()
    } else if let Some(lockdown) = &process.lockdown {
        format!("the kernel is locked down ({lockdown}) and forbids bpf(2): see kernel_lockdown(7)")
    } else {
        "the kernel forbids bpf(2), though the capabilities are there: a security module may (SELinux, AppArmor)"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden_with(status: &str, users: &str, lockdown: &str) -> String {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        refusal(&refused, &Process::read(status, users, lockdown)).unwrap()
    }

    #[test]
    fn each_refusal_names_its_cause() {
        let (all, host) = ("CapEff:\t000001ffffffffff\nSeccomp:\t0\n", "         0          0 4294967295\n");
        let cases = [
            (forbidden_with("CapEff:\t0000000000000000\n", host, ""), "lacks CAP_BPF and CAP_NET_ADMIN"),
            (forbidden_with("CapEff:\t0000000000001000\n", host, ""), "lacks CAP_BPF: start"),
            (forbidden_with("CapEff:\t0000008000000000\n", host, ""), "lacks CAP_NET_ADMIN: start"),
            (forbidden_with(all, "0 100000 65536\n", ""), "user namespace"),
            (forbidden_with("CapEff:\t000001ffffffffff\nSeccomp:\t2\n", host, ""), "seccomp"),
            (forbidden_with(all, host, "none [integrity] confidentiality\n"), "locked down (integrity)"),
            (forbidden_with(all, host, "[none] integrity confidentiality\n"), "security module"),
        ];
        for (text, expected) in cases {
            assert!(text.contains(expected), "{text}");
        }
        let none = refusal(&io::Error::from_raw_os_error(libc::ENOSYS), &Process::default()).unwrap();
        assert!(none.contains("CONFIG_BPF_SYSCALL"), "{none}");
        assert_eq!(refusal(&io::Error::from_raw_os_error(libc::ENOMEM), &Process::default()), None);
    }

    #[test]
    fn only_kernels_that_lack_something_are_too_old() {
        assert!(
            too_old("5.4.0-150-generic").unwrap().contains("found Linux 5.4.0-150-generic, expected 5.18")
        );
        assert!(too_old("5.15.0-1-amd64").is_some(), "the trace needs a helper of 5.18");
        for fine in ["5.18.0-1-amd64", "6.1.0", "6.18.44-fc-v669", "10.0", "strange"] {
            assert_eq!(too_old(fine), None);
        }
    }
}
