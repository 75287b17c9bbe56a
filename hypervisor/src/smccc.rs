//! Standard services: SMCCC itself (Arm DEN0028), PSCI (DEN0022), TRNG (DEN0098), stolen time (DEN0057).

use arm_psci::{ErrorCode, FunctionId};
use handover_abi::layout::PROCESSORS_MAX;
use handover_abi::{EndReason, REVISION, UID, smccc};

use crate::arch::context::Context;
use crate::entropy;
use crate::hypercall::is_off;
use crate::kernel::{KERNEL, Kernel};
use crate::life;
use crate::partition::Halt;
use crate::schedule::{Leave, schedule};
use crate::steal;
use crate::trap::{self, resume, wait_for_interrupt};
use crate::vcpu::Running;
use handover_core::VcpuId;

/// SMCCC 1.2.
const SMCCC_1_2: u64 = 0x1_0002;
/// PSCI 1.1.
const PSCI_1_1: u64 = 0x1_0001;
/// TRNG 1.0.
const TRNG_1_0: u64 = 0x1_0000;
/// The TRNG back end's UUID: 2f2a0f6c-58b0-4c93-9d1e-6b7f3a0c5e41, in little-endian words.
const TRNG_UUID: [u64; 4] = [0x6c0f_2a2f, 0x934c_b058, 0x7f6b_1e9d, 0x415e_0c3a];
/// TRNG's own errors.
const TRNG_INVALID_PARAMETERS: u64 = -2i64 as u64;
const TRNG_NO_ENTROPY: u64 = -3i64 as u64;

const NOT_SUPPORTED: u64 = smccc::NOT_SUPPORTED as u64;

fn error(code: ErrorCode) -> u64 {
    i64::from(i32::from(code)) as u64
}

/// A call that is none of the hypervisor's own.
#[inline(never)]
pub fn call(mut guest: Running) -> Running {
    let context = guest.context();
    let function = context.x[0] as u32;
    let argument = context.x[1];
    match function {
        smccc::VERSION => context.x[0] = SMCCC_1_2,
        smccc::ARCH_FEATURES => {
            let known =
                matches!(argument as u32, smccc::VERSION | smccc::ARCH_FEATURES | smccc::PV_TIME_FEATURES);
            context.x[0] = if known { 0 } else { NOT_SUPPORTED };
        }
        smccc::PV_TIME_FEATURES => {
            let known = matches!(argument as u32, smccc::PV_TIME_FEATURES | smccc::PV_TIME_ST);
            context.x[0] = if known { 0 } else { NOT_SUPPORTED };
        }
        smccc::PV_TIME_ST => {
            let id = guest.id();
            let at = steal::begin(&mut KERNEL.lock(), id);
            guest.context().x[0] = at.unwrap_or(NOT_SUPPORTED);
        }
        smccc::VENDOR_HYP_UID => {
            for (register, word) in context.x.iter_mut().zip(UID) {
                *register = u64::from(word);
            }
        }
        smccc::VENDOR_HYP_REVISION => {
            context.x[0] = u64::from(REVISION.0);
            context.x[1] = u64::from(REVISION.1);
        }
        smccc::TRNG_VERSION..=smccc::TRNG_RND32 | smccc::TRNG_RND64 => random(context, function),
        _ => match FunctionId::try_from(function) {
            Ok(function) => return psci(guest, function),
            Err(_) => context.x[0] = NOT_SUPPORTED,
        },
    }
    guest
}

fn random(context: &mut Context, function: u32) {
    if entropy::word().is_none() {
        // DEN0098: what has no entropy source to speak for does not implement the interface.
        context.x[0] = NOT_SUPPORTED;
        return;
    }
    match function {
        smccc::TRNG_VERSION => context.x[0] = TRNG_1_0,
        smccc::TRNG_FEATURES => {
            let known =
                matches!(context.x[1] as u32, smccc::TRNG_VERSION..=smccc::TRNG_RND32 | smccc::TRNG_RND64);
            context.x[0] = if known { 0 } else { NOT_SUPPORTED };
        }
        smccc::TRNG_GET_UUID => context.x[..4].copy_from_slice(&TRNG_UUID),
        _ => {
            let width = if function == smccc::TRNG_RND64 { 64 } else { 32 };
            let bits = if width == 32 { context.x[1] & 0xffff_ffff } else { context.x[1] };
            if bits == 0 || bits > 3 * width {
                context.x[0] = TRNG_INVALID_PARAMETERS;
                return;
            }
            // Entropy fills x3 from its lowest bit, then x2, then x1.
            let mut registers = [0; 3];
            let mut left = bits;
            for register in &mut registers {
                let take = left.min(width);
                if take > 0 {
                    let Some(word) = entropy::word() else {
                        context.x[0] = TRNG_NO_ENTROPY;
                        return;
                    };
                    *register = if take == 64 { word } else { word & ((1 << take) - 1) };
                }
                left -= take;
            }
            context.x[0] = 0;
            [context.x[3], context.x[2], context.x[1]] = registers;
        }
    }
}

/// What PSCI_FEATURES admits to.
fn implemented(function: u32) -> bool {
    function == smccc::VERSION
        || FunctionId::try_from(function).is_ok_and(|function| {
            use FunctionId::*;
            matches!(
                function,
                PsciVersion
                    | CpuSuspend32
                    | CpuSuspend64
                    | CpuOff
                    | CpuOn32
                    | CpuOn64
                    | AffinityInfo32
                    | AffinityInfo64
                    | MigrateInfoType
                    | SystemOff
                    | SystemReset
                    | PsciFeatures
            )
        })
}

fn psci(mut guest: Running, function: FunctionId) -> Running {
    let id = guest.id();
    let context = guest.context();
    use FunctionId::*;
    let narrow = (function as u32) & 1 << 30 == 0;
    let argument = |n: usize| if narrow { context.x[n] & 0xffff_ffff } else { context.x[n] };
    let (a, b, c) = (argument(1), argument(2), argument(3));
    match function {
        PsciVersion => context.x[0] = PSCI_1_1,
        PsciFeatures => context.x[0] = if implemented(a as u32) { 0 } else { NOT_SUPPORTED },
        // No trusted OS that would have to move.
        MigrateInfoType => context.x[0] = 2,
        CpuOn32 | CpuOn64 => {
            let mut kernel = KERNEL.lock();
            context.x[0] = cpu_on(&mut kernel, id, a, b, c);
            return resume(kernel, guest, false);
        }
        AffinityInfo32 | AffinityInfo64 => {
            let kernel = KERNEL.lock();
            let off = affinity(a).and_then(|index| is_off(&kernel.hardware, id.partition, index));
            context.x[0] = match off {
                Some(off) if b == 0 => u64::from(off),
                _ => error(ErrorCode::InvalidParameters),
            };
        }
        CpuSuspend32 | CpuSuspend64 => {
            // Every power state is standby: the call returns at the next interrupt (DEN0022, 5.4).
            context.x[0] = 0;
            return wait_for_interrupt(guest);
        }
        CpuOff => {
            let mut kernel = KERNEL.lock();
            let Kernel { system, hardware } = &mut *kernel;
            system.vcpu_off(hardware, id);
            return schedule(kernel, Leave::Off(id));
        }
        SystemOff | SystemReset => {
            let reason = if function == SystemOff { EndReason::PoweredOff } else { EndReason::Reset };
            let mut kernel = KERNEL.lock();
            trap::end(&mut kernel, id.partition, reason, 0);
            return resume(kernel, guest, false);
        }
        _ => context.x[0] = NOT_SUPPORTED,
    }
    guest
}

/// The logical processor with this affinity, if a partition may have one.
fn affinity(mpidr: u64) -> Option<usize> {
    (mpidr < u64::from(PROCESSORS_MAX)).then_some(mpidr as usize)
}

fn cpu_on(kernel: &mut Kernel, id: VcpuId, target: u64, entry: u64, x0: u64) -> u64 {
    let Some(index) = affinity(target) else { return error(ErrorCode::InvalidParameters) };
    if kernel.hardware.shell(id.partition).is_none_or(|shell| shell.halt == Halt::Ending) {
        // It waited for the lock while its partition ended.
        return error(ErrorCode::Denied);
    }
    match is_off(&kernel.hardware, id.partition, index) {
        None => error(ErrorCode::InvalidParameters),
        Some(false) => error(ErrorCode::AlreadyOn),
        Some(true)
            if kernel
                .system
                .translate(&kernel.hardware, id.partition, handover_core::Ipa::new(entry))
                .is_none() =>
        {
            error(ErrorCode::InvalidAddress)
        }
        Some(true) => {
            life::switch_on(kernel, VcpuId { partition: id.partition, index: index as u8 }, entry, x0);
            0
        }
    }
}
