//! All consoles in one terminal: each line behind its partition's name, harmless whatever a guest writes.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    mem,
};

/// How the control OS's own stream is called.
pub(crate) const CONTROL_OS: &str = "control-os";

/// A line longer than this is shown in pieces, in bytes.
const LONGEST_LINE: usize = 4096;
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// The mixed view.
pub(crate) struct View<W> {
    out: W,
    coloured: bool,
    newline: &'static str,
    consoles: BTreeMap<String, Console>,
    /// The console whose unfinished line the cursor stands in.
    open: Option<String>,
}

/// What is known of one console.
#[derive(Default)]
struct Console {
    cleaner: Cleaner,
    /// Clean, not shown yet.
    line: Vec<u8>,
    colour: usize,
}

impl<W: Write> View<W> {
    /// `raw` says that the terminal turns no newline into a carriage return and a newline.
    pub(crate) fn new(out: W, coloured: bool, raw: bool) -> Self {
        let newline = if raw { "\r\n" } else { "\n" };
        Self { out, coloured, newline, consoles: BTreeMap::new(), open: None }
    }

    /// Shows what a console wrote, as far as its lines are complete.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let colour = self.consoles.len();
        let console =
            self.consoles.entry(name.to_owned()).or_insert_with(|| Console { colour, ..Console::default() });
        let mut clean = mem::take(&mut console.line);
        console.cleaner.clean(bytes, &mut clean);
        let colour = console.colour;
        let mut rest = &clean[..];
        while let Some(end) = line_end(rest) {
            let (line, complete) = (&rest[..end], rest.get(end) == Some(&b'\n'));
            self.show(name, colour, line, complete)?;
            rest = &rest[end + usize::from(complete)..];
        }
        let rest = rest.to_vec();
        if let Some(console) = self.consoles.get_mut(name) {
            console.line = rest;
        }
        self.out.flush()
    }

    /// Nobody has written for a while: shows unfinished lines too, prompts for example.
    pub(crate) fn quiet(&mut self) -> io::Result<()> {
        let names: Vec<String> = self.consoles.keys().cloned().collect();
        for name in names {
            let Some(console) = self.consoles.get_mut(&name) else { continue };
            // The start of a character waits for its end, and a carriage return for what it does.
            let held = unfinished_character(&console.line).max(usize::from(console.line.ends_with(b"\r")));
            let whole = console.line.len() - held;
            let line: Vec<u8> = console.line.drain(..whole).collect();
            let colour = console.colour;
            if !line.is_empty() {
                self.show(&name, colour, &line, false)?;
            }
        }
        self.out.flush()
    }

    /// Shows everything that is left, and ends the last line.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.quiet()?;
        if self.open.take().is_some() {
            self.out.write_all(self.newline.as_bytes())?;
        }
        self.out.flush()
    }

    fn show(&mut self, name: &str, colour: usize, line: &[u8], complete: bool) -> io::Result<()> {
        // A carriage return starts the line again: what it wrote over is not worth showing.
        let trimmed = line.len() - line.iter().rev().take_while(|byte| **byte == b'\r').count();
        let (line, again) = match line[..trimmed].iter().rposition(|byte| *byte == b'\r') {
            Some(place) => (&line[place + 1..trimmed], true),
            None => (&line[..trimmed], false),
        };
        if again && self.open.take().is_some() {
            self.out.write_all(self.newline.as_bytes())?;
        }
        if self.open.as_deref() != Some(name) {
            if self.open.take().is_some() {
                self.out.write_all(self.newline.as_bytes())?;
            }
            let shown = if name.is_empty() { CONTROL_OS } else { name };
            if self.coloured {
                write!(self.out, "\x1b[{}m[{shown}]\x1b[0m ", COLOURS[colour % COLOURS.len()])?;
            } else {
                write!(self.out, "[{shown}] ")?;
            }
        }
        let text: String = String::from_utf8_lossy(line)
            .chars()
            .map(|character| if character.is_control() && character != '\t' { '\u{fffd}' } else { character })
            .collect();
        self.out.write_all(text.as_bytes())?;
        self.open = (!complete).then(|| name.to_owned());
        if complete { self.out.write_all(self.newline.as_bytes()) } else { Ok(()) }
    }
}

/// Where the first line ends, if it does: at its newline, or where it gets too long.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
    end.or((bytes.len() >= LONGEST_LINE).then_some(LONGEST_LINE))
}

/// How many bytes at the end are the start of a UTF-8 character whose end is missing.
fn unfinished_character(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(chunk) if bytes.ends_with(chunk.invalid()) && (1..=3).contains(&chunk.invalid().len()) => {
            let lone = str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_some());
            if lone { 0 } else { chunk.invalid().len() }
        }
        _ => 0,
    }
}

/// Takes out what would move the cursor, colour the text, or make a terminal answer: escape sequences go, and other control
/// characters but tab, carriage return and newline show as `^X`.
#[derive(Debug, Default)]
struct Cleaner {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence, ESC `[` up to a byte from `@` to `~`.
    Sequence,
    /// In a string, ESC `]` and its like up to BEL or ESC `\`.
    String,
}

impl Cleaner {
    fn clean(&mut self, bytes: &[u8], clean: &mut Vec<u8>) {
        for &byte in bytes {
            self.state = match (&self.state, byte) {
                (_, 0x1b) => State::Escape,
                // Whatever came before, a guest that dies in a sequence loses no further lines.
                (_, b'\n') => {
                    clean.push(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Sequence,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
                // Bytes that stand between ESC and the sequence's last.
                (State::Escape, b' '..=b'/') => State::Escape,
                (State::Escape, _) | (State::Sequence, b'@'..=b'~') | (State::String, 0x07) => State::Text,
                (State::Sequence, _) => State::Sequence,
                (State::String, _) => State::String,
                (State::Text, b'\r') => {
                    clean.push(byte);
                    State::Text
                }
                (State::Text, control @ (0..=0x08 | 0x0b..=0x1f)) => {
                    clean.extend_from_slice(&[b'^', control + b'@']);
                    State::Text
                }
                (State::Text, 0x7f) => {
                    clean.extend_from_slice(b"^?");
                    State::Text
                }
                (State::Text, _) => {
                    clean.push(byte);
                    State::Text
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(writes: &[(&str, &str)]) -> String {
        let mut view = View::new(Vec::new(), false, false);
        for (name, text) in writes {
            match *text {
                "(quiet)" => view.quiet().unwrap(),
                text => view.write(name, text.as_bytes()).unwrap(),
            }
        }
        view.finish().unwrap();
        String::from_utf8(view.out).unwrap()
    }

    #[test]
    fn puts_names_before_lines() {
        let text = shown(&[("", "boot\n"), ("a", "one\ntw"), ("b", "x\n"), ("a", "o\n")]);
        assert_eq!(text, "[control-os] boot\n[a] one\n[b] x\n[a] two\n");
    }

    #[test]
    fn shows_prompts_when_all_is_quiet() {
        let text =
            shown(&[("a", "# "), ("", "(quiet)"), ("a", "ls\n"), ("a", "$ "), ("", "(quiet)"), ("b", "x\n")]);
        assert_eq!(text, "[a] # ls\n[a] $ \n[b] x\n");
    }

    #[test]
    fn a_character_is_never_cut() {
        let mut view = View::new(Vec::new(), false, false);
        view.write("a", b"gr\xc3").unwrap();
        view.quiet().unwrap();
        view.write("a", b"\xbc\xc3\x28\n").unwrap();
        assert_eq!(String::from_utf8(view.out).unwrap(), "[a] gr\u{fc}\u{fffd}(\n");
    }

    #[test]
    fn makes_terminal_sequences_harmless() {
        for (written, seen) in [
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1bP1;2|data\x1b\\text", "text"),
            ("\x1b(Btext\x1bc", "text"),
            ("a\x08\x7f\x07b", "a^H^?^Gb"),
            ("tab\tstays", "tab\tstays"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("\x1b[6n", ""),
        ] {
            assert_eq!(shown(&[("a", written), ("a", "\n")]), format!("[a] {seen}\n"), "{written:?}");
        }
        assert_eq!(shown(&[("a", "\x1b["), ("a", "2J"), ("a", "x\n")]), "[a] x\n");
        assert_eq!(shown(&[("a", "\x1b]never ends\nnext\n")]), "[a] \n[a] next\n");
    }

    #[test]
    fn a_line_that_is_written_over_shows_its_last_state() {
        assert_eq!(shown(&[("a", "1 of 3\r2 of "), ("a", "3\r\x1b[K3 of 3\r\n")]), "[a] 3 of 3\n");
        let text = shown(&[("a", "1 of 2\r"), ("", "(quiet)"), ("a", "2 of 2\r\n"), ("a", "done\r\n")]);
        assert_eq!(text, "[a] 1 of 2\n[a] 2 of 2\n[a] done\n");
    }

    #[test]
    fn an_endless_line_is_shown_in_pieces() {
        let text = shown(&[("a", &"x".repeat(3 * LONGEST_LINE)), ("b", "y\n")]);
        assert_eq!(text, format!("[a] {}\n[b] y\n", "x".repeat(3 * LONGEST_LINE)));
    }

    #[test]
    fn colours_only_the_name() {
        let mut view = View::new(Vec::new(), true, true);
        view.write("a", b"x\n").unwrap();
        assert_eq!(view.out, b"\x1b[36m[a]\x1b[0m x\r\n");
    }
}
