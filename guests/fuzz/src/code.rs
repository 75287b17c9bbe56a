//! Code that is made while the program runs, and addresses that stage 1 lets it execute.

use core::{arch::asm, cell::UnsafeCell};

use handover_guest::{
    abi::layout::{MEMORY_BASE, PROCESSORS_MAX},
    fault::{self, Fault},
};

use crate::window::{GIB, QUIET, Slots};

/// Entries of the SDK's level-1 table that map, GiB by GiB, memory that no partition of the test has.
const FIRST_ENTRY: u64 = 160;
/// Valid block, Normal, inner shareable, read-only, accessed, UXN: executable at EL1.
const BLOCK: u64 = 1 | 1 << 2 | 1 << 7 | 3 << 8 | 1 << 10 | 1 << 54;
/// `RET`.
const RET: u32 = 0xd65f_03c0;

/// What is executable at other addresses.
#[derive(Clone, Copy)]
pub(crate) enum Alias {
    /// The program's own memory.
    Memory,
    /// GIC and UART.
    Devices,
    /// A GiB where nothing is.
    Nothing,
    /// A processor's small regions.
    Window(usize),
}

impl Alias {
    fn entry(self) -> u64 {
        FIRST_ENTRY
            + match self {
                Alias::Memory => 0,
                Alias::Devices => 1,
                Alias::Nothing => 2,
                Alias::Window(processor) => 3 + processor as u64,
            }
    }
}

/// Where its GiB is executable.
pub(crate) fn alias(alias: Alias) -> u64 {
    alias.entry() * GIB
}

/// Makes all of them, before other processors start.
pub(crate) fn init() {
    let window = |processor| (Alias::Window(processor), Slots::new(processor).base());
    for (alias, address) in [(Alias::Memory, MEMORY_BASE), (Alias::Devices, 0), (Alias::Nothing, QUIET)]
        .into_iter()
        .chain((0..PROCESSORS_MAX as usize).map(window))
    {
        let ttbr0: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, ttbr0_el1", out(reg) ttbr0, options(nomem, nostack)) };
        let entry = (ttbr0 + 8 * alias.entry()) as *mut u64;
        // SAFETY: an entry of the start code's level-1 table, which nothing else writes; nothing uses the addresses it maps. Break before
        // make: Arm ARM D8.16.
        unsafe {
            entry.write_volatile(0);
            asm!("dsb sy", "tlbi vmalle1is", "dsb sy", "isb", options(nostack));
            entry.write_volatile(address | BLOCK);
            asm!("dsb sy", "isb", options(nostack));
        }
    }
}

/// Calls what is at `address`, with `x0` as given; its `x0`.
pub(crate) fn run(address: u64, x0: u64) -> Result<u64, Fault> {
    fault::catch(|| {
        let mut value = x0;
        // SAFETY: one instruction and a RET that keep to the procedure call standard, or a fault, which is caught.
        unsafe { asm!("blr {}", in(reg) address, inlateout("x0") value, clobber_abi("C")) };
        value
    })
}

#[repr(align(4096))]
struct Pages(UnsafeCell<[[u32; 1024]; PROCESSORS_MAX as usize]>);

// SAFETY: each processor uses its own page.
unsafe impl Sync for Pages {}

static CODE: Pages = Pages(UnsafeCell::new([[0; 1024]; PROCESSORS_MAX as usize]));
static SCRATCH: Pages = Pages(UnsafeCell::new([[0; 1024]; PROCESSORS_MAX as usize]));

/// The address of a page that a processor's instructions may write to.
pub(crate) fn scratch(processor: usize) -> u64 {
    SCRATCH.0.get().cast::<[u32; 1024]>().wrapping_add(processor).addr() as u64
}

/// Executes one instruction, which may change `x0`, `x16`, `x17`, `x30`, flags, and memory in [`scratch`].
pub(crate) fn execute(processor: usize, instruction: u32, x0: u64) -> Result<u64, Fault> {
    let pointer = CODE.0.get().cast::<[u32; 1024]>().wrapping_add(processor).cast::<u32>();
    // SAFETY: within this processor's page; the two instructions are seen by its own fetches, at the other address, once this is through
    // (Arm ARM B2.3.9).
    unsafe {
        pointer.write_volatile(instruction);
        pointer.add(1).write_volatile(RET);
        asm!("dc cvau, {0}", "dsb ish", "ic ivau, {1}", "dsb ish", "isb", in(reg) pointer, in(reg) executable(pointer), options(nostack));
    }
    run(executable(pointer), x0)
}

fn executable(pointer: *mut u32) -> u64 {
    alias(Alias::Memory) + (pointer.addr() as u64 - MEMORY_BASE)
}
