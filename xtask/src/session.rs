//! One run of the machine, from its first byte on the serial line to its end.

use crate::{
    console::{Demultiplexer, Lines, end_status},
    machine::{Event, Machine},
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

/// Nobody has written for this long: prompts are due.
const QUIET: Duration = Duration::from_millis(150);

/// Who sees what the partitions write; the control OS's own stream has no name.
pub(crate) trait Viewer {
    /// A stream's next bytes.
    fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()>;
    /// No bytes for a while.
    fn quiet(&mut self) -> Result<()>;
}

/// Keeps every console's lines.
#[derive(Default)]
pub(crate) struct Transcript {
    consoles: BTreeMap<String, (Lines, Vec<String>)>,
}

impl Transcript {
    /// Each console's lines, the last even if it is unfinished.
    pub(crate) fn finish(self) -> BTreeMap<String, Vec<String>> {
        let finish = |(name, (partial, mut lines)): (String, (Lines, Vec<String>))| {
            let last = partial.partial();
            lines.extend((!last.is_empty()).then_some(last));
            (name, lines)
        };
        self.consoles.into_iter().map(finish).collect()
    }
}

impl Viewer for Transcript {
    fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
        let (partial, lines) = self.consoles.entry(stream.to_owned()).or_default();
        partial.feed(bytes, |line| lines.push(line.to_owned()));
        Ok(())
    }

    fn quiet(&mut self) -> Result<()> {
        Ok(())
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The control OS recorded this status and switched the machine off.
    Status(i32),
    /// QEMU ended without that record, with this exit status and these messages.
    NoRecord(ExitStatus, String),
    /// Who sat at the keyboard left.
    Left,
    /// A signal told us to end.
    Signal(i32),
    /// The time given was over; QEMU's messages.
    TimedOut(String),
}

/// Lets the machine run to its end, and sees to it that QEMU is gone then. `log` keeps every stream as it came.
pub(crate) fn watch(
    machine: Machine,
    log: &mut Log,
    viewer: &mut dyn Viewer,
    limit: Option<Duration>,
) -> Result<Ending> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut demultiplexer = Demultiplexer::default();
    let mut control_os = Lines::default();
    let mut status = None;
    loop {
        let left =
            deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return machine.end().map(Ending::TimedOut);
        }
        match machine.events().recv_timeout(QUIET.min(left)) {
            Ok(Event::Output(bytes)) => {
                let mut result = Ok(());
                demultiplexer.feed(&bytes, |stream, bytes| {
                    if stream.is_empty() {
                        control_os.feed(bytes, |line| status = end_status(line).or(status));
                    }
                    if result.is_ok() {
                        result = log.write(stream, bytes).and_then(|()| viewer.output(stream, bytes));
                    }
                });
                result?;
            }
            Err(RecvTimeoutError::Timeout) => viewer.quiet()?,
            Ok(Event::Leave) => return machine.end().map(|_| Ending::Left),
            Ok(Event::Signal(signal)) => return machine.end().map(|_| Ending::Signal(signal)),
            Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                let (exit, messages) = machine.wait()?;
                return Ok(status.map_or(Ending::NoRecord(exit, messages), Ending::Status));
            }
        }
    }
}

/// A file for each stream, with its bytes as they came.
pub(crate) struct Log {
    folder: PathBuf,
    files: BTreeMap<String, File>,
}

impl Log {
    /// Logs to `folder`; what an earlier run left there goes.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let describe = || format!("cannot write logs to {}", folder.display());
        fs::create_dir_all(folder).with_context(describe)?;
        for entry in fs::read_dir(folder).with_context(describe)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "log") {
                fs::remove_file(&file).with_context(describe)?;
            }
        }
        Ok(Self { folder: folder.to_owned(), files: BTreeMap::new() })
    }

    fn write(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
        if !self.files.contains_key(stream) {
            let name = if stream.is_empty() { crate::view::CONTROL_OS } else { stream };
            let path = self.folder.join(format!("{name}.log"));
            let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            self.files.insert(stream.to_owned(), file);
        }
        let file = self.files.get_mut(stream).context("a log file was just made")?;
        file.write_all(bytes)
            .with_context(|| format!("cannot write to the logs in {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[derive(Default)]
    struct Seen {
        text: BTreeMap<String, String>,
        quiet: bool,
    }

    impl Viewer for Seen {
        fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
            self.text.entry(stream.to_owned()).or_default().push_str(&String::from_utf8_lossy(bytes));
            Ok(())
        }

        fn quiet(&mut self) -> Result<()> {
            self.quiet = true;
            Ok(())
        }
    }

    /// Runs a shell script in QEMU's place.
    fn run(script: &str, limit: Option<Duration>) -> (Ending, Seen, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script);
        let mut seen = Seen::default();
        let mut log = Log::create(folder.path()).unwrap();
        let ending = watch(Machine::start(shell).unwrap(), &mut log, &mut seen, limit).unwrap();
        (ending, seen, folder)
    }

    #[test]
    fn ends_with_the_recorded_status_and_keeps_logs() {
        let script = r"printf 'boot\n\035echo\037hi \033[1mthere\n\035\037handover: end status=7\n'";
        let (ending, seen, logs) = run(script, None);
        assert!(matches!(ending, Ending::Status(7)), "{ending:?}");
        assert_eq!(seen.text["echo"], "hi \x1b[1mthere\n");
        let log = |name: &str| fs::read_to_string(logs.path().join(name)).unwrap();
        assert_eq!(log("echo.log"), "hi \x1b[1mthere\n");
        assert_eq!(log("control-os.log"), "boot\nhandover: end status=7\n");
    }

    #[test]
    fn a_guest_cannot_forge_the_record() {
        let script = r"printf '\035echo\037handover: end status=0\n'; echo 'no such device' >&2; exit 3";
        let (ending, _, _) = run(script, None);
        let Ending::NoRecord(exit, messages) = ending else { panic!("{ending:?}") };
        assert_eq!((exit.code(), messages.as_str()), (Some(3), "no such device"));
    }

    #[test]
    fn a_machine_that_hangs_is_ended() {
        let script = r"printf '\035echo\037%s' $$; exec sleep 1000";
        let (ending, seen, _) = run(script, Some(Duration::from_millis(600)));
        assert!(matches!(ending, Ending::TimedOut(_)), "{ending:?}");
        assert!(seen.quiet);
        assert!(!Path::new(&format!("/proc/{}", seen.text["echo"])).exists());
    }

    #[test]
    fn unfinished_lines_count() {
        let mut transcript = Transcript::default();
        transcript.output("a", b"one\ntw").unwrap();
        transcript.output("a", b"o").unwrap();
        assert_eq!(transcript.finish()["a"], ["one", "two"]);
    }

    #[test]
    fn logs_of_an_earlier_run_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["old.log", "notes.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        Log::create(folder.path()).unwrap();
        assert!(!folder.path().join("old.log").exists());
        assert!(folder.path().join("notes.txt").exists());
    }
}
