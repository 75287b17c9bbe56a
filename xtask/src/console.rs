//! Taking apart the one serial line on which the control OS frames every partition's console.

use handover_abi::console::{END_RECORD, SWITCH, SWITCH_END};
use handover_manifest::MAX_NAME;

/// Splits the serial line into streams. A stream is named after its partition; the control OS's own has no name.
#[derive(Debug, Default)]
pub(crate) struct Demultiplexer {
    stream: String,
    /// What follows the start of a switch, while its end has not come.
    switch: Option<Vec<u8>>,
}

impl Demultiplexer {
    /// Takes the next bytes of the line and gives each piece to `to` with its stream's name. What looks like a switch and is none
    /// belongs to the control OS, whose dying words may come in the middle of one.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut to: impl FnMut(&str, &[u8])) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            let Some(switch) = &mut self.switch else {
                let end = rest.iter().position(|byte| *byte == SWITCH).unwrap_or(rest.len());
                if end > 0 {
                    to(&self.stream, &rest[..end]);
                }
                rest = &rest[end..];
                if !rest.is_empty() {
                    self.switch = Some(Vec::new());
                    rest = &rest[1..];
                }
                continue;
            };
            match first {
                SWITCH_END => {
                    self.stream = String::from_utf8_lossy(switch).into_owned();
                    self.switch = None;
                    rest = &rest[1..];
                }
                b'a'..=b'z' | b'0'..=b'9' | b'-' if switch.len() < MAX_NAME => {
                    switch.push(first);
                    rest = &rest[1..];
                }
                _ => {
                    self.stream.clear();
                    to("", switch);
                    self.switch = None;
                }
            }
        }
    }
}

/// What selects a partition for the bytes that follow on the machine's input.
pub(crate) fn select(partition: &str) -> Vec<u8> {
    [&[SWITCH], partition.as_bytes(), &[SWITCH_END]].concat()
}

/// The status in the control OS's record of the end, if this line of its stream is that record.
pub(crate) fn end_status(line: &str) -> Option<i32> {
    line.trim_end().strip_prefix(END_RECORD)?.parse().ok()
}

/// Puts a stream's pieces together to lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes the next piece and gives every line that it completes to `to`, without its end and with invalid UTF-8 replaced.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut to: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                to(String::from_utf8_lossy(&self.partial).trim_end_matches(['\r', '\n']));
                self.partial.clear();
            }
        }
    }

    /// What has come since the last line's end.
    pub(crate) fn partial(&self) -> String {
        String::from_utf8_lossy(&self.partial).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Each stream's bytes, with the line fed in pieces of `size`.
    fn streams(line: &[u8], size: usize) -> BTreeMap<String, String> {
        let mut streams: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut demultiplexer = Demultiplexer::default();
        for piece in line.chunks(size) {
            demultiplexer.feed(piece, |name, bytes| {
                streams.entry(name.to_owned()).or_default().extend_from_slice(bytes)
            });
        }
        streams.into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn takes_streams_apart_wherever_the_pieces_end() {
        let line = b"boot\n\x1decho\x1fhello \x1d\x1fnote\n\x1decho\x1fworld\n\x1dlinux-2\x1f# ";
        for size in 1..=line.len() {
            let streams = streams(line, size);
            assert_eq!(streams[""], "boot\nnote\n");
            assert_eq!(streams["echo"], "hello world\n");
            assert_eq!(streams["linux-2"], "# ");
            assert_eq!(streams.len(), 3);
        }
    }

    #[test]
    fn a_broken_switch_belongs_to_the_control_os() {
        for size in 1..20 {
            assert_eq!(streams(b"\x1decho\x1fa\x1dec PANIC\n", size)[""], "ec PANIC\n");
            assert_eq!(streams(b"\x1dsixteen-letters-and\x1f", size)[""], "sixteen-letters-and\x1f");
            assert_eq!(streams(b"\x1d../x\x1fa", size)[""], "../x\x1fa");
        }
        assert_eq!(streams(b"\x1decho\x1fa\x1d\x1decho\x1fb", 3)["echo"], "ab");
    }

    #[test]
    fn knows_the_record_of_the_end() {
        assert_eq!(end_status("handover: end status=0"), Some(0));
        assert_eq!(end_status("handover: end status=-3\r"), Some(-3));
        assert_eq!(end_status(" handover: end status=0"), None);
        assert_eq!(end_status("handover: end status="), None);
    }

    #[test]
    fn selects_input_as_the_control_os_reads_it() {
        assert_eq!(select("linux"), b"\x1dlinux\x1f");
    }

    #[test]
    fn puts_lines_together() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in [&b"on"[..], b"e\r\ntwo\n\nth", b"ree\xff"] {
            lines.feed(piece, |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", ""]);
        assert_eq!(lines.partial(), "three\u{fffd}");
    }
}
