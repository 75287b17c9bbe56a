//! What both sides of a Handover hypercall agree on.
//!
//! Every call is made by `hvc #0` under the SMC Calling Convention 1.2 (Arm DEN0028): `x0` holds a [`Call`], `x1` to
//! `x17` its arguments. On return `x0` is 0 or a negative [`Error`]; each call says which of `x1` to `x17` carry
//! results, and every other register is preserved.
//!
//! The numbers here are a contract: a guest built against this crate keeps working as long as the major version is
//! the same. The C header of the Linux driver repeats some of them, and asserts on both sides hold the two together.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod values;

pub mod archive;
pub mod boot;
mod bus;
mod call;
pub mod console;
mod counter;
pub mod device;
mod error;
mod event;
mod handle;
pub mod layout;
mod message;
mod partition;
mod processor;
mod request;
pub mod resources;
mod signal;

pub use bus::{BusLimit, BusStatus, TrafficLimit};
pub use call::{Call, FEATURES, Features, REVISION, UID, VERSION, smccc};
pub use counter::{COUNTERS_AT_ONCE, COUNTERS_END, Counter, CounterNumber};
pub use device::Unsupported;
pub use error::Error;
pub use event::{Causes, Event};
pub use handle::{PartitionId, Port, RegionHandle, ServiceId};
pub use message::{Message, MessageWord, SHORT_MAX, SHORT_WORDS, region_order};
pub use partition::{Account, EndReason, NAME_MAX, Name, PartitionState};
pub use processor::{PROCESSOR_WHOLE, ProcessorClaim, ProcessorStatus};
pub use request::{RequestFlags, RequestWord, SharedAccess};
pub use signal::{Signal, SignalKind};
