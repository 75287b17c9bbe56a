//! The rules of Handover: who owns which memory, who may talk to whom, and what it costs whom.
//!
//! Nothing here touches the machine: the rules see it as a [`Machine`], which the EL2 image implements on hardware and the tests
//! on a model. Nothing allocates, blocks or panics, and every call is bounded. Nothing locks either: the image keeps the one
//! [`System`] behind one lock ([`turns`] says whose it is), and a rule runs from its first check to its last store without giving it up.
//!
//! A call checks everything first, then changes state; one that fails has changed nothing.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod account;
mod addr;
mod backtrace;
pub mod blocks;
pub mod bus;
mod call;
mod channel;
mod close;
pub mod colour;
mod device;
mod event;
mod event_port;
mod failure;
pub mod frames;
mod life;
mod list;
mod machine;
pub mod maintenance;
mod memory;
mod message;
mod partition;
pub mod pl011;
mod plain;
mod reap;
mod region;
pub mod schedule;
mod set;
mod shared;
mod signal;
mod stage2;
mod steal;
mod syndrome;
mod system;
mod table;
mod timeout;
pub mod traffic;
pub mod turns;
mod vcpu;
pub mod vgic;
pub mod watch;

pub use account::Accounts;
pub use addr::{Ipa, PAGE, Pa};
pub use backtrace::{Backtrace, CALLERS_MAX};
pub use call::{Delivered, Handed, Waited};
pub use channel::QUEUE_DEPTH;
pub use colour::{Colours, Palette};
pub use device::{DEVICES_MAX, Device, Interrupt};
pub use failure::{Failure, Progress};
pub use machine::Machine;
pub use maintenance::{CacheMaintenance, Maintenance};
pub use message::{Sent, Untold, copy_message};
pub use partition::{Partition, PartitionIndex, Phase};
pub use stage2::{Attributes, Span};
pub use syndrome::SyndromeWords;
pub use system::{PARTITION_PLACES, PARTITIONS_MAX, System};
pub use timeout::Timeout;
pub use vcpu::VcpuId;
