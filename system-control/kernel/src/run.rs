//! From the entry to the machine's end.

use core::{ptr, slice};

use handover_guest::{
    abi::{
        archive::PAGE,
        boot::{BootInfo, MAGIC},
    },
    entry, events, heap, hvc, interrupts, println, start,
};
use handover_loader::{control::Control, hypercalls::Hypercalls};
use system_control::{
    supervise::{STATUS_FAULT, STATUS_NOT_STARTED},
    system::System,
};
use zerocopy::FromBytes;

entry!(main);

/// `x0` is the address of a [`BootInfo`].
fn main(x0: u64) {
    let status = boot(x0);
    let error = hvc::machine_off(status);
    println!("the machine cannot be ended with status {status}: {error}");
}

/// Runs the system to its end, and returns the machine's status.
fn boot(x0: u64) -> u64 {
    let Some(info) = boot_info(x0) else {
        println!(
            "there is no boot information where x0 points: boot the control OS, not system-control itself"
        );
        return STATUS_NOT_STARTED;
    };
    let unused = start::image_end()..info.memory_base + info.memory_size - PAGE;
    // SAFETY: this partition's memory behind the image, which the start code maps read-write, but for the last page with `BootInfo`;
    // `main` is called once, so it is given once.
    unsafe { heap::add(unused) };
    if let Err(error) = interrupts::init() {
        println!("the interrupt controller cannot be set up: {error}");
        return STATUS_NOT_STARTED;
    }
    let files = ptr::with_exposed_provenance(info.files_base as usize);
    // SAFETY: the control OS maps the boot archive's files there, read-only and for good, and the start code maps them at
    // stage 1.
    let files = unsafe { slice::from_raw_parts(files, info.files_size as usize) };
    match System::boot(&mut Hypercalls, files) {
        Ok(mut system) => supervise(&mut system),
        Err(failure) => {
            println!("{failure}");
            STATUS_NOT_STARTED
        }
    }
}

fn boot_info(x0: u64) -> Option<BootInfo> {
    let bytes = ptr::with_exposed_provenance(x0 as usize);
    // SAFETY: the control OS starts system-control with `x0` inside its memory, in the last page, which nothing else uses.
    let bytes = unsafe { slice::from_raw_parts(bytes, size_of::<BootInfo>()) };
    BootInfo::read_from_bytes(bytes).ok().filter(|info| info.magic == MAGIC)
}

/// Answers control signals until the machine is to end, and returns its status.
fn supervise(system: &mut System<'_>) -> u64 {
    let control = &mut Hypercalls;
    loop {
        // An event tells of a signal that reached an empty port, so all that are there have to be taken.
        match hvc::signal_next() {
            Ok(Some(signal)) => {
                if let Some(status) = system.answer(control, signal) {
                    return status;
                }
            }
            Ok(None) => {
                if let Err(error) = events::wait() {
                    control.say(format_args!("events cannot be waited for: {error}"));
                    return STATUS_FAULT;
                }
            }
            Err(error) => {
                control.say(format_args!("a control signal cannot be read: {error}"));
                return STATUS_FAULT;
            }
        }
    }
}
