//! Locks. Their order, outermost first: the kernel ([`crate::kernel::KERNEL`]), entropy, the UART. EL2 runs with interrupts
//! masked, so a lock needs no more than mutual exclusion between processors; tickets make it fair.

use spin::mutex::TicketMutex;

/// Waits by YIELD: a spinning processor must not keep the others from running where they share hardware (or an emulator's thread).
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        // SAFETY: a hint.
        unsafe { core::arch::asm!("yield", options(nomem, nostack, preserves_flags)) }
    }
}

/// A ticket lock.
pub type Lock<T> = TicketMutex<T, Relax>;

/// What holds one.
pub type Guard<T> = spin::mutex::TicketMutexGuard<'static, T, Relax>;
