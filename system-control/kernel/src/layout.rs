//! Where things are in a program's address space, which has 39 bits.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// The lowest address that can be mapped: a null pointer with an offset faults.
pub const USER_BASE: u64 = 0x1_0000;
/// The first address behind a program's.
pub const USER_END: u64 = 1 << 39;
/// The page with the code that a signal handler returns to.
pub const TRAMPOLINE: u64 = USER_END - 2 * PAGE;
/// Where the stack ends.
pub const STACK_TOP: u64 = TRAMPOLINE - 16 * PAGE;
/// Bytes that the stack may take.
pub const STACK_SIZE: u64 = 8 << 20;
/// Mappings without an address go below this, the highest first.
pub const MAPPING_TOP: u64 = STACK_TOP - STACK_SIZE - (1 << 20);
/// Where a position-independent program goes.
pub const PIE_BASE: u64 = 0x2a_aaaa_0000;
/// Bytes that a program's heap (brk) may take.
pub const BREAK_MAX: u64 = 1 << 30;

/// Rounded down to a page.
#[must_use]
pub const fn page_floor(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// Rounded up to a page.
#[must_use]
pub const fn page_ceiling(address: u64) -> Option<u64> {
    match address.checked_add(PAGE - 1) {
        Some(address) => Some(page_floor(address)),
        None => None,
    }
}
