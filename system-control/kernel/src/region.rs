//! Message regions in programs' address spaces.

use alloc::{
    collections::BTreeMap,
    rc::{Rc, Weak},
    vec::Vec,
};
use core::{
    cell::{Cell, RefCell},
    ops::Range,
};

use handover_files::{Caller, Errno, Hold, PageSource, Region};
use handover_kernel::{holdings::Holdings, layout::PAGE};

use crate::unused::Unused;

/// Holds of message files that nobody has mapped any more.
pub static UNUSED: Unused<Hold> = Unused::new();

/// A region, or a message file, that is mapped.
pub struct RegionMapping {
    /// `None` when it has gone, or the file has none yet.
    region: Cell<Option<Region>>,
    /// The message file; `None` for what a socket has mapped.
    file: Option<Hold>,
    /// Where it is mapped: address spaces by their ids, and addresses there.
    places: RefCell<Vec<(u64, Range<u64>)>>,
}

impl RegionMapping {
    /// Where it lies from the page at an offset to its end, if it has that page.
    pub fn rest(&self, offset: u64) -> Option<Range<u64>> {
        let region = self.region.get()?;
        let has = offset < region.bytes && offset.is_multiple_of(PAGE);
        has.then_some(region.address + offset..region.address + region.bytes)
    }

    /// Whether it is a file's.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// It is mapped there too.
    pub fn add_place(&self, space: u64, range: Range<u64>) {
        self.places.borrow_mut().push((space, range));
    }

    /// An address space is gone.
    pub fn forget_space(&self, space: u64) {
        self.places.borrow_mut().retain(|(other, _)| *other != space);
    }

    /// Where it is in an address space: from the first place to the end of the last.
    pub fn place_in(&self, space: u64) -> Option<Range<u64>> {
        let places = self.places.borrow();
        let own = places.iter().filter(|(other, _)| *other == space).map(|(_, range)| range.clone());
        own.reduce(|all, range| all.start.min(range.start)..all.end.max(range.end))
    }
}

impl Drop for RegionMapping {
    fn drop(&mut self) {
        if let Some(hold) = self.file.take() {
            UNUSED.extend([hold]);
        }
    }
}

/// The regions that this partition holds, and where they are mapped.
pub struct Regions {
    pub holdings: Holdings,
    /// By the region's address; those of files without a region at [`NOWHERE`].
    mappings: BTreeMap<u64, Vec<Weak<RegionMapping>>>,
    /// Mappings of files whose region may have changed.
    changed: Vec<Rc<RegionMapping>>,
    /// Where the calling process has just had one mapped, until [`take_begun`](Regions::take_begun).
    begun: Option<u64>,
}

/// Where no region is.
const NOWHERE: u64 = 0;

impl Regions {
    /// None yet.
    pub fn new(limit: u64) -> Regions {
        Regions {
            holdings: Holdings::new(limit),
            mappings: BTreeMap::new(),
            changed: Vec::new(),
            begun: None,
        }
    }

    fn insert(&mut self, mapping: &Rc<RegionMapping>) {
        let address = mapping.region.get().map_or(NOWHERE, |region| region.address);
        let there = self.mappings.entry(address).or_default();
        there.retain(|other| other.strong_count() > 0);
        there.push(Rc::downgrade(mapping));
    }

    /// A mapping of a region, which is in no address space yet.
    pub fn map(&mut self, region: Option<Region>, file: Option<Hold>) -> Rc<RegionMapping> {
        let mapping = RegionMapping { region: Cell::new(region), file, places: RefCell::default() };
        let mapping = Rc::new(mapping);
        self.insert(&mapping);
        mapping
    }

    /// The calling process has one mapped there.
    pub fn begin(&mut self, address: u64) {
        self.begun = Some(address);
    }

    /// Where the calling process has just had a region mapped.
    pub fn take_begun(&mut self) -> Option<u64> {
        self.begun.take()
    }

    /// A region has gone, or leaves all address spaces: its mappings, which have none now.
    pub fn take(&mut self, address: u64) -> Vec<Rc<RegionMapping>> {
        let there = self.mappings.remove(&address).unwrap_or_default();
        let there: Vec<Rc<RegionMapping>> = there.iter().filter_map(Weak::upgrade).collect();
        for mapping in &there {
            mapping.region.set(None);
        }
        self.changed.extend(there.iter().filter(|mapping| mapping.is_file()).cloned());
        there
    }

    /// A region was made: files that had none may have it.
    pub fn made(&mut self) {
        if self.mappings.contains_key(&NOWHERE) {
            self.take(NOWHERE);
        }
    }

    /// Whether [`refresh`](Regions::refresh) has something to do.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The mappings of files whose region may have changed; each goes to [`refresh`](Regions::refresh).
    pub fn take_changed(&mut self) -> Vec<Rc<RegionMapping>> {
        core::mem::take(&mut self.changed)
    }

    /// A file's mapping gets the region that the file has now, if the file has not gone.
    pub fn refresh(&mut self, mapping: &Rc<RegionMapping>, now: Result<Option<Region>, Errno>) {
        if let Ok(region) = now {
            mapping.region.set(region);
            self.insert(mapping);
        }
    }
}

impl RegionMapping {
    /// The region that the file has now; an error if it has gone.
    pub fn current(&self, caller: &mut Caller<'_>) -> Result<Option<Region>, Errno> {
        let Some(hold) = &self.file else { return Err(Errno::STALE) };
        match caller.page(hold, 0, true)? {
            Some(PageSource::Region { region, .. }) => Ok(Some(region)),
            _ => Ok(None),
        }
    }
}
