//! A guest's TLB maintenance, where it traps (Arm ARM C5.5, D8.14): which there is, and how it is carried out for the guest.

use aarch64_cpu::registers::HCR_EL2;
use tock_registers::interfaces::{Readable, Writeable};

use super::features::Capabilities;
use super::stage2::step;

/// FB: what a guest says of one processor goes to all.
const FORCE_BROADCAST: u64 = 1 << 9;
/// TTLB: all of EL1's TLB maintenance traps.
const TRAP_ALL: u64 = 1 << 25;
/// TTLBIS and TTLBOS (FEAT_EVT): what goes to other processors does.
const TRAP_BROADCASTS: u64 = 1 << 54 | 1 << 55;

/// Whether broadcasts of the guest that runs here trap. While they do, what it says of one processor stays there.
pub fn trap(capabilities: &Capabilities, traps: bool) {
    let bits = if capabilities.enhanced_traps { TRAP_BROADCASTS } else { TRAP_ALL };
    let others = HCR_EL2.get() & !(bits | FORCE_BROADCAST);
    HCR_EL2.set(others | if traps { bits } else { FORCE_BROADCAST });
    step::isb();
}

/// One TLB maintenance instruction of EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlbi {
    crm: u8,
    op2: u8,
}

const OUTER: u8 = 1;
const RANGE_INNER: u8 = 2;
const INNER: u8 = 3;
const RANGE_OUTER: u8 = 5;
const RANGE_HERE: u8 = 6;
const HERE: u8 = 7;

impl Tlbi {
    /// `TLBI` is `SYS` with op1 0 and CRn 8 (9 for the forms of FEAT_XS, which guests do not see); `None`: no such instruction, or this
    /// processor has it not.
    pub fn decode(
        (op0, op1, crn, crm, op2): (u8, u8, u8, u8, u8),
        capabilities: &Capabilities,
    ) -> Option<Tlbi> {
        let single = matches!(op2, 0..=3 | 5 | 7);
        let range = matches!(op2, 1 | 3 | 5 | 7) && capabilities.tlb_range;
        let known = match crm {
            INNER | HERE => single,
            OUTER => single && capabilities.tlb_outer,
            RANGE_INNER | RANGE_HERE => range,
            RANGE_OUTER => range && capabilities.tlb_outer,
            _ => false,
        };
        ((op0, op1, crn) == (1, 0, 8) && known).then_some(Tlbi { crm, op2 })
    }

    /// Whether other processors take part.
    pub fn is_broadcast(self) -> bool {
        !matches!(self.crm, HERE | RANGE_HERE)
    }

    /// Carries it out for the guest whose translation is loaded: at EL2, these too concern EL1's translation and the current VMID
    /// (HCR_EL2.TGE = 0). The guest's own barriers complete it.
    pub fn perform(self, operand: u64) {
        macro_rules! perform {
            ($($crm:literal: $($op2:literal)*;)*) => {
                match (self.crm, self.op2) {
                    $($(($crm, $op2) => {
                        // SAFETY: TLB maintenance changes no memory and no register.
                        unsafe {
                            core::arch::asm!(
                                concat!("sys #0, c8, c", $crm, ", #", $op2, ", {}"),
                                in(reg) operand, options(nostack, preserves_flags)
                            )
                        }
                    })*)*
                    // `decode` knows no others.
                    _ => {}
                }
            };
        }
        perform! {
            1: 0 1 2 3 5 7;
            2: 1 3 5 7;
            3: 0 1 2 3 5 7;
            5: 1 3 5 7;
            6: 1 3 5 7;
            7: 0 1 2 3 5 7;
        }
    }
}
