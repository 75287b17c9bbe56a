//! Making a page be there.

use core::{ops::Range, slice};

use handover_guest::mapping;
use handover_kernel::{
    areas::{Backing, Protection},
    fault::{Access, Content, Plan, Present, plan},
    frames::Frames,
    layout::{PAGE, page_floor},
};

use super::{Fault, Space, Stuff};
use crate::arch::{
    self,
    table::{BLOCK, Entry},
};

impl Space {
    /// Makes a page be there for an access, if the program may.
    pub fn fault(&mut self, frames: &mut Frames, address: u64, access: Access) -> Result<(), Fault> {
        let page = page_floor(address);
        let (start, area) = self.areas.find(page).ok_or(Fault::Unmapped)?;
        let (end, protection, stuff) = (area.end, area.protection, area.backing.advance(page - start));
        let content = match stuff {
            Stuff::Anonymous => Content::Anonymous,
            Stuff::File { .. } => Content::PrivateFile,
            Stuff::Shared { .. } | Stuff::SharedFile { .. } | Stuff::Region { .. } => Content::Shared,
        };
        let entry = self.table.get(page);
        let present = match entry {
            None => Present::No,
            Some(entry) if entry.is_writable() => Present::Writable,
            Some(entry) => Present::ReadOnly { sole: frames.holders(entry.physical()) == 1 },
        };
        match (plan(protection, content, present, access), entry) {
            (Plan::Deny, _) => Err(Fault::Denied),
            (Plan::Nothing, _) => {
                arch::forget_page(self.asid, page);
                Ok(())
            }
            (Plan::Zero, _) => {
                let frame = self.fresh(frames)?;
                self.map(frames, page, frame, protection)
            }
            (Plan::MapFile, _) => self.map_file(frames, page, &stuff, protection),
            (Plan::CopyFile, _) => self.copy_file(frames, page, &stuff, protection),
            (Plan::MapShared, _) => self.map_shared(frames, page, start..end, &stuff, protection),
            (Plan::Copy, Some(entry)) => self.copy(frames, page, entry, protection),
            (Plan::Unprotect, Some(entry)) => self.replace(frames, page, entry.physical(), protection),
            (Plan::Copy | Plan::Unprotect, None) => Err(Fault::Bus),
        }
    }

    /// Maps a private file's page where it lies, if it can be; others have it too, so a change of protection must not make it writable.
    fn map_file(
        &mut self,
        frames: &mut Frames,
        page: u64,
        stuff: &Stuff,
        protection: Protection,
    ) -> Result<(), Fault> {
        let Stuff::File { file, offset } = stuff else { return Err(Fault::Bus) };
        let Some(frame) = file.physical(*offset) else {
            return self.copy_file(frames, page, stuff, protection);
        };
        if protection.contains(Protection::EXECUTE) {
            arch::synchronize_code(mapping::address(frame), PAGE as usize);
        }
        self.map(frames, page, frame, protection.difference(Protection::WRITE))
    }

    /// Maps a page of an area that others reach too.
    fn map_shared(
        &mut self,
        frames: &mut Frames,
        page: u64,
        area: Range<u64>,
        stuff: &Stuff,
        protection: Protection,
    ) -> Result<(), Fault> {
        let frame = match stuff {
            Stuff::Shared { pages, offset } => pages.page(frames, *offset).ok_or(Fault::OutOfMemory)?,
            Stuff::SharedFile { file, offset } => file.physical(*offset).ok_or(Fault::Bus)?,
            Stuff::Region { mapping, offset } => {
                let rest = mapping.rest(*offset).ok_or(Fault::Bus)?;
                return self.map_region_pages(frames, page, area, rest, protection);
            }
            Stuff::Anonymous | Stuff::File { .. } => return Err(Fault::Bus),
        };
        self.map(frames, page, frame, protection)
    }

    /// Maps what a region has at a page and, at once, all that one table says of it behind: a touch of the next page would cost more. `rest`
    /// is where the region lies from there on.
    fn map_region_pages(
        &mut self,
        frames: &mut Frames,
        page: u64,
        area: Range<u64>,
        rest: Range<u64>,
        protection: Protection,
    ) -> Result<(), Fault> {
        let block = page & !(BLOCK - 1)..(page & !(BLOCK - 1)) + BLOCK;
        let whole = area.start <= block.start
            && block.end <= area.end
            && rest.start % BLOCK == page % BLOCK
            && rest.end - rest.start >= block.end - page;
        if whole {
            let entry = Entry::new(rest.start - (page - block.start), protection);
            if self.table.set_block(frames, block.start, entry).map_err(|_| Fault::OutOfMemory)? {
                return Ok(());
            }
        }
        let end = block.end.min(area.end).min(page + (rest.end - rest.start));
        let entry = Entry::new(rest.start, protection);
        self.table.fill(frames, page..end, entry).map_err(|_| Fault::OutOfMemory)
    }

    fn copy_file(
        &mut self,
        frames: &mut Frames,
        page: u64,
        stuff: &Stuff,
        protection: Protection,
    ) -> Result<(), Fault> {
        let Stuff::File { file, offset } = stuff else { return Err(Fault::Bus) };
        let frame = self.fresh(frames)?;
        // SAFETY: a frame that is this space's alone, in the kernel's map.
        let bytes = unsafe { slice::from_raw_parts_mut(arch::frame(frame), PAGE as usize) };
        if file.copy(*offset, bytes).is_none() {
            frames.release(frame);
            return Err(Fault::Bus);
        }
        if protection.contains(Protection::EXECUTE) {
            arch::synchronize_code(mapping::address(frame), PAGE as usize);
        }
        self.map(frames, page, frame, protection)
    }

    fn copy(
        &mut self,
        frames: &mut Frames,
        page: u64,
        entry: Entry,
        protection: Protection,
    ) -> Result<(), Fault> {
        let frame = self.fresh(frames)?;
        let (from, to) = (arch::frame(entry.physical()), arch::frame(frame));
        // SAFETY: two different pages in the kernel's map; no program runs, and the new one is nobody else's.
        unsafe { to.copy_from_nonoverlapping(from, PAGE as usize) };
        frames.release(entry.physical());
        self.replace(frames, page, frame, protection)
    }

    /// Changes what a page that is there is made of.
    fn replace(
        &mut self,
        frames: &mut Frames,
        page: u64,
        frame: u64,
        protection: Protection,
    ) -> Result<(), Fault> {
        self.table.set(frames, page, Entry::new(frame, protection)).map_err(|_| Fault::OutOfMemory)?;
        arch::forget_page(self.asid, page);
        Ok(())
    }
}
