//! The console as a terminal: lines that can be edited, keys that ask for signals.

use alloc::{collections::VecDeque, vec::Vec};

use linux_raw_sys::general::{
    B38400, CREAD, CS8, ECHO, ECHOCTL, ECHOE, ECHOK, ECHONL, HUPCL, ICANON, ICRNL, IEXTEN, IGNCR, INLCR,
    ISIG, IXON, NOFLSH, ONLCR, OPOST, VEOF, VEOL, VERASE, VINTR, VKILL, VMIN, VQUIT, VSUSP, VWERASE,
};

use crate::{Errno, Sink, Source, system::System};

/// Bytes of a line at most, and of lines that nobody has read yet.
const LINE_LIMIT: usize = 4095;
const QUEUE_LIMIT: usize = 4 * (LINE_LIMIT + 1);

/// Bytes of `struct termios`: four words, the line discipline, nineteen control characters.
pub(crate) const TERMIOS: usize = 36;
const CHARACTERS: usize = 19;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalSignal {
    /// `SIGINT`, by ^C.
    Interrupt,
    /// `SIGQUIT`, by ^\.
    Quit,
    /// `SIGTSTP`, by ^Z.
    Suspend,
    /// `SIGWINCH`: the window's size was set.
    WindowChange,
}

/// The terminal's state.
#[derive(Debug)]
pub(crate) struct Terminal {
    input_flags: u32,
    output_flags: u32,
    control_flags: u32,
    local_flags: u32,
    discipline: u8,
    characters: [u8; CHARACTERS],
    /// Rows, columns, pixels in both directions.
    pub(crate) window: [u16; 4],
    /// The process group that keys signal.
    pub(crate) foreground: u32,
    /// The line that is being edited.
    line: Vec<u8>,
    /// Lines that can be read; an empty one is an end of file. Without `ICANON`, pieces.
    ready: VecDeque<Vec<u8>>,
    signals: VecDeque<(TerminalSignal, u32)>,
    /// Grows with every change, for edge-triggered waits.
    pub(crate) changes: u64,
}

impl Terminal {
    pub(crate) fn new() -> Terminal {
        let mut characters = [0; CHARACTERS];
        for (index, value) in [
            (VINTR, 3),
            (VQUIT, 0x1c),
            (VERASE, 0x7f),
            (VKILL, 0x15),
            (VEOF, 4),
            (VMIN, 1),
            (VSUSP, 0x1a),
            (VWERASE, 0x17),
        ] {
            characters[index as usize] = value;
        }
        Terminal {
            input_flags: ICRNL | IXON,
            output_flags: OPOST | ONLCR,
            control_flags: B38400 | CS8 | CREAD | HUPCL,
            local_flags: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | IEXTEN,
            discipline: 0,
            characters,
            window: [24, 80, 0, 0],
            foreground: 0,
            line: Vec::new(),
            ready: VecDeque::new(),
            signals: VecDeque::new(),
            changes: 0,
        }
    }

    fn canonical(&self) -> bool {
        self.local_flags & ICANON != 0
    }

    fn character(&self, which: u32) -> Option<u8> {
        self.characters.get(which as usize).copied().filter(|&byte| byte != 0)
    }

    pub(crate) fn termios(&self) -> [u8; TERMIOS] {
        let mut bytes = [0; TERMIOS];
        let words = [self.input_flags, self.output_flags, self.control_flags, self.local_flags];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes[16] = self.discipline;
        bytes[17..].copy_from_slice(&self.characters);
        bytes
    }

    /// Sets everything; `flush` drops what was not read yet.
    pub(crate) fn set_termios(&mut self, bytes: &[u8; TERMIOS], flush: bool) {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let was_canonical = self.canonical();
        self.input_flags = word(0);
        self.output_flags = word(4);
        self.control_flags = word(8);
        self.local_flags = word(12);
        self.discipline = bytes[16];
        self.characters.copy_from_slice(&bytes[17..]);
        if flush {
            self.flush();
        }
        if was_canonical && !self.canonical() {
            // A line under way can be read now; ends of files mean nothing any more.
            let line = core::mem::take(&mut self.line);
            self.ready.push_back(line);
            self.ready.retain(|piece| !piece.is_empty());
        }
        self.changes += 1;
    }

    pub(crate) fn flush(&mut self) {
        self.line.clear();
        self.ready.clear();
    }

    pub(crate) fn take_signal(&mut self) -> Option<(TerminalSignal, u32)> {
        self.signals.pop_front()
    }

    pub(crate) fn signal(&mut self, signal: TerminalSignal) {
        let entry = (signal, self.foreground);
        if !self.signals.contains(&entry) {
            self.signals.push_back(entry);
        }
    }

    /// Bytes that a read would return at once.
    pub(crate) fn available(&self) -> usize {
        if self.canonical() {
            self.ready.front().map_or(0, Vec::len)
        } else {
            self.ready.iter().map(Vec::len).sum()
        }
    }

    pub(crate) fn readable(&self) -> bool {
        if self.canonical() {
            !self.ready.is_empty()
        } else {
            self.available() >= self.characters[VMIN as usize].max(1).into()
        }
    }

    /// Takes bytes from the keyboard; whether something can be read that could not before.
    pub(crate) fn input(&mut self, system: &mut dyn System, bytes: &[u8]) -> bool {
        let before = self.changes;
        for &byte in bytes {
            self.key(system, byte);
        }
        self.changes != before
    }

    fn key(&mut self, system: &mut dyn System, byte: u8) {
        let byte = match byte {
            b'\r' if self.input_flags & IGNCR != 0 => return,
            b'\r' if self.input_flags & ICRNL != 0 => b'\n',
            b'\n' if self.input_flags & INLCR != 0 => b'\r',
            byte => byte,
        };
        let is = |terminal: &Terminal, which| terminal.character(which) == Some(byte);
        if self.local_flags & ISIG != 0 {
            for (which, signal) in [
                (VINTR, TerminalSignal::Interrupt),
                (VQUIT, TerminalSignal::Quit),
                (VSUSP, TerminalSignal::Suspend),
            ] {
                if is(self, which) {
                    if self.local_flags & NOFLSH == 0 {
                        self.flush();
                    }
                    self.echo(system, byte);
                    self.signal(signal);
                    return;
                }
            }
        }
        if !self.canonical() {
            self.echo(system, byte);
            self.push(alloc::vec![byte]);
            return;
        }
        if is(self, VERASE) {
            self.erase(system, 1);
        } else if is(self, VKILL) {
            self.erase(system, self.line.len());
        } else if is(self, VWERASE) && self.local_flags & IEXTEN != 0 {
            let word =
                self.line.iter().rev().skip_while(|&&byte| byte == b' ').position(|&byte| byte == b' ');
            let spaces = self.line.iter().rev().take_while(|&&byte| byte == b' ').count();
            self.erase(system, word.map_or(self.line.len(), |length| length + spaces));
        } else if is(self, VEOF) {
            let line = core::mem::take(&mut self.line);
            self.push(line);
        } else if byte == b'\n' || is(self, VEOL) {
            if self.local_flags & (ECHO | ECHONL) != 0 {
                self.output(system, &[byte]);
            }
            let mut line = core::mem::take(&mut self.line);
            line.push(byte);
            self.push(line);
        } else if self.line.len() < LINE_LIMIT {
            self.line.push(byte);
            self.echo(system, byte);
        }
    }

    fn push(&mut self, line: Vec<u8>) {
        if self.ready.iter().map(|line| line.len().max(1)).sum::<usize>() + line.len() <= QUEUE_LIMIT {
            self.ready.push_back(line);
            self.changes += 1;
        }
    }

    fn echo(&mut self, system: &mut dyn System, byte: u8) {
        if self.local_flags & ECHO == 0 {
            return;
        }
        if self.local_flags & ECHOCTL != 0
            && (byte < b' ' && !matches!(byte, b'\n' | b'\t' | b'\r') || byte == 0x7f)
        {
            system.write_console(&[b'^', byte ^ 0x40]);
        } else {
            self.output(system, &[byte]);
        }
    }

    /// Takes the line's last bytes back, where a character of several bytes is one on the screen.
    fn erase(&mut self, system: &mut dyn System, bytes: usize) {
        let keep = self.line.len().saturating_sub(bytes);
        while self.line.len() > keep {
            let Some(byte) = self.line.pop() else { return };
            if byte & 0xc0 == 0x80 && byte >= 0x80 {
                // The rest of a UTF-8 sequence goes too.
                while self.line.last().is_some_and(|&byte| byte & 0xc0 == 0x80) {
                    self.line.pop();
                }
                self.line.pop();
            }
            if self.local_flags & ECHO != 0 && self.local_flags & ECHOE != 0 {
                let wide = byte < b' ' && self.local_flags & ECHOCTL != 0;
                system.write_console(if wide { b"\x08 \x08\x08 \x08" } else { b"\x08 \x08" });
            }
        }
    }

    /// Writes to the screen, as `OPOST` has it.
    fn output(&self, system: &mut dyn System, bytes: &[u8]) {
        if self.output_flags & (OPOST | ONLCR) != OPOST | ONLCR {
            return system.write_console(bytes);
        }
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            match part.split_last() {
                Some((b'\n', line)) => {
                    system.write_console(line);
                    system.write_console(b"\r\n");
                }
                _ => system.write_console(part),
            }
        }
    }

    pub(crate) fn read(&mut self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        if sink.room() == 0 {
            return Ok(0);
        }
        if !self.readable() {
            let waits = self.canonical() || self.characters[VMIN as usize] > 0;
            return if waits { Err(Errno::AGAIN) } else { Ok(0) };
        }
        let mut done = 0;
        while let Some(line) = self.ready.front_mut() {
            let taken = if line.is_empty() { Ok(0) } else { sink.put(line) };
            match taken {
                Ok(taken) if taken == line.len() => {
                    done += taken;
                    self.ready.pop_front();
                }
                Ok(taken) => {
                    line.drain(..taken);
                    return Ok(done + taken);
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => return Ok(done),
            }
            if self.canonical() || sink.room() == 0 {
                break;
            }
        }
        Ok(done)
    }

    pub(crate) fn write(&self, system: &mut dyn System, source: &mut dyn Source) -> Result<usize, Errno> {
        let mut part = [0; 256];
        let mut done = 0;
        while source.remaining() > 0 {
            match source.take(&mut part) {
                Ok(length) => {
                    self.output(system, &part[..length]);
                    done += length;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}
