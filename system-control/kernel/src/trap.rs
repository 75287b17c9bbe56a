//! What brings a program to the kernel.

use handover_guest::{Status, start};
use handover_kernel::{
    fault::Access,
    registers::Registers,
    signal::{Info, Signal},
};
use linux_raw_sys::general as linux;

use crate::{
    arch,
    kernel::{self, Kernel},
    memory::Fault,
    task::{End, Thread},
};

/// Exception classes: ESR_EL1 bits 31:26.
mod class {
    pub(super) const UNKNOWN: u64 = 0x00;
    pub(super) const WAIT: u64 = 0x01;
    pub(super) const SVC: u64 = 0x15;
    pub(super) const SYSTEM_REGISTER: u64 = 0x18;
    pub(super) const INSTRUCTION_ABORT: u64 = 0x20;
    pub(super) const PC_ALIGNMENT: u64 = 0x22;
    pub(super) const DATA_ABORT: u64 = 0x24;
    pub(super) const SP_ALIGNMENT: u64 = 0x26;
    pub(super) const FLOATING_POINT: u64 = 0x2c;
    pub(super) const BREAKPOINT: u64 = 0x3c;
}

/// WnR: a data abort was a write.
const WRITE: u64 = 1 << 6;
/// CM: a data abort of a cache instruction, which counts as a read though WnR is set.
const CACHE: u64 = 1 << 8;
/// Fault status codes without their level: address size, translation, access flag and permission faults.
const TRANSLATION: [u64; 4] = [0x00, 0x04, 0x08, 0x0c];
const ALIGNMENT: u64 = 0x21;

#[unsafe(no_mangle)]
extern "C" fn unix_synchronous(registers: *mut Registers, esr: u64) -> *const Registers {
    let class = esr >> 26 & 0x3f;
    if class == class::SVC {
        // SAFETY: the registers are the current thread's, its first field, and nothing else refers to them now.
        let thread = unsafe { &mut *registers.cast::<Thread>() };
        // What every program asks often and nothing can change is answered at once.
        match thread.registers.x[8] {
            number if number == u64::from(linux::__NR_getpid) => {
                thread.registers.x[0] = u64::from(thread.pid);
                return registers;
            }
            number if number == u64::from(linux::__NR_gettid) => {
                thread.registers.x[0] = u64::from(thread.tid);
                return registers;
            }
            _ => {}
        }
    }
    // SAFETY: the start of an exception.
    let Some(kernel) = (unsafe { kernel::get() }) else { start::end(Status::FAULT) };
    match class {
        class::SVC => kernel.system_call(),
        class => synchronous(kernel, class, esr),
    }
    kernel.go_on()
}

#[unsafe(no_mangle)]
extern "C" fn unix_interrupt(_registers: *mut Registers) -> *const Registers {
    // SAFETY: the start of an exception.
    let Some(kernel) = (unsafe { kernel::get() }) else { start::end(Status::FAULT) };
    kernel.interrupt();
    kernel.resume()
}

fn synchronous(kernel: &mut Kernel, class: u64, esr: u64) {
    let Ok(thread) = kernel.thread() else { return };
    let pc = thread.registers.pc;
    let info = |code: u32, value: u64| Info { code: code as i32, value, status: 0 };
    match class {
        class::DATA_ABORT => {
            let write = esr & WRITE != 0 && esr & CACHE == 0;
            abort(kernel, esr, if write { Access::Write } else { Access::Read });
        }
        class::INSTRUCTION_ABORT => abort(kernel, esr, Access::Execute),
        class::PC_ALIGNMENT | class::SP_ALIGNMENT => {
            kernel.force_signal(Signal::BUS, info(linux::BUS_ADRALN, pc));
        }
        class::UNKNOWN | class::SYSTEM_REGISTER => {
            kernel.force_signal(Signal::ILL, info(linux::ILL_ILLOPC, pc))
        }
        // WFI and WFE: somebody else may have something to do.
        class::WAIT => {
            thread.registers.pc += 4;
            kernel.end_turn();
        }
        class::BREAKPOINT => kernel.force_signal(Signal::TRAP, info(linux::TRAP_BRKPT, pc)),
        class::FLOATING_POINT => kernel.force_signal(Signal::FPE, info(linux::FPE_FLTUNK, pc)),
        _ => kernel.force_signal(Signal::ILL, info(linux::ILL_ILLTRP, pc)),
    }
}

fn abort(kernel: &mut Kernel, esr: u64, access: Access) {
    let address = arch::fault_address();
    let code = esr & 0x3f;
    let fault = if code == ALIGNMENT || !TRANSLATION.contains(&(code & !3)) {
        Fault::Bus
    } else {
        let Ok(space) = kernel.space() else { return };
        let fault = space.borrow_mut().fault(&mut kernel.frames, address, access);
        match fault {
            Ok(()) => return,
            Err(fault) => fault,
        }
    };
    let info = |code: u32| Info { code: code as i32, value: address, status: 0 };
    match fault {
        Fault::Unmapped => kernel.force_signal(Signal::SEGV, info(linux::SEGV_MAPERR)),
        Fault::Denied => kernel.force_signal(Signal::SEGV, info(linux::SEGV_ACCERR)),
        Fault::Bus => kernel.force_signal(Signal::BUS, info(linux::BUS_ADRERR)),
        Fault::OutOfMemory => {
            let pid = kernel.pid();
            kernel.say_end(pid, format_args!("has no memory left"));
            kernel.end_process(pid, End::Killed(Signal::KILL.number()));
        }
    }
}
