//! What init says: on its console, and in a file for those who come later.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// The file. A full one becomes [`OLD`], and takes the place of that which was.
const MESSAGES: &str = "/run/messages";
const OLD: &str = "/run/messages.old";
/// Its bytes at most.
const SIZE_MAX: u64 = 64 << 10;

/// Says a line.
pub fn say(line: &str) {
    println!("{line}");
    if let Err(error) = keep(Path::new(MESSAGES), Path::new(OLD), line) {
        println!("messages cannot be kept: {error}");
    }
}

fn keep(path: &Path, old: &Path, line: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() + line.len() as u64 >= SIZE_MAX) {
        fs::rename(path, old)?;
    }
    File::options().create(true).append(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}
