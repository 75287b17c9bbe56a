//! What it takes to make partitions of a boot archive: reading the archive, planning a guest's memory, describing a partition to its guest, and
//! the calls for it, by `hvc` (feature `hypercalls`) or against a model.
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub use handover_cpio as cpio;

pub mod archive;
pub mod control;
pub mod device_tree;
pub mod devices;
#[cfg(feature = "hypercalls")]
pub mod hypercalls;
pub mod image;
pub mod partition;
