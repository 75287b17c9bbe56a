//! The calls that system-control makes, apart from the instruction that makes them: its program carries them out by `hvc`, tests by a model.

use core::fmt;
use handover_abi::{
    Account, BusLimit, EndReason, Error, Name, PartitionId, ProcessorClaim, TrafficLimit, Unsupported,
    device::{Compatible, NodeName},
};

use crate::device_tree::Seeds;

/// A device of the machine's, as far as the loader cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// First address of its registers in the machine.
    pub base: u64,
    /// Bytes of its registers.
    pub size: u64,
    /// How many interrupts it has.
    pub interrupts: u32,
    /// Its device tree node's name.
    pub name: NodeName,
    /// What it is compatible with first of all.
    pub compatible: Compatible,
    /// Who has it.
    pub holder: Option<PartitionId>,
    /// Where its registers are there.
    pub address: u64,
    /// INTID there of its first interrupt; the others follow.
    pub intid: u32,
}

/// The control OS, as system-control sees it. Each method is the call of the same name.
pub trait Control {
    /// `Identify`: system-control's own id.
    fn own_id(&mut self) -> Result<PartitionId, Error>;
    /// `PartitionCreate`.
    fn create(&mut self, name: Name, processors: u32) -> Result<PartitionId, Error>;
    /// `PartitionSetLimit`.
    fn set_limit(&mut self, id: PartitionId, account: Account, limit: u64) -> Result<(), Error>;
    /// `ProcessorSet`.
    fn claim(&mut self, id: PartitionId, processor: u32, claim: ProcessorClaim) -> Result<(), Error>;
    /// `PartitionSetWatchdog`: nanoseconds, 0: none.
    fn set_watchdog(&mut self, id: PartitionId, nanoseconds: u64) -> Result<(), Error>;
    /// `PartitionSetColours`.
    fn set_colours(&mut self, id: PartitionId, own: u64, channels: u64) -> Result<(), Error>;
    /// `PartitionSetBus`.
    fn set_bus(&mut self, id: PartitionId, limit: BusLimit) -> Result<(), Error>;
    /// `PartitionSetTraffic`; and why not, if the machine cannot.
    fn set_traffic(
        &mut self,
        id: PartitionId,
        limit: TrafficLimit,
    ) -> Result<(), (Error, Option<Unsupported>)>;
    /// `CacheInfo`: how many cache colours the machine has.
    fn colours(&mut self) -> Result<u32, Error>;
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
    /// `DeviceInfo`: device `number`; numbers start at 0 and have no gaps.
    fn device(&mut self, number: u64) -> Result<Device, Error>;
    /// `DeviceAssign`: registers at `address`, interrupts from `intid` on. The second part of an error is why the machine's devices cannot be given so.
    fn assign(
        &mut self,
        id: PartitionId,
        number: u64,
        address: u64,
        intid: u32,
    ) -> Result<(), (Error, Option<Unsupported>)>;
    /// Fresh random bytes, if the control OS has entropy.
    fn seeds(&mut self) -> Option<Seeds>;
    /// A line on system-control's console.
    fn say(&mut self, line: fmt::Arguments<'_>);
}
