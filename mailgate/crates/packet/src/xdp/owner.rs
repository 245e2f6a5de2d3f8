//! Whose XDP program is on an interface: asked only when ours cannot be put there.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use super::super::lock::command;
use super::{device, sys};

/// Pins that are looked at to find one, at most.
const PINS: usize = 4096;
/// Processes that are named at most.
const PROCESSES: usize = 3;

/// Whose program it is, as far as the kernel tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Id of the program.
    pub program: u32,
    /// Its name; empty when it has none or may not be asked.
    pub name: String,
    /// Checksum of its instructions.
    pub tag: String,
    /// User who loaded it.
    pub uid: Option<u32>,
    /// A pin that holds it or its link.
    pub pin: Option<PathBuf>,
    /// Processes with a descriptor of it or of its link: id and name.
    pub processes: Vec<(u32, String)>,
}

impl Owner {
    /// Of the program on this interface; `None` when there is none any more.
    pub(super) fn on(index: u32) -> Option<Self> {
        let id = *device::programs(index).ok()?.first()?;
        let mut owner = Self { program: id, ..Self::default() };
        if let Ok(info) = sys::program_by_id(id).and_then(|program| sys::program_info(program.as_fd())) {
            (owner.name, owner.tag, owner.uid) = (info.name, info.tag, Some(info.uid));
        }
        owner.pin = pin_of(id);
        owner.processes = processes_of(id);
        Some(owner)
    }

    /// The instance of mailgate that it belongs to: the folder above the one with our links.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        let pin = self.pin.as_deref()?;
        let is_ours = pin.file_name()?.to_str()?.starts_with("xdp-") && self.name == "ingress";
        is_ours.then(|| pin.parent()?.parent()?.file_name()?.to_str()).flatten()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(instance) = self.instance() {
            write!(f, "instance {instance:?} of mailgate, ")?;
        }
        write!(f, "program {}", self.program)?;
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        if !self.tag.is_empty() {
            write!(f, " (tag {})", self.tag)?;
        }
        if let Some(uid) = self.uid {
            write!(f, ", loaded by user {uid}")?;
        }
        if let Some(pin) = &self.pin {
            write!(f, ", pinned at {}", pin.display())?;
        }
        match self.processes.as_slice() {
            [] => f.write_str(", held by no process that can be seen"),
            processes => {
                let named: Vec<String> =
                    processes.iter().map(|(id, name)| format!("{id} ({name})")).collect();
                write!(f, ", held by process {}", named.join(", "))
            }
        }
    }
}

/// A pin, on any bpf file system, of the program or of a link with it.
fn pin_of(program: u32) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").ok()?;
    let folders = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let folder = words.next()?;
        // proc(5): blanks in paths are written as \040; no such mount is looked into.
        (words.next() == Some("bpf")).then(|| PathBuf::from(folder))
    });
    let mut open: Vec<PathBuf> = folders.collect();
    let mut left = PINS;
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else if holds(&entry.path(), program) {
                return Some(entry.path());
            }
        }
    }
    None
}

fn holds(pin: &Path, program: u32) -> bool {
    let Ok(object) = sys::open_pin(pin) else { return false };
    match kind(&object).as_deref() {
        Some("anon_inode:bpf-prog") => sys::program_info(object.as_fd()).is_ok_and(|info| info.id == program),
        Some("anon_inode:bpf-link" | "anon_inode:bpf_link") => {
            sys::link_info(object.as_fd()).is_ok_and(|link| link.program == program)
        }
        _ => false,
    }
}

fn kind(object: &OwnedFd) -> Option<String> {
    let link = fs::read_link(format!("/proc/thread-self/fd/{}", object.as_raw_fd())).ok()?;
    link.to_str().map(str::to_owned)
}

/// Processes whose descriptors, in the words of /proc/PID/fdinfo, are of this program or of a link with it.
fn processes_of(program: u32) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = numbers.filter(|process| *process != std::process::id());
    let mine = std::iter::once(std::process::id());
    let having = others.chain(mine).filter(|process| {
        let infos = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
        infos.filter_map(|info| fs::read_to_string(info.path()).ok()).any(|text| is_of(&text, program))
    });
    having.take(PROCESSES).map(|process| (process, command(process).unwrap_or_default())).collect()
}

fn is_of(fdinfo: &str, program: u32) -> bool {
    fdinfo
        .lines()
        .any(|line| line.strip_prefix("prog_id:").is_some_and(|number| number.trim().parse() == Ok(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_named_as_far_as_it_is_known() {
        let mut owner = Owner { program: 12, ..Owner::default() };
        assert_eq!(owner.to_string(), "program 12, held by no process that can be seen");
        owner.name = "ingress".to_owned();
        owner.tag = "00ff".to_owned();
        owner.uid = Some(0);
        owner.pin = Some("/sys/fs/bpf/mailgate/lab/v1/xdp-native-eth0".into());
        owner.processes = vec![(7, "mailgate".to_owned())];
        assert_eq!(
            owner.to_string(),
            "instance \"lab\" of mailgate, program 12 \"ingress\" (tag 00ff), loaded by user 0, pinned at \
             /sys/fs/bpf/mailgate/lab/v1/xdp-native-eth0, held by process 7 (mailgate)"
        );
        owner.pin = Some("/sys/fs/bpf/other".into());
        assert_eq!(owner.instance(), None);
    }

    #[test]
    fn a_descriptor_tells_its_program_by_number_not_by_beginning() {
        assert!(is_of("pos:\t0\nprog_type:\t6\nprog_id:\t12\n", 12));
        assert!(!is_of("prog_id:\t123\n", 12) && !is_of("map_id:\t12\n", 12));
    }
}
