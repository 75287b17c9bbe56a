//! Locks for what several processors share.

use spin::mutex::TicketMutex;

#[cfg(target_os = "none")]
use crate::interrupts::Masked;

/// How a lock waits: YIELD lets the other processors run, where `core::hint::spin_loop` (ISB) would not.
pub struct Yield;

impl spin::RelaxStrategy for Yield {
    fn relax() {
        #[cfg(target_os = "none")]
        crate::processor::yield_now();
        #[cfg(not(target_os = "none"))]
        core::hint::spin_loop();
    }
}

/// A spin lock for what several processors share.
pub type Lock<T> = TicketMutex<T, Yield>;

/// A lock that interrupt handlers take too: interrupts are masked while it is held.
pub(crate) struct MaskingLock<T>(Lock<T>);

impl<T> MaskingLock<T> {
    pub(crate) const fn new(value: T) -> MaskingLock<T> {
        MaskingLock(Lock::new(value))
    }

    /// Calls `function` with what the lock guards. It must be short, and call nothing that may take the lock.
    #[inline]
    pub(crate) fn with<R>(&self, function: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(target_os = "none")]
        let _masked = Masked::new();
        function(&mut self.0.lock())
    }
}
