//! Every partition of the machine.

use handover_abi::layout::PROCESSORS_MAX;
use handover_abi::{Account, Error, Name, PartitionId};

use crate::addr::PAGE;
use crate::bus::Bucket;
use crate::call::Zeroes;
use crate::device::Devices;
use crate::timeout::Wheel;
use crate::{Accounts, Attributes, Colours, Failure, Machine, Pa, Palette, Partition, PartitionIndex, Phase};

/// Partitions at one time.
pub const PARTITIONS_MAX: usize = 128;

/// Places in a table of partitions: as many as a [`PartitionIndex`] can number, so that no look-up asks whether there are so many.
pub const PARTITION_PLACES: usize = 1 << u8::BITS;

/// All partitions. In this order, what every call looks at is near the start, where an instruction's offset reaches.
#[repr(C)]
pub struct System {
    pub(crate) partitions: [Option<&'static mut Partition>; PARTITION_PLACES],
    pub(crate) attributes: Attributes,
    /// The last id given out.
    last_id: u32,
    /// Requests to connect so far.
    pub(crate) requests: u32,
    pub(crate) palette: Palette,
    /// When they are given up.
    pub(crate) timeouts: Wheel,
    pub(crate) zeroes: Option<Zeroes>,
    pub(crate) devices: Devices,
}

impl System {
    /// No partitions; descriptors as `HCR_EL2.FWB` wants them.
    #[must_use]
    pub const fn new() -> System {
        System {
            partitions: [const { None }; PARTITION_PLACES],
            attributes: Attributes { fwb: true },
            devices: Devices::new(),
            palette: Palette::NONE,
            last_id: 0,
            requests: 0,
            timeouts: Wheel::new(),
            zeroes: None,
        }
    }

    /// Chooses how descriptors are encoded; before the first partition is made.
    pub fn set_attributes(&mut self, attributes: Attributes) {
        self.attributes = attributes;
    }

    /// A partition by index.
    #[must_use]
    #[inline]
    pub fn partition(&self, ix: PartitionIndex) -> Option<&Partition> {
        self.get(ix)
    }

    #[inline(always)]
    pub(crate) fn get(&self, ix: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(ix.get())?.as_deref()
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, ix: PartitionIndex) -> Option<&mut Partition> {
        self.partitions.get_mut(ix.get())?.as_deref_mut()
    }

    /// A partition that makes a call. [`Error::WrongState`]: it does not run, or not any more.
    #[inline(always)]
    pub(crate) fn caller(&mut self, who: PartitionIndex) -> Result<&mut Partition, Failure> {
        match self.get_mut(who) {
            Some(p) if p.phase == Phase::Active => Ok(p),
            _ => Err(Error::WrongState.into()),
        }
    }

    /// The same, to look at.
    #[inline]
    pub(crate) fn caller_ref(&self, who: PartitionIndex) -> Result<&Partition, Failure> {
        match self.get(who) {
            Some(p) if p.phase == Phase::Active => Ok(p),
            _ => Err(Error::WrongState.into()),
        }
    }

    /// Whether what a partition sent is being given back.
    #[inline]
    pub(crate) fn is_ending(&self, ix: PartitionIndex) -> bool {
        self.get(ix).is_some_and(|p| p.phase == Phase::Ending)
    }

    /// Makes an empty partition, which `creator` pays for: `shell_bytes` (what `shell` and whatever the image keeps beside it take, a multiple
    /// of 4096) and the root table. On failure `shell` comes back.
    ///
    /// [`Error::InvalidArgument`]: no or too many processors. [`Error::WrongState`]: `creator` does not run. [`Error::Limit`].
    /// [`Error::NoMemory`]: no frame, or [`PARTITIONS_MAX`] exist.
    pub fn create(
        &mut self,
        m: &mut impl Machine,
        creator: Option<PartitionIndex>,
        name: Name,
        processors: u32,
        shell: &'static mut Partition,
        shell_bytes: u64,
    ) -> Result<PartitionId, (Failure, &'static mut Partition)> {
        match self.prepare(m, creator, processors, shell_bytes) {
            Ok((ix, id, creator, root)) => {
                shell.id = id;
                shell.name = Some(name);
                shell.forced_write_back = self.attributes.fwb;
                shell.renew();
                shell.processors = processors;
                shell.root = root;
                shell.vmid = ix.vmid();
                shell.accounts = Accounts::new();
                shell.colours = Colours::ANY;
                shell.channel_colours = 0;
                shell.bus = Bucket::new();
                shell.reconsider();
                shell.creator = creator;
                shell.shell_bytes = shell_bytes;
                if let Some(slot) = self.partitions.get_mut(ix.get()) {
                    *slot = Some(shell);
                }
                Ok(id)
            }
            Err(failure) => Err((failure, shell)),
        }
    }

    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn prepare(
        &mut self,
        m: &mut impl Machine,
        creator: Option<PartitionIndex>,
        processors: u32,
        shell_bytes: u64,
    ) -> Result<(PartitionIndex, PartitionId, Option<(PartitionIndex, PartitionId)>, Pa), Failure> {
        if processors == 0 || processors > PROCESSORS_MAX {
            return Err(Error::InvalidArgument.into());
        }
        let cost = shell_bytes.saturating_add(PAGE);
        if let Some(creator) = creator {
            self.caller(creator)?.accounts.check(Account::ControlMemory, cost)?;
        }
        let ix = self.partitions.iter().position(Option::is_none).and_then(PartitionIndex::new);
        let ix = ix.ok_or(Error::NoMemory)?;
        let id = self.last_id.checked_add(1).ok_or(Error::NoMemory)?;
        let root = m.allocate(12).ok_or(Error::NoMemory)?;
        let creator = match creator {
            None => None,
            Some(creator) => {
                let p = self.caller(creator)?;
                p.accounts.charge(Account::ControlMemory, cost);
                Some((creator, p.id))
            }
        };
        self.last_id = id;
        Ok((ix, PartitionId::new(id), creator, root))
    }

    /// Which partition has this id? [`Error::BadHandle`]: none.
    pub fn find(&self, id: PartitionId) -> Result<PartitionIndex, Failure> {
        let named = |p: &Option<&'static mut Partition>| p.as_deref().is_some_and(|p| p.id == id);
        let ix = self.partitions.iter().position(named).and_then(PartitionIndex::new);
        ix.ok_or(Error::BadHandle.into())
    }

    /// Sets a limit. [`Error::BadHandle`], [`Error::InvalidArgument`]: no such partition, no such account.
    pub fn set_limit(
        &mut self,
        m: &impl Machine,
        id: PartitionId,
        account: u64,
        limit: u64,
    ) -> Result<(), Failure> {
        let ix = self.find(id)?;
        let account = Accounts::named(account)?;
        if account == Account::Bus {
            return self.set_bus_operations(m, ix, limit);
        }
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        p.accounts.set_limit(account, limit);
        Ok(())
    }

    /// Use and limit of an account. Errors as for [`System::set_limit`].
    pub fn account(&self, m: &impl Machine, ix: PartitionIndex, account: u64) -> Result<(u64, u64), Failure> {
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        let account = Accounts::named(account)?;
        if account == Account::Bus {
            return self.bus_account(m, ix);
        }
        Ok((p.accounts.used(account), p.accounts.limit(account)))
    }

    /// Replaces a promise of `old` millionths of a processor to a partition by one of `new`, if `promise` can make it. Less is always allowed.
    ///
    /// [`Error::BadHandle`]. [`Error::WrongState`]: it has ended. [`Error::Limit`]: processor time. What `promise` fails with.
    pub fn promise_time<T>(
        &mut self,
        ix: PartitionIndex,
        old: u32,
        new: u32,
        promise: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if !matches!(p.phase, Phase::Created | Phase::Active) {
            return Err(Error::WrongState.into());
        }
        p.accounts.check(Account::ProcessorTime, u64::from(new.saturating_sub(old)))?;
        let promised = promise()?;
        p.accounts.release(Account::ProcessorTime, u64::from(old));
        p.accounts.charge(Account::ProcessorTime, u64::from(new));
        Ok(promised)
    }

    /// Takes a partition off the table.
    pub(crate) fn remove(&mut self, ix: PartitionIndex) -> Option<&'static mut Partition> {
        self.partitions.get_mut(ix.get())?.take()
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}
