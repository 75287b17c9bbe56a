//! Regions that are lent for the length of a call.
//!
//! The lender keeps the region, its charge and its place in the window; it only has no name for it until the call is over, and no mapping, unless it
//! said that it goes on touching it. Who holds the claim to the reply borrows it: has a name for it, pays for the addresses where it is mapped, and reads.
//! With the claim it may be passed on to another server; whatever ends the call gives it back.
//!
//! A borrower that has not replied itself (its caller is gone, or its processor) may have its hands on it: zeroes take the region's place there,
//! until it unmaps them. As they are only read, the same page of zeroes does for everybody.

use handover_abi::{Account, Error, MessageWord, RegionHandle};

use super::{Handed, Role};
use crate::channel::Link;
use crate::region::{Room, Standing, frames};
use crate::stage2::{self, ENTRIES, Kind};
use crate::{Failure, Machine, PAGE, Pa, PartitionIndex, Phase, System, VcpuId};

const PAGE_ORDER: u8 = 12;

/// Zeroes to read, of any size, for whoever borrows: the control OS's, made before the first partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zeroes {
    /// A page.
    page: Pa,
    /// A table whose every leaf is that page: 2 MiB.
    pages: Pa,
    /// A table of nothing but that table: 1 GiB.
    tables: Pa,
}

impl Zeroes {
    /// What maps them all over the slot of a region of this order.
    fn descriptor(self, order: u8) -> u64 {
        stage2::lent_table(if order > 21 { self.tables } else { self.pages })
    }
}

fn allocate<const N: usize>(m: &mut impl Machine) -> Option<[Pa; N]> {
    let mut frames = [Pa::new(0); N];
    for index in 0..N {
        let frame = m.allocate(PAGE_ORDER);
        match (frame, frames.get_mut(index)) {
            (Some(frame), Some(slot)) => *slot = frame,
            _ => {
                frames.iter().take(index).for_each(|frame| m.free(*frame, PAGE_ORDER));
                return None;
            }
        }
    }
    Some(frames)
}

impl System {
    /// Makes the zeroes that take the place of what was lent; before the first partition is made. [`Error::NoMemory`].
    pub fn prepare_lending(&mut self, m: &mut impl Machine) -> Result<(), Failure> {
        let [page, pages, tables] = allocate(m).ok_or(Error::NoMemory)?;
        let leaf = stage2::lent(self.attributes.page(page, Kind::Region));
        for index in 0..ENTRIES {
            m.set_entry(pages, index, leaf);
            m.set_entry(tables, index, stage2::lent_table(pages));
        }
        self.zeroes = Some(Zeroes { page, pages, tables });
        Ok(())
    }

    /// Lends a region with a call that is made now, by `caller`, to the server at `to`.
    #[cold]
    pub(super) fn lend(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
        to: Link,
    ) -> Result<Handed, Failure> {
        let from = caller.partition;
        let handle = word.region().map_or(0, RegionHandle::get);
        let server = self.server(to.partition(), caller)?;
        let region = *self.get(from).and_then(|p| p.regions.get(handle)).ok_or(Error::BadHandle)?;
        let landing = self.landing(to);
        self.check_colours(m, &region.body, landing.colours)?;
        self.clean_region(m, from, handle, word.is_kept())?;
        let needs_view = region.needs_view();
        let view = self.prepare_loan(m, from, needs_view)?;
        let control = u64::from(needs_view && from == to.partition()) * PAGE;
        let room = match server {
            Some(_) => self.room::<false>(m, landing, region.body.order(), 0, control).map(Some),
            None => Ok(None),
        };
        let room = match room {
            Ok(room) => room,
            Err(failure) => {
                if let Some(view) = view {
                    m.free(view, PAGE_ORDER);
                }
                return Err(super::no_room(failure));
            }
        };

        self.begin_loan(m, from, handle, view, word.is_kept());
        if let Some(party) = self.party_mut(caller) {
            party.lent = handle;
        }
        match (server, room) {
            (Some(server), Some(room)) => {
                let word = self.borrow(m, caller, server, to, word.length(), room)?;
                Ok(Handed::To(server, word))
            }
            _ => Ok(self.wait_with_loan(caller, to, word.length())),
        }
    }

    /// Who would take a call at once. [`Error::PeerClosed`]. [`Error::Deadlock`]: nobody, and nobody ever could.
    fn server(&self, to: PartitionIndex, caller: VcpuId) -> Result<Option<VcpuId>, Failure> {
        let p = self.get(to).filter(|p| p.phase == Phase::Active).ok_or(Error::PeerClosed)?;
        let waiting = p.calls.waiting;
        if waiting == 0 {
            return if self.is_stuck(to, Some(caller)) { Err(Error::Deadlock.into()) } else { Ok(None) };
        }
        Ok(Some(VcpuId { partition: to, index: waiting.trailing_zeros() as u8 }))
    }

    /// The table that a region which has none yet is lent by.
    fn prepare_loan(
        &mut self,
        m: &mut impl Machine,
        from: PartitionIndex,
        needs_view: bool,
    ) -> Result<Option<Pa>, Failure> {
        let p = self.get(from).ok_or(Error::BadHandle)?;
        p.accounts.check(Account::ControlMemory, u64::from(needs_view) * PAGE)?;
        Ok(frames(m, &p.colours, needs_view, false)?.0)
    }

    /// From here on the region is lent.
    fn begin_loan(
        &mut self,
        m: &mut impl Machine,
        from: PartitionIndex,
        handle: u32,
        view: Option<Pa>,
        kept: bool,
    ) {
        let Some(p) = self.get_mut(from) else { return };
        if view.is_some() {
            p.accounts.charge(Account::ControlMemory, PAGE);
        }
        let vmid = p.vmid;
        if let Some(region) = p.regions.get_mut(handle) {
            if let Some(table) = view {
                region.make_view(m, table);
            }
            region.enter_loan(m, vmid, kept);
        }
    }

    /// What `caller` lends reaches the server that serves it from now on.
    fn borrow(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        server: VcpuId,
        to: Link,
        length: u8,
        room: Room,
    ) -> Result<MessageWord, Failure> {
        let lent = self.party(caller).map_or(0, |party| party.lent);
        let region = self.get(caller.partition).and_then(|p| p.regions.get(lent)).ok_or(Error::BadHandle)?;
        let body = region.view();
        let landed = room.place.is_somewhere();
        let p = self.get_mut(to.partition()).ok_or(Error::PeerClosed)?;
        let handle = p.hold(m, body, room)?;
        if let Some(region) = p.regions.get_mut(handle.get()) {
            region.standing = Standing::Borrowed;
        }
        self.serve(caller, server, None);
        if let Some(party) = self.party_mut(caller) {
            party.view = handle.get();
        }
        let port = handover_abi::Port::new(to.port());
        let word = MessageWord::new(port, Some(handle), length).with_order(body.order()).lent();
        Ok(if landed { word.landed() } else { word })
    }

    /// A call waits in the queue of the server at `to`, and what is lent with it.
    fn wait_with_loan(&mut self, caller: VcpuId, to: Link, length: u8) -> Handed {
        if let Some(party) = self.party_mut(caller) {
            (party.role, party.holder) = (Role::Queued, None);
            (party.length, party.to, party.region) = (length, to, party.lent);
        }
        self.queue_change(to.partition(), |queue, nodes| queue.push_back(nodes, caller.raw()));
        Handed::Queued
    }

    /// A call that has waited with what is lent is taken.
    #[cold]
    pub(super) fn take_loan(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        server: VcpuId,
    ) -> Result<MessageWord, Failure> {
        let party = *self.party(caller).ok_or(Error::BadHandle)?;
        let room =
            self.room::<false>(m, self.landing(party.to), self.order_of(caller.partition, party.lent), 0, 0)?;
        self.queue_change(server.partition, |queue, nodes| queue.remove(nodes, caller.raw()));
        self.borrow(m, caller, server, party.to, party.length, room)
    }

    fn order_of(&self, of: PartitionIndex, handle: u32) -> u8 {
        self.get(of).and_then(|p| p.regions.get(handle)).map_or(0, |region| region.body.order())
    }

    /// `Forward` with a region that is not the server's own: passes on what the call has lent to it. `otherwise`: it is not that.
    #[cold]
    pub(super) fn forward_loan(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        caller: VcpuId,
        word: MessageWord,
        to: Link,
        otherwise: Failure,
    ) -> Result<(VcpuId, Handed), Failure> {
        let party = *self.party(caller).ok_or(Error::BadHandle)?;
        if party.view == 0 || word.region().map(RegionHandle::get) != Some(party.view) {
            return Err(otherwise);
        }
        self.caller(server.partition)?.check_bus(m)?;
        let lent =
            self.get(caller.partition).and_then(|p| p.regions.get(party.lent)).ok_or(Error::BadHandle)?;
        let order = lent.body.order();
        let landing = self.landing(to);
        self.check_colours(m, &lent.body, landing.colours)?;
        let next = self.server(to.partition(), caller)?;
        let room = match next {
            Some(_) => Some(self.room::<false>(m, landing, order, 0, 0).map_err(super::no_room)?),
            None => None,
        };

        // Its own operation, however often it passes the region on.
        let _mapped: bool = self.take_back(m, caller, server.partition, true);
        self.charge_move(m, server.partition, party.view);
        let handed = match (next, room) {
            (Some(next), Some(room)) => {
                Handed::To(next, self.borrow(m, caller, next, to, word.length(), room)?)
            }
            _ => self.wait_with_loan(caller, to, word.length()),
        };
        if let Some(party) = self.party_mut(server) {
            party.serving = None;
        }
        Ok((caller, handed))
    }

    /// Whoever has borrowed from `caller` in the partition `of` has it no more: `willing` says that it let go of it itself. → whether all processors
    /// had to forget where it was.
    #[cold]
    fn take_back(&mut self, m: &mut impl Machine, caller: VcpuId, of: PartitionIndex, willing: bool) -> bool {
        let Some(party) = self.party_mut(caller) else { return false };
        let view = core::mem::replace(&mut party.view, 0);
        let zeroes = self.zeroes;
        let Some(p) = self.get_mut(of) else { return false };
        let vmid = p.vmid;
        let Some(region) = p.regions.get_mut(view) else { return false };
        let mapped = region.mapping.at != 0;
        if let (true, false, Some(zeroes)) = (mapped, willing, zeroes) {
            region.replace(m, vmid, zeroes.descriptor(region.body.order()));
        } else {
            let slot = region.unlink(m, vmid);
            p.accounts.release(Account::AddressSpace, slot);
            p.regions.remove(view);
        }
        mapped
    }

    /// [`System::take_back`], as the lender's operation: it comes once to each loan.
    #[cold]
    pub(super) fn end_borrowing(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        of: PartitionIndex,
        willing: bool,
    ) {
        if self.take_back(m, caller, of, willing)
            && let Some(p) = self.get_mut(caller.partition)
        {
            p.charge_bus(m);
        }
    }

    /// The call is over: `caller` has what it has lent back.
    #[cold]
    pub(super) fn end_loan(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        holder: Option<VcpuId>,
        willing: bool,
    ) {
        if let Some(holder) = holder {
            self.end_borrowing(m, caller, holder.partition, willing);
        }
        let Some(party) = self.party_mut(caller) else { return };
        let lent = core::mem::replace(&mut party.lent, 0);
        let Some(p) = self.get_mut(caller.partition) else { return };
        let vmid = p.vmid;
        if let Some(region) = p.regions.get_mut(lent) {
            region.leave_loan(m, vmid);
        }
    }

    /// The frames of zeroes that take the place of what was lent.
    #[must_use]
    pub fn zero_frames(&self) -> Option<[Pa; 3]> {
        self.zeroes.map(|Zeroes { page, pages, tables }| [page, pages, tables])
    }
}
