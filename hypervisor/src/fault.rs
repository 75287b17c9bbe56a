//! A guest that cannot go on: what it leaves behind is printed, and its partition ends.
//!
//! The lines `NAME: at ADDRESS` say where it was: first the instruction, then the return address in x30, then the callers that its stack
//! shows. They are virtual addresses of the guest; whoever has its program can name them.

use core::fmt::{self, Display, Formatter};

use handover_abi::{EndReason, Name};
use handover_core::{Backtrace, CALLERS_MAX, Ipa, SyndromeWords};

use crate::arch::context::{Context, REGISTERS};
use crate::arch::exception::{self, Syndrome, class};
use crate::arch::registers::{
    ELR_EL1, ESR_EL1, FAR_EL1, SCTLR_EL1, SP_EL0, SP_EL1, SPSR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1, VBAR_EL1,
};
use crate::kernel::KERNEL;
use crate::trap::{self, resume};
use crate::vcpu::Running;
use handover_core::VcpuId;

/// The frame pointer and the link register (AAPCS64).
const FRAME_POINTER: usize = 29;
const LINK_REGISTER: usize = 30;

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
        log::error!("{name}: processor {} cannot go on: {reason}", id.index);
        report_cause(name, guest.context(), syndrome);
        report_registers(name, guest.context());
        report_place(name, id, guest.context());
    }
    let mut kernel = KERNEL.lock();
    trap::end(&mut kernel, id.partition, EndReason::Fault, 0);
    resume(kernel, guest, false)
}

fn report_cause(name: Name, context: &Context, syndrome: Syndrome) {
    log::error!("{name}: {}", SyndromeWords(syndrome.0));
    log::error!(
        "{name}: PC {:#018x} PSTATE {:#x} ESR_EL2 {:#x} FAR {:#018x}",
        context.pc,
        context.spsr,
        syndrome.0,
        exception::fault_va()
    );
    let is_abort = matches!(syndrome.class(), class::INSTRUCTION_ABORT_LOWER | class::DATA_ABORT_LOWER);
    if is_abort && syndrome.is_stage2_translation_fault() {
        log::error!("{name}: nothing of its own at IPA {:#x}", exception::fault_ipa());
    }
    // Zero since the reset; no exception leaves it so, as IL is set for all that have no other bits.
    match ESR_EL1.get() {
        0 => log::error!("{name}: has taken no exception itself"),
        own => log::error!("{name}: its own last exception: {}", SyndromeWords(own)),
    }
}

fn report_registers(name: Name, context: &mut Context) {
    log::error!(
        "{name}: VBAR_EL1 {:#018x} ELR_EL1 {:#018x} SPSR_EL1 {:#x} ESR_EL1 {:#x} FAR_EL1 {:#018x} SCTLR_EL1 {:#x}",
        VBAR_EL1.get(),
        ELR_EL1.get(),
        SPSR_EL1.get(),
        ESR_EL1.get(),
        FAR_EL1.get(),
        SCTLR_EL1.get()
    );
    log::error!(
        "{name}: SP_EL0 {:#018x} SP_EL1 {:#018x} TTBR0_EL1 {:#x} TTBR1_EL1 {:#x} TCR_EL1 {:#x}",
        SP_EL0.get(),
        SP_EL1.get(),
        TTBR0_EL1.get(),
        TTBR1_EL1.get(),
        TCR_EL1.get()
    );
    let registers: [u64; REGISTERS] = core::array::from_fn(|number| context.value(number));
    for row in rows(&registers) {
        log::error!("{name}: {row}");
    }
}

/// Up to four general registers.
pub struct Row<'a> {
    first: usize,
    values: &'a [u64],
}

impl Display for Row<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "x{:<2}", self.first)?;
        self.values.iter().try_for_each(|value| write!(out, " {value:#018x}"))
    }
}

/// General registers from x0 on, as reports show them.
pub fn rows(registers: &[u64]) -> impl Iterator<Item = Row<'_>> {
    registers.chunks(4).enumerate().map(|(row, values)| Row { first: 4 * row, values })
}

/// Where it was, and who called that.
fn report_place(name: Name, id: VcpuId, context: &mut Context) {
    log::error!("{name}: at {:#018x}", context.pc);
    if exception::is_aarch32(context) {
        return;
    }
    log::error!("{name}: at {:#018x} (x30)", context.value(LINK_REGISTER));
    let mut backtrace = Backtrace::new(context.value(FRAME_POINTER));
    for _ in 0..CALLERS_MAX {
        let Some(address) = backtrace.next(|va| read_word(id, va)) else { break };
        log::error!("{name}: at {address:#018x} (stack)");
    }
}

/// The word at a virtual address of the guest that runs here, if it is in the partition's memory.
fn read_word(id: VcpuId, va: u64) -> Option<u64> {
    let ipa = va.is_multiple_of(8).then(|| exception::stage1(va)).flatten()?;
    // Held until the word is read: it leaves the partition no earlier.
    let kernel = KERNEL.lock();
    let span = kernel.system.translate(&kernel.hardware, id.partition, Ipa::new(ipa))?;
    // SAFETY: `translate` leads to memory alone, which EL2 maps readable at its physical address; the address is aligned, so that the word ends in
    // the same page. The guest may write to it at any time, and whatever is read is a number.
    Some(unsafe { (span.pa.get() as *const u64).read_volatile() })
}
