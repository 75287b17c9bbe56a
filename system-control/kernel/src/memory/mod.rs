//! Programs' address spaces.

mod access;
mod calls;
mod fault;
mod regions;
mod stuff;

use handover_guest::mapping;
use handover_kernel::{
    Errno,
    areas::{Area, Areas, Protection},
    frames::Frames,
    layout::{PAGE, TRAMPOLINE},
};

use self::regions::is_region;
use crate::arch::{
    self,
    table::{Entry, Table, zeroed},
};

pub use self::{calls::Place, stuff::Stuff};

/// Why a touch of memory cannot be let go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is mapped there.
    Unmapped,
    /// The area does not allow it.
    Denied,
    /// The file ends before it, or cannot be read.
    Bus,
    /// There is no memory for it.
    OutOfMemory,
}

/// An address space.
pub struct Space {
    /// Never used again for another.
    pub id: u64,
    /// What tells its translations from others' in TLBs.
    pub asid: u16,
    table: Table,
    areas: Areas<Stuff>,
    /// Its pages but for regions', each counted as a whole though it may be shared.
    resident: u64,
    /// The most frames, those of its tables among them.
    limit: u64,
    break_start: u64,
    break_end: u64,
}

impl Space {
    /// An empty one, but for the page that signal handlers return to.
    pub fn new(frames: &mut Frames, id: u64, asid: u16, limit: u64) -> Result<Space, Errno> {
        let table = Table::new(frames).ok_or(Errno::NOMEM)?;
        let mut space = Space {
            id,
            asid,
            table,
            areas: Areas::default(),
            resident: 0,
            limit,
            break_start: 0,
            break_end: 0,
        };
        match space.add_trampoline(frames) {
            Ok(()) => Ok(space),
            Err(errno) => {
                space.destroy(frames);
                Err(errno)
            }
        }
    }

    fn add_trampoline(&mut self, frames: &mut Frames) -> Result<(), Errno> {
        let code = Protection::READ | Protection::EXECUTE;
        self.areas.insert(TRAMPOLINE..TRAMPOLINE + PAGE, code, Stuff::Anonymous)?;
        let frame = self.fresh(frames).map_err(|_| Errno::NOMEM)?;
        let trampoline = arch::trampoline();
        // SAFETY: a frame that is this space's alone, in the kernel's map, and larger than that.
        unsafe { arch::frame(frame).copy_from_nonoverlapping(trampoline.as_ptr(), trampoline.len()) };
        arch::synchronize_code(mapping::address(frame), 8);
        self.map(frames, TRAMPOLINE, frame, code).map_err(|_| Errno::NOMEM)
    }

    /// Gives everything back.
    pub fn destroy(self, frames: &mut Frames) {
        for mapping in self.areas.iter().filter_map(|(_, area)| area.backing.region()) {
            mapping.forget_space(self.id);
        }
        arch::forget_all(self.asid);
        self.table.clear(frames);
    }

    /// The root of its table.
    pub fn root(&self) -> u64 {
        self.table.root()
    }

    /// Where the heap starts and ends; for the program that is being loaded.
    pub fn set_break(&mut self, start: u64) {
        (self.break_start, self.break_end) = (start, start);
    }

    /// Bytes in all areas, and of pages that are there.
    pub fn sizes(&self) -> (u64, u64) {
        (self.areas.bytes(), self.resident * PAGE)
    }

    /// All areas.
    pub fn areas(&self) -> impl Iterator<Item = (u64, &Area<Stuff>)> {
        self.areas.iter()
    }

    // Pages.

    /// A new frame of zeroes, on this space's account.
    fn fresh(&mut self, frames: &mut Frames) -> Result<u64, Fault> {
        if self.resident + self.table.frames() >= self.limit {
            return Err(Fault::OutOfMemory);
        }
        zeroed(frames).ok_or(Fault::OutOfMemory)
    }

    /// Maps a page that this space has a hold on; gives the hold back if that fails.
    fn map(
        &mut self,
        frames: &mut Frames,
        address: u64,
        frame: u64,
        protection: Protection,
    ) -> Result<(), Fault> {
        if self.table.set(frames, address, Entry::new(frame, protection)).is_err() {
            frames.release(frame);
            return Err(Fault::OutOfMemory);
        }
        self.resident += 1;
        Ok(())
    }

    /// A copy for a child: pages are shared until one of the two writes them.
    pub fn fork(&mut self, frames: &mut Frames, id: u64, asid: u16) -> Result<Space, Errno> {
        let table = Table::new(frames).ok_or(Errno::NOMEM)?;
        let mut child = Space {
            id,
            asid,
            table,
            areas: self.areas.clone(),
            resident: 0,
            limit: self.limit,
            break_start: self.break_start,
            break_end: self.break_end,
        };
        // What a socket has mapped is not inherited.
        child.areas.retain(|stuff| stuff.region().is_none_or(|mapping| mapping.is_file()));
        let mut failed = false;
        for (start, area) in self.areas.iter() {
            match area.backing.region() {
                Some(mapping) if !mapping.is_file() => continue,
                Some(mapping) => mapping.add_place(id, start..area.end),
                None => {}
            }
            let shared = area.backing.is_shared();
            let protection =
                if shared { area.protection } else { area.protection.difference(Protection::WRITE) };
            self.table.for_each(start..area.end, |address, entry| {
                let Some(old) = *entry else { return };
                let frame = old.physical();
                let both = Entry::new(frame, protection);
                frames.share(frame);
                if failed || child.table.set(frames, address, both).is_err() {
                    frames.release(frame);
                    failed = true;
                    return;
                }
                child.resident += u64::from(!is_region(frame));
                *entry = Some(both);
            });
        }
        arch::forget_all(self.asid);
        if failed {
            child.destroy(frames);
            return Err(Errno::NOMEM);
        }
        Ok(child)
    }
}
