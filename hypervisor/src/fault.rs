//! A guest that cannot go on: what it leaves behind is printed, and its partition ends.

use handover_abi::{EndReason, Name};

use crate::arch::context::Context;
use crate::arch::exception::{self, Syndrome, class};
use crate::arch::registers::{ELR_EL1, ESR_EL1, FAR_EL1, SCTLR_EL1, SPSR_EL1, VBAR_EL1};
use crate::kernel::KERNEL;
use crate::trap::{self, resume};
use crate::vcpu::Running;

/// Whether a fetch that failed was of the exception vector that an abort given for it would go to: the guest could only fail there
/// again, for ever.
pub fn is_hopeless(context: &Context, syndrome: Syndrome) -> bool {
    const CURRENT_SP0: u64 = 0x000;
    const CURRENT_SPX: u64 = 0x200;
    let offset = match context.spsr & 0xf {
        0x5 => CURRENT_SPX,
        0x4 => CURRENT_SP0,
        _ => return false,
    };
    syndrome.class() == class::INSTRUCTION_ABORT_LOWER && context.pc == exception::vector(offset)
}

/// Prints where the guest is and ends its partition.
pub fn fatal(mut guest: Running, syndrome: Syndrome, reason: &str) -> Running {
    let id = guest.id();
    // Printed without the lock: the UART may be slow.
    let name = KERNEL.lock().hardware.shell(id.partition).map(|shell| shell.terminal.name());
    if let Some(name) = name {
        report(name, id.index, guest.context(), syndrome, reason);
    }
    let mut kernel = KERNEL.lock();
    trap::end(&mut kernel, id.partition, EndReason::Fault, 0);
    resume(kernel, guest, false)
}

fn report(name: Name, index: u8, context: &Context, syndrome: Syndrome, reason: &str) {
    log::error!("{name}: processor {} cannot go on: {reason}", index);
    log::error!(
        "{name}: PC {:#018x} PSTATE {:#x} ESR_EL2 {:#x} FAR {:#018x} IPA {:#x}",
        context.pc,
        context.spsr,
        syndrome.0,
        exception::fault_va(),
        exception::fault_ipa()
    );
    log::error!(
        "{name}: VBAR_EL1 {:#018x} ELR_EL1 {:#018x} SPSR_EL1 {:#x} ESR_EL1 {:#x} FAR_EL1 {:#018x} SCTLR_EL1 {:#x}",
        VBAR_EL1.get(),
        ELR_EL1.get(),
        SPSR_EL1.get(),
        ESR_EL1.get(),
        FAR_EL1.get(),
        SCTLR_EL1.get()
    );
    for (row, values) in context.x.chunks(4).enumerate() {
        let value = |n: usize| values.get(n).copied().unwrap_or(0);
        match values.len() {
            4 => log::error!(
                "{name}: x{:<2} {:#018x} {:#018x} {:#018x} {:#018x}",
                4 * row,
                value(0),
                value(1),
                value(2),
                value(3)
            ),
            _ => log::error!(
                "{name}: x{:<2} {:#018x} {:#018x} {:#018x}",
                4 * row,
                value(0),
                value(1),
                value(2)
            ),
        }
    }
}
