//! Shared memory: what two ports are joined for instead of messages. Everything that is true of a channel is true of it: the request and the consent,
//! timeouts, events, the end of a port. What comes with it is memory that both ends can map, each at a place of its window, and that is theirs
//! together until one of them leaves.
//!
//! Both ends are charged for all of it from the moment when they ask or accept. So whoever stays can keep the very same memory: nothing is ever
//! taken from somebody who has not let go of it, no access ever faults, and no translation changes but by its owner's own call. What stays
//! behind is zeroes, in bounded steps, before the other end is told; unless the one that leaves could only read: then all that is there is
//! the other's own.
//!
//! | the end is | by | can map | what it is charged for | memory ends as |
//! | --- | --- | --- | --- | --- |
//! | alone: asked, no answer yet, refused, given up, or the peer has left | `connect`, or the peer's leaving | yes | all of it | zeroed and freed when it leaves |
//! | joint | `accept` | yes | all of it, and so is the peer | the peer's, zeroed if this end could write |
//! | leaving | `disconnect`, the partition's end | no | all of it, until the last step | |
//!
//! Who may do what:
//!
//! | call | by | alone | joint | leaving |
//! | --- | --- | --- | --- | --- |
//! | `shared_map` | the end's partition | mapped, `InUse` if it is | the same | `BadHandle` |
//! | `shared_unmap` | the end's partition | unmapped, `WrongState` if it is not | the same | `BadHandle` |
//! | `shared_info` | the end's partition | bytes, address, access | the same | `BadHandle` |
//! | `accept` | who is asked | joint | | |
//! | `event_send` | either end | as for any port | to the peer | `BadHandle` |
//! | `send`, `call` | either end | as for any port | `Denied` | `BadHandle` |
//! | `disconnect`, `reap` | either end | freed | leaves it to the peer | goes on |
//!
//! Table descriptors carry no permissions, so an end that only reads memory with a table has a table of its own, which it pays for.

use handover_abi::{Account, Causes, Error, RequestFlags, RequestWord, SharedAccess};

use crate::addr::GIB;
use crate::channel::{Link, PortRecord, PortState, named};
use crate::region::{Body, Room, frames};
use crate::stage2::{self, ENTRIES, Kind, Mapping};
use crate::{Colours, Failure, Machine, PAGE, Pa, PartitionIndex, System};

/// The least and the largest size, as log2 of the bytes.
const ORDERS: core::ops::RangeInclusive<u8> = 12..=30;
const PAGE_ORDER: u8 = 12;
const BLOCK_ORDER: u8 = 21;
const GIB_ORDER: u8 = GIB.trailing_zeros() as u8;

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No shared memory.
    None,
    Held,
    /// This end leaves, and the peer stays.
    Leaving,
    /// This end was the last.
    Clearing,
}

/// One end's part in shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    body: Body,
    /// What this end maps: the body's own descriptor, or one that only reads.
    view: u64,
    mapping: Mapping,
    access: SharedAccess,
    stage: Stage,
}

impl Shared {
    pub(crate) const NONE: Shared = Shared {
        body: Body::NONE,
        view: 0,
        mapping: Mapping::NONE,
        access: SharedAccess::empty(),
        stage: Stage::None,
    };

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.stage != Stage::None
    }

    fn is_writable(&self) -> bool {
        self.access.contains(SharedAccess::OWN)
    }

    /// The table that only this end has.
    fn own_table(&self) -> Option<Pa> {
        let own = self.view != self.body.descriptor() && stage2::is_table(self.view);
        own.then(|| stage2::address(self.view))
    }

    /// Bytes of control memory: the body's table, and a table of this end's.
    fn control(&self) -> u64 {
        self.body.control() + if self.own_table().is_some() { PAGE } else { 0 }
    }

    /// An end of `body`. `table` is a fresh frame for its own table, if it [needs one](needs_table).
    fn new(m: &mut impl Machine, body: Body, access: SharedAccess, table: Option<Pa>) -> Shared {
        let writable = access.contains(SharedAccess::OWN);
        let view = match table {
            _ if writable => body.descriptor(),
            Some(table) => {
                let from = stage2::address(body.descriptor());
                for index in 0..ENTRIES.min(usize::from(body.leaves())) {
                    let leaf = m.entry(from, index);
                    m.set_entry(table, index, stage2::read_only(leaf));
                }
                stage2::shared_table(table)
            }
            None => stage2::read_only(body.descriptor()),
        };
        Shared { body, view, mapping: Mapping::NONE, access, stage: Stage::Held }
    }
}

/// Whether an end of `body` needs a table of its own.
fn needs_table(body: &Body, access: SharedAccess) -> bool {
    !access.contains(SharedAccess::OWN) && stage2::is_table(body.descriptor())
}

/// That a request makes sense: a size that shared memory can have.
pub(crate) fn check(word: RequestWord) -> Result<(), Failure> {
    let memory = word.flags.contains(RequestFlags::MEMORY);
    if memory && (!ORDERS.contains(&word.order) || word.flags.contains(RequestFlags::EVENTS)) {
        return Err(Error::InvalidArgument.into());
    }
    Ok(())
}

impl System {
    /// Makes shared memory for a request of `who`'s to `server`, whose declared [colours](crate::colour) it has, and charges it. `page`: the request's
    /// port takes a page, too.
    pub(crate) fn shared_create(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        server: PartitionIndex,
        word: RequestWord,
        page: bool,
    ) -> Result<Shared, Failure> {
        let (attributes, order) = (self.attributes, word.order);
        let access = SharedAccess::of(word.flags, true);
        let reads = !access.contains(SharedAccess::OWN);
        let colours = self.shared_colours(who, server);
        if order > BLOCK_ORDER && !colours.is_any() {
            return Err(Failure::too_large(1 << BLOCK_ORDER));
        }
        let p = self.caller(who)?;
        p.accounts.check(Account::Memory, 1 << order)?;
        // Who only reads what has a table has another one. A whole GiB may be in pieces only; 2 MiB of some colours always are.
        let whole = colours.is_any() && (order == BLOCK_ORDER || order == GIB_ORDER);
        let page = u64::from(page) * PAGE;
        p.accounts.check(Account::ControlMemory, page)?;
        let table_limit = p.accounts.check(Account::ControlMemory, page + PAGE + u64::from(reads) * PAGE);
        if !whole {
            table_limit?;
        }
        let table_fits = (order != BLOCK_ORDER || !whole) && table_limit.is_ok();
        let (table, _) = frames(m, &p.colours, reads && table_fits, false)?;
        let body = Body::allocate(m, attributes, Kind::Shared, order, table_fits, colours);
        let used = body.is_some_and(|body| needs_table(&body, access));
        if let Some(table) = table.filter(|_| !used) {
            m.free(table, PAGE_ORDER);
        }
        let Some(body) = body else {
            return Err(match table_limit {
                Err(limit) if order == GIB_ORDER => limit,
                _ => Error::NoMemory.into(),
            });
        };
        let shared = Shared::new(m, body, access, table.filter(|_| used));
        p.accounts.charge(Account::Memory, body.size());
        p.accounts.charge(Account::ControlMemory, shared.control());
        Ok(shared)
    }

    /// The colours of shared memory between two partitions: those that the server declares for its channels, else the client's own.
    fn shared_colours(&self, client: PartitionIndex, server: PartitionIndex) -> Colours {
        let own = self.get(client).map_or(Colours::ANY, |p| p.colours);
        match self.get(server).map_or(0, |p| p.channel_colours) {
            0 => own,
            declared if declared == self.palette.all() => Colours::ANY,
            declared => Colours::new(declared),
        }
    }

    /// What accepting the request of `client`'s takes of the server's control memory beside its port: → whether a table.
    pub(crate) fn shared_growth(
        &self,
        who: PartitionIndex,
        client: Link,
        page: bool,
    ) -> Result<bool, Failure> {
        let Some(asked) = self.port_at(client).map(|port| port.shared).filter(Shared::is_some) else {
            return Ok(false);
        };
        let table = needs_table(&asked.body, asked.access.turned());
        let p = self.caller_ref(who)?;
        p.accounts.check(Account::Memory, asked.body.size())?;
        let control = asked.body.control() + (u64::from(table) + u64::from(page)) * PAGE;
        p.accounts.check(Account::ControlMemory, control)?;
        Ok(table)
    }

    /// The server's end of what `client` has asked for, charged; `table` is what [`System::shared_growth`] asked for.
    pub(crate) fn shared_join(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        client: Link,
        table: Option<Pa>,
    ) -> Shared {
        match self.port_at(client).map(|port| port.shared) {
            Some(asked) if asked.is_some() => {
                let shared = Shared::new(m, asked.body, asked.access.turned(), table);
                if let Some(p) = self.get_mut(who) {
                    p.accounts.charge(Account::Memory, shared.body.size());
                    p.accounts.charge(Account::ControlMemory, shared.control());
                }
                shared
            }
            _ => Shared::NONE,
        }
    }

    /// `SharedMap`: maps the shared memory of a port.
    ///
    /// [`Error::BadHandle`]: no such port, or none of shared memory. [`Error::InUse`]: it is mapped, or something is there. [`Error::InvalidArgument`],
    /// [`Error::BadAddress`], [`Error::TooLarge`]: not a place for it. [`Error::Limit`], [`Error::NoMemory`].
    pub fn shared_map(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let shared = p.shared(port)?;
        if shared.mapping.at != 0 {
            return Err(Error::InUse.into());
        }
        let place = stage2::place(m, p.root, at, shared.body.order())?;
        p.accounts.check(Account::AddressSpace, place.size())?;
        p.accounts.check(Account::ControlMemory, u64::from(place.needs_table()) * PAGE)?;
        let (_, table) = frames(m, &p.colours, false, place.needs_table())?;
        let place = p.furnish(m, Room { place, page: None, table });
        let mapping = p.link(m, place, shared.view);
        if let Some(record) = p.ports.get_mut(named(port)?) {
            record.shared.mapping = mapping;
        }
        Ok(())
    }

    /// `SharedUnmap`. [`Error::BadHandle`]: as for [`System::shared_map`]. [`Error::WrongState`]: it is not mapped. [`Error::Throttled`].
    pub fn shared_unmap(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        if p.shared(port)?.mapping.at == 0 {
            return Err(Error::WrongState.into());
        }
        p.check_bus(m)?;
        p.charge_bus(m);
        self.shared_unlink(m, Link::new(who, named(port)?), false);
        Ok(())
    }

    /// `SharedInfo`: bytes, address or 0, who may write. [`Error::BadHandle`]: as for [`System::shared_map`].
    pub fn shared_info(&self, who: PartitionIndex, port: u64) -> Result<(u64, u64, SharedAccess), Failure> {
        let shared = self.caller_ref(who)?.shared(port)?;
        Ok((shared.body.size(), shared.mapping.at, shared.access))
    }

    /// Takes the mapping away, if there is one; of a partition that has `ended` the translation leads nowhere already.
    fn shared_unlink(&mut self, m: &mut impl Machine, at: Link, ended: bool) {
        let Some(p) = self.get_mut(at.partition()) else { return };
        let vmid = p.vmid;
        let Some(port) = p.ports.get_mut(at.port()) else { return };
        let Shared { body, .. } = port.shared;
        let mapping = core::mem::replace(&mut port.shared.mapping, Mapping::NONE);
        if !ended {
            mapping.unlink(m, vmid, body.order(), body.leaves());
        }
        p.accounts.release(Account::AddressSpace, mapping.slot());
    }

    /// One step of taking a port that is closing out of its shared memory, at most `budget` pages. → whether it has no part in it any more.
    pub(crate) fn shared_leave(
        &mut self,
        m: &mut impl Machine,
        at: Link,
        ended: bool,
        budget: &mut u32,
    ) -> bool {
        let Some(port) = self.port_at(at).filter(|port| port.shared.is_some()) else { return true };
        let peer = port.peer;
        if port.shared.stage == Stage::Held {
            self.shared_unlink(m, at, ended);
            self.shared_forget_view(m, at);
        }
        let other = self.port_at(peer).filter(|peer| peer.shared.is_some());
        // A peer that leaves too has nobody left to zero anything for, and clears all of it in the end.
        let stays = other.map(|other| other.shared.stage == Stage::Held);
        let Some(port) = self.port_at_mut(at) else { return true };
        let shared = &mut port.shared;
        let done = match stays {
            Some(true) if shared.is_writable() => shared.body.zero(m, budget),
            Some(_) => true,
            None => {
                if shared.stage != Stage::Clearing {
                    shared.stage = Stage::Clearing;
                    shared.body.restart();
                }
                shared.body.clear(m, budget)
            }
        };
        if done {
            self.shared_part(m, at, peer, stays == Some(true));
        }
        done
    }

    /// Whether the peer of this port zeroes the shared memory that it leaves to it.
    pub(crate) fn is_being_left(&self, port: &PortRecord) -> bool {
        port.shared.is_some()
            && self.port_at(port.peer).is_some_and(|peer| peer.shared.stage == Stage::Leaving)
    }

    /// Gives this end's table back. Nothing leads to it any more.
    fn shared_forget_view(&mut self, m: &mut impl Machine, at: Link) {
        let Some(p) = self.get_mut(at.partition()) else { return };
        let Some(port) = p.ports.get_mut(at.port()) else { return };
        let table = port.shared.own_table();
        port.shared.view = port.shared.body.descriptor();
        port.shared.stage = Stage::Leaving;
        if let Some(table) = table {
            m.zero(table, PAGE);
            stage2::free_table(m, table);
            p.accounts.release(Account::ControlMemory, PAGE);
        }
    }

    /// This end has no part in it any more; a peer that stays is told now that all is zero.
    fn shared_part(&mut self, m: &mut impl Machine, at: Link, peer: Link, stays: bool) {
        let Some(p) = self.get_mut(at.partition()) else { return };
        let Some(port) = p.ports.get_mut(at.port()) else { return };
        let Shared { body, .. } = core::mem::replace(&mut port.shared, Shared::NONE);
        p.release_body(&body);
        if stays && self.port_at(peer).is_some_and(|peer| peer.state == PortState::Severed) {
            self.raise(m, peer.partition(), peer.port(), Causes::PEER_CLOSED);
        }
    }

    /// Bytes that both ends of shared memory pay for: the accounts add up to so much more than is allocated. Looks at every port there is.
    #[must_use]
    pub fn charged_twice(&self) -> u64 {
        let all = (0..crate::PARTITIONS_MAX).filter_map(PartitionIndex::new);
        let ends = all.filter_map(|ix| Some((ix, self.get(ix)?))).flat_map(|(ix, p)| {
            p.ports.handles().filter_map(move |port| Some((Link::new(ix, port), p.ports.get(port)?)))
        });
        let joint = ends.filter(|(at, port)| {
            // Counted at one of the two.
            let other = self.port_at(port.peer).is_some_and(|other| other.shared.is_some());
            port.shared.is_some() && other && at.raw() < port.peer.raw()
        });
        joint.map(|(_, port)| port.shared.body.size() + port.shared.body.control()).sum()
    }
}

impl crate::Partition {
    /// Counts what leaving the shared memory of a port makes all processors forget. [`Error::Throttled`]: it is mapped, and stays so.
    pub(crate) fn shared_charge_bus(&mut self, m: &impl Machine, port: u32) -> Result<(), Failure> {
        let mapped = self.ports.get(port).is_some_and(|port| port.shared.mapping.at != 0);
        if mapped {
            self.check_bus(m)?;
            self.charge_bus(m);
        }
        Ok(())
    }

    /// The shared memory of a port that a guest names.
    fn shared(&self, port: u64) -> Result<Shared, Failure> {
        let shared = self.port(port)?.shared;
        if shared.is_some() { Ok(shared) } else { Err(Error::BadHandle.into()) }
    }
}
