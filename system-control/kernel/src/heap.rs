//! The kernel's heap. Each block is on the account of the user for whom it was taken, until it is given back.

use core::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ops::Range,
    ptr::{self, NonNull},
    slice,
};

use buddy_system_allocator::Heap;
use handover_files::{Payer, USERS_MAX};
use handover_guest::mapping;

/// Blocks of up to 4 GiB.
const ORDER: usize = 33;
/// The smallest block, in bytes: there is a byte with the payer's number for each place where one can begin.
const BLOCK: usize = 32;

struct State {
    heap: Heap<ORDER>,
    first: usize,
    payers: &'static mut [u8],
    own: [usize; USERS_MAX as usize],
    payer: u8,
}

struct Allocator(UnsafeCell<State>);

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(UnsafeCell::new(State {
    heap: Heap::empty(),
    first: 0,
    payers: &mut [],
    own: [0; USERS_MAX as usize],
    payer: 0,
}));

// SAFETY: there is one processor, and the kernel runs with interrupts masked: nobody runs beside it.
unsafe impl Sync for Allocator {}

/// Calls `call` with the state.
fn with<R>(call: impl FnOnce(&mut State) -> R) -> R {
    // SAFETY: see `Allocator`; no `call` below allocates, so there is one reference at a time.
    call(unsafe { &mut *ALLOCATOR.0.get() })
}

/// Bytes that the heap takes for a layout.
fn taken(layout: Layout) -> usize {
    layout.size().max(BLOCK).next_power_of_two().max(layout.align())
}

impl State {
    /// Where the payer of a block is noted.
    fn payer_of(&mut self, block: usize) -> Option<&mut u8> {
        self.payers.get_mut(block.checked_sub(self.first)? / BLOCK)
    }

    fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let size = taken(layout);
        let block = self.heap.alloc(Layout::from_size_align(size, layout.align()).ok()?).ok()?;
        let payer = self.payer;
        *self.payer_of(block.as_ptr().addr())? = payer;
        *self.own.get_mut(usize::from(payer))? += size;
        Some(block)
    }

    /// # Safety
    ///
    /// [`State::alloc`] has returned the block for this layout.
    unsafe fn dealloc(&mut self, block: NonNull<u8>, layout: Layout) {
        let size = taken(layout);
        let payer = self.payer_of(block.as_ptr().addr()).map_or(0, |payer| *payer);
        if let Some(own) = self.own.get_mut(usize::from(payer)) {
            *own = own.saturating_sub(size);
        }
        if let Ok(layout) = Layout::from_size_align(size, layout.align()) {
            // SAFETY: the caller's promise; `alloc` has asked the heap for the same size and alignment.
            unsafe { self.heap.dealloc(block, layout) };
        }
    }
}

// SAFETY: `Heap` hands out blocks of what was given to it, one at a time, that fit the layout.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        with(|state| state.alloc(layout)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller's promise that `alloc` returned the block for this layout.
            with(|state| unsafe { state.dealloc(block, layout) });
        }
    }
}

/// Gives the heap its memory, by intermediate physical addresses.
///
/// # Safety
///
/// Once, before anything is allocated. The memory must be mapped read-write, and nobody may use it otherwise, ever.
pub unsafe fn init(memory: Range<u64>) {
    let (start, end) = (mapping::address(memory.start), mapping::address(memory.end));
    let payers = (end - start) / BLOCK;
    let first = (start + payers).next_multiple_of(BLOCK);
    with(|state| {
        let place = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the caller's promise; what is before `first` is not given to the heap. A byte may have any value, and `alloc` writes it first.
        state.payers = unsafe { slice::from_raw_parts_mut(place, payers) };
        state.first = first;
        // SAFETY: the caller's promise.
        unsafe { state.heap.add_to_heap(first, end) };
    });
}

/// Says on whose account blocks are from now on.
pub fn set_payer(payer: Payer) {
    with(|state| state.payer = payer.user() as u8);
}

/// Bytes that are taken.
pub fn used() -> usize {
    with(|state| state.heap.stats_alloc_actual())
}

/// All bytes.
pub fn total() -> usize {
    with(|state| state.heap.stats_total_bytes())
}

/// Bytes that are free, though not in one piece.
pub fn free() -> usize {
    with(|state| state.heap.stats_total_bytes() - state.heap.stats_alloc_actual())
}

/// How many bytes more a user may have.
pub fn room(payer: Payer) -> u64 {
    with(|state| {
        let own = state.own.get(payer.user() as usize).copied().unwrap_or(0);
        payer.room(state.heap.stats_total_bytes() as u64, state.heap.stats_alloc_actual() as u64, own as u64)
    })
}
