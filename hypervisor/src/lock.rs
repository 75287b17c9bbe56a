//! Locks. Their order, outermost first: the kernel ([`crate::kernel::KERNEL`]), entropy, the UART. EL2 runs with interrupts
//! masked, so a lock needs no more than mutual exclusion between processors; tickets make it fair.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use handover_core::turns::Turns;
use spin::mutex::TicketMutex;

/// Waits by YIELD: a spinning processor must not keep the others from running where they share hardware (or an emulator's thread).
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        // SAFETY: a hint.
        unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) }
    }
}

/// A ticket lock.
pub type Lock<T> = TicketMutex<T, Relax>;

/// The lock that every call takes: as fair, and shorter where nobody waits.
#[repr(C)]
pub struct ShortLock<T> {
    turns: Turns,
    value: Apart<UnsafeCell<T>>,
}

/// Away from those who wait, and look at [`Turns`] meanwhile.
#[repr(C, align(64))]
struct Apart<T>(T);

// SAFETY: the value is reached through the one `Guard` that there is.
unsafe impl<T: Send> Sync for ShortLock<T> {}

impl<T> ShortLock<T> {
    /// Nobody holds it.
    pub const fn new(value: T) -> ShortLock<T> {
        ShortLock { turns: Turns::new(), value: Apart(UnsafeCell::new(value)) }
    }

    /// Takes it.
    #[inline(always)]
    pub fn lock(&'static self) -> Guard<T> {
        if !self.turns.takes() {
            // In line: a call would have to save registers before it is known whether it is made.
            let ticket = self.turns.waits();
            while !self.turns.comes(&ticket) {
                <Relax as spin::RelaxStrategy>::relax();
            }
        }
        Guard { lock: self, _not_send: PhantomData }
    }
}

/// What holds one: a register's worth.
#[repr(transparent)]
pub struct Guard<T: 'static> {
    lock: &'static ShortLock<T>,
    /// Given back by the processor that has taken it.
    _not_send: PhantomData<*mut T>,
}

impl<T> Deref for Guard<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this is the one guard, and the borrow is part of its own.
        unsafe { &*self.lock.value.0.get() }
    }
}

impl<T> DerefMut for Guard<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`.
        unsafe { &mut *self.lock.value.0.get() }
    }
}

impl<T> Drop for Guard<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // What `Turns::leaves` does, without an exclusive store: only who holds it writes that byte. Others change the bytes above it by exclusive
        // stores of the whole word, which fail if this one comes in between (Arm ARM B2, "Synchronization and semaphores"). SAFETY: the word is part
        // of a static, and this is the end of the one guard.
        unsafe { asm!("stlrb wzr, [{}]", in(reg) self.lock.turns.word(), options(nostack, preserves_flags)) }
    }
}
