//! What brings a guest's processor to EL2, and how it goes back.

use handover_abi::EndReason;
use handover_core::PartitionIndex;

use crate::arch::context::Context;
use crate::arch::exception::{self, DataAccess, Syndrome, SystemAccess, class};
use crate::arch::registers::ICH_VMCR_EL2;
use crate::hypercall;
use crate::interrupt;
use crate::kernel::{KERNEL, Kernel};
use crate::lock::Guard;
use crate::mmio;
use crate::partition::VcpuId;
use crate::power;
use crate::processor;
use crate::schedule::{Leave, reap, schedule};
use crate::system_register::{self, Access};
use crate::vcpu::{HardwareListRegisters, Vcpu};
use crate::{arch, fault};

/// What the machine ends with when system-control has ended without a status of its own.
const SYSTEM_CONTROL_ENDED: u64 = 70;

/// The logical processor whose context this is.
#[inline]
pub fn identity(context: &Context) -> VcpuId {
    // SAFETY: every context that is entered is the first field of a placed `Vcpu`, in the same frame.
    let vcpu = unsafe { &*(context as *const Context).cast::<Vcpu>() };
    VcpuId { partition: vcpu.partition, index: vcpu.index }
}

/// Goes back to the guest, or to another if this one may not go on.
#[inline]
pub fn resume(kernel: Guard<Kernel>, context: &mut Context, turn_over: bool) -> *mut Context {
    // SAFETY: as in `identity`; the kernel is locked.
    let attention = unsafe { (*(context as *const Context).cast::<Vcpu>()).attention };
    if attention || turn_over { look(kernel, context, turn_over) } else { context }
}

/// Something concerns the one that runs here.
#[inline(never)]
fn look(mut kernel: Guard<Kernel>, context: &mut Context, turn_over: bool) -> *mut Context {
    let id = identity(context);
    // SAFETY: as in `identity`; the kernel is locked.
    unsafe { (*(context as *mut Context).cast::<Vcpu>()).attention = false };
    let Some(shell) = kernel.hardware.shell(id.partition) else {
        panic!("a guest runs whose partition is gone")
    };
    if shell.ending {
        return schedule(kernel, Leave::Off(id));
    }
    if turn_over {
        // What has ended is given back in between, so that nobody can hold it up by never letting a processor idle.
        reap(&mut kernel);
        if kernel.hardware.others_wait() {
            return schedule(kernel, Leave::Ready);
        }
        kernel.hardware.notice_queue();
    }
    kernel.hardware.flush(id);
    context
}

/// A synchronous exception from a guest.
pub extern "C" fn synchronous(context: &mut Context) -> *mut Context {
    let syndrome = Syndrome::read();
    if syndrome.class() == class::HVC64 {
        return hypercall::call(context);
    }
    other(context, syndrome)
}

#[inline(never)]
fn other(context: &mut Context, syndrome: Syndrome) -> *mut Context {
    match syndrome.class() {
        class::WFX | class::SYSTEM_REGISTER if exception::is_aarch32(context) => undefined(context),
        class::WFX => {
            context.pc += 4;
            wait(context, syndrome)
        }
        class::FP => {
            let processor = processor::this();
            arch::start::trap_float(false);
            context.restore_float();
            processor.set_float_used(true);
            context
        }
        class::SYSTEM_REGISTER => system_access(context, SystemAccess::decode(syndrome)),
        class::DATA_ABORT_LOWER => data_abort(context, syndrome),
        class::INSTRUCTION_ABORT_LOWER if fault::is_hopeless(context, syndrome) => {
            fault::fatal(context, syndrome, "its exception vector is nowhere in its memory")
        }
        class::INSTRUCTION_ABORT_LOWER => abort(context, syndrome),
        // SMC, and whatever of a feature we hide: undefined, as it would be without the feature.
        _ => undefined(context),
    }
}

/// Gives the guest an undefined-instruction exception.
fn undefined(context: &mut Context) -> *mut Context {
    exception::inject_undefined(context);
    context
}

/// Gives the guest an external abort for what it touched.
fn abort(context: &mut Context, syndrome: Syndrome) -> *mut Context {
    exception::inject_abort(context, syndrome, exception::fault_va());
    context
}

/// WFI and WFE (Arm ARM D1.7). WFE is not trapped; WFIT and WFET are hidden.
fn wait(context: &mut Context, syndrome: Syndrome) -> *mut Context {
    if syndrome.iss() & 3 != 0 {
        return context;
    }
    let mut kernel = KERNEL.lock();
    let id = identity(context);
    wait_in(&mut kernel, id, context).unwrap_or_else(|| schedule(kernel, Leave::Blocked))
}

/// `Some` if the guest goes on at once, because an interrupt is there.
pub fn wait_in(kernel: &mut Kernel, id: VcpuId, context: &mut Context) -> Option<*mut Context> {
    let hardware = &mut kernel.hardware;
    hardware.flush(id);
    let count = hardware.list_registers;
    let shell = hardware.shell(id.partition)?;
    let index = usize::from(id.index);
    let ready = shell.vgic.signals(index, &HardwareListRegisters { count }, ICH_VMCR_EL2.get());
    (ready || shell.ending || arch::interrupt_pending()).then_some(context as *mut Context)
}

fn system_access(context: &mut Context, access: SystemAccess) -> *mut Context {
    let written = context.x.get(access.register).copied().unwrap_or(0);
    match system_register::access(context, &access, written) {
        Access::Read(value) => {
            if let Some(register) = context.x.get_mut(access.register) {
                *register = value;
            }
        }
        Access::Written => {}
        Access::Undefined => return undefined(context),
    }
    context.pc += 4;
    context
}

fn data_abort(context: &mut Context, syndrome: Syndrome) -> *mut Context {
    if syndrome.is_stage2_fault()
        && !syndrome.on_walk()
        && !exception::is_aarch32(context)
        && let Some(access) = DataAccess::decode(syndrome)
        && mmio::is_device(exception::fault_ipa())
    {
        let ipa = exception::fault_ipa();
        let mut kernel = KERNEL.lock();
        mmio::access(&mut kernel, context, ipa, &access);
        context.pc += 4;
        return resume(kernel, context, false);
    }
    abort(context, syndrome)
}

/// A physical interrupt came while a guest ran.
pub extern "C" fn interrupt(context: &mut Context) -> *mut Context {
    let id = identity(context);
    let mut kernel = KERNEL.lock();
    let over = interrupt::take(&mut kernel, Some(id));
    resume(kernel, context, over)
}

/// An SError while a guest ran: it cannot be said whose it is, so it ends the one that ran.
pub extern "C" fn serror(context: &mut Context) -> *mut Context {
    let syndrome = Syndrome::read();
    fault::fatal(context, syndrome, "an SError came while it ran")
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

/// An exception from EL2 itself: a bug of ours.
pub extern "C" fn unexpected(vector: u64) -> ! {
    let syndrome = Syndrome::read();
    panic!(
        "exception in the control OS (vector {vector}): ESR {:#x} ELR {:#x} FAR {:#x}",
        syndrome.0,
        arch::registers::ELR_EL2.get(),
        exception::fault_va()
    );
}
