//! System calls on files: each is a method of [`Caller`].

mod attributes;
mod control;
mod directory;
mod map;
mod message;
mod open;
mod rename;
mod socket;
mod transfer;
mod wait;

use alloc::sync::Arc;

use crate::{
    Errno, Page, Region,
    descriptors::{Descriptors, Slot},
    files::Files,
    open::Open,
    system::System,
};

pub use attributes::SetTime;
pub use control::{IOCTL_BUFFER, IoctlShape, ioctl_shape};
pub use transfer::Seek;

/// A descriptor, as a program passes it.
pub type Fd = i32;

/// A process that calls: its descriptors, all files, and the kernel around them.
pub struct Caller<'a> {
    /// All files.
    pub files: &'a mut Files,
    /// The process's descriptors.
    pub descriptors: &'a mut Descriptors,
    /// The kernel.
    pub system: &'a mut dyn System,
}

/// Where a page of a file is, for mapping it.
#[derive(Clone, Debug)]
pub enum PageSource {
    /// At this offset of the boot archive, a multiple of the page size; `bytes` of it belong to the file. What lies behind them in the
    /// page belongs to other files: only a whole page may be mapped itself, another has to be copied.
    Archive {
        /// The file's bytes in the page, where they lie.
        bytes: &'static [u8],
    },
    /// A page in memory. A shared mapping maps it; a private one maps it read-only and copies when written.
    Memory(Arc<Page>),
    /// Nothing was written there: zeroes.
    Zero,
    /// A page of a region, so many bytes behind its start; it lies in the message window.
    Region {
        /// The region.
        region: Region,
        /// Offset of the page.
        offset: u64,
    },
}

impl core::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Caller")
            .field("files", self.files)
            .field("descriptors", self.descriptors)
            .finish_non_exhaustive()
    }
}

impl<'a> Caller<'a> {
    /// A process that calls.
    pub fn new(
        files: &'a mut Files,
        descriptors: &'a mut Descriptors,
        system: &'a mut dyn System,
    ) -> Caller<'a> {
        Caller { files, descriptors, system }
    }

    /// The open description behind a descriptor, and its number.
    pub(crate) fn open_of(&self, fd: Fd) -> Result<(u32, &Open), Errno> {
        let number = self.descriptors.get(fd)?.open;
        Ok((number, self.files.open(number)?))
    }

    /// Gives an open description its first descriptor; on failure it is closed.
    pub(crate) fn install(&mut self, open: u32, close_on_exec: bool) -> Result<Fd, Errno> {
        match self.descriptors.lowest(0) {
            Ok(fd) => {
                self.descriptors.set(fd, Slot { open, close_on_exec });
                Ok(fd as Fd)
            }
            Err(errno) => {
                self.files.release_open(open, self.system);
                Err(errno)
            }
        }
    }
}
