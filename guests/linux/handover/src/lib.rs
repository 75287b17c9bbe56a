//! Channels and message regions for Linux programs in a Handover partition, on top of `/dev/handover`.
//!
//! A [`Channel`] leads to a service of another partition. A message has a [short part](Short) of at most 128 bytes and,
//! if wanted, a [`Region`]: memory that leaves this partition when it is sent, and arrives there without being copied.
//! [`Channel::send`] therefore takes the region, and gives it back if it fails.
//!
//! ```no_run
//! use handover_linux::{Channel, Handover, Region};
//!
//! let handover = Handover::open()?;
//! let echo = handover.service("echo")?;
//! let channel = Channel::connect(&handover, &echo)?;
//!
//! let mut region = Region::create(&handover, 4096)?;
//! region[..5].copy_from_slice(b"hello");
//! channel.send_wait((region, 5u64.to_le_bytes()))?;
//!
//! let answer = channel.receive_wait()?;
//! println!("{:x?}", answer.region.map(|region| region[..5].to_vec()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program that offers a service listens for it, and says yes or no to each request:
//!
//! ```no_run
//! use handover_linux::{Handover, Listener, Short};
//!
//! let handover = Handover::open()?;
//! let listener = Listener::new(&handover, &handover.provided("upper")?)?;
//! loop {
//!     let request = listener.request_wait()?;
//!     let channel = request.accept()?;
//!     while let Ok(message) = channel.receive_wait() {
//!         channel.send_wait(Short::new(&message.short.to_ascii_uppercase())?)?;
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything is called what the SDK for bare-metal guests calls it. What waits has three forms: `receive` returns at once, `receive_wait` blocks, and
//! `receive_async` is a future for any executor, [`block_on`] among them. [`PortSet`] waits for many things at once; [`EventSender`] and [`EventReceiver`] are
//! the ends of an event port, [`Stream`] makes a byte stream of a channel, [`Shared`] is memory that both sides have, and [`calls`] are direct calls.
//!
//! Errors are [`std::io::Error`]s with the driver's `errno`; `uapi/handover.h` lists them.

mod asynchronous;
pub mod calls;
mod channel;
mod connect;
mod device;
mod events;
mod listener;
mod message;
mod ports;
mod region;
mod shared;
pub mod stream;
pub mod task;
pub mod uapi;

pub use asynchronous::Sending;
pub use calls::CallError;
pub use channel::{Channel, SendError, Status};
pub use connect::{ConnectError, Connecting};
pub use device::{Account, Charge, Handover, Info, Role, Service};
pub use events::{EventReceiver, EventSender};
pub use handover_abi::{Causes, PartitionId, RequestFlags, RequestWord, ServiceId};
pub use listener::{Listener, Request};
pub use message::{Message, SHORT_MAX, Short, TooLong};
pub use ports::{Event, Port, PortSet};
pub use region::{REGION_MAX, REGION_MIN, Region, region_size};
pub use shared::{ReadWord, Shared, Writers};
pub use stream::Stream;
pub use task::block_on;
