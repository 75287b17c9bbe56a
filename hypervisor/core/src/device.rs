//! Rights to devices: whose registers and interrupts they are.
//!
//! A device belongs to one partition at a time, or to nobody. The right is two things that come and go together: the stage-2 mapping of its
//! registers, and the way of its interrupts into that partition's interrupt controller.
//!
//! | state | registers mapped | interrupts | ends by |
//! | --- | --- | --- | --- |
//! | free | nowhere | off | assign |
//! | held | at the holder | enabled, the holder's | revoke, the holder's end |
//! | leaving | nowhere | off; a processor may have one in a list register still | the last step of revoke, or of the holder's end |
//!
//! Devices that share a page of 4 KiB cannot be told apart by a translation, so they are one: [`Devices::add`] joins them.

use handover_abi::device::{Compatible, INTERRUPTS_MAX, NodeName, REGISTERS_MAX};
use handover_abi::{Account, Error, PartitionId, Unsupported, layout};

use crate::stage2::{self, Kind};
use crate::{Failure, Ipa, Machine, Maintenance, PAGE, Pa, PartitionIndex, Phase, Progress, System};

/// Devices that are kept.
pub const DEVICES_MAX: usize = 48;

/// What is known not to do DMA: it has no bus-master interface at all.
const WITHOUT_DMA: &[&str] = &["arm,pl031", "arm,pl061", "google,goldfish-rtc"];

/// An interrupt of the machine's (an SPI).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number in the machine's interrupt controller.
    pub intid: u16,
    /// Edge-triggered; level-sensitive otherwise.
    pub edge: bool,
}

/// Who has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    partition: PartitionIndex,
    id: PartitionId,
    at: Ipa,
    /// INTID there of the first interrupt.
    intid: u32,
    leaving: bool,
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    base: u64,
    size: u64,
    interrupts: [Interrupt; INTERRUPTS_MAX],
    interrupt_count: u8,
    refused: Option<Unsupported>,
    name: NodeName,
    compatible: Compatible,
    holder: Option<Holder>,
}

impl Device {
    const NONE: Device = Device {
        base: 0,
        size: 0,
        interrupts: [Interrupt { intid: 0, edge: false }; INTERRUPTS_MAX],
        interrupt_count: 0,
        refused: None,
        name: NodeName::EMPTY,
        compatible: Compatible::EMPTY,
        holder: None,
    };

    /// One that the machine's description names: registers at `base`, `size` bytes of them, and what it says that it is compatible with.
    pub fn new<'a>(
        name: &str,
        base: u64,
        size: u64,
        interrupts: impl Iterator<Item = Interrupt>,
        mut compatible: impl Iterator<Item = &'a str>,
    ) -> Device {
        let start = base & !(PAGE - 1);
        let end = base.saturating_add(size.max(1)).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let first = compatible.next().unwrap_or("");
        let harmless = WITHOUT_DMA.contains(&first) || compatible.any(|name| WITHOUT_DMA.contains(&name));
        let mut device = Device {
            base: start,
            size: end.saturating_sub(start),
            refused: (!harmless).then_some(Unsupported::Dma),
            name: NodeName::new(name),
            compatible: Compatible::new(first),
            ..Device::NONE
        };
        device.add_interrupts(interrupts);
        if device.size > REGISTERS_MAX {
            device.refuse(Unsupported::Size);
        }
        device
    }

    fn add_interrupts(&mut self, interrupts: impl Iterator<Item = Interrupt>) {
        for interrupt in interrupts {
            match self.interrupts.get_mut(usize::from(self.interrupt_count)) {
                Some(slot) => {
                    *slot = interrupt;
                    self.interrupt_count = self.interrupt_count.saturating_add(1);
                }
                None => self.refuse(Unsupported::Size),
            }
        }
    }

    /// Nobody is to have it, for this reason or one that is known already.
    pub fn refuse(&mut self, reason: Unsupported) {
        self.refused.get_or_insert(reason);
    }

    fn end(&self) -> u64 {
        self.base.saturating_add(self.size)
    }

    /// Whether it has registers in `[base, end)`, whole pages.
    #[must_use]
    pub fn meets(&self, base: u64, end: u64) -> bool {
        self.base < end && base < self.end()
    }

    fn shares_interrupt(&self, other: &Device) -> bool {
        let has = |intid| other.interrupts().iter().any(|interrupt| interrupt.intid == intid);
        self.interrupts().iter().any(|interrupt| has(interrupt.intid))
    }

    /// Makes the two one.
    fn join(&mut self, other: &Device) {
        let end = self.end().max(other.end());
        self.base = self.base.min(other.base);
        self.size = end.saturating_sub(self.base);
        self.add_interrupts(other.interrupts().iter().copied());
        if other.refused == Some(Unsupported::Dma) {
            self.refused = other.refused;
        } else if other.refused.is_some() || self.size > REGISTERS_MAX {
            self.refuse(Unsupported::Size);
        }
    }

    /// First address of its registers, a multiple of 4096.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of its registers, a multiple of 4096.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its interrupts.
    #[must_use]
    pub fn interrupts(&self) -> &[Interrupt] {
        self.interrupts.get(..usize::from(self.interrupt_count)).unwrap_or(&[])
    }

    /// Why it cannot be given to a partition.
    #[must_use]
    pub fn refused(&self) -> Option<Unsupported> {
        self.refused
    }

    /// Its node's name; the first one's of several that are one.
    #[must_use]
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// What it is compatible with first of all.
    #[must_use]
    pub fn compatible(&self) -> Compatible {
        self.compatible
    }

    /// Who has it, and where its registers are there.
    #[must_use]
    pub fn holder(&self) -> Option<(PartitionId, Ipa)> {
        self.holder.map(|holder| (holder.id, holder.at))
    }

    /// The INTID of its first interrupt at the holder's, if both are there.
    #[must_use]
    pub fn holder_intid(&self) -> Option<u32> {
        self.holder.filter(|_| self.interrupt_count != 0).map(|holder| holder.intid)
    }

    /// What its addresses in a partition are a multiple of: it then lies under one table.
    fn alignment(&self) -> u64 {
        self.size.checked_next_power_of_two().unwrap_or(u64::MAX)
    }

    /// The offsets of its pages.
    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.size / PAGE).map(|page| page.wrapping_mul(PAGE))
    }

    /// Each interrupt with the INTID that it has where the first one has `first`.
    fn connections(&self, first: u32) -> impl Iterator<Item = (Interrupt, u32)> {
        self.interrupts().iter().copied().zip(first..)
    }

    /// Whether one of its interrupts has one of `count` INTIDs from `intid` on.
    fn uses(&self, intid: u32, count: u32) -> bool {
        let own = |holder: Holder| holder.intid..holder.intid.saturating_add(u32::from(self.interrupt_count));
        let asked = intid..intid.saturating_add(count);
        self.holder.map(own).is_some_and(|own| own.start < asked.end && asked.start < own.end)
    }
}

/// All devices of the machine but those that the control OS keeps for itself.
pub(crate) struct Devices {
    list: [Device; DEVICES_MAX],
    count: usize,
}

impl Devices {
    pub(crate) const fn new() -> Devices {
        Devices { list: [Device::NONE; DEVICES_MAX], count: 0 }
    }

    fn all(&self) -> &[Device] {
        self.list.get(..self.count).unwrap_or(&[])
    }

    fn get(&self, number: u64) -> Result<&Device, Failure> {
        let number = usize::try_from(number).map_err(|_| Error::BadHandle)?;
        self.all().get(number).ok_or(Error::BadHandle.into())
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut Device> {
        self.list.get_mut(..self.count)?.get_mut(number)
    }

    /// Adds one, joined with those that it shares pages with. `false`: there is no place left.
    fn add(&mut self, mut device: Device) -> bool {
        // What it is joined with may reach into the pages of another one.
        while let Some(at) = self.all().iter().position(|other| other.meets(device.base, device.end())) {
            let Some(list) = self.list.get_mut(at..self.count) else { return false };
            let Some(mut first) = list.first().copied() else { return false };
            first.join(&device);
            device = first;
            list.rotate_left(1);
            self.count = self.count.saturating_sub(1);
        }
        // Whoever has one of those that share an interrupt would get the others'.
        let others = self.list.get_mut(..self.count).unwrap_or(&mut []);
        for other in others {
            if device.shares_interrupt(other) {
                other.refuse(Unsupported::Interrupt);
                device.refuse(Unsupported::Interrupt);
            }
        }
        let Some(slot) = self.list.get_mut(self.count) else { return false };
        *slot = device;
        self.count = self.count.saturating_add(1);
        true
    }
}

impl System {
    /// Notes a device of the machine's; before the first partition is made. `false`: there are more than [`DEVICES_MAX`].
    #[must_use]
    pub fn add_device(&mut self, device: Device) -> bool {
        self.devices.add(device)
    }

    /// Device `number`; numbers start at 0 and have no gaps. [`Error::BadHandle`]: none.
    pub fn device(&self, number: u64) -> Result<&Device, Failure> {
        self.devices.get(number)
    }

    /// Gives a partition the right to a device: its registers at `at`, its interrupts as INTID `intid` and those that follow. The partition
    /// pays: one of [`Account::Devices`], the registers' size of [`Account::AddressSpace`], and [`Account::ControlMemory`] for tables, which it keeps until it ends.
    ///
    /// [`Error::BadHandle`]: no such partition or device. [`Error::NotSupported`]: it cannot be given to anyone, and why.
    /// [`Error::WrongState`]: the partition has ended. [`Error::InvalidArgument`]: `at` is no multiple of the registers' size, or the INTIDs are
    /// not all those of devices. [`Error::BadAddress`]: not where devices go. [`Error::InUse`]: somebody has the device, or the partition has
    /// something at that address or those INTIDs. [`Error::Limit`], [`Error::NoMemory`].
    pub fn device_assign(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        number: u64,
        at: Ipa,
        intid: u64,
    ) -> Result<(), Failure> {
        let device = *self.devices.get(number)?;
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        if let Some(reason) = device.refused {
            return Err(Failure::unsupported(reason));
        }
        if !matches!(p.phase, Phase::Created | Phase::Active) {
            return Err(Error::WrongState.into());
        }
        let intid = self.check_place(m, ix, &device, at, intid)?;
        let p = self.get(ix).ok_or(Error::BadHandle)?;
        let (root, vmid, id) = (p.root, p.vmid, p.id);
        let second = m.entry(root, stage2::level1(at.get()));
        let third = if second == 0 { 0 } else { m.entry(stage2::address(second), stage2::level2(at.get())) };
        let tables = (u64::from(second == 0) + u64::from(third == 0)) * PAGE;
        p.accounts.check(Account::Devices, 1)?;
        p.accounts.check(Account::AddressSpace, device.size)?;
        p.accounts.check(Account::ControlMemory, tables)?;
        let fresh = crate::region::frames(m, &p.colours, second == 0, third == 0)?;
        // From here on it cannot fail.
        let second = fresh.0.unwrap_or(stage2::address(second));
        let third = fresh.1.unwrap_or(stage2::address(third));
        let attributes = self.attributes;
        for offset in device.pages() {
            let page = attributes.page(Pa::new(device.base).plus(offset), Kind::Device);
            m.set_entry(third, stage2::level3(at.plus(offset).get()), page);
        }
        m.set_entry(second, stage2::level2(at.get()), stage2::table(third));
        m.set_entry(root, stage2::level1(at.get()), stage2::table(second));
        m.maintain(vmid, Maintenance::Link);
        if let Some(p) = self.get_mut(ix) {
            p.accounts.charge(Account::Devices, 1);
            p.accounts.charge(Account::AddressSpace, device.size);
            p.accounts.charge(Account::ControlMemory, tables);
        }
        let slot = usize::try_from(number).ok().and_then(|number| self.devices.get_mut(number));
        if let Some(slot) = slot {
            slot.holder = Some(Holder { partition: ix, id, at, intid, leaving: false });
        }
        for (interrupt, intid) in device.connections(intid) {
            m.connect_interrupt(interrupt, ix, intid);
        }
        Ok(())
    }

    /// Whether a device fits where a partition is to have it. → the INTID of its first interrupt, which means nothing if it has none.
    fn check_place(
        &self,
        m: &impl Machine,
        ix: PartitionIndex,
        device: &Device,
        at: Ipa,
        intid: u64,
    ) -> Result<u32, Failure> {
        let count = u32::from(device.interrupt_count);
        let intids =
            layout::DEVICE_INTID..=(layout::DEVICE_INTID + layout::DEVICE_INTIDS).saturating_sub(count);
        let intid = u32::try_from(intid).map_err(|_| Error::InvalidArgument)?;
        if !at.is_aligned(device.alignment()) || count != 0 && !intids.contains(&intid) {
            return Err(Error::InvalidArgument.into());
        }
        let end = at.checked_add(device.size).ok_or(Error::BadAddress)?;
        if at.get() < layout::DEVICE_BASE || end.get() > layout::DEVICE_END {
            return Err(Error::BadAddress.into());
        }
        let own = |other: &Device| other.holder.is_some_and(|holder| holder.partition == ix);
        let root = self.get(ix).ok_or(Error::BadHandle)?.root;
        let mapped = |offset: u64| stage2::is_mapped(m, root, at.plus(offset));
        if device.holder.is_some()
            || device.pages().any(mapped)
            || self.devices.all().iter().any(|other| own(other) && other.uses(intid, count))
        {
            return Err(Error::InUse.into());
        }
        Ok(intid)
    }

    /// Takes a device back. When it is done, no processor reaches its registers, and no interrupt of its is on its way. One that is taken back and not
    /// done belongs to nobody else meanwhile, and comes back at its holder's end at the latest.
    ///
    /// [`Error::BadHandle`]: no such device. [`Error::WrongState`]: nobody has it.
    pub fn device_revoke(&mut self, m: &mut impl Machine, number: u64) -> Result<Progress, Failure> {
        let device = self.devices.get(number)?;
        if device.holder.is_none() {
            return Err(Error::WrongState.into());
        }
        let number = usize::try_from(number).map_err(|_| Error::BadHandle)?;
        Ok(self.release_device(m, number))
    }

    /// A bounded step of taking a device back.
    fn release_device(&mut self, m: &mut impl Machine, number: usize) -> Progress {
        let Some(device) = self.devices.get_mut(number) else { return Progress::Done };
        let Some(holder) = &mut device.holder else { return Progress::Done };
        let first = !core::mem::replace(&mut holder.leaving, true);
        let (holder, device) = (*holder, *device);
        if first && let Some(p) = self.get(holder.partition) {
            unmap(m, p.root, p.vmid, &device, holder.at);
        }
        let mut progress = Progress::Done;
        for (interrupt, intid) in device.connections(holder.intid) {
            if m.disconnect_interrupt(interrupt, holder.partition, intid) == Progress::Again {
                progress = Progress::Again;
            }
        }
        if progress == Progress::Done {
            if let Some(device) = self.devices.get_mut(number) {
                device.holder = None;
            }
            if let Some(p) = self.get_mut(holder.partition) {
                p.accounts.release(Account::Devices, 1);
                p.accounts.release(Account::AddressSpace, device.size);
            }
        }
        progress
    }

    /// A bounded step of taking an ended partition's devices back. → whether there are more.
    pub(crate) fn reap_device(&mut self, m: &mut impl Machine, ix: PartitionIndex) -> Progress {
        let own = |device: &Device| device.holder.is_some_and(|holder| holder.partition == ix);
        match self.devices.all().iter().position(own) {
            Some(number) => {
                let _: Progress = self.release_device(m, number);
                Progress::Again
            }
            None => Progress::Done,
        }
    }
}

/// Takes a device's registers out of a tree: when this returns, no processor reaches them this way. The tables stay.
fn unmap(m: &mut impl Machine, root: Pa, vmid: u16, device: &Device, at: Ipa) {
    let second = stage2::address(m.entry(root, stage2::level1(at.get())));
    let third = stage2::address(m.entry(second, stage2::level2(at.get())));
    for offset in device.pages() {
        m.set_entry(third, stage2::level3(at.plus(offset).get()), 0);
    }
    let pages = device.alignment() / PAGE;
    let order = device.alignment().trailing_zeros() as u8;
    m.maintain(vmid, Maintenance::Unlink { at, order, entries: pages.min(512) as u16 });
}

const _: () = assert!(REGISTERS_MAX.is_power_of_two() && layout::DEVICE_BASE.is_multiple_of(REGISTERS_MAX));

#[cfg(test)]
mod tests {
    use super::*;

    fn rtc() -> Device {
        let interrupt = Interrupt { intid: 34, edge: false };
        Device::new(
            "pl031@9010000",
            0x901_0000,
            0x1000,
            [interrupt].into_iter(),
            ["arm,pl031", "arm,primecell"].into_iter(),
        )
    }

    fn disk(n: u64) -> Device {
        let interrupt = Interrupt { intid: 48 + n as u16, edge: true };
        Device::new(
            "virtio_mmio",
            0xa00_0000 + 0x200 * n,
            0x200,
            [interrupt].into_iter(),
            ["virtio,mmio"].into_iter(),
        )
    }

    #[test]
    fn only_what_is_known_to_do_no_dma_is_given() {
        assert_eq!(rtc().refused(), None);
        assert_eq!(disk(0).refused(), Some(Unsupported::Dma));
        let unknown = Device::new("x", 0x1000, 0x1000, [].into_iter(), [].into_iter());
        assert_eq!(unknown.refused(), Some(Unsupported::Dma));
        let large = Device::new("x", 0x1000, 0x2_0000, [].into_iter(), ["arm,pl061"].into_iter());
        assert_eq!(large.refused(), Some(Unsupported::Size));
        let many = [Interrupt { intid: 40, edge: false }; INTERRUPTS_MAX + 1];
        let many = Device::new("x", 0x1000, 0x1000, many.into_iter(), ["arm,pl061"].into_iter());
        assert_eq!((many.refused(), many.interrupts().len()), (Some(Unsupported::Size), INTERRUPTS_MAX));
    }

    #[test]
    fn devices_that_share_a_page_are_one() {
        let mut devices = Devices::new();
        assert!(devices.add(disk(0)) && devices.add(rtc()));
        assert!((1..8).rev().all(|n| devices.add(disk(n))));
        assert!(devices.add(disk(8)));
        let found = devices.all();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].base(), found[0].size()), (0x901_0000, 0x1000));
        assert_eq!((found[1].base(), found[1].size(), found[1].interrupts().len()), (0xa00_0000, 0x1000, 8));
        assert_eq!((found[2].base(), found[2].interrupts().len()), (0xa00_1000, 1));
        // One that reaches over both makes them one, which has more interrupts than fit; DMA is still the reason.
        let both = Device::new("x", 0xa00_0ff0, 0x20, [].into_iter(), ["arm,pl061"].into_iter());
        assert!(devices.add(both));
        assert_eq!(devices.all().len(), 2);
        assert_eq!(devices.all()[1].refused(), Some(Unsupported::Dma));
        assert!(devices.get(2).is_err() && devices.get(u64::MAX).is_err());
    }

    #[test]
    fn an_interrupt_of_two_is_nobodys() {
        let mut devices = Devices::new();
        let interrupts = [Interrupt { intid: 34, edge: false }];
        let gpio = Device::new("gpio", 0x903_0000, 0x1000, interrupts.into_iter(), ["arm,pl061"].into_iter());
        assert!(devices.add(rtc()) && devices.add(gpio));
        assert!(devices.all().iter().all(|device| device.refused() == Some(Unsupported::Interrupt)));
    }

    #[test]
    fn what_finds_no_place_is_said_to() {
        let mut devices = Devices::new();
        for n in 0..DEVICES_MAX as u64 {
            assert!(devices.add(Device::new("x", n << 13, 1, [].into_iter(), [].into_iter())));
        }
        assert!(!devices.add(rtc()));
        assert!(devices.add(Device::new("x", 1, 1, [].into_iter(), [].into_iter())));
        assert!(Device::new("x", u64::MAX, u64::MAX, [].into_iter(), [].into_iter()).refused().is_some());
    }
}
