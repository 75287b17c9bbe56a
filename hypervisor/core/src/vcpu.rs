//! Logical processors by name.

use handover_abi::layout::PROCESSORS_MAX;

use crate::PartitionIndex;

/// A logical processor of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its number there, below [`PROCESSORS_MAX`].
    pub index: u8,
}

impl VcpuId {
    /// As a list knows it.
    pub(crate) const fn raw(self) -> u32 {
        (self.partition.get() as u32) << 8 | self.index as u32
    }

    /// Back from a list.
    pub(crate) const fn from_raw(raw: u32) -> VcpuId {
        VcpuId { partition: PartitionIndex::from_byte((raw >> 8) as u8), index: raw as u8 }
    }
}

const _: () = assert!(PROCESSORS_MAX <= u8::BITS, "a mask of a partition's processors is a byte");
