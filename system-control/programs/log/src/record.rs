//! What is kept.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

/// Bytes of a line at most; what is longer is cut off.
pub const LINE_MAX: usize = 1024;
/// Bytes of the file at most. A full one becomes `log.old`, and takes the place of that which was.
const FILE_MAX: u64 = 64 << 10;

/// Lines on their way to the console and to a file.
pub struct Record {
    start: Instant,
    path: PathBuf,
    file: File,
    size: u64,
}

impl Record {
    /// In `/run/log`.
    pub fn create() -> io::Result<Record> {
        Record::create_at("/run/log".into())
    }

    fn create_at(path: PathBuf) -> io::Result<Record> {
        Ok(Record { start: Instant::now(), file: File::create(&path)?, path, size: 0 })
    }

    /// Writes a guest's line.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let line = line(self.start.elapsed().as_millis(), name, bytes);
        print!("{line}");
        if self.size + line.len() as u64 > FILE_MAX {
            fs::rename(&self.path, self.path.with_extension("old"))?;
            self.file = File::create(&self.path)?;
            self.size = 0;
        }
        self.size += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

/// What a guest says cannot look like another line, nor steer a terminal.
fn line(milliseconds: u128, name: &str, bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(LINE_MAX)];
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(bytes)).into_owned();
    let harmless: String =
        text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect();
    format!("[{:>5}.{:03}] {name}: {harmless}\n", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless() {
        assert_eq!(line(12_034, "linux", b"hello\n"), "[   12.034] linux: hello\n");
        assert_eq!(line(0, "a", b"x\x1b[2J\ny\xff"), "[    0.000] a: x\u{fffd}[2J\u{fffd}y\u{fffd}\n");
        assert_eq!(line(0, "a", &[b'x'; 5000]).len(), "[    0.000] a: \n".len() + LINE_MAX);
    }

    #[test]
    fn the_file_stays_small() {
        let folder = std::env::temp_dir().join(format!("handover-log-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        let mut record = Record::create_at(path.clone()).unwrap();
        for _ in 0..100 {
            record.write("guest", &[b'y'; LINE_MAX]).unwrap();
        }
        let size = |path: &std::path::Path| fs::metadata(path).unwrap().len();
        assert!(size(&path) <= FILE_MAX && size(&path.with_extension("old")) <= FILE_MAX);
        assert!(size(&path) + size(&path.with_extension("old")) > FILE_MAX);
        fs::remove_dir_all(folder).unwrap();
    }
}
