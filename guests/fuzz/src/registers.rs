//! Accesses to system registers by encoding: `MRS`, `MSR`, `SYS`, hints and barriers, made up and executed.

use handover_guest::fault::Fault;

use crate::{code, stream::Stream, window::QUIET};

/// `op0`, `op1`, `CRn`, `CRm`, `op2`.
type Name = (u32, u32, u32, u32, u32);

/// System instructions: the fixed bits (Arm ARM C4.1.95).
const SYSTEM: u32 = 0xd500_0000;
const READ: u32 = 1 << 21;
/// Exceptions that an access may make: undefined; floating point, SVE, SME not enabled; trapped by CPACR_EL1.TTA; and an abort for
/// cache maintenance.
const CLASSES: [u64; 6] = [Fault::CLASS_UNDEFINED, 0x07, 0x19, 0x1d, 0x18, Fault::CLASS_DATA_ABORT];

/// Executes such an instruction.
pub(crate) fn access(stream: &mut Stream) {
    let random = stream.random.next() as u32;
    // Registers and debug registers more often than instructions.
    let op0 = [3, 3, 3, 2, 3, 1, 3, 0][(random >> 16 & 7) as usize];
    let name = (op0, random & 7, random >> 3 & 15, random >> 7 & 15, random >> 11 & 7);
    let read = random >> 20 & 1 != 0;
    if !read && is_vital(name) {
        return;
    }
    let (op0, op1, crn, crm, op2) = name;
    // Hints, barriers and MSR (immediate) are those with register 31.
    let register = if op0 == 0 && random >> 21 & 7 != 0 { 31 } else { 0 };
    let instruction = SYSTEM
        | if read { READ } else { 0 }
        | op0 << 19
        | op1 << 16
        | crn << 12
        | crm << 8
        | op2 << 5
        | register;
    let value = match (op0, random >> 30) {
        // What SYS takes is an address, for the most part.
        (1, 0..3) => code::scratch(stream.processor) + u64::from(random >> 8 & 0x7ff),
        (1, _) => QUIET,
        (_, 0) => 0,
        (_, 1) => u64::MAX,
        _ => stream.random.next(),
    };
    let result = code::execute(stream.processor, instruction, value);
    if let Err(fault) = result
        && !CLASSES.contains(&fault.class())
    {
        stream.fail(format_args!("instruction {instruction:#x} with x0={value:#x}: {fault}"));
    }
    let kind = if read { "read" } else { "write" };
    stream.count(format_args!("{kind} s{op0}_{op1}_c{crn}_c{crm}_{op2} {value:#x}"), result);
}

/// What this program cannot go on without.
fn is_vital(name: Name) -> bool {
    matches!(
        name,
        // WFET and WFIT wait for as long as the register says; WFE and WFI until something comes.
        (0, 3, 1, 0, _) | (0, 3, 2, 0, 2 | 3)
            // SPSel, DAIFSet, DAIFClr, and the same as registers.
            | (0, 0, 4, _, 5) | (0, 3, 4, _, 6 | 7) | (3, 0, 4, 2, 0) | (3, 3, 4, 2, 1)
            // SCTLR_EL1 and SCTLR2_EL1; TTBR0_EL1 to TCR2_EL1; MAIR_EL1 and its kin; VBAR_EL1; TPIDR_EL1, by which faults are caught.
            | (3, 0, 1, 0, 0 | 3) | (3, 0, 2, 0, _) | (3, 0, 10, 2, _) | (3, 0, 12, 0, 0) | (3, 0, 13, 0, 4)
    )
}
