//! Blocks of 2 MiB to 1 GiB, naturally aligned: a buddy system.
//!
//! Each 2 MiB of the machine's memory has a record, and a free block's first record says how large it is and is in the list of its size. So a
//! block's buddy is found by its address and leaves its list in one step: taking and giving back look at a few records for each size, with one
//! fragment or a hundred thousand. Nothing is stored in free memory itself.

use crate::Pa;
use crate::addr::BLOCK;
use crate::frames::Chunks;
use crate::list::{List, Node, Noded, Records};

/// log2 of the smallest and of the largest block.
const SMALLEST: u8 = 21;
const LARGEST: u8 = 30;
const ORDERS: usize = (LARGEST - SMALLEST + 1) as usize;

/// What is known of 2 MiB of the machine's memory. `Default`: no free block starts there.
#[derive(Clone, Debug, Default)]
pub struct BlockRecord {
    node: Node,
    /// log2 of the free block that starts here, or 0.
    free: u8,
}

impl Noded for BlockRecord {
    fn node(&mut self) -> &mut Node {
        &mut self.node
    }
}

/// The allocator. Whoever gives a block back has zeroed it.
pub struct Blocks {
    base: Pa,
    records: Records<BlockRecord>,
    lists: [List; ORDERS],
    free: u64,
}

impl Blocks {
    /// Nothing is free yet. `records` has one for each 2 MiB from `base` (2 MiB aligned) on.
    #[must_use]
    pub const fn new(base: Pa, records: &'static mut [BlockRecord]) -> Blocks {
        let records = Records::new(records);
        Blocks { base, records, lists: [const { List::new() }; ORDERS], free: 0 }
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free
    }

    fn index(&self, pa: u64) -> Option<u32> {
        let index = u32::try_from(pa.checked_sub(self.base.get())? / BLOCK).ok()?;
        ((index as usize) < self.records.len()).then_some(index)
    }

    fn insert(&mut self, pa: u64, order: u8) -> Option<()> {
        let index = self.index(pa)?;
        let list = self.lists.get_mut(usize::from(order.checked_sub(SMALLEST)?))?;
        list.push_back(&mut self.records, index);
        self.records.get(index)?.free = order;
        Some(())
    }

    fn remove(&mut self, index: u32, order: u8) -> Option<()> {
        let list = self.lists.get_mut(usize::from(order.checked_sub(SMALLEST)?))?;
        list.remove(&mut self.records, index);
        self.records.get(index)?.free = 0;
        Some(())
    }
}

impl Chunks for Blocks {
    fn take(&mut self, order: u8) -> Option<Pa> {
        let fits = |list: &(u8, &List)| list.0 >= order && !list.1.is_empty();
        let (mut larger, list) = (SMALLEST..).zip(&self.lists).find(fits)?;
        let index = list.head()?;
        self.remove(index, larger)?;
        let pa = self.base.plus(u64::from(index) * BLOCK);
        // The upper halves of what is more than was asked for stay free.
        while larger > order.max(SMALLEST) {
            larger = larger.saturating_sub(1);
            self.insert(pa.plus(1 << larger).get(), larger)?;
        }
        self.free = self.free.saturating_sub(1 << larger);
        Some(pa)
    }

    fn give(&mut self, pa: Pa, order: u8) {
        let (mut at, mut larger) = (pa.get(), order);
        if !(SMALLEST..=LARGEST).contains(&order) {
            return;
        }
        let last = pa.checked_add((1u64 << order).saturating_sub(1)).and_then(|last| self.index(last.get()));
        let first = self.index(at).and_then(|first| self.records.get(first));
        if last.is_none() || first.is_none_or(|record| record.free != 0) {
            return;
        }
        while larger < LARGEST {
            let buddy = at ^ 1 << larger;
            let Some(index) = self.index(buddy) else { break };
            if self.records.get(index).is_none_or(|record| record.free != larger) {
                break;
            }
            let _: Option<()> = self.remove(index, larger);
            at &= !(1 << larger);
            larger = larger.saturating_add(1);
        }
        if self.insert(at, larger).is_some() {
            self.free = self.free.saturating_add(1 << order);
        }
    }
}

#[cfg(test)]
mod tests;
