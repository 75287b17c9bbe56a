//! The physical processors.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::arch::registers::TPIDR_EL2;
use crate::arch::start::enter_guest;
use crate::vcpu::{Running, Vcpu};
use handover_core::PartitionIndex;

/// Physical processors at most.
pub const PROCESSORS_MAX: usize = 16;
/// Bytes of a processor's stack at EL2, of which the first page is never mapped.
pub const STACK_SIZE: usize = 0x8000;
/// Bytes at the low end of each stack that fault when touched.
pub const STACK_GUARD: usize = 0x1000;

/// Where a stack begins, from its low end: what is above is its processor's.
pub const STACK_TOP: usize = STACK_SIZE - size_of::<Processor>();

/// A processor's stack, and the processor above it: that is what an empty stack's pointer points to, which `vectors.s` makes use of.
#[repr(C, align(4096))]
struct Place {
    stack: [u8; STACK_TOP],
    processor: Processor,
}

const _: () =
    assert!(size_of::<Place>() == STACK_SIZE && core::mem::offset_of!(Place, processor) == STACK_TOP);

/// The stacks, by processor index. Nothing fills them at the start.
pub struct Stacks(UnsafeCell<MaybeUninit<[Place; PROCESSORS_MAX]>>);

// SAFETY: each processor touches its own stack only, through its stack pointer; what is above it is atomic.
unsafe impl Sync for Stacks {}

/// See [`Stacks`].
#[unsafe(link_section = ".stacks")]
pub static STACKS: Stacks = Stacks(UnsafeCell::new(MaybeUninit::uninit()));

/// Where the guard page of each stack lies.
pub fn stack_guards() -> impl Iterator<Item = u64> {
    (0..PROCESSORS_MAX).map(|index| STACKS.0.get() as u64 + (index * STACK_SIZE) as u64)
}

/// Makes the processors' structures.
///
/// # Safety
/// Before all other uses, once.
pub unsafe fn prepare() {
    for index in 0..PROCESSORS_MAX {
        // SAFETY: in the place of one that nobody uses yet, by the caller; no stack reaches there.
        unsafe { at(index).write(Processor::new(index as u8)) };
    }
}

fn at(index: usize) -> *mut Processor {
    const { assert!(PROCESSORS_MAX.is_power_of_two()) };
    let places = STACKS.0.get().cast::<Place>();
    // SAFETY: one of as many as there are places.
    unsafe { &raw mut (*places.add(index % PROCESSORS_MAX)).processor }
}

/// What a physical processor has to do when a logical one leaves it or comes; most often nothing.
pub struct Marks;

impl Marks {
    /// The running guest has used FP/SIMD since it came.
    pub const FLOAT: u8 = 1;
    /// Limits of the bus, or an owner, ask something of this processor ([`crate::bus::Restrained::bits`]).
    pub const RESTRAINED: u8 = 2;
}

/// What a physical processor knows of itself. `vectors.s` reads `current` at offset 0.
#[repr(C, align(64))]
pub struct Processor {
    /// Whose registers are on this processor; null between guests. Written by this processor alone, under the lock.
    current: AtomicPtr<Vcpu>,
    /// MPIDR_EL1's affinity fields.
    mpidr: AtomicU64,
    /// GIC redistributor, physical address of its RD_base frame.
    redistributor: AtomicUsize,
    /// What is to be done here when who runs leaves, or somebody comes: bits of [`Marks`]. Written by this processor alone.
    marks: AtomicU8,
    /// What is known of EL1's registers here: bits of [`Kept`](crate::arch::watch::Kept), those of the logical processor that was here last. Written
    /// by this processor alone.
    kept: AtomicU8,
    /// Which one it is, below [`PROCESSORS_MAX`].
    index: u8,
}

static COUNT: AtomicUsize = AtomicUsize::new(1);

/// How many run.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Another one has come up.
pub fn set_count(count: usize) {
    COUNT.store(count, Ordering::Relaxed);
}

/// Whether the registers of any of a partition's logical processors are on a physical one. The kernel must be locked: they come and go under the lock.
pub fn any_runs(partition: PartitionIndex) -> bool {
    (0..PROCESSORS_MAX).any(|index| {
        let current = get(index).current();
        // SAFETY: what runs is placed; which partition's it is never changes.
        !current.is_null() && unsafe { (*current).partition } == partition
    })
}

/// Index of a processor below [`PROCESSORS_MAX`].
pub fn get(index: usize) -> &'static Processor {
    // SAFETY: `prepare` has made it, and all of it that changes is atomic.
    unsafe { &*at(index) }
}

/// This processor. Valid after [`Processor::adopt`].
#[inline]
pub fn this() -> &'static Processor {
    // SAFETY: `adopt` has put the address of one that lasts there, and nobody writes the register again.
    unsafe { &*(TPIDR_EL2.get() as *const Processor) }
}

impl Processor {
    const fn new(index: u8) -> Processor {
        Processor {
            current: AtomicPtr::new(null_mut()),
            mpidr: AtomicU64::new(u64::MAX),
            redistributor: AtomicUsize::new(0),
            marks: AtomicU8::new(0),
            kept: AtomicU8::new(0),
            index,
        }
    }

    /// This processor is the one with `index`.
    pub fn adopt(index: usize) -> &'static Processor {
        let processor = get(index);
        TPIDR_EL2.set(processor as *const Processor as u64);
        processor
    }

    /// Its index.
    #[inline(always)]
    pub fn index(&self) -> usize {
        usize::from(self.index) % PROCESSORS_MAX
    }

    /// A guest goes on here, on this processor, all of its registers but those in its context being loaded. What is on the stack is over: a handler
    /// that ends so need not give its registers back, as nobody waits for them.
    #[inline(always)]
    pub fn enter(&self, guest: Running) -> ! {
        // SAFETY: this is the processor that runs it; nothing on the stack is used any more, and no value that lives has something to drop, since `guest`
        // is all that a handler ends with.
        unsafe {
            asm!(
                "mov sp, {empty_stack}",
                "b {enter_guest}",
                empty_stack = in(reg) self,
                enter_guest = sym enter_guest,
                in("x0") guest.as_ptr(),
                options(noreturn)
            )
        }
    }

    /// The logical processor whose registers are here.
    #[inline]
    pub fn current(&self) -> *mut Vcpu {
        self.current.load(Ordering::Relaxed)
    }

    /// Says whose registers are here.
    #[inline]
    pub fn set_current(&self, vcpu: *mut Vcpu) {
        self.current.store(vcpu, Ordering::Relaxed);
    }

    /// Affinity fields of its MPIDR_EL1.
    pub fn mpidr(&self) -> u64 {
        self.mpidr.load(Ordering::Relaxed)
    }

    /// Sets the affinity.
    pub fn set_mpidr(&self, mpidr: u64) {
        self.mpidr.store(mpidr, Ordering::Relaxed);
    }

    /// Its redistributor.
    pub fn redistributor(&self) -> usize {
        self.redistributor.load(Ordering::Relaxed)
    }

    /// Sets its redistributor.
    pub fn set_redistributor(&self, address: usize) {
        self.redistributor.store(address, Ordering::Relaxed);
    }

    /// What is to be done here when who runs leaves, or somebody comes: bits of [`Marks`].
    #[inline(always)]
    pub fn marks(&self) -> u8 {
        self.marks.load(Ordering::Relaxed)
    }

    /// What is known of EL1's registers here: bits of [`Kept`](crate::arch::watch::Kept).
    #[inline(always)]
    pub fn kept(&self) -> u8 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Notes what is known of them from now on.
    #[inline(always)]
    pub fn set_kept(&self, kept: u8) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Notes that something is, or is not any more.
    pub fn mark(&self, mark: u8, set: bool) {
        let others = self.marks() & !mark;
        self.marks.store(others | if set { mark } else { 0 }, Ordering::Relaxed);
    }
}
