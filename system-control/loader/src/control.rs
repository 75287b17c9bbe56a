//! The calls that system-control makes, apart from the instruction that makes them: its program carries them out by `hvc`, tests by a model.

use core::fmt;
use handover_abi::{Account, EndReason, Error, Name, PartitionId};

use crate::device_tree::Seeds;

/// The control OS, as system-control sees it. Each method is the call of the same name.
pub trait Control {
    /// `PartitionCreate`.
    fn create(&mut self, name: Name, processors: u32) -> Result<PartitionId, Error>;
    /// `PartitionSetLimit`.
    fn set_limit(&mut self, id: PartitionId, account: Account, limit: u64) -> Result<(), Error>;
    /// `PartitionAddMemory`, of at most [`ADD_MEMORY_MAX`](handover_abi::layout::ADD_MEMORY_MAX) bytes.
    fn add_memory(&mut self, id: PartitionId, address: u64, size: u64) -> Result<(), Error>;
    /// `PartitionWrite`, of at most [`WRITE_MAX`](handover_abi::layout::WRITE_MAX) bytes.
    fn write(&mut self, id: PartitionId, address: u64, bytes: &[u8]) -> Result<(), Error>;
    /// `PartitionStart`.
    fn start(&mut self, id: PartitionId, entry: u64, x0: u64) -> Result<(), Error>;
    /// `PartitionStop`.
    fn stop(&mut self, id: PartitionId) -> Result<(), Error>;
    /// `PartitionDestroy`.
    fn destroy(&mut self, id: PartitionId) -> Result<(), Error>;
    /// `PartitionStatus` of a partition that has ended: why, and its exit status.
    fn end_of(&mut self, id: PartitionId) -> Result<(EndReason, u64), Error>;
    /// The free memory that `MachineInfo` tells, in bytes.
    fn free_memory(&mut self) -> Result<u64, Error>;
    /// `Refuse`.
    fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Error>;
    /// Fresh random bytes, if the control OS has entropy.
    fn seeds(&mut self) -> Option<Seeds>;
    /// A line on system-control's console.
    fn say(&mut self, line: fmt::Arguments<'_>);
}
