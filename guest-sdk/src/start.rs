//! From the first instruction to the program's `main`.
//!
//! The start code is assembly (`start.s`), because Rust code may not run before the MMU and the caches are on: with the MMU
//! off all memory is Device memory, where atomics and unaligned accesses fault (Arm ARM B2.7.2).

use core::{
    fmt::Display,
    ptr, slice,
    sync::atomic::{AtomicBool, Ordering},
};

use handover_abi::layout::MEMORY_BASE;

use crate::{Boot, hvc, interrupts, mapping, println, psci};

core::arch::global_asm!(include_str!("start.s"), UPPER_TCR = const UPPER_TCR);

core::arch::global_asm!(include_str!("copy.s"));

/// TCR_EL1 for the upper half of the address space: EPD1, no walks; with feature `upper`: T1SZ 25, walks write-back and inner
/// shareable, 4 KiB.
const UPPER_TCR: u64 =
    if cfg!(feature = "upper") { 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30 } else { 1 << 23 };

/// What `main` can take: made from `x0` as it was at the entry.
pub trait StartArgument {
    /// Makes the argument.
    ///
    /// # Safety
    ///
    /// `x0` must be what the partition was started with, and this must be the only call.
    unsafe fn from_x0(x0: u64) -> Self;
}

impl StartArgument for u64 {
    unsafe fn from_x0(x0: u64) -> u64 {
        x0
    }
}

impl StartArgument for Boot {
    unsafe fn from_x0(x0: u64) -> Boot {
        // QEMU without the control OS leaves x0 alone and the device tree at the start of memory.
        let address = if x0 == 0 { MEMORY_BASE } else { x0 };
        let blob = ptr::with_exposed_provenance::<u8>(mapping::address(address));
        // SAFETY: the partition is started with the address of a device tree, whose first 8 bytes are magic and size.
        let size = unsafe { blob.add(4).cast::<u32>().read_unaligned() }.swap_bytes();
        // SAFETY: the tree has that size, and nothing writes to it.
        let blob = unsafe { slice::from_raw_parts(blob, size as usize) };
        let boot = Boot::new(blob).unwrap_or_else(|error| panic!("{error} ({x0:#x})"));
        interrupts::init().unwrap_or_else(|error| panic!("interrupt controller: {error}"));
        boot
    }
}

/// The first intermediate physical address behind the program: code, data, stacks. From there on memory is unused.
#[must_use]
pub fn image_end() -> u64 {
    unsafe extern "C" {
        static __image_end: u8;
    }
    mapping::ipa((&raw const __image_end).addr())
}

/// How a program ended: the exit status of its partition. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u64);

impl Status {
    /// All went well.
    pub const SUCCESS: Status = Status(0);
    /// `main` returned an error.
    pub const FAILURE: Status = Status(1);
    /// The program panicked.
    pub const PANIC: Status = Status(101);
    /// An exception that nothing caught.
    pub const FAULT: Status = Status(102);
}

/// What `main` can return.
pub trait Termination {
    /// The partition's exit status.
    fn status(self) -> Status;
}

impl Termination for Status {
    fn status(self) -> Status {
        self
    }
}

impl Termination for () {
    fn status(self) -> Status {
        Status::SUCCESS
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn status(self) -> Status {
        match self {
            Ok(value) => value.status(),
            Err(error) => {
                println!("error: {error}");
                Status::FAILURE
            }
        }
    }
}

/// Set by the first `end`: what fails after it must not end the partition in the same way again.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the partition.
pub fn end(status: Status) -> ! {
    if !ENDING.swap(true, Ordering::Relaxed) {
        hvc::end(status.0);
    }
    // Nobody answers the call, so this is not a partition; PSCI may still be there.
    psci::system_off()
}

/// Runs `main` and ends the partition with what it returns. For [`entry!`](crate::entry).
pub fn run<A: StartArgument, T: Termination>(main: fn(A) -> T, x0: u64) -> ! {
    // SAFETY: the start code calls `handover_start`, which `entry!` defines and which calls this, once with the `x0` it got.
    let argument = unsafe { A::from_x0(x0) };
    end(main(argument).status())
}

/// Makes a function the program's `main`.
///
/// It takes a [`Boot`], or a `u64` for whatever `x0` held, and returns a [`Status`], `()`, or a
/// `Result` of them.
///
/// ```ignore
/// #![no_std]
/// #![no_main]
///
/// use handover_guest::{Boot, entry, println};
///
/// entry!(main);
///
/// fn main(boot: Boot) {
///     println!("{} MiB of memory", boot.memory_size() >> 20);
/// }
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: the start code alone calls the symbol, which this macro alone defines.
        #[unsafe(export_name = "handover_start")]
        extern "C" fn __handover_start(x0: u64) -> ! {
            $crate::start::run($main, x0)
        }
    };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    crate::console::print_anyway(format_args!("{info}\n"));
    end(Status::PANIC)
}
