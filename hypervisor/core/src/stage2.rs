//! Stage-2 translation: 4 KiB granule, 39-bit addresses, so that a root is one level-1 table of 512 GiB.
//!
//! A root's lower half maps memory (and system-control's files) through level-2 tables that the partition owns. Its upper half is the message
//! window: an entry is empty, a region's own (larger than 2 MiB), or a level-2 window table of the partition's, each of whose
//! entries is empty or a region's own. So a region enters and leaves a tree by one store.

use handover_abi::{Account, Error, layout};

use crate::addr::{BLOCK, GIB};
use crate::{Accounts, Failure, Ipa, Machine, Maintenance, PAGE, Pa};

/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;

const VALID: u64 = 1;
/// At levels 1 and 2: a table. At level 3: a page.
const TABLE: u64 = 1 << 1;
/// `MemAttr[3:0]`, bits 5:2: Device-nGnRE, and its mask.
const DEVICE_NGNRE: u64 = 0b0001 << 2;
const MEMORY_ATTRIBUTES: u64 = 0b1111 << 2;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
/// `XN[1:0]` = 0b10: execution at neither EL1 nor EL0.
const EXECUTE_NEVER: u64 = 1 << 54;
/// Bits 58:55 are for software. In a root: a window table of the partition's, not a region.
const OWN: u64 = 1 << 55;
/// In a descriptor that leads to shared memory, and in its leaves: two translations may have them.
const SHARED: u64 = 1 << 56;
/// In a descriptor by which a region is lent, and in its leaves: its holder has others for it.
const LENT: u64 = 1 << 57;
/// In a descriptor that is not valid the architecture ignores all other bits: a count of pages, up to 512.
const CLEARED_SHIFT: u32 = 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// How the processors interpret stage-2 memory attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `HCR_EL2.FWB` is set (FEAT_S2FWB).
    pub fwb: bool,
}

/// What a leaf descriptor allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A partition's memory: read, write, execute.
    Memory,
    /// A region: read, write.
    Region,
    /// Shared memory: read, write.
    Shared,
    /// System-control's files: read, execute. Its programs run where they lie.
    Files,
    /// A device's registers: read, write.
    Device,
    /// What the control OS tells: read.
    Readable,
}

impl Attributes {
    fn leaf(self, kind: Kind) -> u64 {
        // MemAttr, bits 5:2: with FWB, 0b0110 makes it write-back whatever stage 1 says; without, 0b1111 allows write-back.
        let attributes = match kind {
            // Whatever stage 1 says, and with FWB or without (Arm ARM D8.6).
            Kind::Device => DEVICE_NGNRE,
            _ if self.fwb => 0b0110 << 2,
            _ => 0b1111 << 2,
        };
        let access = match kind {
            Kind::Memory => S2AP_READ | S2AP_WRITE,
            Kind::Region | Kind::Device => S2AP_READ | S2AP_WRITE | EXECUTE_NEVER,
            Kind::Shared => S2AP_READ | S2AP_WRITE | EXECUTE_NEVER | SHARED,
            Kind::Files => S2AP_READ,
            Kind::Readable => S2AP_READ | EXECUTE_NEVER,
        };
        VALID | attributes | access | INNER_SHAREABLE | ACCESS_FLAG
    }

    /// A level-1 or level-2 block.
    pub(crate) fn block(self, pa: Pa, kind: Kind) -> u64 {
        pa.get() | self.leaf(kind)
    }

    /// A level-3 page.
    pub(crate) fn page(self, pa: Pa, kind: Kind) -> u64 {
        self.block(pa, kind) | TABLE
    }
}

/// A table descriptor.
pub(crate) fn table(pa: Pa) -> u64 {
    pa.get() | TABLE | VALID
}

/// A table descriptor of shared memory.
pub(crate) fn shared_table(pa: Pa) -> u64 {
    table(pa) | SHARED
}

/// A leaf that leads to the same and does not allow to write.
pub(crate) fn read_only(leaf: u64) -> u64 {
    leaf & !S2AP_WRITE
}

/// A leaf that leads to the same, by which it is lent: it does not allow to write.
pub(crate) fn lent(leaf: u64) -> u64 {
    read_only(leaf) | LENT
}

/// A table descriptor of what is lent.
pub(crate) fn lent_table(pa: Pa) -> u64 {
    table(pa) | LENT
}

/// Where a descriptor leads.
#[inline(always)]
pub(crate) fn address(descriptor: u64) -> Pa {
    Pa::new(descriptor & ADDRESS)
}

/// Whether a level-1 or level-2 descriptor is a table's.
#[inline(always)]
pub(crate) fn is_table(descriptor: u64) -> bool {
    descriptor & TABLE != 0
}

/// Whether a root's descriptor is a window table of the partition's own.
#[inline(always)]
pub(crate) fn is_own(descriptor: u64) -> bool {
    descriptor & OWN != 0
}

/// The same without the valid bit: no walk follows it, but it still says where things are.
pub(crate) fn invalid(descriptor: u64) -> u64 {
    descriptor & !VALID
}

/// A 2 MiB granule of memory that no walk follows any more, with how many of its pages are zeroed.
pub(crate) fn leaving(descriptor: u64, cleared: u32) -> u64 {
    descriptor & (ADDRESS | TABLE) | u64::from(cleared) << CLEARED_SHIFT
}

/// What [`leaving`] has noted.
pub(crate) fn cleared(descriptor: u64) -> u32 {
    if is_valid(descriptor) { 0 } else { (descriptor >> CLEARED_SHIFT) as u32 }
}

/// Whether walks follow it.
#[inline(always)]
pub(crate) fn is_valid(descriptor: u64) -> bool {
    descriptor & VALID != 0
}

/// Frees a table that no walk reaches and whose entries are all cleared.
pub(crate) fn free_table(m: &mut impl Machine, table: Pa) {
    m.maintain(0, Maintenance::Retire);
    m.free(table, 12);
}

/// Which entry of the root an address is under.
#[inline(always)]
pub(crate) fn level1(at: u64) -> usize {
    (at >> 30) as usize & (ENTRIES - 1)
}

/// Which entry of its level-2 table an address is under.
#[inline(always)]
pub(crate) fn level2(at: u64) -> usize {
    (at >> 21) as usize & (ENTRIES - 1)
}

/// Which entry of its level-3 table an address is under.
pub(crate) fn level3(at: u64) -> usize {
    (at >> 12) as usize & (ENTRIES - 1)
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The physical address.
    pub pa: Pa,
    /// Bytes from there to the end of the page or block.
    pub size: u64,
    /// Whether the partition may write there.
    pub writable: bool,
}

/// Walks a tree as the hardware does, to memory: a device's registers are none.
pub(crate) fn walk(m: &impl Machine, root: Pa, at: Ipa) -> Option<Span> {
    let at = at.get();
    if at >> layout::IPA_BITS != 0 {
        return None;
    }
    let found = |descriptor: u64, size: u64| {
        let within = at & size.wrapping_sub(1);
        let pa = address(descriptor).plus(within);
        let memory = descriptor & VALID != 0 && descriptor & MEMORY_ATTRIBUTES != DEVICE_NGNRE;
        memory.then_some(Span { pa, size: size.wrapping_sub(within), writable: descriptor & S2AP_WRITE != 0 })
    };
    let first = m.entry(root, level1(at));
    if first & VALID == 0 || !is_table(first) {
        return found(first, GIB);
    }
    let second = m.entry(address(first), level2(at));
    if second & VALID == 0 || !is_table(second) {
        return found(second, BLOCK);
    }
    found(m.entry(address(second), level3(at)), PAGE)
}

/// Whether a page is mapped, to whatever.
pub(crate) fn is_mapped(m: &impl Machine, root: Pa, at: Ipa) -> bool {
    let mut descriptor = m.entry(root, level1(at.get()));
    for index in [level2(at.get()), level3(at.get())] {
        if descriptor == 0 || !is_table(descriptor) {
            return descriptor != 0;
        }
        descriptor = m.entry(address(descriptor), index);
    }
    descriptor != 0
}

/// A place in the message window that is free and fits, or [nowhere](Place::nowhere).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    at: u64,
    /// Blocks of 2 MiB that a region there takes.
    blocks: u32,
    index: u32,
    /// The table whose entry it is; 0 where a window table must be made first.
    table: Pa,
}

/// The place at `at` for a region of `1 << order` bytes.
///
/// [`Error::InvalidArgument`]: not a multiple of 2 MiB. [`Error::BadAddress`]: not in the window. [`Error::TooLarge`]: larger than 2 MiB, and not
/// a multiple of 1 GiB. [`Error::InUse`]: something is there; a GiB that ever held regions of up to 2 MiB holds no larger one.
#[inline(always)]
pub(crate) fn place(m: &impl Machine, root: Pa, at: u64, order: u8) -> Result<Place, Failure> {
    if !at.is_multiple_of(layout::WINDOW_SLOT) {
        return Err(Error::InvalidArgument.into());
    }
    if at.wrapping_sub(layout::WINDOW_BASE) >= layout::WINDOW_SIZE {
        return Err(Error::BadAddress.into());
    }
    let first = m.entry(root, level1(at));
    if order > 21 {
        if !at.is_multiple_of(GIB) {
            return Err(Failure::too_large(1u64.wrapping_shl(order.into())));
        }
        return match first {
            0 => Ok(Place { at, blocks: ENTRIES as u32, index: level1(at) as u32, table: root }),
            _ => Err(Error::InUse.into()),
        };
    }
    let index = level2(at);
    // Of an empty entry it is 0.
    let table = address(first);
    if first != 0 && (!is_own(first) || m.entry(table, index) != 0) {
        return Err(Error::InUse.into());
    }
    Ok(Place { at, blocks: 1, index: index as u32, table })
}

impl Place {
    /// That of a region which is not mapped, in the tree under `root`.
    #[inline(always)]
    pub(crate) fn nowhere(root: Pa) -> Place {
        Place { at: 0, blocks: 0, index: 0, table: root }
    }

    /// Whether it is in the window.
    #[inline(always)]
    pub(crate) fn is_somewhere(&self) -> bool {
        self.at != 0
    }

    /// Bytes of address space that a region there takes.
    #[inline(always)]
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Whether there is no window table for it yet: [`Place::with_table`].
    #[inline(always)]
    pub(crate) fn needs_table(&self) -> bool {
        self.table.get() == 0
    }

    /// The same with a fresh frame as its window table.
    pub(crate) fn with_table(self, m: &mut impl Machine, root: Pa, fresh: Pa) -> Place {
        m.set_entry(root, level1(self.at), table(fresh) | OWN);
        Place { table: fresh, ..self }
    }

    /// [`Place::link`], charged.
    #[inline(always)]
    pub(crate) fn charge_and_link(
        self,
        m: &mut impl Machine,
        accounts: &mut Accounts,
        vmid: u16,
        descriptor: u64,
    ) -> Mapping {
        accounts.charge(Account::AddressSpace, self.size());
        self.link(m, vmid, descriptor)
    }

    /// Puts a region's descriptor there, if it is somewhere. → where it is.
    #[inline(always)]
    pub(crate) fn link(self, m: &mut impl Machine, vmid: u16, descriptor: u64) -> Mapping {
        debug_assert!(!self.needs_table());
        if !self.is_somewhere() {
            return Mapping::NONE;
        }
        m.set_entry(self.table, self.index as usize, descriptor);
        m.maintain(vmid, Maintenance::Link);
        Mapping { at: self.at, table: self.table, index: self.index, blocks: self.blocks }
    }
}

/// Where a region is mapped, close enough to take it out without a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    /// The address, or 0.
    pub(crate) at: u64,
    table: Pa,
    /// The entry that it is there.
    index: u32,
    /// Blocks of 2 MiB that it takes.
    blocks: u32,
}

impl Mapping {
    pub(crate) const NONE: Mapping = Mapping { at: 0, table: Pa::new(0), index: 0, blocks: 0 };

    /// Bytes of address space that it takes.
    #[inline(always)]
    pub(crate) fn slot(self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Takes the region out, if it is mapped: when this returns, no processor reaches it this way.
    #[inline(always)]
    pub(crate) fn unlink(self, m: &mut impl Machine, vmid: u16, order: u8, leaves: u16) {
        if self.at == 0 {
            return;
        }
        m.set_entry(self.table, self.index as usize, 0);
        m.maintain(vmid, Maintenance::Unlink { at: Ipa::new(self.at), order, entries: leaves });
    }

    /// The same for the partition whose call is carried out.
    #[inline(always)]
    pub(crate) fn unlink_here(self, m: &mut impl Machine, vmid: u16, order: u8, leaves: u16) {
        if self.at != 0 {
            m.set_entry(self.table, self.index as usize, 0);
            m.unlink_here(vmid, Ipa::new(self.at), order, leaves);
        }
    }

    /// Takes the region out of reach, if it is mapped, and keeps its place for it.
    pub(crate) fn suspend(self, m: &mut impl Machine, vmid: u16, order: u8, leaves: u16) {
        if self.at != 0 {
            let descriptor = m.entry(self.table, self.index as usize);
            m.set_entry(self.table, self.index as usize, invalid(descriptor));
            m.maintain(vmid, Maintenance::Unlink { at: Ipa::new(self.at), order, entries: leaves });
        }
    }

    /// Whether it is out of reach by [`Mapping::suspend`].
    pub(crate) fn is_suspended(self, m: &impl Machine) -> bool {
        self.at != 0 && !is_valid(m.entry(self.table, self.index as usize))
    }

    /// Undoes [`Mapping::suspend`], if that was done.
    pub(crate) fn resume(self, m: &mut impl Machine, vmid: u16) {
        if self.at == 0 {
            return;
        }
        let descriptor = m.entry(self.table, self.index as usize);
        if !is_valid(descriptor) {
            m.set_entry(self.table, self.index as usize, descriptor | VALID);
            m.maintain(vmid, Maintenance::Link);
        }
    }

    /// Puts something else in its place. Between the two nothing is there: a change of the address needs that (Arm ARM, D8.16.1, break-before-make), and
    /// who touches it meanwhile must be made to try again.
    pub(crate) fn replace(self, m: &mut impl Machine, vmid: u16, order: u8, leaves: u16, descriptor: u64) {
        if self.at != 0 {
            self.unlink(m, vmid, order, leaves);
            m.set_entry(self.table, self.index as usize, descriptor);
            m.maintain(vmid, Maintenance::Link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_as_the_manual_has_them() {
        let pa = Pa::new(0x1_2340_0000);
        let fwb = Attributes { fwb: true };
        // Valid block, MemAttr 0b0110, S2AP read-write, inner shareable, accessed, executable.
        assert_eq!(fwb.block(pa, Kind::Memory), 0x1_2340_07d9);
        assert_eq!(fwb.block(pa, Kind::Region), 0x0040_0001_2340_07d9);
        assert_eq!(fwb.page(pa, Kind::Region), 0x0040_0001_2340_07db);
        assert_eq!(fwb.page(pa, Kind::Files), 0x0001_2340_075b);
        assert_eq!(fwb.page(pa, Kind::Readable), 0x0040_0001_2340_075b);
        let plain = Attributes { fwb: false };
        assert_eq!(plain.block(pa, Kind::Memory), 0x1_2340_07fd);
        // Execute-never and the bit of ours; writable, and not.
        assert_eq!(fwb.page(pa, Kind::Shared), 0x0140_0001_2340_07db);
        assert_eq!(read_only(fwb.page(pa, Kind::Shared)), 0x0140_0001_2340_075b);
        assert_eq!((address(shared_table(pa)), is_own(shared_table(pa))), (pa, false));
        // MemAttr 0b0001 (Device-nGnRE), never executable; nobody takes it for memory.
        assert_eq!(plain.page(pa, Kind::Device), 0x0040_0001_2340_07c7);
        assert_eq!(fwb.page(pa, Kind::Device), plain.page(pa, Kind::Device));
        assert_eq!(table(pa), 0x1_2340_0003);
        assert_eq!(address(table(pa) | OWN), pa);
        assert_eq!(address(plain.page(pa, Kind::Files)), pa);
        assert!(is_own(table(pa) | OWN) && !is_own(table(pa)));
    }
}
