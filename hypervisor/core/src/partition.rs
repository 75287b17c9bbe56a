//! A partition as the rules know it.

use handover_abi::{EndReason, Name, PartitionId, PartitionState};

use crate::bus::Bucket;
use crate::call::Calls;
use crate::channel::Ports;
use crate::event::Latch;
use crate::list::List;
use crate::message::Entries;
use crate::reap::Reap;
use crate::region::Regions;
use crate::signal::{Ended, Signals};
use crate::{Accounts, Colours, Pa};

/// Where a partition is in the system's table. Used again after [`crate::System::destroy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PartitionIndex(u8);

impl PartitionIndex {
    /// `None` unless below [`crate::PARTITIONS_MAX`].
    #[must_use]
    pub const fn new(index: usize) -> Option<PartitionIndex> {
        if index < crate::PARTITIONS_MAX { Some(PartitionIndex(index as u8)) } else { None }
    }

    /// The plain number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// From a byte of our own making, which may name nobody.
    pub(crate) const fn from_byte(index: u8) -> PartitionIndex {
        PartitionIndex(index)
    }

    /// The VMID of its translation: never 0.
    #[must_use]
    #[inline]
    pub const fn vmid(self) -> u16 {
        self.0 as u16 + 1
    }
}

/// Where a partition is in its life, more closely than [`PartitionState`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Made, not started yet.
    Created,
    /// Its guest runs.
    Active,
    /// It makes no calls any more; what it holds is being given back.
    Ending,
    /// It holds nothing.
    Terminated,
}

/// A partition. The image provides the memory. Printed, it is all of its state, and nothing that was.
#[derive(Debug)]
pub struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) name: Option<Name>,
    pub(crate) phase: Phase,
    /// Its calls may go the [plain way](mod@crate::plain).
    pub(crate) plain: bool,
    /// Stage 2 forces write-back.
    pub(crate) forced_write_back: bool,
    /// None of its logical processors runs until it is resumed.
    pub(crate) paused: bool,
    pub(crate) reason: EndReason,
    pub(crate) status: u64,
    pub(crate) processors: u32,
    pub(crate) root: Pa,
    pub(crate) vmid: u16,
    pub(crate) accounts: Accounts,
    /// What its memory, tables and records are made of.
    pub(crate) colours: Colours,
    /// What is declared for the channels that it accepts; 0: nothing.
    pub(crate) channel_colours: u64,
    /// How often it may use the bus.
    pub(crate) bus: Bucket,
    pub(crate) calls: Calls,
    pub(crate) regions: Regions,
    pub(crate) ports: Ports,
    pub(crate) entries: Entries,
    /// Ports with events that were not taken.
    pub(crate) pending: List,
    /// The event of port 0.
    pub(crate) control: Latch,
    pub(crate) signals_queued: List,
    /// What a shutdown request says that was not taken yet.
    pub(crate) shutdown: Option<u64>,
    pub(crate) signals_delivered: List,
    pub(crate) ended: Ended,
    /// Who made it and pays for `shell_bytes` and the root.
    pub(crate) creator: Option<(PartitionIndex, PartitionId)>,
    pub(crate) shell_bytes: u64,
    pub(crate) reap: Reap,
}

impl Partition {
    /// One that [`crate::System::create`] can fill.
    #[must_use]
    pub const fn new() -> Partition {
        Partition {
            id: PartitionId::new(0),
            name: None,
            phase: Phase::Created,
            plain: false,
            forced_write_back: false,
            paused: false,
            reason: EndReason::None,
            status: 0,
            processors: 0,
            root: Pa::new(0),
            vmid: 0,
            accounts: Accounts::new(),
            colours: Colours::ANY,
            channel_colours: 0,
            bus: Bucket::new(),
            calls: Calls::new(),
            regions: Regions::new(),
            ports: Ports::new(),
            entries: Entries::new(),
            pending: List::new(),
            control: Latch::new(),
            signals_queued: List::new(),
            shutdown: None,
            signals_delivered: List::new(),
            ended: Ended::new(),
            creator: None,
            shell_bytes: 0,
            reap: Reap::Unlink,
        }
    }

    /// One that holds nothing is as if it had never run.
    pub(crate) fn renew(&mut self) {
        self.enter(Phase::Created);
        self.paused = false;
        self.shutdown = None;
        self.reason = EndReason::None;
        self.status = 0;
        // Port 0 may have been masked, or a set's member.
        self.control = Latch::new();
        self.pending = List::new();
        self.reap = Reap::Unlink;
    }

    /// Whether `SignalNext` would find something.
    pub(crate) fn has_signals(&self) -> bool {
        self.shutdown.is_some() || !self.signals_queued.is_empty()
    }

    #[inline]
    pub(crate) fn signals(&mut self, list: Signals) -> &mut List {
        match list {
            Signals::Queued => &mut self.signals_queued,
            Signals::Delivered => &mut self.signals_delivered,
        }
    }

    /// Its id, never used again.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// What its console is labelled with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or("", Name::as_str)
    }

    /// What `PartitionStatus` tells: one that is ending counts as active until it holds nothing.
    #[must_use]
    pub fn state(&self) -> PartitionState {
        match self.phase {
            Phase::Created => PartitionState::Created,
            Phase::Active if self.paused => PartitionState::Paused,
            Phase::Active | Phase::Ending => PartitionState::Active,
            Phase::Terminated => PartitionState::Terminated,
        }
    }

    /// The same, more closely.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> EndReason {
        self.reason
    }

    /// Its exit status.
    #[must_use]
    pub fn status(&self) -> u64 {
        self.status
    }

    /// The level-1 table of its stage-2 translation.
    #[must_use]
    pub fn root(&self) -> Pa {
        self.root
    }

    /// The VMID of its stage-2 translation.
    #[must_use]
    pub fn vmid(&self) -> u16 {
        self.vmid
    }

    /// How many logical processors it has.
    #[must_use]
    pub fn processors(&self) -> u32 {
        self.processors
    }

    /// What it uses and may use.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }
}

impl Default for Partition {
    fn default() -> Partition {
        Partition::new()
    }
}
