//! Memory.

use alloc::rc::Rc;

use handover_files::Fd;
use handover_unix::{
    Errno,
    areas::{Protection, user_range},
    layout::PAGE,
};
use linux_raw_sys::general as linux;

use super::Outcome;
use crate::{
    kernel::Kernel,
    memory::{Place, Stuff},
    shared::SharedPages,
    source::FileSource,
};

/// `mmap`.
pub fn map(kernel: &mut Kernel, [address, length, protection, flags, fd, offset]: [u64; 6]) -> Outcome {
    let protection = Protection::new(protection)?;
    let flags = flags as u32;
    let shared = match flags & linux::MAP_TYPE {
        linux::MAP_PRIVATE => false,
        linux::MAP_SHARED | linux::MAP_SHARED_VALIDATE => true,
        _ => return Err(Errno::INVAL.into()),
    };
    let stuff = if flags & linux::MAP_ANONYMOUS == 0 {
        let file = source(kernel, fd as Fd, [length, offset], shared, protection)?;
        if shared { Stuff::SharedFile { file, offset } } else { Stuff::File { file, offset } }
    } else if shared {
        Stuff::Shared { pages: Rc::new(SharedPages::default()), offset: 0 }
    } else {
        Stuff::Anonymous
    };
    let place = place(address, flags);
    let space = kernel.space()?;
    Ok(space.borrow_mut().map_area(&mut kernel.frames, place, length, protection, stuff)?)
}

/// The pages of a file that are to be mapped.
fn source(
    kernel: &mut Kernel,
    fd: Fd,
    [length, offset]: [u64; 2],
    shared: bool,
    protection: Protection,
) -> Result<Rc<FileSource>, Errno> {
    if length == 0 || !offset.is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    kernel.with_files(|caller, _| {
        let writes = protection.contains(Protection::WRITE);
        caller.check_map(fd, shared, writes)?;
        let hold = caller.hold(fd)?;
        // A page of the archive cannot be written, and one that is not whole cannot be shared, but only be copied.
        let source = FileSource::new(caller, &hold, offset / PAGE, length.div_ceil(PAGE), shared);
        caller.files.release(hold, caller.system);
        source.map(Rc::new)
    })?
}

fn place(address: u64, flags: u32) -> Place {
    if flags & linux::MAP_FIXED_NOREPLACE != 0 {
        Place::Free(address)
    } else if flags & linux::MAP_FIXED != 0 {
        Place::Fixed(address)
    } else {
        Place::Anywhere(address)
    }
}

/// `munmap`.
pub fn unmap(kernel: &mut Kernel, address: u64, length: u64) -> Outcome {
    let range = user_range(address, length).map_err(|_| Errno::INVAL)?;
    let space = kernel.space()?;
    space.borrow_mut().unmap(&mut kernel.frames, &range)?;
    Ok(0)
}

/// `mprotect`.
pub fn protect(kernel: &mut Kernel, address: u64, length: u64, protection: u64) -> Outcome {
    let protection = Protection::new(protection)?;
    if length == 0 {
        return Ok(0);
    }
    let range = user_range(address, length)?;
    let space = kernel.space()?;
    space.borrow_mut().protect(&mut kernel.frames, &range, protection)?;
    Ok(0)
}

/// `mremap`.
pub fn remap(kernel: &mut Kernel, address: u64, old_length: u64, length: u64, flags: u64) -> Outcome {
    let flags = flags as u32;
    if flags & !linux::MREMAP_MAYMOVE != 0 {
        return Err(Errno::INVAL.into());
    }
    let old = user_range(address, old_length)?;
    let space = kernel.space()?;
    let moved =
        space.borrow_mut().resize(&mut kernel.frames, old, length, flags & linux::MREMAP_MAYMOVE != 0)?;
    Ok(moved)
}

/// `madvise`: what has an effect that a program can see is carried out, other advice is taken note of by nobody.
pub fn advise(kernel: &mut Kernel, address: u64, length: u64, advice: u64) -> Outcome {
    if length == 0 {
        return Ok(0);
    }
    let range = user_range(address, length)?;
    if advice as u32 == linux::MADV_DONTNEED {
        let space = kernel.space()?;
        space.borrow_mut().discard(&mut kernel.frames, &range)?;
    }
    Ok(0)
}

/// `brk`.
pub fn set_break(kernel: &mut Kernel, end: u64) -> Outcome {
    let space = kernel.space()?;
    let end = space.borrow_mut().set_end(&mut kernel.frames, end);
    Ok(end)
}

/// `membarrier`: there is one processor, and coming here was a barrier already.
pub fn barrier(command: u64) -> Outcome {
    use linux::membarrier_cmd as Command;
    let known = Command::MEMBARRIER_CMD_GLOBAL as u64
        | Command::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u64
        | Command::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u64;
    match command {
        0 => Ok(known),
        command if command & known == command => Ok(0),
        _ => Err(Errno::INVAL.into()),
    }
}
