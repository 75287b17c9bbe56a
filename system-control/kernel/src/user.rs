//! A program's buffers, as files fill and empty them.

use alloc::{rc::Rc, vec::Vec};
use core::{cell::RefCell, sync::atomic::AtomicU8};

use handover_files::{Errno, Sink, Source};
use handover_kernel::{fault::Access, frames::Frames};

use crate::memory::Space;

/// The most bytes of one transfer: as Linux has it.
pub const TRANSFER_MAX: usize = 0x7fff_f000;

/// Buffers, one after another.
pub struct Buffers<'a> {
    space: Rc<RefCell<Space>>,
    frames: &'a mut Frames,
    /// Address and bytes of what is left of the one that is used now.
    piece: (u64, usize),
    /// Those behind it, the last one first.
    rest: Vec<(u64, usize)>,
}

impl<'a> Buffers<'a> {
    /// The buffers without their first `skip` bytes, and without what is too much.
    pub fn new(
        space: Rc<RefCell<Space>>,
        frames: &'a mut Frames,
        buffers: &[(u64, u64)],
        mut skip: usize,
    ) -> Buffers<'a> {
        let mut room = TRANSFER_MAX;
        let mut piece = (0, 0);
        let mut rest = Vec::new();
        for &(address, length) in buffers {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let skipped = skip.min(length);
            skip -= skipped;
            let left = (length - skipped).min(room);
            room -= left;
            let next = (address.wrapping_add(skipped as u64), left);
            match left {
                0 => {}
                _ if piece.1 == 0 => piece = next,
                _ => rest.push(next),
            }
        }
        rest.reverse();
        Buffers { space, frames, piece, rest }
    }

    fn bytes(&self) -> usize {
        self.piece.1 + self.rest.iter().map(|&(_, length)| length).sum::<usize>()
    }

    /// Moves `length` bytes, piece by piece, each within a page.
    fn each(
        &mut self,
        length: usize,
        access: Access,
        mut copy: impl FnMut(usize, *mut u8, usize),
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < length {
            let (address, left) = &mut self.piece;
            if *left == 0 {
                break;
            }
            let found = self.space.borrow_mut().translate(self.frames, *address, access);
            let (place, room) = match found {
                Ok(found) => found,
                Err(_) if done == 0 => return Err(Errno::FAULT),
                Err(_) => break,
            };
            let size = room.min(*left).min(length - done);
            copy(done, core::ptr::with_exposed_provenance_mut(place), size);
            done += size;
            *left -= size;
            *address += size as u64;
            if *left == 0 {
                self.piece = self.rest.pop().unwrap_or_default();
            }
        }
        Ok(done)
    }
}

impl Sink for Buffers<'_> {
    fn room(&self) -> usize {
        self.bytes()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.each(bytes.len(), Access::Write, |done, to, size| {
            let from = &bytes[done..done + size];
            // SAFETY: part of one page that the program may write, where the kernel has it mapped; no program runs meanwhile, and `from` is the
            // kernel's own or the archive's, which no program can write.
            unsafe { to.copy_from(from.as_ptr(), size) };
        })
    }

    fn put_shared(&mut self, bytes: &[AtomicU8]) -> Result<usize, Errno> {
        self.each(bytes.len(), Access::Write, |done, to, size| {
            let from = &bytes[done..done + size];
            // SAFETY: as in `put`; both may be the same memory, which bytes that are atomic allow, and no program runs meanwhile.
            unsafe { to.copy_from(from.as_ptr().cast(), size) };
        })
    }
}

impl Source for Buffers<'_> {
    fn remaining(&self) -> usize {
        self.bytes()
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let length = into.len();
        self.each(length, Access::Read, |done, from, size| {
            let to = &mut into[done..done + size];
            // SAFETY: part of one page that the program may read, where the kernel has it mapped; no program runs meanwhile.
            unsafe { to.as_mut_ptr().copy_from(from, size) };
        })
    }

    fn take_shared(&mut self, into: &[AtomicU8]) -> Result<usize, Errno> {
        self.each(into.len(), Access::Read, |done, from, size| {
            let to = &into[done..done + size];
            // SAFETY: as in `take`; the bytes are atomic, so that they may be written, and no program runs meanwhile.
            unsafe { to.as_ptr().cast::<u8>().cast_mut().copy_from(from, size) };
        })
    }
}
