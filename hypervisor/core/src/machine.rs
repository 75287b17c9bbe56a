//! The machine as the rules see it.

use handover_abi::{Error, RegionHandle};

use crate::{CacheMaintenance, Colours, Interrupt, Ipa, Maintenance, Pa, PartitionIndex, Progress, VcpuId};

/// What the rules need of the machine. Physical addresses passed in are always ones that [`Machine::allocate`] handed out.
pub trait Machine {
    /// Zeroed memory of `1 << order` bytes, aligned to its size. `order` is 12, or 21 to 30.
    fn allocate(&mut self, order: u8) -> Option<Pa>;
    /// A zeroed frame of 4096 bytes of one of these [colours](crate::colour), of different ones by turns; `colours` is not [`Colours::ANY`].
    fn allocate_coloured(&mut self, colours: Colours) -> Option<Pa>;
    /// Takes back what `allocate` or (as of order 12) `allocate_coloured` gave. It is all zeroes again.
    fn free(&mut self, pa: Pa, order: u8);
    /// Zeroes `size` bytes, a multiple of 4096, and carries out [`CacheMaintenance::perform`] for them, and for its completion.
    fn zero(&mut self, pa: Pa, size: u64);
    /// Makes memory and caches agree: carries out [`CacheMaintenance::perform`].
    fn clean(&mut self, op: CacheMaintenance);
    /// Reads a descriptor; `index` is below 512.
    fn entry(&self, table: Pa, index: usize) -> u64;
    /// Writes a descriptor in one single-copy atomic store; `index` is below 512.
    fn set_entry(&mut self, table: Pa, index: usize, value: u64);
    /// Makes the processors see what changed in the translation of `vmid` (0: of none in particular): carries out [`Maintenance::perform`].
    fn maintain(&mut self, vmid: u16, op: Maintenance);
    /// [`Machine::maintain`] of [`Maintenance::Unlink`] for the partition whose call is carried out: its translation is loaded on this processor.
    fn unlink_here(&mut self, vmid: u16, at: Ipa, order: u8, entries: u16) {
        self.maintain(vmid, Maintenance::Unlink { at, order, entries });
    }
    /// Whether [`Machine::unlink_here`] of more than one entry is done by instructions for ranges of addresses.
    fn unlinks_ranges(&self) -> bool {
        true
    }
    /// Nanoseconds of a clock that does not stop.
    fn nanoseconds(&self) -> u64;
    /// A fresh frame of 4096 bytes as records, each `T::default()`, as many as fit.
    fn records<T: Default + 'static>(&mut self, frame: Pa) -> &'static mut [T];
    /// Back from the first of `page`'s records to the frame. The caller zeroes and frees it.
    fn reclaim<T: 'static>(&mut self, page: &'static mut [T]) -> Pa;
    /// A direct call of this logical processor's ends without a reply; the region that has waited with it is its partition's again.
    fn call_failed(&mut self, caller: VcpuId, error: Error, region: Option<RegionHandle>);
    /// Makes the partition's event interrupt pending.
    fn interrupt(&mut self, partition: PartitionIndex);
    /// Makes another shared interrupt of the partition's pending, one that it has chosen.
    fn interrupt_chosen(&mut self, partition: PartitionIndex, intid: u8);
    /// Has such an interrupt go to a logical processor of the partition's.
    fn route(&mut self, partition: PartitionIndex, intid: u8, processor: u32);
    /// From now on `interrupt`, which nobody has, makes `intid` pending in the partition's interrupt controller, and comes again once the guest has
    /// ended it.
    fn connect_interrupt(&mut self, interrupt: Interrupt, partition: PartitionIndex, intid: u32);
    /// Undoes that. When it is [`Progress::Done`], the interrupt is off and inactive, and no processor has anything of it; until then it is off.
    fn disconnect_interrupt(
        &mut self,
        interrupt: Interrupt,
        partition: PartitionIndex,
        intid: u32,
    ) -> Progress;
}
