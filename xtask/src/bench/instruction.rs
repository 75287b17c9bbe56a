//! Instructions that cost more on real machines than they count (Arm DDI 0487, C4.1: the A64 encodings).

/// What an instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// TLB maintenance.
    Tlbi,
    /// A data synchronization barrier.
    Barrier,
    /// A return from an exception.
    Return,
    /// An access to the interrupt controller: its CPU interface, or the virtual one's control.
    Gic,
    /// A hint that who measures marks something with.
    Mark(Mark),
}

/// What it marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A sample begins, of the first or the second of a pair.
    Begin(usize),
    End,
    /// A figure is printed.
    Told,
}

impl Kind {
    /// `None`: nothing that is counted.
    pub(super) fn of(word: u32) -> Option<Kind> {
        let field = |low: u32, bits: u32| word >> low & ((1 << bits) - 1);
        match word {
            0xd69f_03e0 | 0xd69f_0bff | 0xd69f_0fff => return Some(Kind::Return),
            // DSB, but for those options that are SSBB and PSSBB.
            _ if word & 0xffff_f0ff == 0xd503_309f && !matches!(field(8, 4), 0 | 4) => {
                return Some(Kind::Barrier);
            }
            _ if word & 0xffff_f01f == 0xd503_201f => return Kind::of_hint(field(5, 7)),
            _ if word >> 22 != 0x354 => return None,
            _ => {}
        }
        let (op0, op1, crn, crm) = (field(19, 2), field(16, 3), field(12, 4), field(8, 4));
        match (op0, op1, crn, crm) {
            (1, _, 8 | 9, _) if field(21, 1) == 0 => Some(Kind::Tlbi),
            // ICC_*_EL1, ICH_*_EL2; ICC_PMR_EL1.
            (3, 0 | 4, 12, 8..) | (3, 0, 4, 6) => Some(Kind::Gic),
            _ => None,
        }
    }

    fn of_hint(number: u32) -> Option<Kind> {
        let mark = match number {
            handover_mark::BEGIN => Mark::Begin(0),
            handover_mark::BEGIN_SECOND => Mark::Begin(1),
            handover_mark::END => Mark::End,
            handover_mark::TOLD => Mark::Told,
            _ => return None,
        };
        Some(Kind::Mark(mark))
    }
}

/// Whether it loads or stores.
pub(super) fn is_access(word: u32) -> bool {
    word >> 25 & 0b0101 == 0b0100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_as_the_manual_has_them() {
        let all = [
            (0xd508_831f, Some(Kind::Tlbi)),                 // tlbi vmalle1is
            (0xd50c_8020, Some(Kind::Tlbi)),                 // tlbi ipas2e1is, x0
            (0xd50c_8040, Some(Kind::Tlbi)),                 // tlbi ripas2e1is, x0
            (0xd503_3b9f, Some(Kind::Barrier)),              // dsb ish
            (0xd503_3f9f, Some(Kind::Barrier)),              // dsb sy
            (0xd503_3a9f, Some(Kind::Barrier)),              // dsb ishst
            (0xd503_3fdf, None),                             // isb
            (0xd503_309f, None),                             // ssbb
            (0xd69f_03e0, Some(Kind::Return)),               // eret
            (0xd518_cc20, Some(Kind::Gic)),                  // msr icc_eoir1_el1, x0
            (0xd538_cc00, Some(Kind::Gic)),                  // mrs x0, icc_iar1_el1
            (0xd51c_cc00, Some(Kind::Gic)),                  // msr ich_lr0_el2, x0
            (0xd518_4600, Some(Kind::Gic)),                  // msr icc_pmr_el1, x0
            (0xd538_c100, None),                             // mrs x0, isr_el1
            (0xd51c_c000, None),                             // msr vbar_el2, x0
            (0xd50b_7421, None),                             // dc zva, x1
            (0xd503_201f, None),                             // nop
            (0xd503_2e1f, Some(Kind::Mark(Mark::Begin(0)))), // hint #0x70
            (0xd503_2e5f, Some(Kind::Mark(Mark::End))),      // hint #0x72
            (0xd400_0002, None),                             // hvc #0
            (0x9100_0000, None),                             // add x0, x0, #0
        ];
        for (word, kind) in all {
            assert_eq!(Kind::of(word), kind, "{word:#x}");
        }
    }

    #[test]
    fn loads_and_stores() {
        for word in [0xb940_0000, 0xb900_0000, 0xf940_0000, 0xa940_0000, 0x3d80_0000] {
            assert!(is_access(word), "{word:#x}");
        }
        for word in [0x9100_0000, 0xd503_201f, 0x9400_0000] {
            assert!(!is_access(word), "{word:#x}");
        }
    }
}
