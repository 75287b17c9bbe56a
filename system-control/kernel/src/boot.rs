//! From the entry to the first program, and the end.

use alloc::string::String;
use core::{ptr, slice};

use handover_files::{Files, Limits};
use handover_guest::{
    Status,
    abi::{
        archive::PAGE,
        boot::{BootInfo, MAGIC},
    },
    entry, hvc, mapping, println, start,
};
use handover_kernel::frames::Frames;
use handover_loader::{control::Control, cpio::Archive, hypercalls::Hypercalls};
use handover_manifest::Manifest;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use zerocopy::FromBytes;

use crate::{
    arch::{self, table::zeroed},
    asids::Asids,
    first::First,
    heap, interrupt,
    kernel::{self, Kernel},
};

/// The machine's status where the first program cannot be started (`EX_CONFIG` of sysexits.h).
const STATUS_NOT_STARTED: u64 = 78;
/// So many files there may be at least, those of the boot archive among them.
const INODES_MIN: usize = 1024;

entry!(main);

/// `x0` is the address of a [`BootInfo`].
fn main(x0: u64) {
    match prepare(x0) {
        Ok(kernel) => {
            // SAFETY: once, and no program runs yet.
            unsafe { kernel::install(kernel) };
            arch::take_over(run);
        }
        Err(problem) => {
            println!("system-control: {problem}");
            power_off(STATUS_NOT_STARTED);
        }
    }
}

extern "C" fn run() -> ! {
    // SAFETY: no exception is being dealt with, and nothing else has a reference to the kernel.
    let Some(kernel) = (unsafe { kernel::get() }) else { start::end(Status::FAULT) };
    let registers = kernel.resume();
    // SAFETY: `resume` has put the thread in place; what is on the stack is needed by nobody.
    unsafe { arch::resume(registers) }
}

/// Ends the machine.
pub fn power_off(status: u64) -> ! {
    let error = hvc::machine_off(status);
    println!("the machine cannot be ended with status {status}: {error}");
    start::end(Status::FAILURE)
}

fn prepare(x0: u64) -> Result<Kernel, String> {
    let info = boot_info(x0).ok_or("there is no boot information where x0 points")?;
    let frames = divide_memory(&info)?;
    interrupt::init()
        .map_err(|error| alloc::format!("the interrupt controller cannot be set up: {error}"))?;
    let files = ptr::with_exposed_provenance(mapping::address(info.files_base));
    // SAFETY: the control OS maps the boot archive's files there, read-only and for good, and so does the start code at stage 1.
    let files: &'static [u8] = unsafe { slice::from_raw_parts(files, info.files_size as usize) };
    let archive = Archive::read(files).map_err(|damage| alloc::format!("the boot archive is {damage}"))?;
    let first = first(&archive)?;
    // Half of the heap: a page of a file and its count of users take two pages of it. A quarter for files themselves: a folder with a long
    // name takes a quarter of a page at most.
    let pages = heap::free() as u64 / PAGE;
    let inodes = (pages as usize).clamp(INODES_MIN, Limits::default().inodes);
    let limits = Limits { pages: pages / 4, inodes, ..Limits::default() };
    let files = Files::new(files, limits).map_err(|damage| alloc::format!("the boot archive is {damage}"))?;
    let mut kernel = kernel(frames, files, first)?;
    kernel.begin_first()?;
    Ok(kernel)
}

fn kernel(mut frames: Frames, files: Files, first: First) -> Result<Kernel, String> {
    let seeds = Hypercalls.seeds().ok_or("the control OS has no random numbers")?;
    let nowhere = zeroed(&mut frames).ok_or("there is no memory")?;
    arch::set_address_space(nowhere, 0);
    arch::forget_everything();
    // No program may have more than three quarters, so that others can do something about one that takes all it gets.
    // Of the machine's memory, most is for partitions, which a program makes.
    let machine =
        hvc::machine_info().map_err(|error| alloc::format!("the machine tells nothing: {error}"))?;
    let limits =
        kernel::Limits { space: frames.total() / 4 * 3, call: 512 << 10, regions: machine.free_memory / 4 };
    Ok(Kernel::new(frames, Asids::new(), ChaCha20Rng::from_seed(seeds.random), limits, nowhere, files, first))
}

fn first(archive: &Archive<'_>) -> Result<First, String> {
    let packed = archive.file("manifest").ok_or("the boot archive has no manifest")?;
    let manifest = Manifest::unpack(packed.data).map_err(|error| alloc::format!("{error}"))?;
    Ok(First::new(&manifest.system_control.command_line))
}

/// A third of the memory behind the image is the kernel's heap, the rest is for programs.
fn divide_memory(info: &BootInfo) -> Result<Frames, String> {
    let begin = start::image_end().next_multiple_of(PAGE);
    let end = info.memory_base + info.memory_size - PAGE;
    let size = end.checked_sub(begin).ok_or("system-control has too little memory")?;
    let middle = begin + (size / 3).next_multiple_of(PAGE);
    // SAFETY: this partition's memory behind the image, which the start code maps read-write, but for the last page with `BootInfo`;
    // `main` is called once, so it is given once, and the frames are what is left.
    unsafe { heap::init(begin..middle) };
    Ok(Frames::new(&(middle..end)))
}

fn boot_info(x0: u64) -> Option<BootInfo> {
    let bytes = ptr::with_exposed_provenance(mapping::address(x0));
    // SAFETY: the control OS starts system-control with `x0` inside its memory, in the last page, which nothing else uses.
    let bytes = unsafe { slice::from_raw_parts(bytes, size_of::<BootInfo>()) };
    BootInfo::read_from_bytes(bytes).ok().filter(|info| info.magic == MAGIC)
}
