//! The file side of system-control's kernel: the tree, descriptors, pipes, devices, `/proc`, and message channels as sockets.
//!
//! Nothing here touches a machine. A kernel has one [`Files`], and for each process [`Descriptors`]; a system call is a method of
//! [`Caller`], which joins the two with the kernel's side of things ([`System`]). Programs' memory is reached through [`Sink`] and
//! [`Source`].
//!
//! No operation waits. One that would returns [`Errno::AGAIN`]; the kernel then has the thread wait for the descriptor's [`WaitKey`]
//! until [`Files::next_wakeup`] names it, and tries again.
//!
//! What a kernel owes besides: [`Files::channel_events`] at the event interrupt and [`Files::console_input`] at the console's, each followed by
//! the wake-ups and by [`Files::take_terminal_signal`]; [`Descriptors::exec`] and
//! [`Files::discard_mappings`] when a process executes another program; [`Descriptors::close_all`] and [`Files::process_ended`] when it ends.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arena;
mod calls;
mod channels;
mod contents;
mod control;
mod counter;
mod descriptors;
mod epoll;
mod errno;
mod files;
mod inodes;
pub mod interface;
mod message;
mod mount;
mod node;
mod open;
mod page;
mod pair;
mod pipe;
mod proc;
mod quota;
mod readiness;
mod ring;
mod socket;
mod status;
mod system;
mod terminal;
mod transfer;
mod walk;

pub use calls::{Caller, Fd, IOCTL_BUFFER, IoctlShape, PageSource, Seek, SetTime, ioctl_shape};
pub use channels::{Channels, Failure, PortStatus, Received, Region};
pub use descriptors::Descriptors;
pub use epoll::EpollEvent;
pub use errno::Errno;
pub use files::{Damaged, Files, Hold, Limits, WaitKey};
pub use node::Device;
pub use page::{PAGE, Page};
pub use quota::{Payer, Quota, USERS_MAX};
pub use readiness::Readiness;
pub use status::{FileSystemStatus, Metadata};
pub use system::{Clock, Console, MachineStatus, ProcessStatus, Processes, Random, System, Time};
pub use terminal::TerminalSignal;
pub use transfer::{Sink, Source};
