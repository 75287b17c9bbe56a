//! What system-control decides, apart from the calls it makes: reading the boot archive, planning a guest's memory,
//! describing a partition to its guest, and following what becomes of the partitions.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod control;
pub mod cpio;
pub mod device_tree;
pub mod image;
pub mod partition;
pub mod supervise;
pub mod system;
