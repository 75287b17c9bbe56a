//! Message regions.
//!
//! A region is some memory and the one descriptor that maps it: a leaf table with its pages or blocks, or a block. That pair, the [`Body`], is what
//! moves. At any instant it is in exactly one place:
//!
//! | state | where the body is | mapped | charged to | ends by |
//! | --- | --- | --- | --- | --- |
//! | held | a region table | nowhere | the holder | map, send, destroy |
//! | mapped | a region table | at one place of the holder's window | the holder | unmap, send, destroy |
//! | clearing | a region table | nowhere | the holder | the last step of destroy |
//! | calling | a region table | nowhere | the caller | the call's being taken, or failing |
//! | lent | a region table | for the borrower to read; where it was, if it is shown | the lender | the call's end |
//! | in transit | a queue entry of the sender's, linked into the receiver's queue | nowhere | the sender | receive, the queue's end |
//! | undone | such an entry, of a queue that ends | nowhere | the sender | the last step of clearing |
//! | free | nowhere | nowhere | nobody | create |
//!
//! A borrower's table has a record of what is lent to it, or of the zeroes that took its place ([`mod@crate::call`]). Who may do what in which state, and what comes
//! of it, is a table in docs/architecture.md, which a test holds to the rules.
//!
//! Free memory is all zeroes, so a region is cleared on its way out, 64 KiB a step, and making one clears nothing.

mod body;
mod clean;

use handover_abi::{Account, Error, RegionHandle, region_order};

use body::{BLOCK_ORDER, GIB_ORDER, PAGE_ORDER};
pub(crate) use body::{Body, STEP, clear_block};

use crate::addr::BLOCK;
use crate::stage2::{self, ENTRIES, Kind, Mapping, Place};
use crate::table::{Found, PagedTable, To64, per_page};
use crate::{Colours, Failure, Machine, PAGE, Pa, PartitionIndex, Progress, System};

/// How a region stands with the partition in whose table it is. As wide as it is so that a record is written without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Standing {
    /// Its holder may do with it what it likes.
    Held,
    /// It is being zeroed, and has no name any more.
    Clearing,
    /// It waits with a direct call, and has no name meanwhile.
    Calling,
    /// It is [lent](mod@crate::call), and has no name meanwhile.
    Lent,
    /// It is another partition's, and may be read until the call that it came with is answered.
    Borrowed,
    /// It was borrowed, and has gone back without this partition's doing: zeroes are mapped in its place.
    Replaced,
}

/// A region in its holder's table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) body: Body,
    pub(crate) mapping: Mapping,
    /// The table by which it is lent, once it was; 0: none.
    pub(crate) view: Pa,
    pub(crate) standing: Standing,
    /// Where stage 2 does not force write-back: how far the caches of it [are cleaned](mod@clean), in pages.
    cleaned: u32,
}

impl Default for Region {
    fn default() -> Region {
        Region::new(Body::NONE, Mapping::NONE)
    }
}

impl Region {
    pub(crate) const fn new(body: Body, mapping: Mapping) -> Region {
        Region { body, mapping, view: Pa::new(0), standing: Standing::Held, cleaned: clean::ALL }
    }

    /// [`Region::new`] in the place of one that was.
    #[inline(always)]
    pub(crate) fn renew(&mut self, body: &Body, mapping: Mapping) {
        self.body = *body;
        self.mapping = mapping;
        self.view = Pa::new(0);
        self.standing = Standing::Held;
        self.cleaned = clean::ALL;
    }

    /// The region that a guest names and may do with what it likes. [`Error::BadHandle`]: none, or one on its way out. [`Error::Denied`]: it is lent to it.
    #[inline(always)]
    pub(crate) fn held(table: &Regions, handle: u32) -> Result<&Region, Failure> {
        match table.get(handle) {
            Some(region) if region.standing == Standing::Held => Ok(region),
            found => Err(Region::not_held(found)),
        }
    }

    /// The same, to be looked at before it goes.
    #[inline(always)]
    pub(crate) fn found(table: &mut Regions, handle: u32) -> Result<Found<'_, Region, To64>, Failure> {
        Region::held(table, handle)?;
        table.found(handle).ok_or(Error::BadHandle.into())
    }

    #[cold]
    fn not_held(found: Option<&Region>) -> Failure {
        match found {
            Some(Region { standing: Standing::Borrowed | Standing::Replaced, .. }) => Error::Denied.into(),
            _ => Error::BadHandle.into(),
        }
    }

    /// The region that a guest names, its own or one that is lent to it.
    #[inline(always)]
    fn named(table: &Regions, handle: u32) -> Result<&Region, Failure> {
        match table.get(handle) {
            Some(region) if region.has_name() => Ok(region),
            _ => Err(Error::BadHandle.into()),
        }
    }

    fn has_name(&self) -> bool {
        matches!(self.standing, Standing::Held | Standing::Borrowed | Standing::Replaced)
    }

    /// It waits with a call from now on, mapped nowhere. → bytes of address space that are free.
    #[must_use]
    pub(crate) fn enter_call(&mut self, m: &mut impl Machine, vmid: u16) -> u64 {
        let slot = self.unlink(m, vmid);
        self.mapping = Mapping::NONE;
        self.standing = Standing::Calling;
        slot
    }

    /// The call has failed.
    pub(crate) fn leave_call(&mut self) {
        self.standing = Standing::Held;
    }

    /// It is lent from now on. Its place stays taken; unless it is `kept`, no processor of its holder's reaches it any more.
    pub(crate) fn enter_loan(&mut self, m: &mut impl Machine, vmid: u16, kept: bool) {
        if !kept {
            self.mapping.suspend(m, vmid, self.body.order(), self.body.leaves());
        }
        self.standing = Standing::Lent;
        self.cleaned = clean::ALL;
    }

    /// It is its holder's alone again, mapped where it was.
    pub(crate) fn leave_loan(&mut self, m: &mut impl Machine, vmid: u16) {
        self.mapping.resume(m, vmid);
        self.standing = Standing::Held;
    }

    /// Whether it needs a table to be lent that it has not yet.
    pub(crate) fn needs_view(&self) -> bool {
        stage2::is_table(self.body.descriptor()) && self.view.get() == 0
    }

    /// Gives it a table by which it can be lent; `table` is a fresh frame.
    pub(crate) fn make_view(&mut self, m: &mut impl Machine, table: Pa) {
        let from = stage2::address(self.body.descriptor());
        for index in 0..ENTRIES.min(usize::from(self.body.leaves())) {
            let leaf = m.entry(from, index);
            m.set_entry(table, index, stage2::lent(leaf));
        }
        self.view = table;
    }

    /// What whoever borrows it holds.
    pub(crate) fn view(&self) -> Body {
        let descriptor = match self.view.get() {
            0 => stage2::lent(self.body.descriptor()),
            _ => stage2::lent_table(self.view),
        };
        self.body.mapped_by(descriptor)
    }

    /// Zeroes by `descriptor` take the place of what was borrowed: all of the slot.
    pub(crate) fn replace(&mut self, m: &mut impl Machine, vmid: u16, descriptor: u64) {
        self.mapping.replace(m, vmid, self.body.order(), self.body.leaves(), descriptor);
        let order = if self.body.order() > BLOCK_ORDER { GIB_ORDER } else { BLOCK_ORDER };
        // So that all of them are forgotten when they go.
        self.body = Body::zeroes(descriptor, order);
        self.standing = Standing::Replaced;
    }

    /// For a partition whose whole translation is gone. → bytes of address space that are free.
    pub(crate) fn forget_mapping(&mut self) -> u64 {
        let slot = self.mapping.slot();
        self.mapping = Mapping::NONE;
        slot
    }

    /// Takes its mapping away, if it has one. → bytes of address space that are free.
    #[inline(always)]
    #[must_use]
    pub(crate) fn unlink(&self, m: &mut impl Machine, vmid: u16) -> u64 {
        self.mapping.unlink(m, vmid, self.body.order(), self.body.leaves());
        self.mapping.slot()
    }

    /// The same by either way, for the partition whose call is carried out; by the plain one if [`Region::is_plain`].
    #[inline(always)]
    #[must_use]
    pub(crate) fn unlink_by<const PLAIN: bool>(&self, m: &mut impl Machine, vmid: u16) -> u64 {
        if !PLAIN {
            return self.unlink(m, vmid);
        }
        self.mapping.unlink_here(m, vmid, self.body.order(), self.body.leaves());
        self.mapping.slot()
    }

    /// Whether it can be handed over by the plain way.
    #[inline(always)]
    pub(crate) fn is_plain(&self, m: &impl Machine) -> bool {
        self.view.get() == 0 && (self.body.is_one_leaf() || m.unlinks_ranges())
    }
}

/// What a region that comes takes of its holder, all of it there.
pub(crate) struct Room {
    pub(crate) place: Place,
    /// A frame for the table of regions.
    pub(crate) page: Option<Pa>,
    /// A frame for the window.
    pub(crate) table: Option<Pa>,
}

impl Room {
    /// Where no frame is needed.
    #[inline(always)]
    pub(crate) fn at(place: Place) -> Room {
        Room { place, page: None, table: None }
    }
}

/// A partition's regions.
pub(crate) type Regions = PagedTable<Region, To64, { per_page::<Region, To64>() }>;

/// A region handle out of a register.
fn named(handle: u64) -> Result<u32, Failure> {
    match RegionHandle::from_register(handle) {
        Some(handle) => Ok(handle.get()),
        None => Err(Error::BadHandle.into()),
    }
}

/// Frames for what a call is about to grow, all or none of them.
#[inline(always)]
pub(crate) fn frames(
    m: &mut impl Machine,
    colours: &Colours,
    first: bool,
    second: bool,
) -> Result<(Option<Pa>, Option<Pa>), Failure> {
    if !first && !second {
        return Ok((None, None));
    }
    fetch_frames(m, *colours, first, second)
}

#[cold]
fn fetch_frames(
    m: &mut impl Machine,
    colours: Colours,
    first: bool,
    second: bool,
) -> Result<(Option<Pa>, Option<Pa>), Failure> {
    let mut one = |wanted: bool| match wanted {
        true => colours.frame(m).map(Some),
        false => Some(None),
    };
    let Some(a) = one(first) else { return Err(Error::NoMemory.into()) };
    match one(second) {
        Some(b) => Ok((a, b)),
        None => {
            if let Some(a) = a {
                m.free(a, PAGE_ORDER);
            }
            Err(Error::NoMemory.into())
        }
    }
}

impl System {
    /// `RegionCreate`: makes a region of zeroes and maps it at `at` unless that is 0. `what` has its bytes in the lower half, and in the upper one the
    /// port whose channel it is for, or 0: that decides which [colours](crate::colour) it is made of.
    ///
    /// [`Error::InvalidArgument`]: not a power of two from 4 KiB to 1 GiB; and, as for [`Error::BadAddress`], [`Error::TooLarge`],
    /// [`Error::InUse`], the address. [`Error::TooLarge`] also: more than 2 MiB, of some colours only. [`Error::BadHandle`]: no such port.
    /// [`Error::Limit`], [`Error::NoMemory`].
    pub fn region_create(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        what: u64,
        at: u64,
    ) -> Result<RegionHandle, Failure> {
        let attributes = self.attributes;
        let (size, port) = (what & 0xffff_ffff, what >> 32);
        let order = region_order(size).ok_or(Error::InvalidArgument)?;
        let colours = self.region_colours(who, port)?;
        let p = self.caller(who)?;
        if order > BLOCK_ORDER && !colours.is_any() {
            return Err(Failure::too_large(BLOCK));
        }
        let place = optional_place(m, p.root, at, order)?;
        let (grow, needs_table) = p.growth(&place)?;
        let pages = u64::from(grow) * PAGE + u64::from(needs_table) * PAGE;
        p.accounts.check(Account::Memory, size)?;
        p.accounts.check(Account::AddressSpace, place.size())?;
        let whole = colours.is_any() && (order == BLOCK_ORDER || order == GIB_ORDER);
        p.accounts.check(Account::ControlMemory, if whole { pages } else { pages + PAGE })?;
        // A whole GiB may be in pieces only; 2 MiB of some colours always are.
        let table_limit = p.accounts.check(Account::ControlMemory, pages + PAGE);
        let (page, table) = frames(m, &p.colours, grow, needs_table)?;
        let table_fits = (order != BLOCK_ORDER || !whole) && table_limit.is_ok();
        let Some(body) = Body::allocate(m, attributes, Kind::Region, order, table_fits, colours) else {
            for frame in [page, table].into_iter().flatten() {
                m.free(frame, PAGE_ORDER);
            }
            return Err(match table_limit {
                Err(limit) if order == GIB_ORDER => limit,
                _ => Error::NoMemory.into(),
            });
        };
        p.accounts.charge(Account::Memory, size);
        p.accounts.charge(Account::ControlMemory, body.control());
        p.hold(m, body, Room { place, page, table })
    }

    /// `RegionDestroy`: one step of zeroing a region and giving its memory back. From the first step on it is not mapped, and nothing else finds it.
    /// [`Error::BadHandle`]. [`Error::Denied`]: it is lent to the partition. [`Error::Throttled`]: it is mapped, and stays so.
    pub fn region_destroy(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
    ) -> Result<Progress, Failure> {
        let p = self.caller(who)?;
        let handle = named(handle)?;
        if Region::named(&p.regions, handle).is_ok_and(|region| region.standing == Standing::Borrowed) {
            return Err(Error::Denied.into());
        }
        if p.bus.is_limited() && Region::named(&p.regions, handle).is_ok_and(|region| region.mapping.at != 0)
        {
            p.check_bus(m)?;
            p.charge_bus(m);
        }
        p.destroy_region(m, handle)
    }

    /// `RegionMap`: errors as for [`System::region_create`], and [`Error::InUse`] when it is mapped.
    pub fn region_map(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
        at: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let handle = named(handle)?;
        let region = *Region::named(&p.regions, handle)?;
        if region.mapping.at != 0 {
            return Err(Error::InUse.into());
        }
        let place = stage2::place(m, p.root, at, region.body.order())?;
        p.accounts.check(Account::AddressSpace, place.size())?;
        p.accounts.check(Account::ControlMemory, u64::from(place.needs_table()) * PAGE)?;
        let (_, table) = frames(m, &p.colours, false, place.needs_table())?;
        let place = p.furnish(m, Room { place, page: None, table });
        let mapping = p.link(m, place, region.body.descriptor());
        if let Some(region) = p.regions.get_mut(handle) {
            region.mapping = mapping;
            region.cleaned = clean::ALL;
        }
        Ok(())
    }

    /// `RegionUnmap`: [`Error::WrongState`] when it is not mapped. [`Error::Throttled`]. Zeroes in the place of what was lent have no name any more then.
    pub fn region_unmap(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        handle: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let handle = named(handle)?;
        let region = *Region::named(&p.regions, handle)?;
        if region.mapping.at == 0 {
            return Err(Error::WrongState.into());
        }
        p.check_bus(m)?;
        p.charge_bus(m);
        let slot = region.unlink(m, p.vmid);
        p.accounts.release(Account::AddressSpace, slot);
        if region.standing == Standing::Replaced {
            p.regions.remove(handle);
        } else if let Some(region) = p.regions.get_mut(handle) {
            region.mapping = Mapping::NONE;
            region.cleaned = 0;
        }
        Ok(())
    }

    /// `RegionInfo`: size in bytes, address or 0.
    pub fn region_info(&self, who: PartitionIndex, handle: u64) -> Result<(u64, u64), Failure> {
        let p = self.caller_ref(who)?;
        let region = Region::named(&p.regions, named(handle)?)?;
        Ok((region.body.size(), region.mapping.at))
    }
}

/// The place at `at`, which is nowhere if that is 0.
#[inline(always)]
pub(crate) fn optional_place(m: &impl Machine, root: Pa, at: u64, order: u8) -> Result<Place, Failure> {
    if at == 0 { Ok(Place::nowhere(root)) } else { stage2::place(m, root, at, order) }
}

impl crate::Partition {
    /// Whether holding one more region at a place takes no frame.
    #[inline(always)]
    pub(crate) fn is_ready(&self, place: &Place) -> bool {
        !self.regions.is_full() && !place.needs_table()
    }

    /// Which frames it takes: a page of the table, a window table.
    #[inline]
    pub(crate) fn growth(&self, place: &Place) -> Result<(bool, bool), Failure> {
        let full = self.regions.is_full();
        if full && !self.regions.can_grow() {
            return Err(Failure::limit(Account::ControlMemory));
        }
        Ok((full, place.needs_table()))
    }

    /// Puts a region in the table and, if there is a place, in the window; the frames are those that [`growth`](crate::Partition::growth) asked for. The
    /// body is charged already.
    #[inline(always)]
    pub(crate) fn hold(
        &mut self,
        m: &mut impl Machine,
        body: Body,
        room: Room,
    ) -> Result<RegionHandle, Failure> {
        let place = match room {
            Room { place, page: None, table: None } => place,
            room => self.furnish(m, room),
        };
        let mapping = self.link(m, place, body.descriptor());
        let handle = self.regions.insert(Region::new(body, mapping));
        debug_assert!(handle.is_some(), "room was made");
        handle.map(RegionHandle::new).ok_or(Error::NoMemory.into())
    }

    /// Makes the frames of a room what they are for, and charges them.
    #[cold]
    pub(crate) fn furnish(&mut self, m: &mut impl Machine, room: Room) -> Place {
        let Room { mut place, page, table } = room;
        if let Some(page) = page {
            self.accounts.charge(Account::ControlMemory, PAGE);
            self.regions.grow(m, page);
        }
        if let Some(table) = table {
            self.accounts.charge(Account::ControlMemory, PAGE);
            place = place.with_table(m, self.root, table);
        }
        place
    }

    /// Puts a descriptor at a place of the window and charges the place.
    #[inline(always)]
    pub(crate) fn link(&mut self, m: &mut impl Machine, place: Place, descriptor: u64) -> Mapping {
        place.charge_and_link(m, &mut self.accounts, self.vmid, descriptor)
    }

    /// One step of destroying a region.
    pub(crate) fn destroy_region(&mut self, m: &mut impl Machine, handle: u32) -> Result<Progress, Failure> {
        let vmid = self.vmid;
        let region = self.regions.get_mut(handle).ok_or(Error::BadHandle)?;
        match region.standing {
            Standing::Held => {
                let slot = region.unlink(m, vmid);
                region.mapping = Mapping::NONE;
                region.standing = Standing::Clearing;
                let view = core::mem::replace(&mut region.view, Pa::new(0));
                self.accounts.release(Account::AddressSpace, slot);
                self.drop_view(m, view);
            }
            Standing::Clearing => {}
            Standing::Replaced => {
                let slot = region.unlink(m, vmid);
                self.accounts.release(Account::AddressSpace, slot);
                self.regions.remove(handle);
                return Ok(Progress::Done);
            }
            Standing::Calling | Standing::Lent | Standing::Borrowed => return Err(Error::BadHandle.into()),
        }
        let region = self.regions.get_mut(handle).ok_or(Error::BadHandle)?;
        let mut budget = STEP;
        if !region.body.clear(m, &mut budget) {
            return Ok(Progress::Again);
        }
        let body = region.body;
        self.regions.remove(handle);
        self.release_body(&body);
        Ok(Progress::Done)
    }

    /// Gives back the table by which a region that is its holder's alone was lent, if there is one.
    #[inline(always)]
    pub(crate) fn drop_view(&mut self, m: &mut impl Machine, view: Pa) {
        if view.get() != 0 {
            self.free_view(m, view);
        }
    }

    #[cold]
    fn free_view(&mut self, m: &mut impl Machine, view: Pa) {
        m.zero(view, PAGE);
        stage2::free_table(m, view);
        self.accounts.release(Account::ControlMemory, PAGE);
    }

    /// Takes a region's charges back.
    #[inline]
    pub(crate) fn release_body(&mut self, body: &Body) {
        body.release(&mut self.accounts);
    }
}
