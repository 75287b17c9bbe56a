//! Reads a cpio archive in the newc format (cpio(5): 110 bytes of ASCII header, name, data, the last two padded to four bytes).
//!
//! A name may be followed by any number of zero bytes: that is how a writer puts a file's data on a page boundary.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

use alloc::vec::Vec;
use core::fmt;

/// "New" format, without and with a checksum (which is not looked at).
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
const HEADER: usize = 110;
/// Positions of the header's eight-digit fields that matter here.
const MODE: usize = 6 + 8;
const MODIFIED: usize = 6 + 8 * 5;
const FILE_SIZE: usize = 6 + 8 * 6;
const NAME_SIZE: usize = 6 + 8 * 11;
const TRAILER: &str = "TRAILER!!!";

/// A file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// As the archive spells it.
    pub name: &'a str,
    /// Its content, where it lies in the archive; of a symbolic link, the target.
    pub data: &'a [u8],
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u32,
    /// When it was modified, in seconds since 1970.
    pub modified: u32,
}

/// An archive that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Where the entry starts that cannot be read, in bytes from the archive's start.
    pub offset: usize,
    /// What was found there.
    pub what: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged at byte {:#x} of its files: {}", self.offset, self.what)
    }
}

impl core::error::Error for Damaged {}

/// An archive that has been read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive<'a> {
    files: Vec<File<'a>>,
}

impl<'a> Archive<'a> {
    /// Reads every header up to the trailer; what follows that is ignored.
    pub fn read(bytes: &'a [u8]) -> Result<Archive<'a>, Damaged> {
        let mut files = Vec::new();
        let mut offset = 0;
        loop {
            let (file, next) = entry(bytes, offset).map_err(|what| Damaged { offset, what })?;
            if file.name == TRAILER {
                return Ok(Archive { files });
            }
            files.push(file);
            offset = next;
        }
    }

    /// All entries, as the archive has them.
    #[must_use]
    pub fn files(&self) -> &[File<'a>] {
        &self.files
    }

    /// The file of this name; the last one, as when the archive is unpacked.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<File<'a>> {
        self.files.iter().rev().find(|file| file.name == name).copied()
    }
}

/// The entry at `offset`, and where the next one starts.
fn entry(bytes: &[u8], offset: usize) -> Result<(File<'_>, usize), &'static str> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let header = rest.get(..HEADER).ok_or("the archive ends without its trailer")?;
    if !MAGICS.iter().any(|magic| header.starts_with(magic)) {
        return Err("no newc header (its magic number is neither 070701 nor 070702)");
    }
    let name_size = number(header, NAME_SIZE).ok_or("the size of the name is no hexadecimal number")?;
    let file_size = number(header, FILE_SIZE).ok_or("the size of the file is no hexadecimal number")?;

    let name = rest[HEADER..].get(..name_size).ok_or("the archive ends inside a name")?;
    let name = name.strip_suffix(b"\0").ok_or("a name without its final zero byte")?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = core::str::from_utf8(name).map_err(|_| "a name that is not UTF-8")?;
    let start = padded(HEADER + name_size);
    let data = rest.get(start..).and_then(|data| data.get(..file_size));
    let data = data.ok_or("the archive ends inside a file")?;
    let field = |at| number(header, at).and_then(|value| u32::try_from(value).ok());
    let mode = field(MODE).ok_or("the mode is no hexadecimal number")?;
    let modified = field(MODIFIED).ok_or("the time is no hexadecimal number")?;
    Ok((File { name, data, mode, modified }, offset + padded(start + file_size)))
}

/// A field of eight hexadecimal digits.
fn number(header: &[u8], at: usize) -> Option<usize> {
    header.get(at..at + 8)?.iter().try_fold(0, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | digit as usize)
    })
}

/// Entries start on multiples of four bytes, so padding within one is padding within the archive.
fn padded(size: usize) -> usize {
    size.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::ToString, vec};

    fn push(archive: &mut Vec<u8>, name: &str, data: &[u8]) {
        let size = |bytes: usize| format!("{bytes:08x}");
        let zeroes = |fields: usize| "0".repeat(8 * fields);
        let header = format!(
            "070701{}{}{}{}{}{}{}{}",
            zeroes(1),
            size(0o100_644),
            zeroes(3),
            size(0x1234_5678),
            size(data.len()),
            zeroes(4),
            size(name.len() + 1),
            zeroes(1)
        );
        assert_eq!(header.len(), HEADER);
        archive.extend(header.bytes().chain(name.bytes()).chain([0]));
        archive.resize(padded(archive.len()), 0);
        archive.extend(data);
        archive.resize(padded(archive.len()), 0);
    }

    fn good() -> Vec<u8> {
        let mut archive = vec![];
        push(&mut archive, "manifest", b"12345");
        push(&mut archive, "empty", b"");
        push(&mut archive, "kernel", &[7; 1000]);
        push(&mut archive, TRAILER, b"");
        archive
    }

    #[test]
    fn finds_files() {
        let mut bytes = good();
        bytes.extend([0; 300]);
        let archive = Archive::read(&bytes).unwrap();
        assert_eq!(archive.files.len(), 3);
        assert_eq!(archive.file("manifest").unwrap().data, b"12345");
        assert_eq!(archive.file("empty").unwrap().data, b"");
        assert_eq!(archive.file("kernel").unwrap().data, [7; 1000]);
        assert_eq!(archive.file("manifes"), None);
        assert_eq!(archive.file(TRAILER), None);
    }

    #[test]
    fn the_last_file_of_a_name_counts() {
        let mut bytes = vec![];
        push(&mut bytes, "a", b"old");
        push(&mut bytes, "a", b"new");
        push(&mut bytes, TRAILER, b"");
        assert_eq!(Archive::read(&bytes).unwrap().file("a").unwrap().data, b"new");
    }

    #[test]
    fn cut_short_anywhere_it_is_damaged() {
        let bytes = good();
        for length in 0..bytes.len() {
            assert!(Archive::read(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn damage_is_located() {
        let second = HEADER + 10 + 8;
        let wrong = |offset: usize, value: u8| {
            let mut bytes = good();
            bytes[offset] = value;
            Archive::read(&bytes).unwrap_err().to_string()
        };
        assert_eq!(padded(second), second);
        assert!(wrong(second, b'1').contains("byte 0x80"), "{}", wrong(second, b'1'));
        assert!(wrong(second, b'1').contains("newc"));
        assert!(wrong(second + NAME_SIZE, b'g').contains("size of the name"));
        assert!(wrong(second + NAME_SIZE, b'f').contains("inside a name"));
        assert!(wrong(second + NAME_SIZE + 7, b'0').contains("final zero"));
        assert!(wrong(second + FILE_SIZE, b' ').contains("size of the file"));
        assert!(wrong(second + FILE_SIZE, b'F').contains("inside a file"));
        assert!(wrong(second + HEADER, 0xff).contains("UTF-8"));
    }

    /// Whatever one byte is changed to, reading ends, and what is found lies inside the archive.
    #[test]
    fn any_single_byte_may_be_wrong() {
        let bytes = good();
        for offset in 0..bytes.len() {
            for value in [0, b'0', b'7', b'f', b'F', b'g', 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[offset] = value;
                if let Ok(archive) = Archive::read(&bytes) {
                    let inside = bytes.as_ptr_range();
                    for file in archive.files {
                        assert!(file.data.is_empty() || inside.contains(&file.data.as_ptr()));
                    }
                }
            }
        }
    }
}
