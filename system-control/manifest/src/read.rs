//! Reading a manifest from its TOML file.

use crate::{KernelKind, KernelSource, Key, Manifest, Place, Problem, ProgramSource};
use core::{fmt, ops::Range};
use std::{
    borrow::ToOwned,
    error::Error,
    format,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    string::{String, ToString},
    vec::Vec,
};
use toml::de::{DeTable, DeValue};

/// Why a manifest cannot be used: which file, which line, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The manifest's file.
    pub file: PathBuf,
    /// Counted from 1; absent where the file as a whole cannot be read.
    pub line: Option<usize>,
    /// What was found, and what to do.
    pub what: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

impl Error for ReadError {}

/// Reads and checks the manifest in `file`, and the kernel and initramfs files that it names by path.
pub fn read(file: &Path) -> Result<Manifest, ReadError> {
    let text = std::fs::read_to_string(file).map_err(|error| ReadError {
        file: file.to_owned(),
        line: None,
        what: format!("the manifest cannot be read: {error}"),
    })?;
    parse(&text, file)
}

/// As [`read`], with the manifest's text at hand: `file` says what errors call it, and where its paths start.
pub fn parse(text: &str, file: &Path) -> Result<Manifest, ReadError> {
    let error = |span: Option<Range<usize>>, what: String| ReadError {
        file: file.to_owned(),
        line: Some(line_of(text, span.map_or(0, |span| span.start))),
        what,
    };
    let toml_error = |wrong: toml::de::Error| error(wrong.span(), wrong.message().to_owned());
    let manifest: Manifest = toml::from_str(text).map_err(toml_error)?;
    let spans = DeTable::parse(text).map_err(toml_error)?.into_inner();
    let folder = file.parent().unwrap_or(Path::new(""));
    manifest
        .check()
        .and_then(|()| check_files(&manifest, folder))
        .map_err(|problem| error(span_of(&spans, problem.place), problem.what))?;
    Ok(manifest)
}

impl Manifest {
    /// As TOML: [`parse`] makes the same manifest of it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Every field is a number, a string, a table, or a list of them, and every key a field's name.
        toml::to_string(self).expect("a manifest always is TOML")
    }
}

fn check_files(manifest: &Manifest, folder: &Path) -> Result<(), Problem> {
    for (index, partition) in manifest.partitions.iter().enumerate() {
        let problem = |key, what| Problem { place: Place::Partition(index, Key::Value(key)), what };
        let unreadable =
            |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
        if let KernelSource::Path(path) = KernelSource::new(&partition.kernel) {
            let path = folder.join(path);
            let head = head(&path).map_err(|error| problem("kernel", unreadable(&path, error)))?;
            KernelKind::of(&head).map_err(|found| {
                problem("kernel", format!("{} cannot be started: {found}", path.display()))
            })?;
        }
        if let Some(path) =
            partition.initramfs.as_deref().filter(|name| !matches!(*name, "demo" | "conformance"))
        {
            let path = folder.join(path);
            head(&path).map_err(|error| problem("initramfs", unreadable(&path, error)))?;
        }
    }
    for (index, program) in manifest.programs.iter().enumerate() {
        if let ProgramSource::Path(path) = ProgramSource::new(&program.path) {
            check_program(&folder.join(path))
                .map_err(|what| Problem { place: Place::Program(index, Key::Value("path")), what })?;
        }
    }
    Ok(())
}

/// A cargo package's folder, or an AArch64 program.
fn check_program(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return match path.join("Cargo.toml").is_file() {
            true => Ok(()),
            false => {
                Err(format!("{} is a folder without a Cargo.toml: name a cargo package's", path.display()))
            }
        };
    }
    let head = head(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match KernelKind::of(&head) {
        Ok(KernelKind::Elf) => Ok(()),
        _ => Err(format!(
            "{} is no 64-bit little-endian AArch64 program: name a cargo package's folder, or build it for \
             aarch64-unknown-linux-musl",
            path.display()
        )),
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(KernelKind::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The bytes of the text that a problem is about; the table's where the key is not written down.
fn span_of(manifest: &DeTable<'_>, place: Place) -> Option<Range<usize>> {
    let (table, span, key) = match place {
        Place::Manifest(key) => (manifest, None, key),
        Place::Machine(key) => {
            let machine = manifest.get("machine")?;
            (machine.get_ref().as_table()?, Some(machine.span()), key)
        }
        Place::SystemControl(key) => {
            let system_control = manifest.get("system-control")?;
            (system_control.get_ref().as_table()?, Some(system_control.span()), key)
        }
        Place::Partition(index, key) => {
            let partition = manifest.get("partition")?.get_ref().as_array()?.get(index)?;
            (partition.get_ref().as_table()?, Some(partition.span()), key)
        }
        Place::Program(index, key) => {
            let program = manifest.get("program")?.get_ref().as_array()?.get(index)?;
            (program.get_ref().as_table()?, Some(program.span()), key)
        }
    };
    let value = |name: &str| table.get(name).map(|value| (value.get_ref(), value.span()));
    let found = match key {
        Key::Table => None,
        Key::Value(name) => value(name).map(|(_, span)| span),
        Key::Element(name, index) => match value(name) {
            Some((DeValue::Array(elements), list)) => {
                elements.get(index).map(|element| element.span()).or(Some(list))
            }
            other => other.map(|(_, span)| span),
        },
    };
    found.or(span)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

impl From<ReadError> for String {
    fn from(error: ReadError) -> Self {
        error.to_string()
    }
}
