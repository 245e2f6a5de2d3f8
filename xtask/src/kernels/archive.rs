//! The machine's first file system: a cpio archive of the kind `newc` (cpio(5)), which the kernel unpacks into memory.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive that grows.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; the one above it must be there.
    pub(crate) fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    /// Adds a file, executable, and the folders above it.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        for (at, _) in name.match_indices('/') {
            self.folder(name.get(..at).unwrap_or_default());
        }
        self.entry(name, PROGRAM, content);
    }

    /// Adds a copy of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn copy(&mut self, name: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
        self.file(name, &content);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = content.len();
        let length = name.len() + 1;
        let number = self.entries;
        // Inode, mode, owner, group, links, time, size, device (2), device of a special file (2), length of name, sum.
        let header = format!(
            "070701{number:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{length:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    /// Everything in it begins at a multiple of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive's bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four_and_folders_come_first() {
        let mut archive = Archive::default();
        archive.file("bin/x", b"12345");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        // 110 bytes of header, then the name.
        assert!(text[110..].starts_with("bin\0") && bytes.len() % 4 == 0);
        assert!(text.contains("12345") && text.contains("TRAILER!!!"));
    }
}
