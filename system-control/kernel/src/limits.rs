//! How much there may be of what programs make.

/// The most processes; each has an ASID of its own, of which there are 255 with 8 bits.
pub const PROCESSES_MAX: usize = 128;
/// The most threads, all processes' together.
pub const THREADS_MAX: usize = 512;
/// System calls that are not there are counted one by one up to this number, and together from it on.
pub const COUNTED_MAX: u64 = 512;
