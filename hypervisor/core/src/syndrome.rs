//! What a syndrome register says, in words (Arm ARM D24.2.40, ESR_EL2; ESR_EL1 has the same fields).

use core::fmt::{self, Display, Formatter};

/// An ESR_ELx value, shown in words: what happened, and for an abort why and on what kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyndromeWords(pub u64);

impl SyndromeWords {
    fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    fn class(self) -> &'static str {
        match self.0 >> 26 & 0x3f {
            0x00 => "unknown or undefined instruction",
            0x01 => "WFI or WFE",
            0x07 => "FP or SIMD instruction",
            0x09 => "pointer authentication instruction",
            0x0d => "branch target exception",
            0x0e => "illegal execution state",
            0x11 | 0x15 => "SVC",
            0x12 | 0x16 => "HVC",
            0x13 | 0x17 => "SMC",
            0x18 => "system register access",
            0x19 => "SVE instruction",
            0x1c => "pointer authentication failure",
            0x20 => "instruction abort from a lower level",
            0x21 => "instruction abort",
            0x22 => "misaligned PC",
            0x24 => "data abort from a lower level",
            0x25 => "data abort",
            0x26 => "misaligned SP",
            0x2c => "floating-point exception",
            0x2f => "SError",
            0x30 | 0x31 => "breakpoint",
            0x32 | 0x33 => "software step",
            0x34 | 0x35 => "watchpoint",
            0x3c => "BRK",
            _ => "exception of another class",
        }
    }

    fn is_instruction_abort(self) -> bool {
        matches!(self.0 >> 26 & 0x3f, 0x20 | 0x21)
    }

    fn is_data_abort(self) -> bool {
        matches!(self.0 >> 26 & 0x3f, 0x24 | 0x25)
    }

    /// Instruction or data fault status code, ISS bits 5:0, without its level.
    fn status(self) -> (&'static str, Option<u64>) {
        let status = self.0 & 0x3f;
        let level = Some(status & 3);
        match status {
            0x00..=0x03 => ("address size fault", level),
            0x04..=0x07 => ("translation fault", level),
            0x08..=0x0b => ("access flag fault", level),
            0x0c..=0x0f => ("permission fault", level),
            0x10 => ("external abort", None),
            0x11 => ("tag check fault", None),
            0x14..=0x17 => ("external abort on a table walk", level),
            0x18 => ("parity or ECC error", None),
            0x1c..=0x1f => ("parity or ECC error on a table walk", level),
            0x21 => ("alignment fault", None),
            0x30 => ("TLB conflict", None),
            0x31 => ("unsupported atomic update", None),
            0x34 => ("locked-down access", None),
            0x35 => ("unsupported exclusive or atomic access", None),
            _ => ("fault of another kind", None),
        }
    }
}

impl Display for SyndromeWords {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.class())?;
        if !self.is_instruction_abort() && !self.is_data_abort() {
            return Ok(());
        }
        let (status, level) = self.status();
        write!(f, ": {status}")?;
        if let Some(level) = level {
            write!(f, ", level {level}")?;
        }
        // S1PTW, and for data CM and WnR.
        if self.bit(7) {
            f.write_str(", on a stage-1 table walk")?;
        }
        match (self.is_data_abort(), self.bit(8), self.bit(6)) {
            (false, ..) => f.write_str(", on a fetch"),
            (true, true, _) => f.write_str(", on cache maintenance"),
            (true, false, true) => f.write_str(", on a store"),
            (true, false, false) => f.write_str(", on a load"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::SyndromeWords;
    use std::string::ToString;

    #[test]
    fn says_what_the_manual_says() {
        for (esr, words) in [
            (0x8200_0005, "instruction abort from a lower level: translation fault, level 1, on a fetch"),
            (0x8600_0010, "instruction abort: external abort, on a fetch"),
            (0x9200_0047, "data abort from a lower level: translation fault, level 3, on a store"),
            (
                0x9200_008f,
                "data abort from a lower level: permission fault, level 3, on a stage-1 table walk, on a load",
            ),
            (0x9600_0150, "data abort: external abort, on cache maintenance"),
            (0x9600_0016, "data abort: external abort on a table walk, level 2, on a load"),
            (0x9600_0021, "data abort: alignment fault, on a load"),
            (0x0200_0000, "unknown or undefined instruction"),
            (0x5a00_0001, "HVC"),
            (0xbe00_0011, "SError"),
            (0xffff_ffff, "exception of another class"),
        ] {
            assert_eq!(SyndromeWords(esr).to_string(), words, "{esr:#x}");
        }
    }

    #[test]
    fn every_value_has_words() {
        for class in 0..64_u64 {
            for status in 0..64 {
                assert!(!SyndromeWords(class << 26 | status).to_string().is_empty());
            }
        }
    }
}
