//! What init decides: which partitions there are, what becomes of them and of the machine, and what guests' requests come to.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod front;
pub mod grant;
pub mod memory;
pub mod programs;
pub mod shares;
pub mod supervise;
pub mod system;
