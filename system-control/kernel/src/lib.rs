//! The pure parts of system-control's kernel: what is mapped where, which frame is whose, who runs next, who waits for what,
//! what a signal does, what a program's file and stack look like. The program around them carries it out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod areas;
pub mod calls;
pub mod clock;
pub mod elf;
pub mod fault;
pub mod frames;
pub mod futex;
pub mod holdings;
pub mod layout;
pub mod limits;
pub mod registers;
pub mod schedule;
pub mod signal;
pub mod signal_frame;
pub mod stack;
pub mod timers;
pub mod users;

pub use handover_files::Errno;
