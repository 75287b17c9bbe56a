//! What system-control decides, apart from the calls it makes: which partitions there are, and what becomes of them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod supervise;
pub mod system;
