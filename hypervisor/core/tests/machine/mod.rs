//! A machine made of bookkeeping: it knows of every page whether it is allocated, what it holds and whether it is zero.
#![allow(dead_code, reason = "each test uses a part")]

pub mod books;
pub mod cache;
pub mod devices;
pub mod interface;
pub mod tlb;

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use handover_abi::{Error, RegionHandle};
use handover_core::frames::{ChunkRecord, Chunks, ColourRecord, Frames};
use handover_core::maintenance::{Capabilities, Step};
use handover_core::{
    CacheMaintenance, Colours, Interrupt, Ipa, Machine, Maintenance, PAGE, Pa, Palette, PartitionIndex,
    Progress, VcpuId,
};

use cache::{Cache, View};
use tlb::{Tlb, Visible};

/// Where the model's memory starts: not at zero, and not where guests see theirs.
pub const BASE: u64 = 0x1_0000_0000;
const BLOCK: u64 = 1 << 21;
/// What the model's cache makes of it.
pub const PALETTE: Palette = Palette::new(16);

/// Whole chunks, first fit.
pub struct Pool {
    free: Vec<bool>,
}

impl Chunks for Pool {
    fn take(&mut self, order: u8) -> Option<Pa> {
        let count = 1usize << (order - 21);
        let first = (0..self.free.len()).step_by(count).find(|&first| {
            self.free.get(first..first + count).is_some_and(|run| run.iter().all(|free| *free))
        })?;
        self.free[first..first + count].fill(false);
        Some(Pa::new(BASE + first as u64 * BLOCK))
    }

    fn give(&mut self, pa: Pa, order: u8) {
        let first = ((pa.get() - BASE) / BLOCK) as usize;
        for free in &mut self.free[first..first + (1usize << (order - 21))] {
            assert!(!std::mem::replace(free, true), "chunk given back twice");
        }
    }
}

/// A translation table, and which of its descriptors are not zero.
struct Table {
    words: [u64; 512],
    occupied: [u64; 8],
}

impl Table {
    const EMPTY: Table = Table { words: [0; 512], occupied: [0; 8] };

    fn set(&mut self, index: usize, value: u64) -> u64 {
        let bit = 1 << (index % 64);
        let occupied = &mut self.occupied[index / 64];
        *occupied = if value == 0 { *occupied & !bit } else { *occupied | bit };
        std::mem::replace(&mut self.words[index], value)
    }

    fn is_zero(&self) -> bool {
        self.occupied == [0; 8]
    }

    fn entries(&self) -> impl Iterator<Item = (usize, u64)> {
        self.occupied.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(|(word, bits)| {
            let rest = std::iter::successors(Some(*bits), |bits| Some(bits & bits.wrapping_sub(1)));
            let set = rest.take_while(|bits| *bits != 0);
            set.map(move |bits| word * 64 + bits.trailing_zeros() as usize)
                .map(|index| (index, self.words[index]))
        })
    }
}

/// Descriptors and stores to them that walkers may not have seen yet.
#[derive(Default)]
pub struct Tables {
    tables: Vec<Box<Table>>,
    /// Of each frame of memory, from [`BASE`] on: one more than the place of what it ever held, or 0; and bits that say what it is now.
    frames: Vec<u32>,
    late: Vec<(u64, usize, u64)>,
    /// Changes with every descriptor, and comes back when it does.
    hash: u64,
}

fn mix(values: [u64; 3]) -> u64 {
    let [a, b, c] = values;
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    hash = (hash ^ a).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    hash = (hash ^ b).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    (hash ^ c).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

impl Tables {
    /// The frame is allocated by itself.
    const ALLOCATED: u32 = 1 << 31;
    /// Of it there are stores that walkers may not have seen.
    const LATE: u32 = 1 << 30;
    /// It holds records.
    const RECORDS: u32 = 1 << 29;
    const PLACE: u32 = Tables::RECORDS - 1;

    fn new(chunks: usize) -> Tables {
        Tables { frames: vec![0; chunks * (BLOCK / PAGE) as usize], ..Tables::default() }
    }

    fn frame(&self, table: Pa) -> u32 {
        self.frames.get((table.get().wrapping_sub(BASE) / PAGE) as usize).copied().unwrap_or(0)
    }

    fn frame_mut(&mut self, table: Pa) -> &mut u32 {
        &mut self.frames[(table.get().wrapping_sub(BASE) / PAGE) as usize]
    }

    fn is_allocated(&self, table: Pa) -> bool {
        self.frame(table) & Tables::ALLOCATED != 0 && table.get().is_multiple_of(PAGE)
    }

    fn place(&self, table: Pa) -> Option<usize> {
        match self.frame(table) & Tables::PLACE {
            0 => None,
            place => Some(place as usize - 1),
        }
    }

    fn table(&self, table: Pa) -> Option<&Table> {
        self.tables.get(self.place(table)?).map(|table| &**table)
    }

    /// All of a table's descriptors that are not zero.
    pub fn entries(&self, table: Pa) -> impl Iterator<Item = (usize, u64)> {
        self.table(table).into_iter().flat_map(Table::entries)
    }

    pub fn is_zero(&self, table: Pa) -> bool {
        self.table(table).is_none_or(Table::is_zero)
    }

    pub fn get(&self, table: Pa, index: usize) -> u64 {
        self.table(table).map_or(0, |table| table.words[index])
    }

    fn set(&mut self, table: Pa, index: usize, value: u64) {
        let place = match self.place(table) {
            None if value != 0 => {
                self.tables.push(Box::new(Table::EMPTY));
                *self.frame_mut(table) |= self.tables.len() as u32;
                Some(self.tables.len() - 1)
            }
            place => place,
        };
        let old = place.map_or(0, |place| self.tables[place].set(index, value));
        if old != value {
            let mixed = |word| if word == 0 { 0 } else { mix([table.get(), index as u64, word]) };
            self.hash ^= mixed(old) ^ mixed(value);
        }
        self.late.push((table.get(), index, old));
        *self.frame_mut(table) |= Tables::LATE;
    }

    fn settle(&mut self) {
        for (table, ..) in std::mem::take(&mut self.late) {
            *self.frame_mut(Pa::new(table)) &= !Tables::LATE;
        }
    }
}

impl Visible for Tables {
    fn visible(&self, table: Pa, index: usize) -> Vec<u64> {
        let now = self.get(table, index);
        if self.frame(table) & Tables::LATE == 0 {
            return vec![now];
        }
        let late = self.late.iter().filter(|(t, i, _)| (*t, *i) == (table.get(), index));
        late.map(|(_, _, old)| *old).chain([now]).collect()
    }
}

thread_local! {
    /// Pages of records that were made for good and are not in use.
    static IDLE: RefCell<BTreeMap<TypeId, Vec<Box<dyn Any>>>> = RefCell::default();
}

pub struct Model {
    frames: Frames,
    pool: Pool,
    total: u64,
    /// First byte and order of everything allocated.
    pub allocated: BTreeMap<u64, u8>,
    /// Pages that hold something.
    pub dirty: BTreeMap<u64, u64>,
    pub tables: Tables,
    pub tlb: Tlb,
    /// Looked at where stage 2 does not force write-back.
    pub cache: Cache,
    /// Frames that hold records, by the address of the records.
    records: BTreeMap<usize, Pa>,
    /// With the INTID, 0 for the event interrupt.
    pub interrupts: Vec<(PartitionIndex, u8)>,
    pub routes: BTreeMap<(PartitionIndex, u8), u32>,
    /// Whose the interrupts of devices are, and what they are there.
    pub connected: BTreeMap<u16, (PartitionIndex, u32)>,
    /// Interrupts that are off, and that some processor still has.
    pub disconnecting: BTreeSet<u16>,
    /// Direct calls that ended without a reply.
    pub failed_calls: Vec<(VcpuId, Error, Option<RegionHandle>)>,
    /// The clock.
    pub now: u64,
    pub steps: u64,
    /// Those of cache maintenance.
    pub cache_steps: u64,
    pub zeroed: u64,
    pub capabilities: Capabilities,
    /// Which step is left out, to see whether anybody notices.
    pub omit: Option<u64>,
    /// The same of cache maintenance.
    pub omit_cache: Option<u64>,
    /// A table's frame was freed while walkers might still see what it held, or memory before its zeroes were certain to be all there is.
    pub freed_early: bool,
    /// After how many more allocations there is nothing left.
    pub allowance: Option<u32>,
    /// Calls of the rules that change the machine or ask it for something.
    pub calls: u64,
    /// Those that asked for memory.
    pub allocations: u32,
    /// The frames of the zeroes that take the place of what was lent.
    pub zeroes: BTreeSet<u64>,
    /// Roots whose trees must be sound at every such call: other processors walk them meanwhile.
    pub watched: Vec<Pa>,
    hash: u64,
}

impl Model {
    pub fn new(chunks: usize, tlb_range: bool) -> Model {
        let records = Box::leak(vec![ChunkRecord::default(); chunks].into_boxed_slice());
        let coloured = Box::leak(vec![ColourRecord::default(); chunks].into_boxed_slice());
        Model {
            frames: Frames::with_colours(Pa::new(BASE), records, PALETTE, coloured),
            pool: Pool { free: vec![true; chunks] },
            total: chunks as u64 * BLOCK,
            allocated: BTreeMap::new(),
            dirty: BTreeMap::new(),
            tables: Tables::new(chunks),
            tlb: Tlb::default(),
            cache: Cache::default(),
            records: BTreeMap::new(),
            interrupts: Vec::new(),
            routes: BTreeMap::new(),
            connected: BTreeMap::new(),
            disconnecting: BTreeSet::new(),
            failed_calls: Vec::new(),
            now: 0,
            steps: 0,
            cache_steps: 0,
            zeroed: 0,
            capabilities: Capabilities { tlb_range, forced_write_back: true, cache_line: PAGE },
            omit: None,
            omit_cache: None,
            freed_early: false,
            allowance: None,
            calls: 0,
            allocations: 0,
            zeroes: BTreeSet::new(),
            watched: Vec::new(),
            hash: 0,
        }
    }

    /// A boundary inside an operation: whatever the rules are in the middle of, no memory is within two partitions' reach unless it is shared by two, or
    /// within one's while it is free. `leaving` is memory that is being zeroed, or `freed`, and must be out of reach; shared memory may be zeroed.
    fn boundary(&mut self, leaving: Option<(Pa, u64)>, freed: bool) {
        self.calls += 1;
        if self.watched.is_empty() {
            return;
        }
        let (mut reached, mut lent) = (BTreeMap::new(), BTreeMap::new());
        for &root in &self.watched {
            let tree = books::Tree::of(&self.tables, root);
            for (pa, size) in tree.lent {
                let often = lent.entry(pa).or_insert(0);
                *often += 1;
                assert!(*often <= 1 || self.zeroes.contains(&pa), "{pa:#x} is lent {often} times");
                assert!(self.owner(Pa::new(pa)).is_some(), "{pa:#x} is lent and free");
                if let Some((start, bytes)) = leaving {
                    assert!(
                        pa + size <= start.get() || pa >= start.get() + bytes,
                        "{pa:#x} goes and is lent"
                    );
                }
            }
            for (pa, size) in tree.leaves {
                let shared = tree.shared.contains(&pa);
                let often = reached.entry(pa).or_insert(0);
                *often += 1;
                assert!(*often <= if shared { 2 } else { 1 }, "{pa:#x} is within reach {often} times");
                assert!(self.owner(Pa::new(pa)).is_some(), "{pa:#x} is within reach and free");
                if let Some((start, bytes)) = leaving.filter(|_| freed || !shared) {
                    assert!(
                        pa + size <= start.get() || pa >= start.get() + bytes,
                        "{pa:#x} goes and is within reach"
                    );
                }
            }
        }
    }

    /// Somebody asks for memory. → whether there is any.
    fn ask(&mut self) -> Option<()> {
        self.boundary(None, false);
        self.allocations += 1;
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.checked_sub(1)?;
        }
        Some(())
    }

    fn give_out(&mut self, pa: Pa, order: u8) -> Pa {
        assert_eq!(self.owner(pa), None, "allocated twice");
        self.assert_zero(pa, 1 << order);
        self.allocated.insert(pa.get(), order);
        if order == 12 {
            *self.tables.frame_mut(pa) |= Tables::ALLOCATED;
        }
        self.hash ^= mix([pa.get(), u64::from(order), 1]);
        pa
    }

    pub fn allocated_bytes(&self) -> u64 {
        self.allocated.values().map(|order| 1u64 << order).sum()
    }

    pub fn free_bytes(&self) -> u64 {
        let chunks = self.pool.free.iter().filter(|free| **free).count() as u64;
        chunks * BLOCK + self.frames.free_frames() * PAGE
    }

    pub fn record_frames(&self) -> BTreeSet<u64> {
        self.records.values().map(|pa| pa.get()).collect()
    }

    /// Stands for all that the rules have stored in the machine.
    pub fn digest(&self) -> (u64, u64, usize, usize) {
        (self.tables.hash, self.hash, self.records.len(), self.interrupts.len())
    }

    /// A guest's store.
    pub fn write(&mut self, pa: Pa, value: u64) {
        self.write_through(pa, value, View::WriteBack);
    }

    /// A guest's store by a mapping of that kind.
    pub fn write_through(&mut self, pa: Pa, value: u64, view: View) {
        assert!(self.owner(pa).is_some(), "a guest writes to free memory at {pa:x?}");
        self.dirty.insert(pa.get() & !(PAGE - 1), value);
        if !self.capabilities.forced_write_back {
            self.cache.store(pa, value, view);
        }
    }

    fn maintain_cache(&mut self, op: CacheMaintenance) {
        let mut steps = Vec::new();
        op.perform(self.capabilities, |step| steps.push(step));
        for step in steps {
            if self.omit_cache != Some(self.cache_steps) {
                self.cache.execute(step);
            }
            self.cache_steps += 1;
        }
    }

    /// A guest's load.
    pub fn read(&self, pa: Pa) -> u64 {
        self.dirty.get(&(pa.get() & !(PAGE - 1))).copied().unwrap_or(0)
    }

    /// The allocation that an address is in.
    pub fn owner(&self, pa: Pa) -> Option<(u64, u8)> {
        if self.tables.frame(pa) & Tables::ALLOCATED != 0 {
            return Some((pa.get() & !(PAGE - 1), 12));
        }
        let (&start, &order) = self.allocated.range(..=pa.get()).next_back()?;
        (pa.get() - start < 1 << order).then_some((start, order))
    }

    fn assert_zero(&self, pa: Pa, size: u64) {
        let end = pa.get() + size;
        assert_eq!(self.dirty.range(pa.get()..end).next(), None, "free memory is not zero");
        if size == PAGE {
            assert!(self.tables.is_zero(pa), "a free frame is not zero: {pa:x?}");
        }
        assert_eq!(self.tables.frame(pa) & Tables::RECORDS, 0, "a free frame holds records");
    }

    pub fn touch(&mut self, touched: Vec<(u16, Pa, Ipa)>) {
        self.tlb.touched = touched;
        self.tlb.refill(&self.tables);
    }

    pub fn check_tlb(&self) {
        assert!(!self.freed_early, "memory was freed before its maintenance was complete");
        if self.steps > 0
            && let Err(stale) = self.tlb.check(&self.tables)
        {
            panic!("{stale}");
        }
    }

    /// Whether every store to a descriptor is certain to be seen by every walker.
    pub fn all_visible(&self) -> bool {
        self.tables.late.is_empty()
    }

    /// Every free byte is accounted for.
    pub fn check_total(&self) {
        assert_eq!(self.free_bytes() + self.allocated_bytes(), self.total);
    }
}

impl Machine for Model {
    fn allocate(&mut self, order: u8) -> Option<Pa> {
        assert!(order == 12 || (21..=30).contains(&order), "order {order}");
        self.ask()?;
        let pa = match order {
            12 => self.frames.allocate(&mut self.pool)?,
            _ => self.pool.take(order)?,
        };
        Some(self.give_out(pa, order))
    }

    fn allocate_coloured(&mut self, colours: Colours) -> Option<Pa> {
        assert!(!colours.is_any() && colours.bits() & !PALETTE.all() == 0);
        self.ask()?;
        let pa = self.frames.allocate_coloured(&mut self.pool, colours)?;
        assert!(colours.bits() >> PALETTE.of(pa) & 1 != 0, "a frame of another colour");
        Some(self.give_out(pa, 12))
    }

    fn free(&mut self, pa: Pa, order: u8) {
        self.boundary(Some((pa, 1 << order)), true);
        assert_eq!(self.allocated.remove(&pa.get()), Some(order), "{pa:x?} was not allocated so");
        self.assert_zero(pa, 1 << order);
        self.freed_early |= self.cache.is_pending(pa, 1 << order);
        self.freed_early |= self.tables.frame(pa) & Tables::LATE != 0;
        self.hash ^= mix([pa.get(), u64::from(order), 1]);
        match order {
            12 => {
                *self.tables.frame_mut(pa) &= !Tables::ALLOCATED;
                self.frames.free(&mut self.pool, pa).unwrap();
            }
            _ => self.pool.give(pa, order),
        }
    }

    fn zero(&mut self, pa: Pa, size: u64) {
        assert!(size.is_multiple_of(PAGE) && size <= 16 * PAGE, "{size} bytes in one step");
        self.boundary(Some((pa, size)), false);
        let (start, order) = self.owner(pa).expect("zeroed, but not allocated");
        assert!(pa.get() + size <= start + (1 << order));
        self.zeroed += size;
        let bytes = pa.get()..pa.get() + size;
        while let Some((&page, _)) = self.dirty.range(bytes.clone()).next() {
            self.dirty.remove(&page);
        }
        if order == 12 {
            let entries: Vec<_> = self.tables.entries(pa).collect();
            for (index, _) in entries {
                self.tables.set(pa, index, 0);
            }
        }
        if !self.capabilities.forced_write_back {
            for page in bytes.step_by(PAGE as usize) {
                self.cache.store(Pa::new(page), 0, View::WriteBack);
            }
        }
        self.maintain_cache(CacheMaintenance::Range { at: pa, size });
        self.maintain_cache(CacheMaintenance::Complete);
    }

    fn clean(&mut self, op: CacheMaintenance) {
        assert!(!self.capabilities.forced_write_back, "cleaned where nobody looks past the caches");
        self.boundary(None, false);
        if let CacheMaintenance::Range { at, size } = op {
            assert!(size.is_multiple_of(PAGE) && size <= 16 * PAGE, "{size} bytes in one step");
            let (start, order) = self.owner(at).expect("cleaned, but not allocated");
            assert!(at.get() + size <= start + (1 << order));
        }
        self.maintain_cache(op);
    }

    fn entry(&self, table: Pa, index: usize) -> u64 {
        assert!(index < 512);
        assert!(self.tables.is_allocated(table), "no table at {table:x?}");
        self.tables.get(table, index)
    }

    fn set_entry(&mut self, table: Pa, index: usize, value: u64) {
        assert!(index < 512);
        assert!(self.tables.is_allocated(table), "no table at {table:x?}");
        self.boundary(None, false);
        self.tables.set(table, index, value);
    }

    fn maintain(&mut self, vmid: u16, op: Maintenance) {
        self.boundary(None, false);
        let mut steps: Vec<Step> = Vec::new();
        op.perform(self.capabilities, |step| steps.push(step));
        if op != Maintenance::Retire {
            self.tlb.start();
        }
        for step in steps {
            if self.omit != Some(self.steps) {
                self.tlb.execute(&mut self.tables, Tables::settle, vmid, step);
            }
            self.steps += 1;
        }
        self.tlb.refill(&self.tables);
    }

    fn nanoseconds(&self) -> u64 {
        self.now
    }

    fn records<T: Default + 'static>(&mut self, frame: Pa) -> &'static mut [T] {
        self.assert_zero(frame, PAGE);
        assert_eq!(self.allocated.get(&frame.get()), Some(&12));
        let idle = IDLE.with_borrow_mut(|idle| idle.entry(TypeId::of::<T>()).or_default().pop());
        let page = match idle {
            Some(page) => *page.downcast::<&'static mut [T]>().expect("of this type"),
            None => {
                let count = PAGE as usize / size_of::<T>();
                Box::leak((0..count).map(|_| T::default()).collect::<Vec<T>>().into_boxed_slice())
            }
        };
        page.fill_with(T::default);
        self.records.insert(page.as_ptr() as usize, frame);
        *self.tables.frame_mut(frame) |= Tables::RECORDS;
        page
    }

    fn reclaim<T: 'static>(&mut self, page: &'static mut [T]) -> Pa {
        let frame = self.records.remove(&(page.as_ptr() as usize)).expect("a page of records");
        *self.tables.frame_mut(frame) &= !Tables::RECORDS;
        IDLE.with_borrow_mut(|idle| idle.entry(TypeId::of::<T>()).or_default().push(Box::new(page)));
        frame
    }

    fn call_failed(&mut self, caller: VcpuId, error: Error, region: Option<RegionHandle>) {
        self.failed_calls.push((caller, error, region));
    }

    fn interrupt(&mut self, partition: PartitionIndex) {
        self.interrupts.push((partition, 0));
    }

    fn interrupt_chosen(&mut self, partition: PartitionIndex, intid: u8) {
        assert_ne!(intid, 0);
        self.interrupts.push((partition, intid));
    }

    fn route(&mut self, partition: PartitionIndex, intid: u8, processor: u32) {
        self.routes.insert((partition, intid), processor);
    }

    fn connect_interrupt(&mut self, interrupt: Interrupt, partition: PartitionIndex, intid: u32) {
        assert!(!self.disconnecting.contains(&interrupt.intid), "connected while somebody still has it");
        let before = self.connected.insert(interrupt.intid, (partition, intid));
        assert_eq!(before, None, "{interrupt:?} is somebody's");
    }

    /// Takes two steps.
    fn disconnect_interrupt(
        &mut self,
        interrupt: Interrupt,
        partition: PartitionIndex,
        intid: u32,
    ) -> Progress {
        match self.connected.remove(&interrupt.intid) {
            Some(target) => {
                assert_eq!(target, (partition, intid), "{interrupt:?} is somebody else's");
                assert!(self.disconnecting.insert(interrupt.intid));
                Progress::Again
            }
            None => {
                self.disconnecting.remove(&interrupt.intid);
                Progress::Done
            }
        }
    }
}

/// xorshift64*
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}
