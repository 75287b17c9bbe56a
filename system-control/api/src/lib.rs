//! The system-control programming interface: for programs that run in the privileged partition, under its UNIX-like kernel.
//!
//! A [`Machine`] makes partitions and tells about them; a [`Partition`] is one of them. Both work through the device [`DEVICE`], whose
//! calls are the control OS's own. [`Signals`] tells what happens to partitions.
//!
//! ```no_run
//! use handover_control::{Machine, Setup};
//!
//! let machine = Machine::open()?;
//! let kernel = std::fs::read("/kernel/echo")?;
//! let guest = machine.create(&Setup::new("guest", 1, 16 << 20), &kernel, None)?;
//! guest.start()?;
//! println!("it ended: {}", guest.wait()?.reason);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program that decides guests' [requests] for resources, all of it:
//!
//! ```no_run
//! use handover_control::requests::{Requests, Verdict};
//!
//! for request in &Requests::open()? {
//!     let request = request?;
//!     // Nobody gets more at once than half of what it has.
//!     let most = request.account_limit / 2;
//!     let verdict = if request.amount <= most { Verdict::Grant } else { Verdict::Change(most) };
//!     request.answer(verdict)?;
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

#![warn(missing_docs)]

mod calls;
mod channel;
mod error;
mod listed;
mod machine;
#[cfg(feature = "model")]
pub mod model;
mod order;
mod partition;
mod ready;
mod region;
pub mod requests;
mod services;
mod signals;
mod wire;

pub use calls::{Calls, DEVICE, Device, REGISTERS};
pub use channel::{Channel, Delivery, Listener, Message, SendError};
pub use error::{Cause, Error};
pub use handover_abi as abi;
pub use handover_abi::{Account, EndReason, PartitionId, PartitionState, ProcessorClaim, ServiceId};
pub use listed::{Listed, PARTITIONS};
pub use machine::{Machine, MachineInfo, Setup};
pub use order::{Given, ORDERS, Order, Orders};
pub use partition::{Charge, Counters, Ended, Partition, ProcessorTime};
pub use ready::{READY, ready};
pub use region::{MappedFile, MappedRegion, MessageFile, Region};
pub use services::{SERVICES, Service, Services};
pub use signals::{Event, Signals};
