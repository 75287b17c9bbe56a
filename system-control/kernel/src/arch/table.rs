//! A program's translation table: three levels of 4 KiB tables for 39 bits (Arm ARM D8.2, D8.3).

use core::ops::Range;

use handover_kernel::{
    areas::Protection,
    frames::Frames,
    layout::{PAGE, USER_END},
};

use super::frame;

const VALID: u64 = 1;
/// A table at levels 1 and 2, a page at level 3; without bit 1 a valid entry of level 2 is a block.
const TABLE_OR_PAGE: u64 = 3;
/// Normal write-back memory (attribute index 1), inner shareable, accessed, of this ASID alone.
const NORMAL: u64 = 1 << 2 | 3 << 8 | 1 << 10 | 1 << 11;
/// AP[1]: for EL0 too.
const USER: u64 = 1 << 6;
/// AP[2].
const READ_ONLY: u64 = 1 << 7;
/// PXN: never for EL1.
const PRIVILEGED_NEVER: u64 = 1 << 53;
/// UXN.
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0xffff_ffff_f000;

/// Frames of tables, by level from the root.
const LEVEL_SHIFTS: [u32; 3] = [30, 21, 12];
const ENTRIES: usize = 512;

/// What an entry of level 2 is about: a block, or a table of pages.
pub const BLOCK: u64 = 2 << 20;

/// What the table says about a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// A page that may be used so. With no protection at all it stays, but nobody reaches it.
    pub fn new(physical: u64, protection: Protection) -> Entry {
        let mut entry = physical & ADDRESS | NORMAL | USER | PRIVILEGED_NEVER | TABLE_OR_PAGE;
        if !protection.contains(Protection::WRITE) {
            entry |= READ_ONLY;
        }
        if !protection.contains(Protection::EXECUTE) {
            entry |= EXECUTE_NEVER;
        }
        if protection.is_empty() {
            entry &= !VALID;
        }
        Entry(entry)
    }

    /// The page's frame.
    pub fn physical(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Whether a program reaches it.
    pub fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// Whether a program may write it.
    pub fn is_writable(self) -> bool {
        self.is_valid() && self.0 & READ_ONLY == 0
    }

    /// Whether a program may execute it.
    pub fn is_executable(self) -> bool {
        self.is_valid() && self.0 & EXECUTE_NEVER == 0
    }
}

/// There is no frame left for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// A translation table. Its frames and the pages' are given back by [`Table::clear`], not when it is dropped.
#[derive(Debug)]
pub struct Table {
    root: u64,
    /// Frames of tables, the root among them.
    tables: u64,
}

/// A frame of zeroes.
pub fn zeroed(frames: &mut Frames) -> Option<u64> {
    let physical = frames.take()?;
    // SAFETY: the frame is nobody's else, and all memory is mapped for the kernel.
    unsafe { frame(physical).write_bytes(0, PAGE as usize) };
    Some(physical)
}

fn is_table(entry: u64) -> bool {
    entry & TABLE_OR_PAGE == TABLE_OR_PAGE
}

fn slot(table: u64, address: u64, level: usize) -> *mut u64 {
    let index = address >> LEVEL_SHIFTS[level] & (ENTRIES as u64 - 1);
    frame(table + 8 * index).cast()
}

impl Table {
    /// An empty one.
    pub fn new(frames: &mut Frames) -> Option<Table> {
        Some(Table { root: zeroed(frames)?, tables: 1 })
    }

    /// The root's physical address.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Frames that the tables take.
    pub fn frames(&self) -> u64 {
        self.tables
    }

    fn find(&self, address: u64) -> Option<*mut u64> {
        if address >= USER_END {
            return None;
        }
        let mut table = self.root;
        for level in 0..2 {
            // SAFETY: an entry of one of this table's own frames, in the kernel's map.
            let entry = unsafe { slot(table, address, level).read() };
            if !is_table(entry) {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(slot(table, address, 2))
    }

    /// The entry of level 2 for an address, if there is a table for it.
    fn find_block(&self, address: u64) -> Option<*mut u64> {
        if address >= USER_END {
            return None;
        }
        // SAFETY: as in `find`.
        let entry = unsafe { slot(self.root, address, 0).read() };
        is_table(entry).then(|| slot(entry & ADDRESS, address, 1))
    }

    /// What is said about a page, be it part of a block.
    pub fn get(&self, address: u64) -> Option<Entry> {
        if let Some(place) = self.find(address) {
            // SAFETY: as in `find`.
            let entry = unsafe { place.read() };
            return (entry != 0).then_some(Entry(entry));
        }
        // SAFETY: as in `find`.
        let block = unsafe { self.find_block(address)?.read() };
        (block != 0).then_some(Entry((block | TABLE_OR_PAGE) + (address & (BLOCK - PAGE))))
    }

    /// The table for an address at a level below the root, made if there is none.
    fn make(&mut self, frames: &mut Frames, address: u64, levels: usize) -> Result<u64, NoFrame> {
        let mut table = self.root;
        for level in 0..levels {
            let place = slot(table, address, level);
            // SAFETY: as in `find`.
            let mut next = unsafe { place.read() };
            if next & VALID == 0 {
                next = zeroed(frames).ok_or(NoFrame)? | TABLE_OR_PAGE;
                self.tables += 1;
                // SAFETY: as in `find`; the new table is all zeroes.
                unsafe { place.write(next) };
            } else if !is_table(next) {
                return Err(NoFrame);
            }
            table = next & ADDRESS;
        }
        Ok(table)
    }

    /// Says something about a page below `USER_END` that is in no block. Who may have the old translation in a TLB has to forget it.
    pub fn set(&mut self, frames: &mut Frames, address: u64, entry: Entry) -> Result<(), NoFrame> {
        let table = self.make(frames, address, 2)?;
        // SAFETY: as in `find`.
        unsafe { slot(table, address, 2).write(entry.0) };
        Ok(())
    }

    /// Says something about pages in a row, all in one table, whose frames lie in a row too: about those of which nothing is said yet.
    pub fn fill(&mut self, frames: &mut Frames, pages: Range<u64>, entry: Entry) -> Result<(), NoFrame> {
        let table = self.make(frames, pages.start, 2)?;
        let (first, count) = (slot(table, pages.start, 2), (pages.end - pages.start) / PAGE);
        for (index, entry) in (0..count as usize).zip((entry.0..).step_by(PAGE as usize)) {
            // SAFETY: as in `find`; the pages are of one table, so their entries lie in a row.
            unsafe {
                let place = first.add(index);
                if place.read() == 0 {
                    place.write(entry);
                }
            }
        }
        Ok(())
    }

    /// Says something about a whole block at once; whether it could, which it cannot where there are pages. Both addresses are a block's.
    pub fn set_block(&mut self, frames: &mut Frames, address: u64, entry: Entry) -> Result<bool, NoFrame> {
        let table = self.make(frames, address, 1)?;
        let place = slot(table, address, 1);
        // SAFETY: as in `find`.
        unsafe {
            let free = place.read() == 0;
            if free {
                place.write(entry.0 & !TABLE_OR_PAGE | VALID);
            }
            Ok(free)
        }
    }

    /// Says nothing about a page any more; what was said.
    pub fn take(&mut self, address: u64) -> Option<Entry> {
        let place = self.find(address)?;
        // SAFETY: as in `find`.
        let entry = unsafe { place.replace(0) };
        (entry != 0).then_some(Entry(entry))
    }

    /// Calls `each` with the pages of a range about which something is said; it can change that. Blocks that reach into the range are
    /// taken away instead, since what is in them comes back at a touch; how many there were.
    pub fn for_each(&mut self, range: Range<u64>, mut each: impl FnMut(u64, &mut Option<Entry>)) -> u64 {
        let mut blocks = 0;
        let mut address = range.start;
        while address < range.end {
            let end = ((address & !(BLOCK - 1)) + BLOCK).min(range.end);
            let Some(first) = self.find(address) else {
                blocks += u64::from(self.take_block(address));
                address = end;
                continue;
            };
            for index in 0..((end - address) / PAGE) as usize {
                // SAFETY: as in `find`; the pages are of one table, so their entries lie in a row.
                let place = unsafe { first.add(index) };
                // SAFETY: as in `find`.
                let old = unsafe { place.read() };
                if old != 0 {
                    let mut entry = Some(Entry(old));
                    each(address + index as u64 * PAGE, &mut entry);
                    // SAFETY: as in `find`.
                    unsafe { place.write(entry.map_or(0, |entry| entry.0)) };
                }
            }
            address = end;
        }
        blocks
    }

    /// Says nothing about a block any more; whether there was one.
    fn take_block(&mut self, address: u64) -> bool {
        let Some(place) = self.find_block(address) else { return false };
        // SAFETY: as in `find`.
        unsafe {
            let is_block = place.read() != 0;
            if is_block {
                place.write(0);
            }
            is_block
        }
    }

    /// Gives everything back. What a block says belongs to nobody here.
    pub fn clear(self, frames: &mut Frames) {
        let entries = |table: u64| {
            // SAFETY: as in `find`.
            (0..ENTRIES as u64).map(move |index| unsafe { frame(table + 8 * index).cast::<u64>().read() })
        };
        let tables =
            |table: u64| entries(table).filter(|&entry| is_table(entry)).map(|entry| entry & ADDRESS);
        for second in tables(self.root) {
            for third in tables(second) {
                for page in entries(third).filter(|&entry| entry != 0) {
                    frames.release(page & ADDRESS);
                }
                frames.release(third);
            }
            frames.release(second);
        }
        frames.release(self.root);
    }
}
