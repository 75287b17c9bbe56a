//! The control OS's calls, for programs that have `/dev/control` open.

use alloc::vec::Vec;

use handover_files::{Fd, interface::CONTROL_REGISTERS};
use handover_guest::{
    Error,
    abi::{Call, layout::WRITE_MAX},
    hvc, mapping,
};
use handover_kernel::{Errno, fault::Access};

use super::{Outcome, file::with};
use crate::{kernel::Kernel, memory::Fault};

/// `x0` to `x17`.
type Registers = [u64; CONTROL_REGISTERS];

/// Calls from this one on need the privilege.
const PRIVILEGED: u32 = Call::PartitionCreate as u32;

/// The `ioctl` that makes a call: the registers are read from `argument`, and left there as the call leaves them.
pub fn call(kernel: &mut Kernel, which: u64, argument: u64) -> Outcome {
    with(kernel, |caller| caller.check_control(which as Fd))?;
    let mut registers: Registers = kernel.read_words(argument)?;
    // What cannot be told must not be done.
    kernel.write_words(argument, &registers)?;
    match permitted(registers[0])? {
        Call::PartitionWrite => write(kernel, &mut registers)?,
        // SAFETY: none of these takes memory away from this partition, but for what the kernel has no reference to: a device's registers.
        _ => registers = unsafe { hvc::raw(registers) },
    }
    kernel.write_words(argument, &registers)?;
    Ok(0)
}

/// The call that `x0` names, if programs may make it: privileged ones, and those that only tell. The others are about what is the
/// kernel's own: ports, regions, events, memory.
fn permitted(x0: u64) -> Result<Call, Errno> {
    match Call::try_from(x0).map_err(|_| Errno::PERM)? {
        call @ (Call::Version | Call::Identify | Call::AccountRead | Call::CountersRead) => Ok(call),
        call if call as u32 >= PRIVILEGED => Ok(call),
        _ => Err(Errno::PERM),
    }
}

/// `PartitionWrite` with an address of the program's. No program runs meanwhile, so the control OS copies from where its pages lie: in
/// several calls, since pages that are neighbours there need not be neighbours in memory. When one fails, those before it were made.
fn write(kernel: &mut Kernel, registers: &mut Registers) -> Result<(), Errno> {
    let made = *registers;
    let [_, _, to, from, length, ..] = made;
    if length > WRITE_MAX {
        registers[0] = Error::InvalidArgument.to_x0();
        return Ok(());
    }
    let pieces = match pieces(kernel, from, length) {
        Ok(pieces) => pieces,
        Err(Fault::OutOfMemory) => return Err(Errno::NOMEM),
        Err(_) => {
            registers[0] = Error::BadAddress.to_x0();
            return Ok(());
        }
    };
    let mut done = 0;
    for (place, size) in pieces {
        let mut piece = made;
        (piece[2], piece[3], piece[4]) = (to.wrapping_add(done), place, size);
        // SAFETY: the call reads memory, and changes none of this partition's.
        let result = unsafe { hvc::raw(piece) };
        registers[0] = result[0];
        if result[0] != 0 {
            // What the error is about.
            registers[1] = result[1];
            return Ok(());
        }
        done += size;
    }
    Ok(())
}

/// Where a range of the caller's memory lies: addresses and sizes, one at least.
fn pieces(kernel: &mut Kernel, from: u64, length: u64) -> Result<Vec<(u64, u64)>, Fault> {
    let space = kernel.space().map_err(|_| Fault::Unmapped)?;
    let mut space = space.borrow_mut();
    let mut pieces: Vec<(u64, u64)> = Vec::new();
    let mut done = 0;
    while done < length {
        let at = from.checked_add(done).ok_or(Fault::Unmapped)?;
        let (place, room) = match space.lies_in_archive(at, length - done) {
            Some(lies) => lies,
            None => {
                let (place, room) = space.translate(&mut kernel.frames, at, Access::Read)?;
                (mapping::ipa(place), room as u64)
            }
        };
        let size = room.min(length - done);
        match pieces.last_mut() {
            Some((start, before)) if *start + *before == place => *before += size,
            _ => pieces.push((place, size)),
        }
        done += size;
    }
    if pieces.is_empty() {
        pieces.push((0, 0));
    }
    Ok(pieces)
}
