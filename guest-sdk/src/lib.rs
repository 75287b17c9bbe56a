//! The SDK for bare-metal guests of Handover.
//!
//! A guest is a `no_std` program at EL1. [`entry!`] gives it a `main`; by then the MMU and the caches are on, and a
//! [`Boot`] tells what the partition has: memory, arguments, services. Messages go through a [`Channel`]; what is too
//! long for registers travels in a [`Region`], which leaves the sender at [`send`](Channel::send) and reaches the
//! receiver at [`receive`](Channel::receive) without being copied.
//!
//! ```ignore
//! use handover_guest::{Boot, Channel, Error, Region, entry, println};
//!
//! entry!(main);
//!
//! fn main(boot: Boot) -> Result<(), Error> {
//!     let echo = boot.service("echo").ok_or(Error::BadHandle)?;
//!     let mut channel = Channel::connect(echo)?;
//!     let mut region = Region::create(4096)?;
//!     region[..5].copy_from_slice(b"hello");
//!     channel.send(region)?;
//!     let message = channel.receive_wait()?;
//!     println!("{:x?}", message.region.map(|region| region[0]));
//!     Ok(())
//! }
//! ```
//!
//! What waits has three forms: `receive` returns at once, `receive_wait` blocks, and `receive_async` is a future for
//! [`block_on`](task), which serves many at once. [`Stream`](stream) makes a byte stream of a channel.
//!
//! Blocking functions mask interrupts, look, and wait by WFI, so that no wake-up is lost; they are meant for one
//! processor of the partition, the one that [`interrupts::init`] routes the event interrupt to.
//!
//! The program is linked by the script `guest.ld` (an ELF file, at 0x4020_0000) or `flat.ld` (a flat image, at the start of
//! memory), which its build script names: `cargo:rustc-link-arg-bins=-Tguest.ld`.

#![cfg_attr(not(test), no_std)]

pub mod boot;
#[cfg(any(target_os = "none", test))]
mod lock;
mod message;
#[cfg(any(target_os = "none", test))]
mod sleepers;
#[cfg(any(target_os = "none", test))]
pub mod stream;
#[cfg(any(target_os = "none", test))]
pub mod task;
#[cfg(any(target_os = "none", test))]
mod waiters;
#[cfg(any(target_os = "none", test))]
pub mod window;

// What follows needs the machine; the modules above are tested on the host.
#[cfg(target_os = "none")]
mod asynchronous;
#[cfg(target_os = "none")]
pub mod calls;
#[cfg(target_os = "none")]
mod channel;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod events;
#[cfg(target_os = "none")]
pub mod fault;
#[cfg(all(target_os = "none", feature = "alloc"))]
pub mod heap;
#[cfg(target_os = "none")]
pub mod hvc;
#[cfg(target_os = "none")]
pub mod interrupts;
#[cfg(target_os = "none")]
mod lent;
#[cfg(target_os = "none")]
mod listener;
#[cfg(target_os = "none")]
pub mod mapping;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
mod ports;
#[cfg(target_os = "none")]
pub mod processor;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
mod region;
#[cfg(target_os = "none")]
pub mod requests;
#[cfg(target_os = "none")]
mod shared;
#[cfg(target_os = "none")]
pub mod signals;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod timer;

pub use boot::{Boot, Device, Service};
pub use handover_abi as abi;
pub use handover_abi::{
    Causes, Error, Event, PartitionId, Port, RegionHandle, RequestFlags, RequestWord, ServiceId,
};
pub use message::Short;

#[cfg(target_os = "none")]
pub use {
    asynchronous::Sending,
    channel::{Channel, ConnectError, Connecting, Message, SendError},
    lent::Lent,
    listener::Listener,
    ports::{EventReceiver, EventSender, PortSet},
    region::Region,
    shared::{ReadWord, Shared, Writers},
    start::{Status, Termination, end},
    stream::Stream,
    task::block_on,
};
