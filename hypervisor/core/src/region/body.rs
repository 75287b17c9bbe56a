//! What a region is made of.

use core::num::NonZeroU32;

use handover_abi::Account;

use crate::addr::{BLOCK, GIB};
use crate::stage2::{self, ENTRIES, Kind};
use crate::{Accounts, Attributes, CacheMaintenance, Colours, Machine, PAGE, Pa};

pub(super) const PAGE_ORDER: u8 = 12;
pub(super) const BLOCK_ORDER: u8 = 21;
pub(super) const GIB_ORDER: u8 = 30;

const _: () = assert!(BLOCK == 1 << BLOCK_ORDER && GIB == 1 << GIB_ORDER && PAGE == 1 << PAGE_ORDER);
const _: () = assert!(ENTRIES == 1 << (GIB_ORDER - BLOCK_ORDER));

/// Pages that one step of clearing may zero.
pub(crate) const STEP: u32 = 16;

/// A region's memory, and the descriptor that maps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    descriptor: u64,
    /// Pages zeroed so far, on its way out.
    cleared: u32,
    /// As wide as it is so that there is no padding to copy.
    order: NonZeroU32,
}

impl Body {
    pub(crate) const NONE: Body = Body { descriptor: 0, cleared: 0, order: NonZeroU32::MIN };

    /// Bytes.
    #[inline(always)]
    pub(crate) fn size(&self) -> u64 {
        1 << (self.order() & 63)
    }

    /// log2 of the bytes.
    #[inline(always)]
    pub(crate) fn order(&self) -> u8 {
        self.order.get() as u8
    }

    /// What maps it.
    #[inline(always)]
    pub(crate) fn descriptor(&self) -> u64 {
        self.descriptor
    }

    /// The same memory by another descriptor, which does not own it.
    pub(super) fn mapped_by(self, descriptor: u64) -> Body {
        Body { descriptor, ..self }
    }

    /// What reads as zeroes in all of a slot, of `1 << order` bytes, and is nobody's memory.
    pub(super) fn zeroes(descriptor: u64, order: u8) -> Body {
        Body { descriptor, cleared: 0, order: NonZeroU32::new(u32::from(order)).unwrap_or(NonZeroU32::MIN) }
    }

    /// Bytes of control memory: its table.
    #[inline(always)]
    pub(crate) fn control(&self) -> u64 {
        if stage2::is_table(self.descriptor) { PAGE } else { 0 }
    }

    /// Its holder is charged for it.
    #[inline(always)]
    pub(crate) fn charge(&self, accounts: &mut Accounts) {
        accounts.charge(Account::Memory, self.size());
        accounts.charge(Account::ControlMemory, self.control());
    }

    /// And is not any more.
    #[inline(always)]
    pub(crate) fn release(&self, accounts: &mut Accounts) {
        accounts.release(Account::Memory, self.size());
        accounts.release(Account::ControlMemory, self.control());
    }

    /// Leaf descriptors.
    #[inline(always)]
    pub(crate) fn leaves(&self) -> u16 {
        match self.is_one_leaf() {
            true => 1,
            false => 1 << (self.order().wrapping_sub(leaf_order(self.order())) & 15),
        }
    }

    /// Whether there is one.
    #[inline(always)]
    pub(crate) fn is_one_leaf(&self) -> bool {
        !stage2::is_table(self.descriptor) || self.order() == PAGE_ORDER
    }

    /// Memory of `1 << order` bytes of zeroes, of up to 2 MiB if it has `colours`; `None` when the machine has not that much. `table` says that
    /// it may have a table. Its descriptors are of `kind`.
    pub(crate) fn allocate(
        m: &mut impl Machine,
        attributes: Attributes,
        kind: Kind,
        order: u8,
        table: bool,
        colours: Colours,
    ) -> Option<Body> {
        let body =
            |descriptor| Some(Body { descriptor, cleared: 0, order: NonZeroU32::new(u32::from(order))? });
        if colours.is_any()
            && (order == BLOCK_ORDER || order == GIB_ORDER)
            && let Some(pa) = m.allocate(order)
        {
            return body(attributes.block(pa, kind));
        }
        if !table {
            return None;
        }
        let leaf = leaf_order(order);
        let table = colours.frame(m)?;
        for index in 0..1usize << order.saturating_sub(leaf) {
            let pa = if leaf == PAGE_ORDER { colours.frame(m) } else { m.allocate(leaf) };
            let Some(pa) = pa else {
                for index in 0..index {
                    let descriptor = m.entry(table, index);
                    m.set_entry(table, index, 0);
                    m.free(stage2::address(descriptor), leaf);
                }
                stage2::free_table(m, table);
                return None;
            };
            let descriptor = match leaf {
                PAGE_ORDER => attributes.page(pa, kind),
                _ => attributes.block(pa, kind),
            };
            m.set_entry(table, index, descriptor);
        }
        body(if kind == Kind::Shared { stage2::shared_table(table) } else { stage2::table(table) })
    }

    /// The addresses of its pages; `None` where it is not made of pages.
    pub(crate) fn pages(&self, m: &impl Machine) -> Option<impl Iterator<Item = Pa>> {
        let table = stage2::address(self.descriptor);
        let is_paged = stage2::is_table(self.descriptor) && self.order() <= BLOCK_ORDER;
        let count = usize::from(self.leaves());
        is_paged.then(|| (0..count).map(move |index| stage2::address(m.entry(table, index))))
    }

    /// One step of zeroing it where it is, whoever reaches it meanwhile, taking its cost from `budget` (pages). → whether all of it was.
    pub(crate) fn zero<M: Machine>(&mut self, m: &mut M, budget: &mut u32) -> bool {
        self.cleared = self.for_runs(m, self.cleared, budget, M::zero);
        self.cleared == self.page_count()
    }

    /// One step of cleaning the caches of it, of which `done` pages are. → how many are now.
    pub(crate) fn clean<M: Machine>(&self, m: &mut M, done: u32, budget: &mut u32) -> u32 {
        let done =
            self.for_runs(m, done, budget, |m, at, size| m.clean(CacheMaintenance::Range { at, size }));
        m.clean(CacheMaintenance::Complete);
        done
    }

    /// Its pages.
    pub(crate) fn page_count(&self) -> u32 {
        (self.size() / PAGE) as u32
    }

    /// Calls `act` with the address and size of each run of pages from the page numbered `done` on, taking them from `budget`. → where it has come to.
    fn for_runs<M: Machine>(
        &self,
        m: &mut M,
        mut done: u32,
        budget: &mut u32,
        act: impl Fn(&mut M, Pa, u64),
    ) -> u32 {
        let pages = self.page_count();
        let is_table = stage2::is_table(self.descriptor);
        let leaf = if is_table { leaf_order(self.order()) } else { self.order() };
        let leaf_pages = 1u32 << (leaf - PAGE_ORDER);
        while *budget > 0 && done < pages {
            let within = done % leaf_pages;
            let now = leaf_pages.wrapping_sub(within).min(*budget);
            let base = match is_table {
                true => {
                    stage2::address(m.entry(stage2::address(self.descriptor), (done / leaf_pages) as usize))
                }
                false => stage2::address(self.descriptor),
            };
            act(m, base.plus(u64::from(within) * PAGE), u64::from(now) * PAGE);
            done = done.wrapping_add(now);
            *budget = budget.wrapping_sub(now);
        }
        done
    }

    /// Starts zeroing at its start again.
    pub(crate) fn restart(&mut self) {
        self.cleared = 0;
    }

    /// One step of zeroing and freeing it, taking its cost from `budget` (pages). → whether nothing is left.
    pub(crate) fn clear(&mut self, m: &mut impl Machine, budget: &mut u32) -> bool {
        let pages = (self.size() / PAGE) as u32;
        let base = stage2::address(self.descriptor);
        if !stage2::is_table(self.descriptor) {
            clear_block(m, base, self.order(), &mut self.cleared, budget);
            return self.cleared == pages;
        }
        let leaf = leaf_order(self.order());
        let leaf_pages = 1u32 << (leaf - PAGE_ORDER);
        while *budget > 0 && self.cleared < pages {
            let index = (self.cleared / leaf_pages) as usize;
            let mut within = self.cleared % leaf_pages;
            let start = self.cleared.wrapping_sub(within);
            let pa = stage2::address(m.entry(base, index));
            // The entry goes before the memory does, so that it never names what is somebody else's.
            if leaf_pages.wrapping_sub(within) <= *budget {
                m.set_entry(base, index, 0);
            }
            clear_block(m, pa, leaf, &mut within, budget);
            self.cleared = start.wrapping_add(within);
        }
        if self.cleared < pages {
            return false;
        }
        stage2::free_table(m, base);
        true
    }
}

/// One step of zeroing and freeing `1 << order` bytes of which `cleared` pages are zeroed already.
pub(crate) fn clear_block(m: &mut impl Machine, pa: Pa, order: u8, cleared: &mut u32, budget: &mut u32) {
    let pages = 1u32 << (order - PAGE_ORDER);
    let now = pages.wrapping_sub(*cleared).min(*budget);
    if now > 0 {
        m.zero(pa.plus(u64::from(*cleared) * PAGE), u64::from(now) * PAGE);
    }
    *cleared = cleared.wrapping_add(now);
    *budget = budget.wrapping_sub(now);
    if *cleared == pages {
        m.free(pa, order);
    }
}

/// log2 of the bytes that one leaf of a region's own table maps.
#[inline(always)]
fn leaf_order(order: u8) -> u8 {
    if order > BLOCK_ORDER { BLOCK_ORDER } else { PAGE_ORDER }
}
