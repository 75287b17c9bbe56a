//! Tries the control OS's calls through `/dev/control`: what they do, what they refuse, and who is told of ends.

use std::{
    arch::global_asm,
    error::Error,
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    slice, thread,
};

use handover_abi::{Account, Call, EndReason, Error as Refused, PartitionId, layout::MEMORY_BASE};
use handover_control::{Calls, Cause, DEVICE, Device, Ended, Event, Machine, REGISTERS, Setup, Signals};

// A guest that folds 64-bit words into one, each rotated further than those after it, and exits with the sum. `x0`: how many, then the words.
global_asm!(
    ".global sum_guest, sum_guest_end",
    "sum_guest:",
    "ldr x2, [x0], #8",
    "mov x1, xzr",
    "1: ldr x3, [x0], #8",
    "eor x1, x3, x1, ror #63",
    "subs x2, x2, #1",
    "b.ne 1b",
    "movz w0, #2",
    "movk w0, #0xc600, lsl #16",
    "hvc #0",
    "b .",
    "sum_guest_end:",
);

fn guest() -> &'static [u8] {
    unsafe extern "C" {
        static sum_guest: u8;
        static sum_guest_end: u8;
    }
    // SAFETY: the two symbols are the start and the end of code above.
    unsafe {
        slice::from_raw_parts(
            &raw const sum_guest,
            (&raw const sum_guest_end).addr() - (&raw const sum_guest).addr(),
        )
    }
}

/// Where the words go in the guest's memory.
const WORDS: u64 = MEMORY_BASE + 0x10_0000;
/// More than one call's worth, and no multiple of a page.
const COUNT: usize = 40_001;
const MEMORY: u64 = 4 << 20;

fn words() -> Vec<u64> {
    (1..=COUNT as u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0u64, |sum, word| sum.rotate_left(1) ^ word)
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let machine = Machine::open()?;
    refusals(&machine)?;
    let mut signals = Signals::open()?;
    let listener = thread::spawn(told_once);
    let setup = Setup::new("sum", 1, MEMORY);
    let partition = machine.create_empty(&setup)?;
    println!("privileged: made {}", partition.id() != machine.own()?.id());
    // Not on a page boundary, so that every page of it ends in the middle of one there.
    let words = words();
    let content = [vec![0; 3], (COUNT as u64).to_le_bytes().to_vec(), bytes(&words)].concat();
    partition.write(WORDS, &content[3..])?;
    partition.write(MEMORY_BASE, guest())?;
    partition.start_at(MEMORY_BASE, WORDS)?;
    let Ended { reason, status } = partition.wait()?;
    println!("privileged: {reason:?}, sum {}", if status == sum(&words) { "right" } else { "wrong" });
    let told = signals.next()?;
    println!(
        "privileged: told {}",
        told == Event::Ended { partition: partition.id(), reason: EndReason::Exited }
    );
    println!(
        "privileged: another thread {}",
        listener.join().is_ok_and(|told| told.is_ok_and(|id| id == partition.id()))
    );
    partition.destroy()?;
    println!("privileged: gone {:?}", partition.state().unwrap_err().control());
    limits(&machine)?;
    println!("privileged: all done");
    Ok(())
}

/// Waits for the first end, by `poll`.
fn told_once() -> io::Result<PartitionId> {
    let mut signals = Signals::open()?;
    let mut watched = libc::pollfd { fd: signals.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives as long as the call.
    if unsafe { libc::poll(&raw mut watched, 1, -1) } != 1 {
        return Err(io::Error::last_os_error());
    }
    match signals.next()? {
        Event::Ended { partition, .. } => Ok(partition),
        Event::Other { .. } => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn refusals(machine: &Machine) -> Result<(), Box<dyn Error>> {
    let device = Device::open()?;
    let call = |number: u64| {
        let mut registers = [0; REGISTERS];
        registers[0] = number;
        device.call(&mut registers).map_err(|error| error.raw_os_error())
    };
    for kept in [Call::Receive, Call::RegionCreate, Call::MemoryRemove, Call::SignalNext, Call::End] {
        println!("privileged: {kept:?} {}", call(kept as u64) == Err(Some(libc::EPERM)));
    }
    println!("privileged: unknown {}", call(0xc600_00ff) == Err(Some(libc::EPERM)));
    let errno = |fd: RawFd, address: usize| {
        // SAFETY: the request fails, or writes 144 bytes at the address: none of these addresses is anything's.
        let result = unsafe { libc::ioctl(fd, 0xc090_4801_u32 as _, address) };
        (result < 0).then(|| io::Error::last_os_error().raw_os_error()).flatten()
    };
    let (reader, writer) = (File::open(DEVICE)?, File::options().read(true).write(true).open(DEVICE)?);
    println!("privileged: to be read {}", errno(reader.as_raw_fd(), 0) == Some(libc::EBADF));
    println!("privileged: nowhere {}", errno(writer.as_raw_fd(), 8) == Some(libc::EFAULT));
    let code = guest().as_ptr().addr();
    println!("privileged: into code {}", errno(writer.as_raw_fd(), code & !7) == Some(libc::EFAULT));
    let null = File::open("/dev/null")?;
    println!("privileged: null {}", errno(null.as_raw_fd(), 0) == Some(libc::ENOTTY));
    // From where nothing is, and too much.
    let partition = machine.create_empty(&Setup::new("empty", 1, MEMORY))?;
    let write = |from: u64, bytes: u64| {
        let arguments = [partition.id().get().into(), MEMORY_BASE, from, bytes];
        machine.call("write", None, Call::PartitionWrite, &arguments).unwrap_err().control()
    };
    println!("privileged: from nowhere {:?}", write(8, 100));
    println!("privileged: from the kernel's {:?}", write(0xffff_ff80_4000_0000, 8));
    println!("privileged: too much {:?}", write(guest().as_ptr().addr() as u64, 0x1_0001));
    println!(
        "privileged: beyond {:?}",
        partition.write(MEMORY_BASE + MEMORY - 4, &[0; 8]).unwrap_err().control()
    );
    partition.write(MEMORY_BASE, &[])?;
    partition.destroy()?;
    Ok(())
}

fn limits(machine: &Machine) -> Result<(), Box<dyn Error>> {
    let mut setup = Setup::new("greedy", 1, MEMORY);
    setup.limits.push((Account::Memory, MEMORY / 2));
    let error = machine.create_empty(&setup).unwrap_err();
    println!("privileged: {}", matches!(error.cause, Cause::Limit { account: Account::Memory, .. }));
    println!("privileged: {:?}", machine.partition(PartitionId::new(999)).stop().unwrap_err().control());
    let unknown = Some(Refused::BadHandle);
    println!(
        "privileged: {}",
        machine.partition(PartitionId::new(0)).state().unwrap_err().control() == unknown
    );
    Ok(())
}
