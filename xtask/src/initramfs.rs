//! Archives in the format that Linux unpacks at boot (cpio, "newc"): the demonstration's initramfs, and the boot archive's files.

use anyhow::{Context, Result};
use cpio::newc::{self, ModeFileType};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An archive under way. The same content makes the same bytes.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    /// Adds a folder.
    pub(crate) fn folder(&mut self, name: &str) -> Result<()> {
        self.entry(newc::Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory), &[])
    }

    /// Adds a file that may be read and executed.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(newc::Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Regular), content)
    }

    /// Adds the same so that its content starts on a page of the archive: behind the name follow zeroes, which belong to it and which
    /// readers cut off.
    pub(crate) fn page_file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        const HEADER: usize = 110;
        const PAGE: usize = 4096;
        let start = self.bytes.len() + HEADER + name.len() + 1;
        let zeroes = start.next_multiple_of(PAGE) - start;
        self.file(&format!("{name}{}", "\0".repeat(zeroes)), content)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.entry(
            newc::Builder::new(name).mode(0o777).set_mode_file_type(ModeFileType::Symlink),
            target.as_bytes(),
        )
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        let entry = newc::Builder::new(name).mode(0o600).set_mode_file_type(ModeFileType::Char);
        self.entry(entry.rdev_major(major).rdev_minor(minor), &[])
    }

    /// How many files, folders, links and devices are in it.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// The whole archive.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        Ok(newc::trailer(self.bytes)?)
    }

    fn entry(&mut self, entry: newc::Builder, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size =
            u32::try_from(content.len()).context("a file of 4 GiB or more does not fit in an archive")?;
        let mut writer = entry.ino(self.entries).nlink(1).write(std::mem::take(&mut self.bytes), size);
        std::io::Write::write_all(&mut writer, content)?;
        self.bytes = writer.finish()?;
        Ok(())
    }
}

/// What the demonstration's Linux guest starts from.
pub(crate) struct Demo<'a> {
    pub(crate) busybox: &'a Path,
    pub(crate) init: &'a Path,
    pub(crate) module: &'a Path,
    pub(crate) tool: &'a Path,
    /// More for `/bin`, under their files' names.
    pub(crate) programs: &'a [PathBuf],
}

/// Busybox, our module, our tool, and the script that starts them.
pub(crate) fn demo(parts: &Demo<'_>) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::new();
    for folder in ["bin", "dev", "proc", "sys", "tmp", "lib"] {
        archive.folder(folder)?;
    }
    // Where init's output goes before it mounts /dev.
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", &read(parts.busybox)?)?;
    // Init has busybox make the links to its other names.
    archive.link("bin/sh", "busybox")?;
    archive.file("init", &read(parts.init)?)?;
    archive.file("lib/handover.ko", &read(parts.module)?)?;
    archive.file("bin/handover", &read(parts.tool)?)?;
    for program in parts.programs {
        let name = program.file_name().context("a program without a name")?.to_string_lossy();
        archive.file(&format!("bin/{name}"), &read(program)?)?;
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn holds_what_was_put_in() {
        let make = || {
            let mut archive = Archive::new();
            archive.folder("dev").unwrap();
            archive.character_device("dev/console", 5, 1).unwrap();
            archive.file("init", b"#!/bin/sh\n").unwrap();
            archive.link("bin", "usr/bin").unwrap();
            archive.finish().unwrap()
        };
        let bytes = make();
        assert_eq!(bytes, make());
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            let entry = reader.entry();
            found.push((
                entry.name().to_owned(),
                entry.mode(),
                (entry.rdev_major(), entry.rdev_minor()),
                content,
            ));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            found,
            [
                ("dev".to_owned(), 0o040_755, (0, 0), vec![]),
                ("dev/console".to_owned(), 0o020_600, (5, 1), vec![]),
                ("init".to_owned(), 0o100_755, (0, 0), b"#!/bin/sh\n".to_vec()),
                ("bin".to_owned(), 0o120_777, (0, 0), b"usr/bin".to_vec()),
            ]
        );
    }
}
