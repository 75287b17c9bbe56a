//! A global allocator over the memory that the program does not use otherwise (feature `alloc`).

use core::{
    alloc::{GlobalAlloc, Layout},
    ops::Range,
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, Ordering},
};

use buddy_system_allocator::Heap;

use crate::{Boot, interrupts::Masked, mapping, processor::Lock};

/// Blocks of up to 4 GiB.
const ORDER: usize = 33;

struct Allocator(Lock<Heap<ORDER>>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Lock::new(Heap::empty()));

// SAFETY: `Heap` hands out blocks of what was given to it, one at a time under the lock, that fit the layout.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _masked = Masked::new();
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _masked = Masked::new();
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise that `alloc` returned the block for this layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}

/// Gives the allocator all memory behind the program's image. Only the first call does anything.
pub fn init(boot: &Boot) {
    static DONE: AtomicBool = AtomicBool::new(false);
    let memory = crate::start::image_end()..boot.memory().end;
    if !DONE.swap(true, Ordering::Relaxed) && !memory.is_empty() {
        // SAFETY: mapped read-write by the start code, behind everything the linker has placed, and given once.
        unsafe { add(memory) };
    }
}

/// Gives the allocator memory, by its intermediate physical addresses.
///
/// # Safety
///
/// It must be mapped read-write, and nobody may use it otherwise, ever.
pub unsafe fn add(memory: Range<u64>) {
    let _masked = Masked::new();
    let (start, end) = (mapping::address(memory.start), mapping::address(memory.end));
    // SAFETY: the caller's promise.
    unsafe { ALLOCATOR.0.lock().add_to_heap(start, end) };
}

/// Bytes that are taken.
#[must_use]
pub fn used() -> usize {
    let _masked = Masked::new();
    ALLOCATOR.0.lock().stats_alloc_actual()
}

/// Bytes that are free, though not in one piece.
#[must_use]
pub fn free() -> usize {
    let _masked = Masked::new();
    let heap = ALLOCATOR.0.lock();
    heap.stats_total_bytes() - heap.stats_alloc_actual()
}
