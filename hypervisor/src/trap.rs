//! What brings a guest's processor to EL2, and how it goes back.

use handover_abi::{Counter, EndReason};
use handover_core::{Ipa, PartitionIndex};

use crate::arch::exception::{self, DataAccess, Syndrome, SystemAccess, class};
use crate::arch::registers::ICH_VMCR_EL2;
use crate::arch::watch::{self, Kept};
use crate::bus;
use crate::hypercall;
use crate::interrupt;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::lock::Guard;
use crate::mmio;
use crate::partition::Halt;
use crate::power;
use crate::processor::{self, Marks, Processor};
use crate::schedule::{Leave, block_here, schedule};
use crate::system_register::{self, Access};
use crate::vcpu::{Attention, HardwareListRegisters, Running};
use crate::{arch, fault};
use handover_core::VcpuId;

/// What the machine ends with when system-control has ended without a status of its own.
const SYSTEM_CONTROL_ENDED: u64 = 70;

/// What the handlers of calls that `vectors.s` knows leave to [`synchronous`], which `vectors.s` calls unless it is 0.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct How(u64);

impl How {
    /// All: the exception has not been looked at, and nothing has happened.
    pub const UNDECIDED: u64 = 0x100;
    /// As [`How::UNDECIDED`].
    pub const NOT_HERE: How = How(How::UNDECIDED);
    /// Nothing: the guest goes on.
    pub const GO_ON: How = How(0);

    /// The call is done, and the guest goes on, unless something concerns it ([`Attention`](crate::vcpu::Attention)).
    #[inline(always)]
    pub fn done(attention: u8) -> How {
        How(attention.into())
    }
}

/// A guest with what is to be done about it, in two registers.
#[repr(C)]
pub struct Called {
    /// Who has called.
    pub guest: Running,
    /// What next.
    pub how: How,
}

/// Goes back to the guest, or to another if this one may not go on. `other`: somebody else may have to run.
#[inline]
pub fn resume(kernel: Guard<Kernel>, guest: Running, other: bool) -> Running {
    if guest.attention() != 0 || other { look(kernel, guest, other) } else { guest }
}

/// Something concerns the one that runs here.
#[inline(never)]
fn look(mut kernel: Guard<Kernel>, guest: Running, other: bool) -> Running {
    let id = guest.id();
    let other = other || guest.attention() & Attention::SCHEDULE != 0;
    let limits = guest.attention() & Attention::LIMITS != 0;
    guest.attended();
    let Some(shell) = kernel.hardware.shell(id.partition) else {
        panic!("a guest runs whose partition is gone")
    };
    match shell.halt {
        Halt::No => {}
        Halt::Paused => return schedule(kernel, Leave::Paused(id)),
        Halt::Ending => return schedule(kernel, Leave::Off(id)),
    }
    if other && kernel.hardware.must_switch() {
        return schedule(kernel, Leave::Ready);
    }
    if limits {
        kernel = match bus::renew(kernel, guest) {
            Ok(kernel) => kernel,
            Err(other) => return other,
        };
    }
    kernel.hardware.flush(id);
    guest
}

/// A synchronous exception from a guest, all of whose registers are in its context.
pub extern "C" fn synchronous(guest: Running, how: How) -> ! {
    processor::this().enter(if how == How::NOT_HERE { decide(guest) } else { again(guest) })
}

#[inline(always)]
fn decide(guest: Running) -> Running {
    let syndrome = Syndrome::read();
    if syndrome.is_hvc() { hypercall::other(guest) } else { other(guest, syndrome) }
}

/// Something concerns a guest whose call is done.
#[inline(never)]
fn again(guest: Running) -> Running {
    resume(KERNEL.lock(), guest, false)
}

#[inline(never)]
fn other(mut guest: Running, syndrome: Syndrome) -> Running {
    match syndrome.class() {
        class::SYSTEM_REGISTER if exception::is_aarch32(guest.context()) => undefined(guest),
        class::WFX if exception::is_aarch32(guest.context()) => undefined(guest),
        // Hidden, or not trapped, but for WFI.
        class::WFX => {
            exception::skip(guest.context());
            guest.counters().count(Counter::Waits);
            guest
        }
        class::FP => {
            let processor = processor::this();
            guest.counters().count(Counter::FloatTraps);
            arch::start::trap_float(false);
            guest.context().restore_float();
            processor.mark(Marks::FLOAT, true);
            guest
        }
        class::SYSTEM_REGISTER => {
            guest.counters().count(Counter::SystemRegisters);
            system_access(guest, SystemAccess::decode(syndrome))
        }
        // TPIDRURW, of a program that a guest was able to start: it is TPIDR_EL0.
        class::CP15 if opens(guest) => guest,
        class::DATA_ABORT_LOWER => {
            guest.counters().count(Counter::DataAborts);
            data_abort(guest, syndrome)
        }
        class::INSTRUCTION_ABORT_LOWER if fault::is_hopeless(guest.context(), syndrome) => {
            fault::fatal(guest, syndrome, "its exception vector is nowhere in its memory")
        }
        class::INSTRUCTION_ABORT_LOWER => {
            guest.counters().count(Counter::InstructionAborts);
            abort(guest, syndrome)
        }
        // SMC, and whatever of a feature we hide: undefined, as it would be without the feature.
        _ => {
            guest.counters().count(Counter::Undefined);
            undefined(guest)
        }
    }
}

/// Gives the guest an undefined-instruction exception.
pub fn undefined(mut guest: Running) -> Running {
    exception::inject_undefined(guest.context());
    guest
}

/// Whether there is memory by now where the guest has found none: what takes another's place is not there for a moment (`Mapping::replace`).
fn is_back(guest: &Running, syndrome: Syndrome) -> bool {
    let at = Ipa::new(exception::fault_ipa());
    let kernel = KERNEL.lock();
    syndrome.is_stage2_translation_fault()
        && kernel.system.translate(&kernel.hardware, guest.id().partition, at).is_some()
}

/// Gives the guest an external abort for what it touched.
fn abort(mut guest: Running, syndrome: Syndrome) -> Running {
    if is_back(&guest, syndrome) {
        return guest;
    }
    guest.counters().count(Counter::AbortsGiven);
    exception::inject_abort(guest.context(), syndrome, exception::fault_va());
    guest
}

/// WFI (Arm ARM D1.7), with all of the guest's registers in its context, and behind the instruction.
pub extern "C" fn wait(guest: Running) -> ! {
    guest.counters().count(Counter::Waits);
    let processor = processor::this();
    processor.enter(wait_for_interrupt_here(processor, guest))
}

/// The guest waits, unless an interrupt is there for it.
#[inline(never)]
pub fn wait_for_interrupt(guest: Running) -> Running {
    wait_for_interrupt_here(processor::this(), guest)
}

/// [`wait_for_interrupt`], in line.
#[inline(always)]
fn wait_for_interrupt_here(processor: &Processor, guest: Running) -> Running {
    let mut kernel = KERNEL.lock();
    if has_interrupt(&mut kernel.hardware, guest.id()) || arch::interrupt_pending() {
        resume(kernel, guest, false)
    } else {
        block_here(kernel, processor, guest)
    }
}

/// Whether an interrupt is there for the guest that runs here, or its partition has other things in mind for it.
#[inline(always)]
pub fn is_interrupted(hardware: &mut Hardware, guest: Running) -> bool {
    // Most often its list registers are empty, and nothing is on its way there.
    guest.may_be_interrupted() && has_interrupt(hardware, guest.id())
}

/// [`is_interrupted`] of a guest that has been interrupted since it came, as those have that wait for interrupts.
#[inline(always)]
fn has_interrupt(hardware: &mut Hardware, id: VcpuId) -> bool {
    hardware.flush(id);
    let count = hardware.list_registers;
    let Some(shell) = hardware.shell(id.partition) else { return true };
    let index = usize::from(id.index);
    let ready = shell.vgic.signals(index, &HardwareListRegisters { count }, ICH_VMCR_EL2.get());
    ready || shell.halt != Halt::No
}

/// A guest has written a register that is seldom written, if it is quiet: it is not any more, and executes the instruction again. → whether it is so.
pub fn opens(mut guest: Running) -> bool {
    let switches = guest.counters().get(Counter::Switches);
    let context = guest.context();
    let quiet = context.is_quiet();
    if quiet {
        context.open(switches);
        processor::this().set_kept(Kept::NOTHING);
        watch::trap(false);
    }
    quiet
}

fn system_access(mut guest: Running, access: SystemAccess) -> Running {
    if !access.read && watch::is_watched(access.name) && opens(guest) {
        return guest;
    }
    if matches!(access.name, (1, 0, 8, ..)) {
        return bus::maintain(guest, &access);
    }
    let written = guest.context().value(access.register);
    match system_register::access(guest, &access, written) {
        Access::Read(value) => {
            if let Some(register) = guest.context().register(access.register) {
                *register = value;
            }
        }
        Access::Written => {}
        Access::Undefined => return undefined(guest),
    }
    exception::skip(guest.context());
    guest
}

fn data_abort(mut guest: Running, syndrome: Syndrome) -> Running {
    if syndrome.is_stage2_translation_fault()
        && !syndrome.on_walk()
        && !exception::is_aarch32(guest.context())
        && let Some(access) = DataAccess::decode(syndrome)
        && mmio::is_device(exception::fault_ipa())
    {
        let ipa = exception::fault_ipa();
        let mut kernel = KERNEL.lock();
        mmio::access(&mut kernel, guest, ipa, &access);
        exception::skip(guest.context());
        return resume(kernel, guest, false);
    }
    abort(guest, syndrome)
}

/// A physical interrupt came while a guest ran.
pub extern "C" fn interrupt(guest: Running) -> ! {
    guest.counters().count(Counter::Interrupts);
    let mut kernel = KERNEL.lock();
    let other = interrupt::take(&mut kernel, Some(guest.id()));
    processor::this().enter(resume(kernel, guest, other))
}

/// An SError while a guest ran: it cannot be said whose it is, so it ends the one that ran.
pub extern "C" fn serror(guest: Running) -> ! {
    guest.counters().count(Counter::Serrors);
    processor::this().enter(fault::fatal(guest, Syndrome::read(), "an SError came while it ran"))
}

/// Ends a partition. With system-control the machine ends: nobody else may make partitions, or switch it off.
pub fn end(kernel: &mut Kernel, partition: PartitionIndex, reason: EndReason, status: u64) {
    if kernel.hardware.privileged == Some(partition) {
        log::error!("system-control has ended ({reason}, status {status}), and the machine with it");
        power::off(kernel, if status == 0 { SYSTEM_CONTROL_ENDED } else { status });
    }
    kernel.system.end(&mut kernel.hardware, partition, reason, status);
    kernel.hardware.stop_processors(partition);
}
