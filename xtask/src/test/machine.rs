//! Tests on the machine: a manifest is booted, and its consoles and its end are held against what is expected.

use super::{Count, cases, damage, guide};
use crate::{
    command::Host,
    console::select,
    image::{self, Image},
    machine::{self, Machine},
    provision::qemu::{self, Qemu},
    session::{self, Ending, Log, Transcript, Viewer},
    symbols::{Named, Symbols},
    workspace::Workspace,
};
use anyhow::{Context, Result};
use handover_manifest::Manifest;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Lines of each log that a failed case shows.
const SHOWN_LINES: usize = 20;

/// One boot of a manifest, and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Unique; names its folder too.
    pub(crate) name: &'static str,
    /// TOML; paths start at the workspace's folder.
    pub(crate) manifest: &'static str,
    /// What the consoles must say, and must not.
    pub(crate) lines: &'static [Line],
    /// The status that the system must end with.
    pub(crate) status: i32,
    /// Ends a machine that hangs, in seconds: far beyond what a slow host needs.
    pub(crate) limit: u64,
    /// One instruction is one nanosecond of the machine's time, so that what is said of time is the same in each run.
    pub(crate) icount: bool,
}

/// Something about a console's lines. An empty name is the control OS's own console.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line {
    /// A line of this console contains this text, after the lines that the entries before it found there.
    Has(&'static str, &'static str),
    /// Once this console has said this text (as a line, or as a prompt) after what the entries before it found there, this is typed at it.
    Types(&'static str, &'static str, &'static str),
    /// So many lines of this console contain this text.
    Count(&'static str, &'static str, usize),
    /// No line of this console contains this text.
    Lacks(&'static str, &'static str),
    /// The lines of this console that start like the text's first one, up to a colon, are the text's.
    Same(&'static str, &'static str),
}

/// A case with everything built.
struct Ready<'a> {
    case: &'a Case,
    manifest: Manifest,
    image: Image,
    folder: PathBuf,
    /// Where the sources are.
    root: PathBuf,
}

/// Builds and runs cases, `jobs` machines at a time.
pub(crate) fn run(workspace: &Workspace, cases: &[Case], jobs: usize) -> Result<Count> {
    let mut count = Count::default();
    if cases.is_empty() {
        return Ok(count);
    }
    let qemu = qemu::find(&Host::this(), &workspace.output_folder("provision")?)?;
    let mut ready = Vec::new();
    for case in cases {
        match build(workspace, case) {
            Ok(built) => ready.push(built),
            Err(error) => {
                println!("FAILED  {}: it cannot be built: {error:#}", case.name);
                count.add(Count::FAILED);
            }
        }
    }
    ready.reverse();
    let (queue, total) = (Mutex::new(ready), Mutex::new(count));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(ready) = next() {
                    let result = carry_out(&qemu, &ready);
                    if let Ok(mut total) = total.lock() {
                        total.add(report(&ready, result));
                    }
                }
            });
        }
    });
    total.into_inner().ok().context("a test thread panicked")
}

fn build<'a>(workspace: &Workspace, case: &'a Case) -> Result<Ready<'a>> {
    let output = format!("test/{}", case.name);
    // Outside this workspace, where the reader is too.
    let elsewhere = tempfile::tempdir()?;
    let (manifest, folder) = if case.name == guide::CASE {
        let file = elsewhere.path().join(guide::prepare(workspace, case.manifest, elsewhere.path())?);
        (handover_manifest::read(&file)?, elsewhere.path().to_owned())
    } else {
        (handover_manifest::parse(case.manifest, &workspace.source(case.name))?, workspace.source(""))
    };
    let image = image::make(workspace, &manifest, &folder, &output)?;
    damage::apply(case.name, &image)?;
    Ok(Ready { case, manifest, image, folder: workspace.output(&output), root: workspace.source("") })
}

/// Runs a case and returns everything that is wrong with it, and how long it took.
fn carry_out(qemu: &Qemu, ready: &Ready<'_>) -> Result<(Vec<String>, Duration)> {
    let start = Instant::now();
    let how = machine::Options {
        icount: ready.case.icount,
        cpu: cases::cpu(ready.case.name),
        ..machine::Options::PLAIN
    };
    let command = machine::command(qemu, &ready.image, &ready.manifest.machine, how);
    let symbols = Symbols::new(&ready.image.symbols, &ready.root);
    let mut log = Log::create(&ready.folder)?;
    let limit = Duration::from_secs(ready.case.limit);
    let mut machine = Machine::start(command)?;
    let typist = Typist::new(ready.case, machine.take_input(), Transcript::default());
    let mut viewer = Named::new(typist, symbols);
    let ending = session::watch(machine, &mut log, &mut viewer, Some(limit))?;
    Ok((wrong(ready.case, &viewer.viewer.transcript.finish(), &ending), start.elapsed()))
}

/// Keeps what consoles say, and types at them what a case wants when its turn has come.
struct Typist<W> {
    lines: &'static [Line],
    /// Which entry of each console's is the next, and what it has said since the last that was found.
    consoles: BTreeMap<&'static str, (usize, String)>,
    to: Option<W>,
    transcript: Transcript,
}

impl<W: Write> Typist<W> {
    fn new(case: &Case, to: Option<W>, transcript: Transcript) -> Self {
        let of = |line: &Line| match line {
            Line::Types(console, ..) => Some((*console, (0, String::new()))),
            _ => None,
        };
        Self { lines: case.lines, consoles: case.lines.iter().filter_map(of).collect(), to, transcript }
    }

    /// Types whatever is due at a console that has said more.
    fn heard(&mut self, console: &str, bytes: &[u8]) -> Result<()> {
        let Some((next, said)) = self.consoles.get_mut(console) else { return Ok(()) };
        said.push_str(&String::from_utf8_lossy(bytes));
        while let Some(line) = self.lines.get(*next) {
            let (text, keys) = match *line {
                Line::Has(of, text) if of == console => (text, None),
                Line::Types(of, text, keys) if of == console => (text, Some(keys)),
                _ => {
                    *next += 1;
                    continue;
                }
            };
            let Some(at) = said.find(text) else { return Ok(()) };
            said.drain(..at + text.len());
            *next += 1;
            if let Some(keys) = keys {
                let to = self.to.as_mut().context("the machine has no input")?;
                to.write_all(&[&select(console), keys.as_bytes()].concat())?;
                to.flush()?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Viewer for Typist<W> {
    fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
        self.transcript.output(stream, bytes)?;
        self.heard(stream, bytes)
    }

    fn quiet(&mut self) -> Result<()> {
        self.transcript.quiet()
    }
}

fn report(ready: &Ready<'_>, result: Result<(Vec<String>, Duration)>) -> Count {
    let name = ready.case.name;
    let wrong = match result {
        Ok((wrong, took)) if wrong.is_empty() => {
            println!("ok      {name} ({:.1} s)", took.as_secs_f64());
            return Count::PASSED;
        }
        Ok((wrong, _)) => wrong,
        Err(error) => vec![format!("{error:#}")],
    };
    println!("FAILED  {name}");
    for wrong in wrong {
        println!("    {wrong}");
    }
    for (file, tail) in tails(&ready.folder) {
        println!("    the end of {}:\n        {}", file.display(), tail.join("\n        "));
    }
    Count::FAILED
}

/// The last lines of each log, made harmless for a terminal.
fn tails(folder: &PathBuf) -> Vec<(PathBuf, Vec<String>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let tail = |file: PathBuf| {
        let text =
            fs::read(&file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(|line| line.escape_debug().to_string()).collect();
        (file, lines[lines.len().saturating_sub(SHOWN_LINES)..].to_vec())
    };
    files.into_iter().map(tail).collect()
}

/// What does not meet a case's expectations.
fn wrong(case: &Case, consoles: &BTreeMap<String, Vec<String>>, ending: &Ending) -> Vec<String> {
    let mut wrong = Vec::new();
    match ending {
        Ending::Status(status) if *status == case.status => {}
        Ending::Status(status) => wrong.push(format!("it ended with status {status}, not {}", case.status)),
        Ending::TimedOut(_) => wrong.push(format!("it did not end within {} s", case.limit)),
        other => wrong.push(format!("it stopped without a record of the end: {other:?}")),
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let of = |console: &str| consoles.get(console).map_or(&[][..], Vec::as_slice);
    let shown =
        |console: &str| if console.is_empty() { "the control OS".to_owned() } else { format!("`{console}`") };
    for line in case.lines {
        match *line {
            Line::Has(console, text) | Line::Types(console, text, _) => {
                let from = seen.get(console).copied().unwrap_or(0);
                match of(console)[from..].iter().position(|line| line.contains(text)) {
                    // A prompt's line goes on with what is typed there.
                    Some(place) => {
                        seen.insert(console, from + place + usize::from(matches!(line, Line::Has(..))));
                    }
                    None => wrong
                        .push(format!("{} did not say `{text}`, at least not in its turn", shown(console))),
                }
            }
            Line::Count(console, text, expected) => {
                let found = of(console).iter().filter(|line| line.contains(text)).count();
                if found != expected {
                    wrong.push(format!("{} said `{text}` {found} times, not {expected}", shown(console)));
                }
            }
            Line::Same(console, text) => {
                let start = text.split_inclusive(':').next().unwrap_or_default();
                let mut found = of(console).iter().filter(|line| line.starts_with(start));
                let mut expected = text.lines();
                loop {
                    match (found.next(), expected.next()) {
                        (None, None) => break,
                        (found, expected) if found.map(String::as_str) == expected => {}
                        (found, expected) => {
                            wrong.push(format!("{} said {found:?}, not {expected:?}", shown(console)));
                            break;
                        }
                    }
                }
            }
            Line::Lacks(console, text) => {
                if let Some(line) = of(console).iter().find(|line| line.contains(text)) {
                    wrong.push(format!("{} said `{}`", shown(console), line.escape_debug()));
                }
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(lines: &'static [Line], console: &[&str], ending: &Ending) -> Vec<String> {
        let case = Case { name: "case", manifest: "", lines, status: 3, limit: 1, icount: false };
        let lines = console.iter().map(|line| (*line).to_owned()).collect();
        wrong(&case, &BTreeMap::from([("a".to_owned(), lines)]), ending)
    }

    #[test]
    fn lines_must_come_in_order() {
        const LINES: &[Line] = &[
            Line::Has("a", "one"),
            Line::Has("a", "two"),
            Line::Lacks("a", "bad"),
            Line::Count("a", "o", 2),
        ];
        let good = Ending::Status(3);
        assert!(judge(LINES, &["- one -", "x", "two"], &good).is_empty());
        assert_eq!(judge(LINES, &["two", "one"], &good).len(), 1);
        assert_eq!(judge(LINES, &["one two"], &good).len(), 2);
        assert_eq!(judge(LINES, &["one", "two", "bad"], &good).len(), 1);
        assert_eq!(judge(&[Line::Has("b", "one")], &["one"], &good).len(), 1);
    }

    #[test]
    fn lines_of_a_kind_must_be_the_same() {
        const LINES: &[Line] = &[Line::Same("a", "x: one\nx: two")];
        let good = Ending::Status(3);
        assert!(judge(LINES, &["other", "x: one", "", "x: two"], &good).is_empty());
        assert_eq!(judge(LINES, &["x: one"], &good).len(), 1);
        assert_eq!(judge(LINES, &["x: two", "x: one"], &good).len(), 1);
        assert_eq!(judge(LINES, &["x: one", "x: two", "x: three"], &good).len(), 1);
    }

    #[test]
    fn the_end_must_be_the_expected_one() {
        assert!(judge(&[], &[], &Ending::Status(0))[0].contains("status 0, not 3"));
        assert!(judge(&[], &[], &Ending::TimedOut(String::new()))[0].contains("within 1 s"));
        assert!(judge(&[], &[], &Ending::Signal(15))[0].contains("without a record"));
    }

    #[test]
    fn types_in_its_turn() {
        const LINES: &[Line] = &[
            Line::Types("a", "$ ", "one\n"),
            Line::Has("b", "nothing"),
            Line::Has("a", "done"),
            Line::Types("a", "$ ", "two\n"),
            Line::Types("b", "> ", "three\n"),
        ];
        let case = Case { name: "case", manifest: "", lines: LINES, status: 3, limit: 1, icount: false };
        let mut typist = Typist::new(&case, Some(Vec::new()), Transcript::default());
        let mut typed = |console: &str, said: &str| {
            typist.output(console, said.as_bytes()).unwrap();
            String::from_utf8(std::mem::take(typist.to.as_mut().unwrap())).unwrap()
        };
        assert_eq!(typed("a", "hello $"), "");
        assert_eq!(typed("a", " "), "\x1da\x1fone\n");
        // A prompt before the line that has to come counts for nothing.
        assert_eq!(typed("a", "one\n$ do"), "");
        assert_eq!(typed("b", "> nothing"), "");
        assert_eq!(typed("a", "ne\n$ "), "\x1da\x1ftwo\n");
        assert_eq!(typed("b", "> > "), "\x1db\x1fthree\n");
        assert_eq!(typed("c", "> > "), "");
        let said: Vec<&str> = vec!["hello $ one", "$ done", "$ "];
        assert!(
            wrong(&Case { lines: &LINES[..4], ..case.clone() }, &consoles(&said), &Ending::Status(3)).len()
                == 1
        );
        assert!(judge(&[Line::Types("a", "#", "x")], &["$ "], &Ending::Status(3)).len() == 1);
    }

    fn consoles(said: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([("a".to_owned(), said.iter().map(|line| (*line).to_owned()).collect())])
    }
}
