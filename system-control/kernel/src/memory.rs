//! Programs' address spaces.

use alloc::{rc::Rc, vec::Vec};
use core::{ops::Range, slice};

use handover_guest::{
    abi::layout::{WINDOW_BASE, WINDOW_SIZE},
    mapping,
};
use handover_kernel::{
    Errno,
    areas::{Area, Areas, Backing, Protection, user_range},
    fault::{Access, Content, Plan, Present, plan},
    frames::Frames,
    layout::{BREAK_MAX, MAPPING_TOP, PAGE, TRAMPOLINE, page_ceiling, page_floor},
};

use crate::{
    arch::{
        self,
        table::{BLOCK, Entry, Table, zeroed},
    },
    region::RegionMapping,
    shared::SharedPages,
    source::FileSource,
};

/// What an area's pages are made of.
#[derive(Clone)]
pub enum Stuff {
    /// Zeroes at first.
    Anonymous,
    /// A file from an offset on, the program's own copy.
    File {
        /// The file.
        file: Rc<FileSource>,
        /// Where the area starts in it.
        offset: u64,
    },
    /// A file from an offset on, the file's own pages.
    SharedFile {
        /// The file.
        file: Rc<FileSource>,
        /// Where the area starts in it.
        offset: u64,
    },
    /// Pages that address spaces share.
    Shared {
        /// The pages.
        pages: Rc<SharedPages>,
        /// Where the area starts in them.
        offset: u64,
    },
    /// A message's region, the region's own pages.
    Region {
        /// The region, or the file that has one.
        mapping: Rc<RegionMapping>,
        /// Where the area starts in it.
        offset: u64,
    },
}

impl Backing for Stuff {
    fn advance(&self, bytes: u64) -> Stuff {
        match self {
            Stuff::Anonymous => Stuff::Anonymous,
            Stuff::File { file, offset } => Stuff::File { file: file.clone(), offset: offset + bytes },
            Stuff::SharedFile { file, offset } => {
                Stuff::SharedFile { file: file.clone(), offset: offset + bytes }
            }
            Stuff::Shared { pages, offset } => Stuff::Shared { pages: pages.clone(), offset: offset + bytes },
            Stuff::Region { mapping, offset } => {
                Stuff::Region { mapping: mapping.clone(), offset: offset + bytes }
            }
        }
    }

    fn continues(&self, bytes: u64, next: &Stuff) -> bool {
        match (self, next) {
            (Stuff::Anonymous, Stuff::Anonymous) => true,
            (Stuff::File { file, offset }, Stuff::File { file: other, offset: at })
            | (Stuff::SharedFile { file, offset }, Stuff::SharedFile { file: other, offset: at }) => {
                Rc::ptr_eq(file, other) && offset + bytes == *at
            }
            (Stuff::Shared { pages, offset }, Stuff::Shared { pages: other, offset: at }) => {
                Rc::ptr_eq(pages, other) && offset + bytes == *at
            }
            (Stuff::Region { mapping, offset }, Stuff::Region { mapping: other, offset: at }) => {
                Rc::ptr_eq(mapping, other) && offset + bytes == *at
            }
            _ => false,
        }
    }
}

impl Stuff {
    /// Whether a write reaches others.
    fn is_shared(&self) -> bool {
        matches!(self, Stuff::Shared { .. } | Stuff::SharedFile { .. } | Stuff::Region { .. })
    }

    /// The region, if it is one.
    pub fn region(&self) -> Option<&Rc<RegionMapping>> {
        match self {
            Stuff::Region { mapping, .. } => Some(mapping),
            _ => None,
        }
    }
}

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
        // What others may have too must not become writable by a change of protection.
        let own =
            if content == Content::Shared { protection } else { protection.difference(Protection::WRITE) };
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
            (Plan::MapFile, _) => {
                let Stuff::File { file, offset } = &stuff else { return Err(Fault::Bus) };
                match file.physical(*offset) {
                    Some(frame) => {
                        if protection.contains(Protection::EXECUTE) {
                            arch::synchronize_code(mapping::address(frame), PAGE as usize);
                        }
                        self.map(frames, page, frame, own)
                    }
                    None => self.copy_file(frames, page, &stuff, protection),
                }
            }
            (Plan::CopyFile, _) => self.copy_file(frames, page, &stuff, protection),
            (Plan::MapShared, _) => match &stuff {
                Stuff::Shared { pages, offset } => {
                    let frame = pages.page(frames, *offset).ok_or(Fault::OutOfMemory)?;
                    self.map(frames, page, frame, protection)
                }
                Stuff::SharedFile { file, offset } => {
                    self.map(frames, page, file.physical(*offset).ok_or(Fault::Bus)?, protection)
                }
                Stuff::Region { mapping, offset } => {
                    let rest = mapping.rest(*offset).ok_or(Fault::Bus)?;
                    let area = start..end;
                    self.map_region_pages(frames, page, area, rest, protection)
                }
                Stuff::Anonymous | Stuff::File { .. } => Err(Fault::Bus),
            },
            (Plan::Copy, Some(entry)) => self.copy(frames, page, entry, protection),
            (Plan::Unprotect, Some(entry)) => self.replace(frames, page, entry.physical(), protection),
            (Plan::Copy | Plan::Unprotect, None) => Err(Fault::Bus),
        }
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

    // What the kernel itself does with a program's memory.

    /// Where the kernel finds a byte of a program's, for an access that the program may make itself; and how many bytes follow in the
    /// page.
    pub fn translate(
        &mut self,
        frames: &mut Frames,
        address: u64,
        access: Access,
    ) -> Result<(usize, usize), Fault> {
        let mut tries = 0;
        loop {
            let entry = self.table.get(address).filter(|entry| match access {
                Access::Read => entry.is_valid(),
                Access::Write => entry.is_writable(),
                Access::Execute => entry.is_executable(),
            });
            if let Some(entry) = entry {
                let offset = address % PAGE;
                return Ok((mapping::address(entry.physical() + offset), (PAGE - offset) as usize));
            }
            // A fault is dealt with by one step, so a second one at the same place is a mistake of ours, and no reason to hang.
            if tries == 2 {
                return Err(Fault::Bus);
            }
            tries += 1;
            self.fault(frames, address, access)?;
        }
    }

    /// Where a byte of the program's lies, if it is a file's of the boot archive and the program may read it and has not written there;
    /// and how many of `most` follow in the same way. No page has to be mapped for it.
    pub fn lies_in_archive(&self, address: u64, most: u64) -> Option<(u64, u64)> {
        let (start, area) = self.areas.find(address)?;
        let Stuff::File { file, offset } = &area.backing else { return None };
        if !area.protection.contains(Protection::READ) {
            return None;
        }
        let (place, bytes) = file.lies(offset + (address - start))?;
        let end = address + bytes.min(most).min(area.end - address);
        let unchanged = |page: u64| match self.table.get(page) {
            None => true,
            Some(entry) => Some(entry.physical()) == file.physical(offset + (page - start)),
        };
        let pages = (page_floor(address)..end).step_by(PAGE as usize);
        let end = pages.take_while(|&page| unchanged(page)).last()?.saturating_add(PAGE).min(end);
        Some((place, end - address))
    }

    /// Calls `each` with the pieces of a range, where the kernel finds them.
    fn pieces(
        &mut self,
        frames: &mut Frames,
        address: u64,
        length: usize,
        access: Access,
        mut each: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(Errno::FAULT)?;
            let (place, room) = self.translate(frames, at, access).map_err(|_| Errno::FAULT)?;
            let size = room.min(length - done);
            let pointer = core::ptr::with_exposed_provenance_mut(place);
            // SAFETY: part of one page that the table says is this program's, in the kernel's map. Programs do not run meanwhile, and the
            // kernel has no other reference to it. A read-only page is not written: `each` of a reader only reads.
            each(done, unsafe { slice::from_raw_parts_mut(pointer, size) });
            done += size;
        }
        Ok(())
    }

    /// Reads a program's memory.
    pub fn read(&mut self, frames: &mut Frames, address: u64, into: &mut [u8]) -> Result<(), Errno> {
        self.pieces(frames, address, into.len(), Access::Read, |done, piece| {
            into[done..done + piece.len()].copy_from_slice(piece);
        })
    }

    /// Writes a program's memory.
    pub fn write(&mut self, frames: &mut Frames, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.pieces(frames, address, from.len(), Access::Write, |done, piece| {
            piece.copy_from_slice(&from[done..done + piece.len()]);
        })
    }

    /// Reads up to a zero byte, which is not returned.
    pub fn read_string(
        &mut self,
        frames: &mut Frames,
        address: u64,
        most: usize,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let mut string = Vec::new();
        while string.len() < most {
            let at = address.checked_add(string.len() as u64).ok_or(Errno::FAULT)?;
            let (_, room) = self.translate(frames, at, Access::Read).map_err(|_| Errno::FAULT)?;
            let mut end = false;
            self.pieces(frames, at, room.min(most - string.len()), Access::Read, |_, piece| {
                let length = piece.iter().position(|&byte| byte == 0);
                end = length.is_some();
                string.extend_from_slice(&piece[..length.unwrap_or(piece.len())]);
            })?;
            if end {
                return Ok(Some(string));
            }
        }
        Ok(None)
    }

    /// The physical address of a word, and whether other address spaces may have it mapped too.
    pub fn physical(&mut self, frames: &mut Frames, address: u64) -> Result<(u64, bool), Errno> {
        let (place, _) = self.translate(frames, address, Access::Read).map_err(|_| Errno::FAULT)?;
        let shared = self.areas.find(address).is_some_and(|(_, area)| area.backing.is_shared());
        Ok((mapping::ipa(place), shared))
    }

    // Regions.

    /// Maps a region, readable and writable; where.
    pub fn map_region(&mut self, mapping: &Rc<RegionMapping>, bytes: u64) -> Result<u64, Errno> {
        let range = self.free_range(bytes, true).ok_or(Errno::NOMEM)?;
        let start = range.start;
        let stuff = Stuff::Region { mapping: mapping.clone(), offset: 0 };
        self.areas.insert(range.clone(), Protection::READ | Protection::WRITE, stuff)?;
        mapping.add_place(self.id, range);
        Ok(start)
    }

    /// Where there is room for so many bytes; a region's start at a block's start, if they are as many.
    fn free_range(&self, bytes: u64, region: bool) -> Option<Range<u64>> {
        self.areas.gap(bytes, if region && bytes >= BLOCK { BLOCK } else { PAGE }, MAPPING_TOP)
    }

    /// Maps the beginning of a region that has just been mapped, which the program touches next. If that cannot be, its touch says why.
    pub fn begin_region(&mut self, frames: &mut Frames, start: u64) {
        _ = self.fault(frames, start, Access::Read);
    }

    /// Takes a region's pages away. Its area goes too, but for that of a file.
    pub fn drop_region(&mut self, mapping: &Rc<RegionMapping>) {
        let Some(range) = mapping.place_in(self.id) else { return };
        let own = |area: &Area<Stuff>| area.backing.region().is_some_and(|other| Rc::ptr_eq(other, mapping));
        let parts: Vec<Range<u64>> = self
            .areas
            .within(&range)
            .filter(|(_, area)| own(area))
            .map(|(start, area)| start..area.end)
            .collect();
        let mut dropped = false;
        for part in &parts {
            // The pages are no frames of programs' memory, so there is nothing to give back.
            let blocks = self.table.for_each(part.clone(), |_, entry| dropped |= entry.take().is_some());
            dropped |= blocks > 0;
            if !mapping.is_file() {
                // It is removed as a whole, which needs no room.
                _ = self.areas.remove(part);
            }
        }
        match &parts[..] {
            _ if !dropped => {}
            [page] if page.end - page.start == PAGE => arch::forget_page(self.asid, page.start),
            _ => arch::forget_all(self.asid),
        }
        if !mapping.is_file() {
            mapping.forget_space(self.id);
        }
    }

    /// The regions that sockets have mapped and that a range reaches into, each with its place.
    pub fn regions_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut places: Vec<Range<u64>> = self
            .areas
            .within(range)
            .filter_map(|(_, area)| {
                area.backing.region().filter(|mapping| !mapping.is_file())?.place_in(self.id)
            })
            .collect();
        places.dedup();
        places
    }

    /// Whether a range reaches into a region, or a message file.
    pub fn has_region(&self, range: &Range<u64>) -> bool {
        self.areas.within(range).any(|(_, area)| area.backing.region().is_some())
    }

    // System calls.

    /// That so many bytes more can be asked for: a program that asks for more than it may ever have learns it now.
    fn check_size(&self, length: u64) -> Result<(), Errno> {
        let used = self.resident + self.table.frames();
        if length / PAGE > self.limit.saturating_sub(used) { Err(Errno::NOMEM) } else { Ok(()) }
    }

    /// Maps a range, or a free one of that length below the stack if there is no `fixed` one, or it is only a `hint`.
    pub fn map_area(
        &mut self,
        frames: &mut Frames,
        place: Place,
        length: u64,
        protection: Protection,
        stuff: Stuff,
    ) -> Result<u64, Errno> {
        if length == 0 {
            return Err(Errno::INVAL);
        }
        let length = page_ceiling(length).ok_or(Errno::NOMEM)?;
        // A region's pages are not frames of programs' memory.
        if protection.contains(Protection::WRITE) && stuff.region().is_none() {
            self.check_size(length)?;
        }
        let range = match place {
            Place::Fixed(address) => {
                let range = user_range(address, length)?;
                self.areas.check_room(2)?;
                self.unmap(frames, &range)?;
                range
            }
            Place::Free(address) => {
                let range = user_range(address, length)?;
                if !self.areas.is_free(&range) {
                    return Err(Errno::EXIST);
                }
                range
            }
            Place::Anywhere(hint) => user_range(page_floor(hint), length)
                .ok()
                .filter(|range| hint != 0 && range.end <= MAPPING_TOP && self.areas.is_free(range))
                .or_else(|| self.free_range(length, stuff.region().is_some()))
                .ok_or(Errno::NOMEM)?,
        };
        let start = range.start;
        self.areas.insert(range, protection, stuff)?;
        Ok(start)
    }

    /// Unmaps whatever is in a range.
    pub fn unmap(&mut self, frames: &mut Frames, range: &Range<u64>) -> Result<(), Errno> {
        let removed = self.areas.remove(range)?;
        for (start, area) in &removed {
            self.drop_pages(frames, *start..area.end);
        }
        Ok(())
    }

    /// Gives the pages of a range back; its areas stay.
    fn drop_pages(&mut self, frames: &mut Frames, range: Range<u64>) {
        let mut dropped = false;
        let resident = &mut self.resident;
        let blocks = self.table.for_each(range, |_, entry| {
            if let Some(entry) = entry.take() {
                frames.release(entry.physical());
                *resident -= u64::from(!is_region(entry.physical()));
                dropped = true;
            }
        });
        if dropped || blocks > 0 {
            arch::forget_all(self.asid);
        }
    }

    /// `madvise(MADV_DONTNEED)`: private pages start anew at the next touch.
    pub fn discard(&mut self, frames: &mut Frames, range: &Range<u64>) -> Result<(), Errno> {
        if !self.areas.covers(range) {
            return Err(Errno::NOMEM);
        }
        self.drop_pages(frames, range.clone());
        Ok(())
    }

    /// `mprotect`.
    pub fn protect(
        &mut self,
        frames: &mut Frames,
        range: &Range<u64>,
        protection: Protection,
    ) -> Result<(), Errno> {
        let before: u64 = range.end - range.start;
        if protection.contains(Protection::WRITE) {
            self.check_size(before)?;
        }
        self.areas.protect(range, protection)?;
        let areas = &self.areas;
        let mut changed = false;
        let blocks = self.table.for_each(range.clone(), |address, entry| {
            let Some(old) = *entry else { return };
            let shared = areas.find(address).is_some_and(|(_, area)| area.backing.is_shared());
            // What is not the program's alone is copied at the next write.
            let sole = shared || frames.holders(old.physical()) == 1;
            let allowed = if sole { protection } else { protection.difference(Protection::WRITE) };
            if allowed.contains(Protection::EXECUTE) && !old.is_executable() {
                arch::synchronize_code(mapping::address(old.physical()), PAGE as usize);
            }
            *entry = Some(Entry::new(old.physical(), allowed));
            changed = true;
        });
        if changed || blocks > 0 {
            arch::forget_all(self.asid);
        }
        Ok(())
    }

    /// `brk`: the heap's new end, or the old one where it cannot be moved.
    pub fn set_end(&mut self, frames: &mut Frames, end: u64) -> u64 {
        let pages = |address| page_ceiling(address).unwrap_or(u64::MAX);
        if end < self.break_start || end - self.break_start > BREAK_MAX {
            return self.break_end;
        }
        let (old, new) = (pages(self.break_end), pages(end));
        let moved = if new > old {
            let protection = Protection::READ | Protection::WRITE;
            self.map_area(frames, Place::Free(old), new - old, protection, Stuff::Anonymous).is_ok()
        } else {
            new == old || self.unmap(frames, &(new..old)).is_ok()
        };
        if moved {
            self.break_end = end;
        }
        self.break_end
    }

    /// `mremap`, without a place given: makes an area shorter, or longer where there is room behind it or, if it may move, elsewhere.
    pub fn resize(
        &mut self,
        frames: &mut Frames,
        old: Range<u64>,
        length: u64,
        may_move: bool,
    ) -> Result<u64, Errno> {
        let length = page_ceiling(length).filter(|&length| length != 0).ok_or(Errno::INVAL)?;
        let old_length = old.end - old.start;
        let (start, area) = self.areas.find(old.start).ok_or(Errno::FAULT)?;
        if area.end < old.end {
            return Err(Errno::FAULT);
        }
        let (protection, stuff) = (area.protection, area.backing.advance(old.start - start));
        if length <= old_length {
            let rest = old.start + length..old.end;
            if !rest.is_empty() {
                self.unmap(frames, &rest)?;
            }
            return Ok(old.start);
        }
        let more = length - old_length;
        self.check_size(more)?;
        if let Ok(rest) = user_range(old.end, more)
            && self.areas.is_free(&rest)
            && rest.end <= MAPPING_TOP
        {
            self.areas.insert(rest, protection, stuff.advance(old_length))?;
            return Ok(old.start);
        }
        if !may_move {
            return Err(Errno::NOMEM);
        }
        self.areas.check_room(3)?;
        let to = self.map_area(frames, Place::Anywhere(0), length, protection, stuff)?;
        self.move_pages(frames, &old, to);
        self.unmap(frames, &old)?;
        Ok(to)
    }

    /// Moves the pages that are there; one that finds no table at its new place is lost to its file or to zeroes only if that could not be
    /// helped: then the program has no memory left anyway, and it is put back.
    fn move_pages(&mut self, frames: &mut Frames, from: &Range<u64>, to: u64) {
        let mut pages = Vec::new();
        self.table.for_each(from.clone(), |address, entry| {
            if let Some(entry) = *entry {
                pages.push((address, entry));
            }
        });
        for (address, entry) in pages {
            if self.table.set(frames, to + (address - from.start), entry).is_ok() {
                self.table.take(address);
            }
        }
        arch::forget_all(self.asid);
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

/// Whether it lies in the message window: then it is no memory of programs', and others account for it.
fn is_region(physical: u64) -> bool {
    (WINDOW_BASE..WINDOW_BASE + WINDOW_SIZE).contains(&physical)
}

/// Where something is to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There, and what is there goes.
    Fixed(u64),
    /// There, if nothing is.
    Free(u64),
    /// There if nothing is, else anywhere.
    Anywhere(u64),
}
