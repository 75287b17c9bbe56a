//! What the kernel itself does with a program's memory.

use alloc::vec::Vec;
use core::slice;

use handover_guest::mapping;
use handover_kernel::{
    Errno,
    areas::Protection,
    fault::Access,
    frames::Frames,
    layout::{PAGE, page_floor},
};

use super::{Fault, Space, Stuff};

impl Space {
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
}
