//! A partition's own memory, in granules of 2 MiB: given before it starts or while it runs, and kept until it gives some back or ends.
//!
//! A granule that leaves stays in the level-2 table as a descriptor that no walk follows, with how far it is zeroed, until it is free: so
//! each step finds there what the last one left, whoever takes it: the call that is executed again, another processor's, or the
//! partition's end.

use handover_abi::{Account, Error, layout};

use crate::addr::{BLOCK, GIB};
use crate::region::{STEP, clear_block};
use crate::stage2::{self, ENTRIES, Kind, Span};
use crate::{
    Attributes, Colours, Failure, Ipa, Machine, Maintenance, PAGE, Pa, Partition, PartitionIndex, Phase,
    Progress, System,
};

const PAGE_ORDER: u8 = 12;
const BLOCK_ORDER: u8 = 21;

/// A range of a partition's memory, in whole granules.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    /// [`Error::InvalidArgument`]: misaligned, no bytes, or more than `most`, which is 1 GiB or less. [`Error::BadAddress`]: not where memory goes.
    fn new(at: Ipa, size: u64, most: u64) -> Result<Range, Failure> {
        if size == 0
            || size > most
            || !size.is_multiple_of(layout::MEMORY_GRANULE)
            || !at.is_aligned(layout::MEMORY_GRANULE)
        {
            return Err(Error::InvalidArgument.into());
        }
        let start = at.get();
        let end = start.checked_add(size).ok_or(Error::BadAddress)?;
        if start < layout::MEMORY_BASE || end > layout::MEMORY_END {
            return Err(Error::BadAddress.into());
        }
        Ok(Range { start, end })
    }

    fn size(self) -> u64 {
        self.end.wrapping_sub(self.start)
    }

    /// The addresses of its granules.
    fn granules(self) -> impl Iterator<Item = u64> {
        (0..self.size() / BLOCK).map(move |granule| self.start.wrapping_add(granule * BLOCK))
    }
}

/// The level-2 tables of a range of at most 1 GiB: one or two.
struct Tables {
    first: usize,
    tables: [Pa; 2],
    /// Those that have to be made.
    missing: [bool; 2],
}

impl Tables {
    fn of(m: &impl Machine, root: Pa, range: Range) -> Tables {
        let (first, last) = (stage2::level1(range.start), stage2::level1(range.end.wrapping_sub(BLOCK)));
        let [one, other] = [first, last].map(|index| m.entry(root, index));
        Tables {
            first,
            tables: [one, other].map(stage2::address),
            missing: [one == 0, first != last && other == 0],
        }
    }

    /// Bytes of those that have to be made.
    fn cost(&self) -> u64 {
        self.missing.iter().map(|missing| u64::from(*missing) * PAGE).sum()
    }

    fn side(&self, at: u64) -> usize {
        usize::from(stage2::level1(at) != self.first)
    }

    /// The descriptor of a granule; 0 where there is no table.
    fn entry(&self, m: &impl Machine, at: u64) -> u64 {
        match (self.tables.get(self.side(at)), self.missing.get(self.side(at))) {
            (Some(table), Some(false)) => m.entry(*table, stage2::level2(at)),
            _ => 0,
        }
    }

    fn set(&self, m: &mut impl Machine, at: u64, descriptor: u64) {
        if let Some(table) = self.tables.get(self.side(at)) {
            m.set_entry(*table, stage2::level2(at), descriptor);
        }
    }

    /// Takes frames for those that are missing, all or none.
    fn make(&mut self, m: &mut impl Machine, colours: Colours) -> Result<(), Failure> {
        let [first, second] = self.missing;
        let (first, second) = crate::region::frames(m, &colours, first, second)?;
        for (table, fresh) in self.tables.iter_mut().zip([first, second]) {
            *table = fresh.unwrap_or(*table);
        }
        Ok(())
    }

    /// The descriptor of a granule, once all tables are there.
    fn entry_made(&self, m: &impl Machine, at: u64) -> u64 {
        self.tables.get(self.side(at)).map_or(0, |table| m.entry(*table, stage2::level2(at)))
    }

    /// Lets walks into the tables that were made.
    fn link(&self, m: &mut impl Machine, root: Pa) {
        for (index, table) in self.made() {
            m.set_entry(root, index, stage2::table(table));
        }
    }

    /// Those that were made, with their places in the root.
    fn made(&self) -> impl Iterator<Item = (usize, Pa)> {
        (self.first..)
            .zip(self.tables)
            .zip(self.missing)
            .filter(|(_, missing)| *missing)
            .map(|(table, _)| table)
    }

    /// Undoes what was done to the granules of `range`, which no walk has ever followed, and to the tables.
    fn give_back(&self, m: &mut impl Machine, range: Range) {
        for granule in range.granules() {
            let descriptor = self.entry_made(m, granule);
            self.set(m, granule, 0);
            m.free(stage2::address(descriptor), BLOCK_ORDER);
        }
        for (_, table) in self.made() {
            stage2::free_table(m, table);
        }
    }
}

impl System {
    /// Gives a partition that has not ended `size` bytes of zeroed memory at `at`, both multiples of 2 MiB, all or nothing. The partition
    /// pays: [`Account::Memory`], [`Account::AddressSpace`], and [`Account::ControlMemory`] for a table each GiB, and one each 2 MiB if it is confined
    /// to [colours](crate::colour).
    ///
    /// [`Error::WrongState`]: it has ended. [`Error::InvalidArgument`]: misaligned, no bytes, or more than 1 GiB.
    /// [`Error::BadAddress`]: not where memory goes. [`Error::InUse`]: some is there. [`Error::TooLarge`]: more than 2 MiB, for a partition that is
    /// confined to colours. [`Error::Limit`], [`Error::NoMemory`].
    pub fn add_memory(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        at: Ipa,
        size: u64,
    ) -> Result<(), Failure> {
        let attributes = self.attributes;
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if !matches!(p.phase, Phase::Created | Phase::Active) {
            return Err(Error::WrongState.into());
        }
        let range = Range::new(at, size, layout::ADD_MEMORY_MAX)?;
        p.give_memory(m, attributes, range)
    }

    /// `MemoryAdd`: the same, for the caller, and at most [`layout::MEMORY_CALL_MAX`] bytes.
    pub fn memory_add(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        at: u64,
        size: u64,
    ) -> Result<(), Failure> {
        let attributes = self.attributes;
        let p = self.caller(who)?;
        let range = Range::new(Ipa::new(at), size, layout::MEMORY_CALL_MAX)?;
        p.give_memory(m, attributes, range)
    }

    /// `MemoryRemove`: one step of giving back memory of the caller's. From the first step on no processor reaches any of it; each granule is
    /// credited when it is zeroed.
    ///
    /// [`Error::InvalidArgument`]: misaligned, no bytes, or more than [`layout::MEMORY_CALL_MAX`]. [`Error::BadAddress`]: not all of it is memory of
    /// the caller's, or not any more. [`Error::Throttled`]: all of it stays.
    pub fn memory_remove(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        at: u64,
        size: u64,
    ) -> Result<Progress, Failure> {
        let p = self.caller(who)?;
        let range = Range::new(Ipa::new(at), size, layout::MEMORY_CALL_MAX)?;
        let tables = Tables::of(m, p.root, range);
        let leaving = |m: &_, tables: &Tables| {
            range.granules().find(|granule| is_leaving(Tables::entry(tables, m, *granule)))
        };
        let Some(granule) = leaving(m, &tables) else {
            p.hide_memory(m, range, &tables)?;
            return Ok(Progress::Again);
        };
        if let Some(table) = tables.tables.get(tables.side(granule)) {
            p.clear_granule(m, *table, stage2::level2(granule));
        }
        Ok(if leaving(m, &tables).is_some() { Progress::Again } else { Progress::Done })
    }

    /// `MemoryInfo`: whether there is memory at `at`, and the address where that changes: the next multiple of 1 GiB at the latest.
    ///
    /// [`Error::BadAddress`]: not where memory goes.
    pub fn memory_info(
        &self,
        m: &impl Machine,
        who: PartitionIndex,
        at: u64,
    ) -> Result<(bool, u64), Failure> {
        let p = self.caller_ref(who)?;
        if !(layout::MEMORY_BASE..layout::MEMORY_END).contains(&at) {
            return Err(Error::BadAddress.into());
        }
        let table = m.entry(p.root, stage2::level1(at));
        let gib = at & !(GIB - 1);
        let is_there = |index| table != 0 && stage2::is_valid(m.entry(stage2::address(table), index));
        let there = table != 0 && is_there(stage2::level2(at));
        let change = (stage2::level2(at)..ENTRIES).find(|index| is_there(*index) != there).unwrap_or(ENTRIES);
        Ok((there, gib.wrapping_add(change as u64 * BLOCK)))
    }

    /// Maps `size` bytes, rounded up to pages, from `from` at `at`, read-only and without charge for the memory: it is not the partition's, and
    /// nobody frees it. Each 2 MiB that holds a page are charged to [`Account::AddressSpace`]. For the boot archive's files, before their partition starts; tables made before a failure stay until the partition ends.
    ///
    /// [`Error::WrongState`]: it has started. [`Error::InvalidArgument`]: misaligned. [`Error::BadAddress`]: not between
    /// [`layout::ARCHIVE_BASE`] and the message window. [`Error::InUse`]: something is there. [`Error::Limit`], [`Error::NoMemory`].
    pub fn map_files(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        at: Ipa,
        from: Pa,
        size: u64,
    ) -> Result<(), Failure> {
        let attributes = self.attributes;
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if p.phase != Phase::Created {
            return Err(Error::WrongState.into());
        }
        if !at.is_aligned(PAGE) || !from.is_aligned(PAGE) {
            return Err(Error::InvalidArgument.into());
        }
        let (start, end) = (at.get(), at.get().checked_add(size).ok_or(Error::BadAddress)?);
        if start < layout::ARCHIVE_BASE || end > layout::WINDOW_BASE {
            return Err(Error::BadAddress.into());
        }
        for offset in (0..size).step_by(PAGE as usize) {
            let page = start.wrapping_add(offset);
            let mut table = p.root;
            for index in [stage2::level1(page), stage2::level2(page)] {
                let mut descriptor = m.entry(table, index);
                if descriptor == 0 {
                    // A table of the second step maps 2 MiB.
                    let space = if table == p.root { 0 } else { BLOCK };
                    p.accounts.check(Account::ControlMemory, PAGE)?;
                    p.accounts.check(Account::AddressSpace, space)?;
                    let fresh = m.allocate(PAGE_ORDER).ok_or(Error::NoMemory)?;
                    p.accounts.charge(Account::ControlMemory, PAGE);
                    p.accounts.charge(Account::AddressSpace, space);
                    descriptor = stage2::table(fresh);
                    m.set_entry(table, index, descriptor);
                }
                table = stage2::address(descriptor);
            }
            if m.entry(table, stage2::level3(page)) != 0 {
                return Err(Error::InUse.into());
            }
            m.set_entry(table, stage2::level3(page), attributes.page(from.plus(offset), Kind::Files));
        }
        m.maintain(p.vmid, Maintenance::Link);
        Ok(())
    }

    /// Where an address of the partition's leads; `None` where nothing is mapped.
    #[must_use]
    pub fn translate(&self, m: &impl Machine, ix: PartitionIndex, at: Ipa) -> Option<Span> {
        stage2::walk(m, self.get(ix)?.root, at)
    }
}

/// One step of zeroing and freeing the pages of a table that no walk reaches, from the one numbered `from` on; the `last` one frees the table.
fn clear_pages(m: &mut impl Machine, table: Pa, from: u32, last: bool) {
    for index in from..from.saturating_add(STEP) {
        let pa = stage2::address(m.entry(table, index as usize));
        m.set_entry(table, index as usize, 0);
        m.zero(pa, PAGE);
        m.free(pa, PAGE_ORDER);
    }
    if last {
        stage2::free_table(m, table);
    }
}

/// Whether a granule is on its way out.
fn is_leaving(descriptor: u64) -> bool {
    descriptor != 0 && !stage2::is_valid(descriptor)
}

impl Partition {
    fn give_memory(
        &mut self,
        m: &mut impl Machine,
        attributes: Attributes,
        range: Range,
    ) -> Result<(), Failure> {
        let mut tables = Tables::of(m, self.root, range);
        if range.granules().any(|granule| tables.entry(m, granule) != 0) {
            return Err(Error::InUse.into());
        }
        self.accounts.check(Account::Memory, range.size())?;
        self.accounts.check(Account::AddressSpace, range.size())?;
        if !self.colours.is_any() && range.size() > BLOCK {
            return Err(Failure::too_large(BLOCK));
        }
        let cost = tables.cost().saturating_add(if self.colours.is_any() { 0 } else { PAGE });
        self.accounts.check(Account::ControlMemory, cost)?;
        tables.make(m, self.colours)?;
        // No walk follows any of it before all is there: what a running guest has seen could not be taken back without maintenance.
        for granule in range.granules() {
            let Some(descriptor) = self.take_granule(m, attributes) else {
                tables.give_back(m, Range { end: granule, ..range });
                return Err(Error::NoMemory.into());
            };
            tables.set(m, granule, stage2::leaving(descriptor, 0));
        }
        for granule in range.granules() {
            let taken = tables.entry_made(m, granule);
            let pa = stage2::address(taken);
            let is_paged = stage2::is_table(taken);
            let descriptor = if is_paged { stage2::table(pa) } else { attributes.block(pa, Kind::Memory) };
            tables.set(m, granule, descriptor);
        }
        tables.link(m, self.root);
        self.accounts.charge(Account::Memory, range.size());
        self.accounts.charge(Account::AddressSpace, range.size());
        self.accounts.charge(Account::ControlMemory, cost);
        m.maintain(self.vmid, Maintenance::Link);
        Ok(())
    }

    /// The descriptor of 2 MiB of zeroes: a block, or, if the partition is confined to colours, a table of pages.
    fn take_granule(&self, m: &mut impl Machine, attributes: Attributes) -> Option<u64> {
        if self.colours.is_any() {
            return m.allocate(BLOCK_ORDER).map(|pa| attributes.block(pa, Kind::Memory));
        }
        let table = self.colours.frame(m)?;
        for index in 0..ENTRIES {
            let Some(pa) = self.colours.frame(m) else {
                for index in 0..index {
                    let pa = stage2::address(m.entry(table, index));
                    m.set_entry(table, index, 0);
                    m.free(pa, PAGE_ORDER);
                }
                stage2::free_table(m, table);
                return None;
            };
            m.set_entry(table, index, attributes.page(pa, Kind::Memory));
        }
        Some(stage2::table(table))
    }

    /// Makes a range of memory leave: when this returns, no processor reaches it.
    fn hide_memory(&mut self, m: &mut impl Machine, range: Range, tables: &Tables) -> Result<(), Failure> {
        if !range.granules().all(|granule| stage2::is_valid(tables.entry(m, granule))) {
            return Err(Error::BadAddress.into());
        }
        self.check_bus(m)?;
        for granule in range.granules() {
            let descriptor = tables.entry(m, granule);
            tables.set(m, granule, stage2::leaving(descriptor, 0));
        }
        self.charge_bus(m);
        let gone = match range.size() {
            BLOCK => {
                let is_paged = stage2::is_table(tables.entry(m, range.start));
                let entries = if is_paged { ENTRIES as u16 } else { 1 };
                Maintenance::Unlink { at: Ipa::new(range.start), order: BLOCK_ORDER, entries }
            }
            _ => Maintenance::All,
        };
        m.maintain(self.vmid, gone);
        Ok(())
    }

    /// One step of zeroing a granule that no walk follows any more and giving it back. → whether nothing is left of it.
    pub(crate) fn clear_granule(&mut self, m: &mut impl Machine, table: Pa, index: usize) -> bool {
        let descriptor = m.entry(table, index);
        let mut cleared = stage2::cleared(descriptor);
        let last = u64::from(cleared.saturating_add(STEP)) * PAGE >= BLOCK;
        // The entry goes before the memory does, so that it never names what is somebody else's.
        let left = if last { 0 } else { stage2::leaving(descriptor, cleared.saturating_add(STEP)) };
        m.set_entry(table, index, left);
        if stage2::is_table(descriptor) {
            clear_pages(m, stage2::address(descriptor), cleared, last);
            self.accounts.release(Account::ControlMemory, if last { PAGE } else { 0 });
        } else {
            clear_block(m, stage2::address(descriptor), BLOCK_ORDER, &mut cleared, &mut { STEP });
        }
        if last {
            self.accounts.release(Account::Memory, BLOCK);
            self.accounts.release(Account::AddressSpace, BLOCK);
        }
        last
    }
}

const _: () = assert!(layout::ADD_MEMORY_MAX <= GIB && layout::MEMORY_CALL_MAX <= GIB);
const _: () = assert!(layout::MEMORY_GRANULE == BLOCK);
