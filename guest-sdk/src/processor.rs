//! The partition's logical processors.

use core::{
    arch::asm,
    mem, ptr,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

use handover_abi::layout::PROCESSORS_MAX;

use crate::{interrupts, mapping, psci};

pub use crate::lock::{Lock, Yield};

/// YIELD.
#[inline]
pub fn yield_now() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) }
}

/// This processor's index: affinity level 0 of MPIDR_EL1.
#[must_use]
pub fn index() -> usize {
    let mpidr: usize;
    // SAFETY: reads an identification register.
    unsafe { asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(pure, nomem, nostack, preserves_flags)) };
    mpidr & 0xff
}

/// Nanoseconds that this processor has wanted to run and did not, as of when it last began to (Arm DEN0057); `None` if the control OS has no memory to
/// tell it.
#[must_use]
pub fn stolen_time() -> Option<u64> {
    let at = mapping::address(psci::stolen_time()?) + 8;
    // SAFETY: the control OS has said that the structure is there, of which bytes 8 to 15 are this; it is only read here, and written elsewhere.
    Some(unsafe { ptr::with_exposed_provenance::<u64>(at).read_volatile() })
}

struct Work {
    entry: AtomicPtr<()>,
    argument: AtomicUsize,
}

static WORK: [Work; PROCESSORS_MAX as usize] =
    [const { Work { entry: AtomicPtr::new(ptr::null_mut()), argument: AtomicUsize::new(0) } };
        PROCESSORS_MAX as usize];

unsafe extern "C" {
    safe fn handover_start_secondary(index: usize) -> !;
}

/// Switches on processor `index` (1 to 7), which runs `entry(argument)` on a stack of its own, with interrupts
/// masked and its part of the interrupt controller set up, and is switched off when that returns.
///
/// # Errors
///
/// What PSCI `CPU_ON` returns; [`psci::Error::InvalidParameters`] for an index out of range.
pub fn start(index: usize, entry: fn(usize), argument: usize) -> Result<(), psci::Error> {
    let work = match WORK.get(index) {
        Some(work) if index != 0 => work,
        _ => return Err(psci::Error::InvalidParameters),
    };
    if psci::affinity_info(index as u64)? != psci::AffinityState::Off {
        return Err(psci::Error::AlreadyOn);
    }
    work.argument.store(argument, Ordering::Relaxed);
    work.entry.store(entry as *mut (), Ordering::Release);
    let start = handover_start_secondary as extern "C" fn(usize) -> !;
    // SAFETY: the start code takes the processor from the state CPU_ON leaves it in, on a stack that only this index has.
    unsafe { psci::cpu_on(index as u64, mapping::ipa(start as usize), index as u64) }
}

#[unsafe(no_mangle)]
extern "C" fn handover_secondary(index: usize) -> ! {
    let work = &WORK[index];
    let entry = work.entry.load(Ordering::Acquire);
    // SAFETY: `start` stored a `fn(usize)` before it switched this processor on.
    let entry: fn(usize) = unsafe { mem::transmute(entry) };
    interrupts::init_processor(index);
    entry(work.argument.load(Ordering::Relaxed));
    psci::cpu_off()
}
