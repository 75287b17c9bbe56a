//! A partition's own memory: 2 MiB blocks, given before it starts and kept until it ends.

use handover_abi::{Account, Error, layout};

use crate::addr::{BLOCK, GIB};
use crate::stage2::{self, Kind, Span};
use crate::{Failure, Ipa, Machine, Maintenance, PAGE, Pa, PartitionIndex, Phase, System};

const PAGE_ORDER: u8 = 12;
const BLOCK_ORDER: u8 = 21;

impl System {
    /// Gives a partition that has not started `size` bytes of zeroed memory at `at`, both multiples of 2 MiB, all or nothing. The partition
    /// pays: [`Account::Memory`], and [`Account::ControlMemory`] for a table each GiB.
    ///
    /// [`Error::WrongState`]: it has started. [`Error::InvalidArgument`]: misaligned, no bytes, or more than 1 GiB.
    /// [`Error::BadAddress`]: not where memory goes. [`Error::InUse`]: some is there. [`Error::Limit`], [`Error::NoMemory`].
    pub fn add_memory(
        &mut self,
        m: &mut impl Machine,
        ix: PartitionIndex,
        at: Ipa,
        size: u64,
    ) -> Result<(), Failure> {
        let attributes = self.attributes;
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if p.phase != Phase::Created {
            return Err(Error::WrongState.into());
        }
        if size == 0
            || size > layout::ADD_MEMORY_MAX
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
        // At most 1 GiB, so at most two tables: the first address's and the last one's.
        let (first, last) = (stage2::level1(start), stage2::level1(end - BLOCK));
        let missing = |m: &_, index| Machine::entry(m, p.root, index) == 0;
        let (need_first, need_last) = (missing(m, first), last != first && missing(m, last));
        for block in blocks(start, size) {
            let table = m.entry(p.root, stage2::level1(block));
            if table != 0 && m.entry(stage2::address(table), stage2::level2(block)) != 0 {
                return Err(Error::InUse.into());
            }
        }
        let tables = (u64::from(need_first) + u64::from(need_last)) * PAGE;
        p.accounts.check(Account::Memory, size)?;
        p.accounts.check(Account::ControlMemory, tables)?;
        let fresh = crate::region::frames(m, need_first, need_last)?;
        for (index, table) in [(first, fresh.0), (last, fresh.1)] {
            if let Some(table) = table {
                m.set_entry(p.root, index, stage2::table(table));
            }
        }
        for block in blocks(start, size) {
            let Some(pa) = m.allocate(BLOCK_ORDER) else {
                for block in blocks(start, block - start) {
                    let table = stage2::address(m.entry(p.root, stage2::level1(block)));
                    let descriptor = m.entry(table, stage2::level2(block));
                    m.set_entry(table, stage2::level2(block), 0);
                    m.free(stage2::address(descriptor), BLOCK_ORDER);
                }
                for (index, table) in [(first, fresh.0), (last, fresh.1)] {
                    if let Some(table) = table {
                        m.set_entry(p.root, index, 0);
                        stage2::free_table(m, table);
                    }
                }
                return Err(Error::NoMemory.into());
            };
            let table = stage2::address(m.entry(p.root, stage2::level1(block)));
            m.set_entry(table, stage2::level2(block), attributes.block(pa, Kind::Memory));
        }
        p.accounts.charge(Account::Memory, size);
        p.accounts.charge(Account::ControlMemory, tables);
        m.maintain(p.vmid, Maintenance::Link);
        Ok(())
    }

    /// Maps `size` bytes, rounded up to pages, from `from` at `at`, read-only and without charge for them: they are not the partition's, and nobody
    /// frees them. For the boot archive's files, before their partition starts; tables made before a failure stay until the partition ends.
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
                    p.accounts.check(Account::ControlMemory, PAGE)?;
                    let fresh = m.allocate(PAGE_ORDER).ok_or(Error::NoMemory)?;
                    p.accounts.charge(Account::ControlMemory, PAGE);
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

/// The addresses of the 2 MiB blocks of a range.
fn blocks(start: u64, size: u64) -> impl Iterator<Item = u64> {
    (0..size / BLOCK).map(move |block| start.wrapping_add(block * BLOCK))
}

const _: () = assert!(layout::ADD_MEMORY_MAX <= GIB && layout::MEMORY_GRANULE == BLOCK);
