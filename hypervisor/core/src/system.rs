//! Every partition of the machine, and all they may do.
#![allow(unused_variables, reason = "the bodies follow")]

use handover_abi::{
    Causes, EndReason, Error, Event, MessageWord, Name, PartitionId, Port, RegionHandle, SHORT_WORDS, Signal,
};

use crate::{Attributes, Failure, Ipa, Machine, Pa, Partition, PartitionIndex, Progress, Span};

/// Partitions at one time.
pub const PARTITIONS_MAX: usize = 128;

/// All partitions.
pub struct System {
    partitions: [Option<&'static mut Partition>; PARTITIONS_MAX],
    attributes: Attributes,
}

impl System {
    /// No partitions; attributes for `HCR_EL2.FWB` set.
    #[must_use]
    pub const fn new() -> System {
        System { partitions: [const { None }; PARTITIONS_MAX], attributes: Attributes { fwb: true } }
    }

    /// Chooses how descriptors are encoded; before the first partition is made.
    pub fn set_attributes(&mut self, attributes: Attributes) {
        self.attributes = attributes;
    }

    /// A partition by index.
    #[must_use]
    pub fn partition(&self, ix: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(ix.get())?.as_deref()
    }

    /// Makes an empty partition, which `creator` pays for: `shell_bytes` (what `shell` and whatever the image keeps beside it take, a multiple of 4096) and the root table. On failure `shell` comes back.
    ///
    /// [`Error::InvalidArgument`]: no or too many processors. [`Error::NoMemory`]: no frame, or [`PARTITIONS_MAX`] exist.
    pub fn create(
        &mut self,
        m: &mut impl Machine,
        creator: Option<PartitionIndex>,
        name: Name,
        processors: u32,
        shell: &'static mut Partition,
        shell_bytes: u64,
    ) -> Result<PartitionId, (Failure, &'static mut Partition)> {
        Err((Error::NotSupported.into(), shell))
    }

    /// Which partition has this id? [`Error::BadHandle`]: none.
    pub fn find(&self, id: PartitionId) -> Result<PartitionIndex, Failure> {
        Err(Error::NotSupported.into())
    }

    /// Sets a limit.
    pub fn set_limit(&mut self, id: PartitionId, account: u64, limit: u64) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// Use and limit of an account.
    pub fn account(&self, ix: PartitionIndex, account: u64) -> Result<(u64, u64), Failure> {
        Err(Error::NotSupported.into())
    }

    /// Gives a partition that has not started `size` bytes of zeroed memory at `at`, both multiples of 2 MiB; `size` is at most 1 GiB.
    pub fn add_memory(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        at: Ipa,
        size: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// Maps `size` bytes from `from` at `at`, read-only. They are not the partition's: nobody frees them.
    pub fn map_files(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        at: Ipa,
        from: Pa,
        size: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// Where an address of the partition's leads; `None` where nothing is mapped.
    pub fn translate(&self, m: &impl Machine, ix: PartitionIndex, at: Ipa) -> Option<Span> {
        None
    }

    /// Lets a partition's guest run and make calls.
    pub fn start(&mut self, ix: PartitionIndex) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// Ends a partition: no call of its is served any more. One that has ended already stays as it is.
    pub fn end(&mut self, m: &mut impl Machine, ix: PartitionIndex, reason: EndReason, status: u64) {}

    /// One bounded step of giving back everything an ending partition holds. None of its logical processors may run, or have its translation loaded, any more.
    pub fn reap(&mut self, m: &mut impl Machine, ix: PartitionIndex) -> Progress {
        Progress::Done
    }

    /// Forgets a partition that is terminated, and hands back its memory and `shell_bytes`. [`Error::WrongState`]: it is not.
    pub fn destroy(
        &mut self,
        m: &mut impl Machine,
        id: PartitionId,
    ) -> Result<(&'static mut Partition, u64), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `RegionCreate`: `at` may be 0.
    pub fn region_create(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        size: u64,
        at: u64,
    ) -> Result<RegionHandle, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `RegionDestroy`.
    pub fn region_destroy(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
    ) -> Result<Progress, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `RegionMap`.
    pub fn region_map(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
        at: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `RegionUnmap`.
    pub fn region_unmap(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `RegionInfo`: size in bytes, address or 0.
    pub fn region_info(&self, who: PartitionIndex, handle: u64) -> Result<(u64, u64), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Connect`.
    pub fn connect(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        partition: u64,
        service: u64,
    ) -> Result<Port, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Accept`.
    pub fn accept(&mut self, m: &mut impl Machine, who: PartitionIndex, token: u64) -> Result<Port, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Refuse`.
    pub fn refuse(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        token: u64,
        reason: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Disconnect`.
    pub fn disconnect(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<Progress, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Send`: `data` holds `x2` to `x17`.
    pub fn send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `Receive`: fills `data`, `x2` to `x17`.
    pub fn receive(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
        data: &mut [u64; SHORT_WORDS],
    ) -> Result<MessageWord, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `PortStatus`: causes that hold, the peer, the reason of a refusal.
    pub fn port_status(&self, who: PartitionIndex, port: u64) -> Result<(Causes, PartitionId, u32), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `EventNext`.
    pub fn event_next(&mut self, who: PartitionIndex) -> Result<Event, Failure> {
        Err(Error::NotSupported.into())
    }

    /// `EventSend`.
    pub fn event_send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        Err(Error::NotSupported.into())
    }

    /// `SignalNext`.
    pub fn signal_next(&mut self, who: PartitionIndex) -> Result<Signal, Failure> {
        Err(Error::NotSupported.into())
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}
