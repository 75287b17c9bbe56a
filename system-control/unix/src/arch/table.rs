//! A program's translation table: three levels of 4 KiB tables for 39 bits (Arm ARM D8.2, D8.3).

use handover_unix::{
    areas::Protection,
    frames::Frames,
    layout::{PAGE, USER_END},
};

use super::frame;

const VALID: u64 = 1;
/// A table at levels 1 and 2, a page at level 3.
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
            if entry & VALID == 0 {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(slot(table, address, 2))
    }

    /// What is said about a page.
    pub fn get(&self, address: u64) -> Option<Entry> {
        // SAFETY: as in `find`.
        let entry = unsafe { self.find(address)?.read() };
        (entry != 0).then_some(Entry(entry))
    }

    /// Says something about a page below `USER_END`. Who may have the old translation in a TLB has to forget it.
    pub fn set(&mut self, frames: &mut Frames, address: u64, entry: Entry) -> Result<(), NoFrame> {
        let mut table = self.root;
        for level in 0..2 {
            let place = slot(table, address, level);
            // SAFETY: as in `find`.
            let mut next = unsafe { place.read() };
            if next & VALID == 0 {
                next = zeroed(frames).ok_or(NoFrame)? | TABLE_OR_PAGE;
                self.tables += 1;
                // SAFETY: as in `find`; the new table is all zeroes.
                unsafe { place.write(next) };
            }
            table = next & ADDRESS;
        }
        // SAFETY: as in `find`.
        unsafe { slot(table, address, 2).write(entry.0) };
        Ok(())
    }

    /// Says nothing about a page any more; what was said.
    pub fn take(&mut self, address: u64) -> Option<Entry> {
        let place = self.find(address)?;
        // SAFETY: as in `find`.
        let entry = unsafe { place.replace(0) };
        (entry != 0).then_some(Entry(entry))
    }

    /// Calls `each` with the pages of a range about which something is said; it can change that.
    pub fn for_each(&mut self, range: core::ops::Range<u64>, mut each: impl FnMut(u64, &mut Option<Entry>)) {
        let mut address = range.start;
        while address < range.end {
            let Some(place) = self.find(address) else {
                // Nothing in these 2 MiB.
                address = (address & !0x1f_ffff) + 0x20_0000;
                continue;
            };
            // SAFETY: as in `find`.
            let old = unsafe { place.read() };
            let mut entry = (old != 0).then_some(Entry(old));
            if entry.is_some() {
                each(address, &mut entry);
                // SAFETY: as in `find`.
                unsafe { place.write(entry.map_or(0, |entry| entry.0)) };
            }
            address += PAGE;
        }
    }

    /// Gives everything back.
    pub fn clear(self, frames: &mut Frames) {
        let valid = |table: u64| {
            (0..ENTRIES as u64).filter_map(move |index| {
                // SAFETY: as in `find`.
                let entry = unsafe { frame(table + 8 * index).cast::<u64>().read() };
                (entry != 0).then_some(entry & ADDRESS)
            })
        };
        for second in valid(self.root) {
            for third in valid(second) {
                for page in valid(third) {
                    frames.release(page);
                }
                frames.release(third);
            }
            frames.release(second);
        }
        frames.release(self.root);
    }
}
