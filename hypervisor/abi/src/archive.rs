//! The boot archive, which the boot loader puts in memory (`-initrd`): one page with this header, system-control's flat image, then a
//! newc cpio archive for system-control's own use. The control OS reads the header and nothing else.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes.
pub const MAGIC: [u8; 8] = *b"HANDOVER";
/// This layout's version.
pub const VERSION: u32 = 1;
/// Everything in the archive starts on a multiple of this.
pub const PAGE: u64 = 4096;

/// The header, little-endian. Offsets count from the header's own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Logical processors of system-control.
    pub processors: u32,
    /// Bytes from the header's start to the archive's end.
    pub size: u64,
    /// Where system-control's image starts; it is copied to the start of its memory ([`crate::layout::MEMORY_BASE`]) and entered there.
    pub image_offset: u64,
    /// Bytes of the image.
    pub image_size: u64,
    /// Bytes of memory system-control gets, a multiple of 2 MiB, more than the image.
    pub memory_size: u64,
    /// Where the files start.
    pub files_offset: u64,
    /// Bytes of the files.
    pub files_size: u64,
}

impl Header {
    /// What is wrong with a header found in `available` bytes, if anything.
    pub fn check(&self, available: u64) -> Result<(), &'static str> {
        let inside = |offset: u64, size: u64| {
            offset >= PAGE
                && offset.is_multiple_of(PAGE)
                && offset.checked_add(size).is_some_and(|end| end <= self.size)
        };
        if self.magic != MAGIC {
            return Err("no boot archive (wrong magic)");
        }
        if self.version != VERSION {
            return Err("boot archive of another version");
        }
        if self.size > available {
            return Err("boot archive cut short");
        }
        if !inside(self.image_offset, self.image_size) || !inside(self.files_offset, self.files_size) {
            return Err("boot archive with an offset outside itself");
        }
        if !self.memory_size.is_multiple_of(crate::layout::MEMORY_GRANULE)
            || self.memory_size <= self.image_size
        {
            return Err("boot archive with a bad memory size for system-control");
        }
        if self.processors == 0 || self.processors > crate::layout::PROCESSORS_MAX {
            return Err("boot archive with a bad number of processors for system-control");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Header {
        Header {
            magic: MAGIC,
            version: VERSION,
            processors: 1,
            size: 5 * PAGE,
            image_offset: PAGE,
            image_size: PAGE + 5,
            memory_size: 2 << 20,
            files_offset: 3 * PAGE,
            files_size: 2 * PAGE,
        }
    }

    #[test]
    fn header_checks() {
        assert_eq!(good().check(5 * PAGE), Ok(()));
        assert!(good().check(5 * PAGE - 1).is_err());
        let broken: [fn(&mut Header); 8] = [
            |h| h.magic[0] = b'h',
            |h| h.version += 1,
            |h| h.image_offset = 0,
            |h| h.image_offset += 1,
            |h| h.image_size = u64::MAX,
            |h| h.files_size += 1,
            |h| h.memory_size = PAGE,
            |h| h.processors = 0,
        ];
        for damage in broken {
            let mut header = good();
            damage(&mut header);
            assert!(header.check(u64::MAX).is_err(), "{header:?}");
        }
    }
}
