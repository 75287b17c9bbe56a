//! Direct calls: a logical processor hands its message, its physical processor and its time to one of the server's, and gets them back with the
//! reply.
//!
//! A caller does not run until it has its answer, so its message stays in its registers, and a call takes no memory. Of each logical processor
//! the rules know a [`Party`]:
//!
//! | role | it | leaves it by |
//! | --- | --- | --- |
//! | free | runs, or waits for an interrupt | `call`, `call_wait` |
//! | waiting | waits for a call | a call, an interrupt (`call_interrupted`) |
//! | queued | has called; nobody has taken the call | a server's `call_wait`, its own timeout, either end's end |
//! | served | has called; `holder` has its claim to a reply | `reply`, its own timeout, either end's end |
//!
//! Beside its role, a processor may hold one claim ([`Party::serving`]): it owes that caller a reply, and may call others meanwhile, or pass the claim on
//! ([`System::forward`]). Claims and holders name each other; all that ends one side clears the other.
//!
//! Every caller can at any time reach, from holder to holder and through queues, a processor that is free or waiting. A call that would close a ring
//! in which nobody is fails with [`Error::Deadlock`] ([`mod@ring`]), so nobody waits for ever for somebody that waits for ever. Servers that never
//! answer are what timeouts are for.
//!
//! A region that goes with a call moves when the call is taken. Until then it stays in the caller's table, mapped nowhere and without a name, and a
//! call that fails gives it back.

mod end;
mod lend;
mod ring;

pub(crate) use lend::Zeroes;

use handover_abi::layout::{self, PROCESSORS_MAX};
use handover_abi::{Account, Error, MessageWord, Port, RegionHandle, SHORT_MAX};

use crate::channel::{Link, named};
use crate::list::{List, Node, Nodes};
use crate::plain::{by, only};
use crate::region::{Region, Room, frames, optional_place};
use crate::stage2::Place;
use crate::{Failure, Machine, PAGE, Partition, PartitionIndex, Phase, System, VcpuId};

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Free,
    Waiting,
    Queued,
    Served,
}

/// A logical processor as calls see it. Of a size by which an index is shifted.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Party {
    role: Role,
    /// Bytes of a queued call's message.
    length: u8,
    /// Whose claim to a reply it holds.
    serving: Option<VcpuId>,
    /// Who holds its own, while it is served.
    holder: Option<VcpuId>,
    /// Which port of its partition it called through, while it is queued or served.
    port: u32,
    /// The server's port that a queued call came to.
    to: Link,
    /// The region of a queued call, or 0.
    region: u32,
    /// The region that it lends until the call is over, or 0.
    lent: u32,
    /// Its name where the holder is, or 0: nobody has borrowed it.
    view: u32,
    /// In the server's queue.
    node: Node,
}

impl Party {
    const FREE: Party = Party {
        role: Role::Free,
        length: 0,
        serving: None,
        holder: None,
        port: 0,
        to: Link::NONE,
        region: 0,
        lent: 0,
        view: 0,
        node: Node::new(),
    };
}

/// A partition's part in calls.
#[derive(Debug)]
pub(crate) struct Calls {
    parties: [Party; PROCESSORS_MAX as usize],
    /// Bit n: logical processor n waits for a call.
    waiting: u8,
    /// Bit n: logical processor n is on.
    on: u8,
    /// Callers that nobody has taken, of any partition.
    queue: List,
}

impl Calls {
    pub(crate) const fn new() -> Calls {
        Calls { parties: [Party::FREE; PROCESSORS_MAX as usize], waiting: 0, on: 0, queue: List::new() }
    }

    /// That of a logical processor. There is one for each index that a partition's processors can have.
    #[inline(always)]
    pub(crate) fn party(&self, index: u8) -> Option<&Party> {
        self.parties.get(usize::from(index) % PROCESSORS_MAX as usize)
    }

    /// From here on it waits.
    #[inline(always)]
    fn wait(&mut self, index: u8) {
        if let Some(party) = self.party_mut(index) {
            party.role = Role::Waiting;
        }
        self.waiting |= 1u8 << (index & 7);
    }

    #[inline(always)]
    pub(crate) fn party_mut(&mut self, index: u8) -> Option<&mut Party> {
        self.parties.get_mut(usize::from(index) % PROCESSORS_MAX as usize)
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// This processor, which has waited, goes on at once with the message under this word.
    To(VcpuId, MessageWord),
    /// Nobody waits: the caller is in the server's queue.
    Queued,
}

/// A call that a server has taken, or a reply to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The caller: in whose registers the call's message is, or who goes on with the reply.
    pub caller: VcpuId,
    /// What the receiver's `x1` says.
    pub word: MessageWord,
}

/// What a server finds that asks for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A call.
    Call(Delivered),
    /// None: it waits now.
    Waiting,
    /// None that it has room for: it goes on without one.
    Nothing,
}

struct Queue<'a>(&'a mut System);

impl Nodes for Queue<'_> {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.0.party_mut(VcpuId::from_raw(at)).map(|party| &mut party.node)
    }
}

#[inline(always)]
fn length_of(word: MessageWord) -> Result<u8, Failure> {
    let length = word.length();
    if usize::from(length) > SHORT_MAX { Err(Error::InvalidArgument.into()) } else { Ok(length) }
}

/// The region that goes with a message, which its sender must hold and may hand over now; 0: none.
#[inline(always)]
fn region_of<const PLAIN: bool>(p: &Partition, m: &impl Machine, word: MessageWord) -> Result<u32, Failure> {
    let Some(handle) = word.region() else { return Ok(0) };
    let region = by::<PLAIN, _>(Region::held(&p.regions, handle.get()))?;
    only::<PLAIN>(region.is_plain(m))?;
    if !PLAIN {
        p.check_bus_for(m, handle.get())?;
    }
    Ok(handle.get())
}

/// What a port says of the regions that come by calls through it.
#[derive(Clone, Copy)]
struct Landing {
    partition: PartitionIndex,
    /// Where they are mapped, or 0.
    at: u64,
    /// Of its channel; 0: none are declared.
    colours: u64,
}

/// Which of the receiver's limits is in the way is not the sender's to know.
fn no_room(failure: Failure) -> Failure {
    let colours = failure == Failure::limit(Account::CacheColours);
    if failure.error == Error::Limit && !colours { Error::QueueFull.into() } else { failure }
}

impl System {
    #[inline(always)]
    fn party(&self, id: VcpuId) -> Option<&Party> {
        self.get(id.partition)?.calls.party(id.index)
    }

    #[inline(always)]
    fn party_mut(&mut self, id: VcpuId) -> Option<&mut Party> {
        self.get_mut(id.partition)?.calls.party_mut(id.index)
    }

    /// `CallSetup`: where regions that come by direct calls through this port are mapped (0: nowhere), and how long its calls wait for their replies, in
    /// nanoseconds (0: for ever). What cannot be mapped there comes unmapped.
    ///
    /// [`Error::BadHandle`]. [`Error::InvalidArgument`], [`Error::BadAddress`]: no slot of the message window.
    pub fn call_setup(
        &mut self,
        who: PartitionIndex,
        port: u64,
        landing: u64,
        patience: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        p.port(port)?;
        if !landing.is_multiple_of(layout::WINDOW_SLOT) {
            return Err(Error::InvalidArgument.into());
        }
        if landing != 0 && landing.wrapping_sub(layout::WINDOW_BASE) >= layout::WINDOW_SIZE {
            return Err(Error::BadAddress.into());
        }
        if let Some(port) = p.ports.get_mut(named(port)?) {
            port.landing = landing;
            port.patience = patience;
        }
        Ok(())
    }

    /// `Call`: asks the peer, and waits for its reply. If it succeeds, the caller does not run until [`System::reply`] names it, or
    /// [`Machine::call_failed`] does.
    ///
    /// [`Error::InvalidArgument`]: longer than 128 bytes. [`Error::BadHandle`], [`Error::NotConnected`], [`Error::TimedOut`],
    /// [`Error::PeerClosed`]. [`Error::Denied`]: not a channel for messages both ways. [`Error::QueueFull`]: the server has no room for the region.
    /// [`Error::Throttled`]: with a region. [`Error::Deadlock`]: nobody could answer.
    #[inline]
    pub fn call(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
    ) -> Result<Handed, Failure> {
        self.call_within(m, caller, word).map(|(handed, _)| handed)
    }

    /// [`System::call`]. → also how long the call may take, in nanoseconds; 0: as long as it likes.
    ///
    /// Errors as there.
    pub fn call_within(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
    ) -> Result<(Handed, u64), Failure> {
        match self.call_plainly(m, caller, word) {
            Err(Failure::NOT_PLAIN) => self.call_at_length(m, caller, word),
            handed => handed.map(|(server, word)| (Handed::To(server, word), 0)),
        }
    }

    /// [`System::call`] by the plain way: to one that waits, for as long as the call takes. → it, and what it is told. [`Failure::NOT_PLAIN`]: it
    /// belongs made [at length](System::call_at_length).
    #[inline(always)]
    pub fn call_plainly(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
    ) -> Result<(VcpuId, MessageWord), Failure> {
        match self.call_by::<true>(m, caller, word)? {
            (Handed::To(server, word), _) => Ok((server, word)),
            _ => Err(Failure::NOT_PLAIN),
        }
    }

    /// [`System::call_within`] by the other way.
    ///
    /// Errors as there.
    #[inline(never)]
    pub fn call_at_length(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
    ) -> Result<(Handed, u64), Failure> {
        let result = self.call_by::<false>(m, caller, word);
        self.handed_over(m, caller.partition, word, result)
    }

    #[inline(always)]
    fn call_by<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        word: MessageWord,
    ) -> Result<(Handed, u64), Failure> {
        let length = by::<PLAIN, _>(length_of(word))?;
        let p = self.caller_by::<PLAIN>(caller.partition)?;
        let number = word.port().get();
        let port = by::<PLAIN, _>(p.ports.get(number).ok_or(Error::BadHandle.into()))?;
        by::<PLAIN, _>(port.connected())?;
        if !port.two_way {
            return by::<PLAIN, _>(Err(Error::Denied.into()));
        }
        let (to, patience) = (port.peer, port.patience);
        only::<PLAIN>(patience == 0)?;
        let region = region_of::<PLAIN>(p, m, word)?;
        let lends = region != 0 && word.is_lent();
        only::<PLAIN>(!lends)?;
        let handed = if !PLAIN && lends {
            let handed = self.lend(m, caller, word, to)?;
            self.note(caller, number);
            handed
        } else {
            self.hand::<PLAIN>(m, caller, caller.partition, region, to, length, Some(number))?
        };
        if !PLAIN {
            self.charge_move(m, caller.partition, region);
        }
        Ok((handed, patience))
    }

    /// `Forward`: passes the claim to a reply on to the peer of another port, with a message and region of this processor's; the reply then goes to
    /// the first caller. If nobody waits there, the message belongs in the caller's registers. → the caller, and what becomes of the call.
    ///
    /// [`Error::BadHandle`]: there is no claim, perhaps because the caller has given up; or no such port. Otherwise as for [`System::call`].
    #[inline]
    pub fn forward(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<(VcpuId, Handed), Failure> {
        let result = self.forward_now(m, server, word);
        self.handed_over(m, server.partition, word, result)
    }

    #[inline(always)]
    fn forward_now(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<(VcpuId, Handed), Failure> {
        let length = length_of(word)?;
        let caller = self.party(server).and_then(|party| party.serving).ok_or(Error::BadHandle)?;
        let p = self.caller(server.partition)?;
        let port = p.ports.get(word.port().get()).ok_or(Error::BadHandle)?;
        port.connected()?;
        if !port.two_way {
            return Err(Error::Denied.into());
        }
        let to = port.peer;
        let region = match region_of::<false>(p, m, word) {
            Ok(region) => region,
            Err(failure) => return self.forward_loan(m, server, caller, word, to, failure),
        };
        let handed = self.hand::<false>(m, caller, server.partition, region, to, length, None)?;
        self.charge_move(m, server.partition, region);
        if self.party(caller).is_some_and(|party| party.view != 0) {
            self.end_borrowing(m, caller, server.partition, true);
        }
        if let Some(party) = self.party_mut(server) {
            party.serving = None;
        }
        Ok((caller, handed))
    }

    /// A region of `from`'s has been handed over, if there was one.
    #[inline(always)]
    fn charge_move(&mut self, m: &impl Machine, from: PartitionIndex, region: u32) {
        if region != 0
            && let Some(p) = self.get_mut(from)
        {
            p.charge_bus(m);
        }
    }

    /// Which port a caller has called through.
    fn note(&mut self, caller: VcpuId, port: u32) {
        if let Some(party) = self.party_mut(caller) {
            party.port = port;
        }
    }

    /// Gives a caller's call to the server at `to`: its message, and a region of `from`'s. `through` is the port that it comes from, unless that is known.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "of two calls, each of which knows them in its own way")]
    fn hand<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        from: PartitionIndex,
        region: u32,
        to: Link,
        length: u8,
        through: Option<u32>,
    ) -> Result<Handed, Failure> {
        let server = self.get(to.partition()).filter(|p| p.phase == Phase::Active);
        let server = by::<PLAIN, _>(server.ok_or(Error::PeerClosed.into()))?;
        let waiting = server.calls.waiting;
        if waiting == 0 {
            only::<PLAIN>(false)?;
            let handed = self.enqueue(m, caller, from, region, to, length)?;
            if let Some(port) = through {
                self.note(caller, port);
            }
            return Ok(handed);
        }
        let server = VcpuId { partition: to.partition(), index: waiting.trailing_zeros() as u8 };
        let word = match PLAIN {
            true => self.pass::<true>(m, from, region, to, length)?,
            false => self.pass::<false>(m, from, region, to, length).map_err(no_room)?,
        };
        self.serve(caller, server, through);
        Ok(Handed::To(server, word))
    }

    #[cold]
    fn enqueue(
        &mut self,
        m: &mut impl Machine,
        caller: VcpuId,
        from: PartitionIndex,
        mut region: u32,
        to: Link,
        length: u8,
    ) -> Result<Handed, Failure> {
        if self.is_stuck(to.partition(), Some(caller)) {
            return Err(Error::Deadlock.into());
        }
        if let Some(waiting) = self.get(from).and_then(|p| p.regions.get(region)) {
            // What cannot be taken would stand before all other calls.
            self.check_colours(m, &waiting.body, self.landing(to).colours)?;
            self.clean_region(m, from, region, false)?;
        }
        if region != 0 && from != caller.partition {
            // A region that is forwarded waits with the caller: its message does.
            let nowhere = Link::new(caller.partition, 0);
            let word = self.pass::<false>(m, from, region, nowhere, 0).map_err(no_room)?;
            region = word.region().map_or(0, RegionHandle::get);
        }
        if region != 0
            && let Some(p) = self.get_mut(caller.partition)
        {
            let vmid = p.vmid;
            if let Some(region) = p.regions.get_mut(region) {
                let slot = region.enter_call(m, vmid);
                p.accounts.release(Account::AddressSpace, slot);
            }
        }
        if let Some(party) = self.party_mut(caller) {
            (party.role, party.holder) = (Role::Queued, None);
            (party.length, party.to, party.region) = (length, to, region);
        }
        self.queue_change(to.partition(), |queue, nodes| queue.push_back(nodes, caller.raw()));
        Ok(Handed::Queued)
    }

    /// Changes a partition's queue of callers.
    fn queue_change(&mut self, of: PartitionIndex, change: impl FnOnce(&mut List, &mut Queue<'_>)) {
        let Some(mut queue) = self.get(of).map(|p| p.calls.queue) else { return };
        change(&mut queue, &mut Queue(self));
        if let Some(p) = self.get_mut(of) {
            p.calls.queue = queue;
        }
    }

    /// From here on `server` owes `caller` a reply.
    #[inline(always)]
    fn serve(&mut self, caller: VcpuId, server: VcpuId, through: Option<u32>) {
        if let Some(party) = self.party_mut(caller) {
            if let Some(port) = through {
                party.port = port;
            }
            party.role = Role::Served;
            party.holder = Some(server);
            party.region = 0;
        }
        if let Some(p) = self.get_mut(server.partition)
            && let Some(party) = p.calls.party_mut(server.index)
        {
            party.role = Role::Free;
            party.serving = Some(caller);
            p.calls.waiting &= !(1u8 << (server.index & 7));
        }
    }

    /// Moves a region of `from`'s, if there is one, to the partition at `to`. → what the receiver is told of the message.
    #[inline(always)]
    fn pass<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        from: PartitionIndex,
        region: u32,
        to: Link,
        length: u8,
    ) -> Result<MessageWord, Failure> {
        let port = Port::new(to.port());
        if region == 0 {
            return Ok(MessageWord::new(port, None, length));
        }
        let (handle, order, landed) = self.pass_region::<PLAIN>(m, from, region, to)?;
        let word = MessageWord::new(port, Some(handle), length).with_order(order);
        Ok(if landed { word.landed() } else { word })
    }

    #[inline(always)]
    fn pass_region<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        from: PartitionIndex,
        region: u32,
        to: Link,
    ) -> Result<(RegionHandle, u8, bool), Failure> {
        let found = self.get(from).and_then(|p| p.regions.get(region));
        let body = by::<PLAIN, _>(found.ok_or(Error::BadHandle.into()))?.body;
        let landing = self.landing(to);
        if PLAIN {
            only::<PLAIN>(landing.colours == 0)?;
        } else {
            self.check_colours(m, &body, landing.colours)?;
            self.clean_region(m, from, region, false)?;
        }
        // What one partition hands to itself is charged to it already.
        let (memory, control) = if from == to.partition() { (0, 0) } else { (body.size(), body.control()) };
        let room = self.room::<PLAIN>(m, landing, body.order(), memory, control)?;
        let landed = room.place.is_somewhere();

        if let Some(p) = self.get_mut(from)
            && let Some(gone) = p.regions.vacate(region)
        {
            let (slot, view) = (gone.unlink_by::<PLAIN>(m, p.vmid), gone.view);
            p.accounts.release(Account::AddressSpace, slot);
            if !PLAIN {
                p.drop_view(m, view);
            }
            p.release_body(&body);
        }
        let Some(p) = self.get_mut(to.partition()) else {
            return by::<PLAIN, _>(Err(Error::PeerClosed.into()));
        };
        p.accounts.charge(Account::Memory, body.size());
        p.accounts.charge(Account::ControlMemory, body.control());
        Ok((p.hold(m, body, room)?, body.order(), landed))
    }

    #[inline(always)]
    fn landing(&self, to: Link) -> Landing {
        let (at, colours) = self.port_at(to).map_or((0, 0), |port| (port.landing, port.colours));
        Landing { partition: to.partition(), at, colours }
    }

    /// That who lands a region of this order has room for it, and is charged for so much more of memory and control memory.
    #[inline(always)]
    fn room<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        landing: Landing,
        order: u8,
        memory: u64,
        control: u64,
    ) -> Result<Room, Failure> {
        let p = by::<PLAIN, _>(self.get(landing.partition).ok_or(Error::PeerClosed.into()))?;
        let nowhere = Place::nowhere(p.root);
        let mut place = optional_place(m, p.root, landing.at, order).unwrap_or(nowhere);
        by::<PLAIN, _>(p.accounts.check(Account::Memory, memory))?;
        if p.accounts.check(Account::AddressSpace, place.size()).is_err() {
            place = nowhere;
        }
        if !p.is_ready(&place) {
            only::<PLAIN>(false)?;
            return self.room_with_frames(m, landing.partition, place, control);
        }
        if control != 0 {
            by::<PLAIN, _>(p.accounts.check(Account::ControlMemory, control))?;
        }
        Ok(Room::at(place))
    }

    /// [`System::room`] where the records need more.
    #[cold]
    fn room_with_frames(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        mut place: Place,
        control: u64,
    ) -> Result<Room, Failure> {
        let p = self.get(who).ok_or(Error::PeerClosed)?;
        let (grow, _) = p.growth(&place)?;
        let control = control + u64::from(grow) * PAGE;
        if place.needs_table() && p.accounts.check(Account::ControlMemory, control + PAGE).is_err() {
            place = Place::nowhere(p.root);
        }
        p.accounts.check(Account::ControlMemory, control)?;
        let (page, table) = frames(m, &p.colours, grow, place.needs_table())?;
        Ok(Room { place, page, table })
    }

    /// `Reply`: answers the call that this processor has taken. → the caller, who goes on with the message under that word.
    ///
    /// [`Error::InvalidArgument`]: longer than 128 bytes, or a port is named. [`Error::BadHandle`]: there is no claim, perhaps because the caller has
    /// given up; or no such region. [`Error::QueueFull`]: the caller has no room for the region. [`Error::Throttled`]: with a region.
    #[inline]
    pub fn reply(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<Delivered, Failure> {
        let result = self.reply_by::<false>(m, server, word);
        self.handed_over(m, server.partition, word, result)
    }

    #[inline(always)]
    fn reply_by<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<Delivered, Failure> {
        let length = by::<PLAIN, _>(length_of(word))?;
        if word.port().get() != 0 {
            return by::<PLAIN, _>(Err(Error::InvalidArgument.into()));
        }
        let p = self.caller_by::<PLAIN>(server.partition)?;
        // What comes next waits in a queue.
        only::<PLAIN>(p.calls.queue.is_empty())?;
        let no_claim = || Failure::from(Error::BadHandle);
        let serving = p.calls.party(server.index).and_then(|party| party.serving);
        let caller = by::<PLAIN, _>(serving.ok_or_else(no_claim))?;
        let region = region_of::<PLAIN>(p, m, word)?;
        let party = by::<PLAIN, _>(self.party(caller).ok_or_else(no_claim))?;
        let (port, lent) = (party.port, party.lent);
        only::<PLAIN>(lent == 0)?;
        let to = Link::new(caller.partition, port);
        let word = match PLAIN {
            true => self.pass::<true>(m, server.partition, region, to, length)?,
            false => self.pass::<false>(m, server.partition, region, to, length).map_err(no_room)?,
        };
        if !PLAIN {
            self.charge_move(m, server.partition, region);
            if lent != 0 {
                self.end_loan(m, caller, Some(server), true);
            }
        }
        if let Some(party) = self.party_mut(server) {
            party.serving = None;
        }
        if let Some(party) = self.party_mut(caller) {
            party.role = Role::Free;
            party.holder = None;
        }
        Ok(Delivered { caller, word })
    }

    /// `CallWait`: takes the call that has waited longest, or waits for one.
    ///
    /// [`Error::WrongState`]: it owes a reply. [`Error::Limit`], [`Error::NoMemory`]: there is no room for the region that comes with the call, which
    /// stays in the queue.
    #[inline]
    pub fn call_wait(&mut self, m: &mut impl Machine, server: VcpuId) -> Result<Waited, Failure> {
        let p = self.caller(server.partition)?;
        if p.calls.party(server.index).is_none_or(|party| party.serving.is_some()) {
            return Err(Error::WrongState.into());
        }
        self.wait(m, server)
    }

    /// The same of one that owes no reply.
    #[inline(always)]
    fn wait(&mut self, m: &mut impl Machine, server: VcpuId) -> Result<Waited, Failure> {
        let p = self.get_mut(server.partition).ok_or(Error::WrongState)?;
        if !p.calls.queue.is_empty() {
            return self.take_call(m, server);
        }
        p.calls.wait(server.index);
        Ok(Waited::Waiting)
    }

    #[cold]
    fn take_call(&mut self, m: &mut impl Machine, server: VcpuId) -> Result<Waited, Failure> {
        let head = self.get(server.partition).and_then(|p| p.calls.queue.head()).ok_or(Error::BadHandle)?;
        let caller = VcpuId::from_raw(head);
        let Party { to, region, length, lent, .. } = *self.party(caller).ok_or(Error::BadHandle)?;
        if region != 0 && region == lent {
            let word = self.take_loan(m, caller, server)?;
            return Ok(Waited::Call(Delivered { caller, word }));
        }
        let word = self.pass::<false>(m, caller.partition, region, to, length)?;
        self.queue_change(server.partition, |queue, nodes| queue.remove(nodes, head));
        self.serve(caller, server, None);
        Ok(Waited::Call(Delivered { caller, word }))
    }

    /// `ReplyAndWait`: the one and then the other. Errors as for [`System::reply`].
    pub fn reply_and_wait(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<(Delivered, Waited), Failure> {
        match self.reply_and_wait_plainly(m, server, word) {
            Err(Failure::NOT_PLAIN) => self.reply_and_wait_at_length(m, server, word),
            delivered => delivered.map(|delivered| (delivered, Waited::Waiting)),
        }
    }

    /// [`System::reply_and_wait`] by the plain way: nobody has called meanwhile, so it waits. [`Failure::NOT_PLAIN`]: it belongs done
    /// [at length](System::reply_and_wait_at_length).
    #[inline(always)]
    pub fn reply_and_wait_plainly(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<Delivered, Failure> {
        let delivered = self.reply_by::<true>(m, server, word)?;
        if let Some(p) = self.get_mut(server.partition) {
            p.calls.wait(server.index);
        }
        Ok(delivered)
    }

    /// [`System::reply_and_wait`] by the other way.
    ///
    /// Errors as there.
    #[inline(never)]
    pub fn reply_and_wait_at_length(
        &mut self,
        m: &mut impl Machine,
        server: VcpuId,
        word: MessageWord,
    ) -> Result<(Delivered, Waited), Failure> {
        let delivered = self.reply(m, server, word)?;
        // The reply is out: what stands in the way of the next call, the next `call_wait` tells.
        Ok((delivered, self.wait(m, server).unwrap_or(Waited::Nothing)))
    }

    /// A processor that waits for a call goes on without one, because of an interrupt. → whether it did wait.
    #[inline]
    pub fn call_interrupted(&mut self, server: VcpuId) -> bool {
        let Some(p) = self.get_mut(server.partition) else { return false };
        let bit = 1u8 << (server.index & 7);
        let waited = p.calls.waiting & bit != 0;
        if waited {
            p.calls.waiting &= !bit;
            if let Some(party) = p.calls.party_mut(server.index) {
                party.role = Role::Free;
            }
        }
        waited
    }
}
