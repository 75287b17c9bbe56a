//! Names for the addresses in reports of faults: `NAME: at 0x…` on the control OS's own stream, where NAME is a partition or `control-os`.

use crate::{console::Lines, session::Viewer, view::CONTROL_OS};
use addr2line::{Loader, demangle_auto};
use anyhow::Result;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write,
    mem,
    path::{Path, PathBuf},
};

/// Instructions are 4 bytes: a return address is the one after the call.
const INSTRUCTION: u64 = 4;

/// The programs whose addresses have names.
pub(crate) struct Symbols {
    files: BTreeMap<String, PathBuf>,
    loaded: BTreeMap<PathBuf, Result<Loader, String>>,
    /// Files under this folder are shown without it.
    root: PathBuf,
}

/// A line of a report that says where something was.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    name: &'a str,
    address: u64,
    /// The address is where a call returns to.
    is_return: bool,
}

impl Symbols {
    /// `files` as [`crate::image::Image`] has them: the control OS is under the empty name.
    pub(crate) fn new(files: &BTreeMap<String, PathBuf>, root: &Path) -> Self {
        Self { files: files.clone(), loaded: BTreeMap::new(), root: root.to_owned() }
    }

    /// What to put behind a line of the control OS's stream, if it is of a report and its program is known.
    fn describe(&mut self, line: &str) -> Option<String> {
        let place = Place::parse(line)?;
        let name = if place.name == CONTROL_OS { "" } else { place.name };
        let file = self.files.get(name)?.clone();
        let loader = match self.loaded.entry(file) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(entry) => {
                let loader = Loader::new(entry.key()).map_err(|error| error.to_string());
                entry.insert(loader)
            }
        };
        match loader {
            Ok(loader) => named(loader, &place, &self.root),
            Err(error) => Some(format!("(its symbols cannot be read: {error})")),
        }
    }
}

impl<'a> Place<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, rest) = line.trim_end().split_once(": at 0x")?;
        // The log's level may stand in front.
        let name = before.rsplit(' ').next()?;
        let (digits, kind) = rest.split_once(' ').unwrap_or((rest, ""));
        let address = u64::from_str_radix(digits, 16).ok()?;
        Some(Self { name, address, is_return: matches!(kind, "(x30)" | "(stack)") })
    }
}

/// Symbol and offset, and file and line where the program knows them.
fn named(loader: &Loader, place: &Place<'_>, root: &Path) -> Option<String> {
    let probe = if place.is_return { place.address.checked_sub(INSTRUCTION)? } else { place.address };
    let symbol = loader.find_symbol_info(probe)?;
    let mut text = format!(
        "{}+{:#x}",
        demangle_auto(symbol.name().into(), None),
        place.address.wrapping_sub(symbol.address())
    );
    // The last frame is the symbol's own; those before it were inlined there.
    let mut location = None;
    if let Ok(mut frames) = loader.find_frames(probe) {
        while let Ok(Some(frame)) = frames.next() {
            location = frame.location;
        }
    }
    if let Some(location) = location
        && let (Some(file), Some(line)) = (location.file, location.line)
    {
        let file = Path::new(file).strip_prefix(root).unwrap_or(Path::new(file));
        // Writing to a string cannot fail.
        let _ = write!(text, " ({}:{line})", file.display());
    }
    Some(text)
}

/// Shows another viewer the same, with names behind the addresses of reports.
pub(crate) struct Named<V> {
    pub(crate) viewer: V,
    symbols: Symbols,
    line: Lines,
    /// The last piece ended with a carriage return, which is not passed on yet: a name goes before it.
    held: bool,
}

impl<V: Viewer> Named<V> {
    pub(crate) fn new(viewer: V, symbols: Symbols) -> Self {
        Self { viewer, symbols, line: Lines::default(), held: false }
    }
}

impl<V: Viewer> Viewer for Named<V> {
    fn output(&mut self, stream: &str, bytes: &[u8]) -> Result<()> {
        if !stream.is_empty() {
            return self.viewer.output(stream, bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut name = None;
            self.line.feed(piece, |line| name = self.symbols.describe(line));
            let held = if mem::take(&mut self.held) { "\r" } else { "" };
            if let Some(name) = name {
                let text = piece.trim_ascii_end();
                self.viewer.output(stream, &[text, b" ", name.as_bytes(), b"\n"].concat())?;
                continue;
            }
            let text = piece.strip_suffix(b"\r");
            self.held = text.is_some();
            self.viewer.output(stream, &[held.as_bytes(), text.unwrap_or(piece)].concat())?;
        }
        Ok(())
    }

    fn quiet(&mut self) -> Result<()> {
        self.viewer.quiet()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Transcript;

    #[test]
    fn knows_the_lines_of_a_report() {
        let place = |line| Place::parse(line).map(|place| (place.name, place.address, place.is_return));
        assert_eq!(place("echo: at 0x0000000040200010"), Some(("echo", 0x4020_0010, false)));
        assert_eq!(place("error: echo: at 0x0000000040200010"), Some(("echo", 0x4020_0010, false)));
        assert_eq!(place("echo: at 0x0000000040200010 (x30)\r"), Some(("echo", 0x4020_0010, true)));
        assert_eq!(place("echo: at 0x0000000040200010 (stack)"), Some(("echo", 0x4020_0010, true)));
        for line in ["echo: at 0x", "echo: at 0xg", "echo: at 40", "at 0x10", "echo: PC 0x10", ""] {
            assert_eq!(place(line), None, "{line}");
        }
    }

    /// Known by its symbol and by its line.
    #[inline(never)]
    #[unsafe(no_mangle)]
    extern "C" fn handover_symbol_of_the_test() -> u32 {
        line!()
    }

    /// Where this program's own function is in its file: the loader may have put it elsewhere in memory.
    fn own_symbol() -> (PathBuf, u64) {
        let file = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let elf = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&bytes).unwrap();
        let (symbols, names) = elf.symbol_table().unwrap().unwrap();
        let symbol = symbols
            .iter()
            .find(|symbol| {
                names.get(symbol.st_name as usize).is_ok_and(|name| name == "handover_symbol_of_the_test")
            })
            .unwrap();
        (file, symbol.st_value)
    }

    fn shown(files: &BTreeMap<String, PathBuf>, pieces: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut named = Named::new(Transcript::default(), Symbols::new(files, root));
        for (stream, text) in pieces {
            named.output(stream, text.as_bytes()).unwrap();
        }
        named.viewer.finish()
    }

    #[test]
    fn puts_symbol_and_line_behind_an_address() {
        // Called in a way that the compiler cannot see through, so that there is a function to find.
        let expected = std::hint::black_box(handover_symbol_of_the_test as extern "C" fn() -> u32)();
        let (file, address) = own_symbol();
        let files = BTreeMap::from([("echo".to_owned(), file.clone()), (String::new(), file)]);
        let at = format!("{address:#018x}");
        let after = format!("{:#018x}", address + 4);
        let consoles = shown(
            &files,
            &[
                ("", "boot\nec"),
                ("", &format!("ho: at {at}\r")),
                ("", "\n"),
                ("", &format!("control-os: at {after} (x30)\n")),
                ("", &format!("linux: at {at}\n")),
                ("", "echo: at 0x0000000000000000\r"),
                ("", "\r"),
                ("", "\n"),
                ("echo", &format!("echo: at {at}\n")),
            ],
        );
        let lines = &consoles[""];
        assert_eq!(lines[0], "boot");
        assert!(
            lines[1].starts_with(&format!("echo: at {at} handover_symbol_of_the_test+0x0 (")),
            "{lines:?}"
        );
        let place = lines[1].rsplit_once(':').unwrap().1.trim_end_matches(')').parse::<u32>().unwrap();
        assert!(place.abs_diff(expected) <= 1, "{lines:?} {expected}");
        assert!(lines[1].contains("symbols.rs"), "{lines:?}");
        assert!(lines[2].contains("(x30) handover_symbol_of_the_test+0x4 ("), "{lines:?}");
        // Not a program of ours, not in a function, and not the control OS's word.
        assert_eq!(lines[3], format!("linux: at {at}"));
        assert_eq!(lines[4], "echo: at 0x0000000000000000");
        assert!(!lines.iter().any(|line| line.contains('\r')), "{lines:?}");
        assert_eq!(consoles["echo"], [format!("echo: at {at}")]);
    }

    #[test]
    fn says_why_there_are_no_names() {
        let files = BTreeMap::from([("echo".to_owned(), PathBuf::from("nowhere"))]);
        let consoles = shown(&files, &[("", "echo: at 0x0000000000000010\n")]);
        assert!(consoles[""][0].contains("(its symbols cannot be read: "), "{consoles:?}");
    }
}
