//! What the control OS tells system-control at its start: `x0` holds the address of a [`BootInfo`], in the last page of its memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of [`BootInfo`].
pub const MAGIC: [u8; 8] = *b"HANDBOOT";

/// Little-endian, in system-control's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Start of memory.
    pub memory_base: u64,
    /// Bytes of memory.
    pub memory_size: u64,
    /// Start of the boot archive's files, mapped read-only.
    pub files_base: u64,
    /// Bytes of the files.
    pub files_size: u64,
}
