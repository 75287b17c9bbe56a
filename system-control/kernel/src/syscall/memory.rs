//! Memory.

use alloc::rc::Rc;
use core::ops::Range;

use handover_files::{Fd, PageSource};
use handover_kernel::{
    Errno,
    areas::{Protection, user_range},
    layout::PAGE,
};
use linux_raw_sys::general as linux;

use super::{Outcome, Stop, file::with};
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
    let place = place(address, flags);
    let anonymous = flags & linux::MAP_ANONYMOUS != 0;
    if !anonymous && with(kernel, |caller| caller.is_socket(fd as Fd))? {
        return map_message(kernel, fd as Fd, place, [length, offset], shared, protection);
    }
    let stuff = if !anonymous {
        source(kernel, fd as Fd, [length, offset], shared, protection)?
    } else if shared {
        Stuff::Shared { pages: Rc::new(SharedPages::default()), offset: 0 }
    } else {
        Stuff::Anonymous
    };
    if let Place::Fixed(address) = place {
        discard_regions(kernel, &user_range(address, length)?)?;
    }
    let region = stuff.region().cloned();
    let space = kernel.space()?;
    let mut space = space.borrow_mut();
    let start = space.map_area(&mut kernel.frames, place, length, protection, stuff)?;
    if let Some(region) = region {
        region.add_place(space.id, start..start + length.next_multiple_of(PAGE));
    }
    Ok(start)
}

/// `mmap` on a socket: a region to send, mapped anywhere.
fn map_message(
    kernel: &mut Kernel,
    fd: Fd,
    place: Place,
    [length, offset]: [u64; 2],
    shared: bool,
    protection: Protection,
) -> Outcome {
    let usable = protection == Protection::READ | Protection::WRITE;
    if !shared || !usable || offset != 0 || !matches!(place, Place::Anywhere(_)) {
        return Err(Errno::INVAL.into());
    }
    Ok(with(kernel, |caller| caller.map_new(fd, length))?.0)
}

/// Discards the regions that sockets have mapped in a range, which must not cut any of them.
fn discard_regions(kernel: &mut Kernel, range: &Range<u64>) -> Result<(), Stop> {
    let regions = kernel.space()?.borrow().regions_in(range);
    if regions.iter().any(|region| region.start < range.start || range.end < region.end) {
        return Err(Errno::INVAL.into());
    }
    regions.into_iter().try_for_each(|region| with(kernel, |caller| caller.discard_mapped(region.start)))
}

/// The pages of a file that are to be mapped.
fn source(
    kernel: &mut Kernel,
    fd: Fd,
    [length, offset]: [u64; 2],
    shared: bool,
    protection: Protection,
) -> Result<Stuff, Errno> {
    if length == 0 || !offset.is_multiple_of(PAGE) {
        return Err(Errno::INVAL);
    }
    // No file has a byte there; what is below it can grow by all of an address space, and its offsets do not wrap.
    if i64::try_from(offset).is_err() {
        return Err(Errno::OVERFLOW);
    }
    let writes = protection.contains(Protection::WRITE);
    kernel.with_files(|caller, _| caller.check_map(fd, shared, writes))??;
    if kernel.with_files(|caller, _| caller.is_message(fd))?? {
        return message(kernel, fd, offset, shared, protection);
    }
    kernel.with_files(|caller, _| {
        let hold = caller.hold(fd)?;
        // A page of the archive cannot be written, and one that is not whole cannot be shared, but only be copied.
        let source = FileSource::new(caller, &hold, offset / PAGE, length.div_ceil(PAGE), shared);
        caller.files.release(hold, caller.system);
        let file = Rc::new(source?);
        Ok(if shared { Stuff::SharedFile { file, offset } } else { Stuff::File { file, offset } })
    })?
}

/// A message file's region: there are no copies of one, and it is never executed.
fn message(
    kernel: &mut Kernel,
    fd: Fd,
    offset: u64,
    shared: bool,
    protection: Protection,
) -> Result<Stuff, Errno> {
    if !shared {
        return Err(Errno::NODEV);
    }
    if protection.contains(Protection::EXECUTE) {
        return Err(Errno::ACCES);
    }
    let (hold, region) = kernel.with_files(|caller, _| {
        let hold = caller.hold(fd)?;
        match caller.page(&hold, 0, true) {
            Ok(Some(PageSource::Region { region, .. })) => Ok((hold, Some(region))),
            Ok(_) => Ok((hold, None)),
            Err(failed) => {
                caller.files.release(hold, caller.system);
                Err(failed)
            }
        }
    })??;
    Ok(Stuff::Region { mapping: kernel.regions.map(region, Some(hold)), offset })
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
    discard_regions(kernel, &range)?;
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
    if protection.contains(Protection::EXECUTE) && space.borrow().has_region(&range) {
        return Err(Errno::ACCES.into());
    }
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
    if space.borrow().has_region(&old) {
        return Err(Errno::INVAL.into());
    }
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
