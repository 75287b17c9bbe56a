//! Channels: a port at each end, joined by request and consent.
//!
//! A port's life: `Requested` (the request is in the server's list of signals) → `Delivered` (the server has it) → `Connected`, `Refused` or
//! `TimedOut`. A server's port starts `Connected`. `Severed` means that the peer has closed or ended, or the server ended before it answered; what the peer
//! sent before can still be received. `Closing` and `Lingering` ports no guest can name any more: the first is being drained of what was
//! sent to it, the second waits until the peer has received what was sent from it.
//!
//! Messages queue at the port they were sent to, but each is an entry of the sender's table. All of a queue's entries are the peer's, and while there
//! are any, the peer's port exists.
//!
//! A port may be joined for events alone, or for messages in one direction: then no message may wait at the ends that none is sent to.
//!
//! | state | `send` | `receive` | `event_send` | `disconnect` | answer, timeout |
//! | --- | --- | --- | --- | --- | --- |
//! | requested, delivered | `NotConnected` | `NotConnected` | `NotConnected` | withdraws | → connected, refused, timed out |
//! | refused | `NotConnected` | `NotConnected` | `NotConnected` | gone | |
//! | timed out | `TimedOut` | `TimedOut` | `TimedOut` | gone | |
//! | connected | yes; `Denied` where only the peer sends | yes; `Denied` where only this end sends | as `send`, for events | → closing → lingering or gone | |
//! | severed | `PeerClosed` | what is left, then `PeerClosed` | `PeerClosed` | the same | |
//! | closing, lingering, a set | `BadHandle` | `BadHandle` | `BadHandle` | goes on; `BadHandle` | |

use handover_abi::{Account, Causes, Error, PartitionId, Port, RequestFlags, RequestWord};

use crate::event::{Latch, Members};
use crate::list::Node;
use crate::region::frames;
use crate::shared::{self, Shared};
use crate::signal::Signals;
use crate::table::{PagedTable, To256, per_page};
use crate::timeout::Timer;
use crate::{Failure, Machine, PAGE, Partition, PartitionIndex, Phase, System, Timeout};

/// Messages that may wait at a port.
pub const QUEUE_DEPTH: u32 = 64;

/// A port of a partition, or (port 0) the partition itself; or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Link(u32);

impl Link {
    pub(crate) const NONE: Link = Link(u32::MAX);

    #[inline(always)]
    pub(crate) const fn new(partition: PartitionIndex, port: u32) -> Link {
        Link((partition.get() as u32) << 24 | (port & 0xff_ffff))
    }

    pub(crate) const fn from_raw(raw: u32) -> Link {
        Link(raw)
    }

    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn partition(self) -> PartitionIndex {
        PartitionIndex::from_byte((self.0 >> 24) as u8)
    }

    #[inline(always)]
    pub(crate) const fn port(self) -> u32 {
        self.0 & 0xff_ffff
    }
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortState {
    Requested,
    Delivered,
    Refused,
    TimedOut,
    Connected,
    Severed,
    Closing,
    Lingering,
    /// No end of anything: a port set.
    Set,
}

/// Messages that wait at a port: handles of entries in the peer's table, threaded from head to tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) count: u32,
}

impl Queue {
    const EMPTY: Queue = Queue { head: 0, tail: 0, count: 0 };
}

/// A client's request, while it has no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// What the server is told: never with [`RequestFlags::TIMEOUT`].
    pub(crate) word: u64,
    /// Tells this request from every other that used the same port (2^32 requests apart).
    sequence: u32,
    /// In the server's lists.
    pub(crate) node: Node,
    pub(crate) timer: Timer,
}

impl Request {
    const NONE: Request = Request { word: 0, sequence: 0, node: Node::new(), timer: Timer::new() };

    pub(crate) fn token(&self, link: Link) -> u64 {
        u64::from(self.sequence) << 32 | u64::from(link.raw())
    }
}

/// A port.
#[derive(Debug)]
pub(crate) struct PortRecord {
    pub(crate) queue: Queue,
    /// Messages that may wait here and need no look at their regions: none if none may be sent here, or if the channel has [colours](crate::colour).
    pub(crate) depth: u32,
    /// Whether messages may be sent here.
    pub(crate) messages: bool,
    /// The peer's port; the server (port 0) while there is no answer; none once it is gone.
    pub(crate) peer: Link,
    pub(crate) state: PortState,
    /// Whether events may be sent from here.
    pub(crate) signals: bool,
    /// Whether messages go both ways, and so calls and their replies.
    pub(crate) two_way: bool,
    /// The interrupt of a port set, or of events that are sent here; 0: the event interrupt.
    pub(crate) intid: u8,
    pub(crate) latch: Latch,
    pub(crate) request: Request,
    /// Of a set.
    pub(crate) members: Members,
    /// Who the peer is or was.
    peer_id: PartitionId,
    /// Of a refusal.
    reason: u32,
    /// Of the channel, bit by bit; 0: none are declared.
    pub(crate) colours: u64,
    /// Where regions that come by direct calls are mapped, or 0.
    pub(crate) landing: u64,
    /// How long direct calls wait, in nanoseconds; 0: for ever.
    pub(crate) patience: u64,
    pub(crate) shared: Shared,
}

impl Default for PortRecord {
    fn default() -> PortRecord {
        PortRecord::new(PortState::Refused, Link::NONE, PartitionId::new(0))
    }
}

impl PortRecord {
    pub(crate) const fn new(state: PortState, peer: Link, peer_id: PartitionId) -> PortRecord {
        PortRecord {
            queue: Queue::EMPTY,
            depth: QUEUE_DEPTH,
            messages: true,
            peer,
            state,
            signals: true,
            two_way: true,
            intid: 0,
            latch: Latch::new(),
            request: Request::NONE,
            members: Members::NONE,
            peer_id,
            reason: 0,
            colours: 0,
            landing: 0,
            patience: 0,
            shared: Shared::NONE,
        }
    }

    /// Whether a guest may name it.
    #[inline(always)]
    pub(crate) fn is_visible(&self) -> bool {
        !matches!(self.state, PortState::Closing | PortState::Lingering | PortState::Set)
    }

    /// One end of what a request asked for: the client's, or the server's.
    fn end(mut self, flags: RequestFlags, client: bool) -> PortRecord {
        let (sends, receives) = match client {
            true => (RequestFlags::RECEIVE_ONLY, RequestFlags::SEND_ONLY),
            false => (RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY),
        };
        let silent = RequestFlags::EVENTS | RequestFlags::MEMORY;
        if flags.intersects(receives | silent) {
            self.depth = 0;
            self.messages = false;
        }
        self.signals = !(flags.contains(RequestFlags::EVENTS) && flags.intersects(sends));
        self.two_way = !flags.intersects(sends | receives | silent);
        self
    }

    /// That messages and events can be sent from it.
    #[inline(always)]
    pub(crate) fn connected(&self) -> Result<(), Failure> {
        if self.state == PortState::Connected { Ok(()) } else { Err(self.why_not_connected()) }
    }

    #[cold]
    fn why_not_connected(&self) -> Failure {
        match self.state {
            PortState::Requested | PortState::Delivered | PortState::Refused | PortState::Connected => {
                Error::NotConnected
            }
            PortState::TimedOut => Error::TimedOut,
            PortState::Severed => Error::PeerClosed,
            PortState::Closing | PortState::Lingering | PortState::Set => Error::BadHandle,
        }
        .into()
    }
}

/// A partition's ports.
pub(crate) type Ports = PagedTable<PortRecord, To256, { per_page::<PortRecord, To256>() }>;

/// A port out of a register.
pub(crate) fn named(port: u64) -> Result<u32, Failure> {
    match Port::from_register(port) {
        Some(port) => Ok(port.get()),
        None => Err(Error::BadHandle.into()),
    }
}

impl Partition {
    /// The port that a guest names.
    #[inline]
    pub(crate) fn port(&self, port: u64) -> Result<&PortRecord, Failure> {
        match self.ports.get(named(port)?) {
            Some(port) if port.is_visible() => Ok(port),
            _ => Err(Error::BadHandle.into()),
        }
    }

    /// That one more port is within the limits. → whether it takes a page.
    pub(crate) fn port_growth(&self) -> Result<bool, Failure> {
        self.accounts.check(Account::Ports, 1)?;
        let grow = self.ports.is_full();
        if grow && !self.ports.can_grow() {
            return Err(Failure::limit(Account::ControlMemory));
        }
        self.accounts.check(Account::ControlMemory, u64::from(grow) * PAGE)?;
        Ok(grow)
    }

    /// Adds a port; `page` is what [`Partition::port_growth`] asked for.
    pub(crate) fn port_add(
        &mut self,
        m: &mut impl Machine,
        page: Option<crate::Pa>,
        record: PortRecord,
    ) -> Result<u32, Failure> {
        if let Some(page) = page {
            self.accounts.charge(Account::ControlMemory, PAGE);
            self.ports.grow(m, page);
        }
        let port = self.ports.insert(record);
        debug_assert!(port.is_some(), "room was made");
        self.accounts.charge(Account::Ports, u64::from(port.is_some()));
        port.ok_or(Error::NoMemory.into())
    }

    /// Forgets a port.
    pub(crate) fn port_remove(&mut self, port: u32) {
        self.leave_set(port);
        if self.ports.remove(port) {
            self.accounts.release(Account::Ports, 1);
        }
    }
}

impl System {
    #[inline(always)]
    pub(crate) fn port_at(&self, link: Link) -> Option<&PortRecord> {
        self.get(link.partition())?.ports.get(link.port())
    }

    #[inline(always)]
    pub(crate) fn port_at_mut(&mut self, link: Link) -> Option<&mut PortRecord> {
        self.get_mut(link.partition())?.ports.get_mut(link.port())
    }

    /// [`System::connect_within`], with all the time there is.
    ///
    /// Errors as there.
    pub fn connect(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        partition: u64,
        word: u64,
    ) -> Result<Port, Failure> {
        self.connect_within(m, who, partition, word, None)
    }

    /// `Connect`: makes a port and asks `partition`, which may be the caller, to join it, until `timeout`.
    ///
    /// [`Error::BadHandle`]: no such partition. [`Error::NotConnected`]: it has not started. [`Error::PeerClosed`]: it has ended, or is
    /// ending. [`Error::InvalidArgument`]: flags that nobody knows, or that exclude each other; a size that shared memory cannot have.
    /// [`Error::TooLarge`]: more of it than 2 MiB, of some colours only. [`Error::Limit`], [`Error::NoMemory`].
    pub fn connect_within(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        partition: u64,
        word: u64,
        timeout: Option<Timeout>,
    ) -> Result<Port, Failure> {
        self.caller(who)?;
        let mut word = RequestWord::from_register(word).ok_or(Error::InvalidArgument)?;
        let one_way = RequestFlags::SEND_ONLY | RequestFlags::RECEIVE_ONLY;
        let directions = (word.flags & one_way).bits().count_ones();
        if directions > 1 || word.flags.contains(RequestFlags::EVENTS) && directions == 0 {
            return Err(Error::InvalidArgument.into());
        }
        shared::check(word)?;
        word.flags -= RequestFlags::TIMEOUT;
        let id = PartitionId::from_register(partition).ok_or(Error::BadHandle)?;
        let server = self.find(id)?;
        match self.get(server).map(|server| server.phase) {
            Some(Phase::Active) => {}
            Some(Phase::Created) => return Err(Error::NotConnected.into()),
            Some(Phase::Ending | Phase::Terminated) => return Err(Error::PeerClosed.into()),
            None => return Err(Error::BadHandle.into()),
        }
        let sequence = self.requests.wrapping_add(1);
        let p = self.caller(who)?;
        let grow = p.port_growth()?;
        let (page, _) = frames(m, &p.colours, grow, false)?;
        let mut record = PortRecord::new(PortState::Requested, Link::new(server, 0), id);
        record.request = Request { word: word.to_register(), sequence, ..Request::NONE };
        if word.flags.contains(RequestFlags::MEMORY) {
            match self.shared_create(m, who, server, word, grow) {
                Ok(shared) => record.shared = shared,
                Err(failure) => {
                    if let Some(page) = page {
                        m.free(page, 12);
                    }
                    return Err(failure);
                }
            }
        }
        let p = self.caller(who)?;
        let port = p.port_add(m, page, record.end(word.flags, true))?;
        self.requests = sequence;
        if let Some(timeout) = timeout {
            self.set_timeout(Link::new(who, port), timeout);
        }
        self.signal(m, server, Link::new(who, port));
        Ok(Port::new(port))
    }

    /// Takes a request that has no answer yet out of the server's list of signals, and forgets its timeout.
    pub(crate) fn withdraw(&mut self, client: Link) {
        let Some(port) = self.port_at(client) else { return };
        let list = match port.state {
            PortState::Requested => Signals::Queued,
            PortState::Delivered => Signals::Delivered,
            _ => return,
        };
        let server = port.peer.partition();
        self.signals_remove(server, list, client);
        self.forget_timeout(client);
    }

    /// The client's port of a request that was delivered to `who` and is not answered.
    fn request(&self, who: PartitionIndex, token: u64) -> Result<Link, Failure> {
        let link = Link::from_raw(token as u32);
        match self.port_at(link) {
            Some(port)
                if port.state == PortState::Delivered
                    && port.peer == Link::new(who, 0)
                    && port.request.token(link) == token =>
            {
                Ok(link)
            }
            _ => Err(Error::BadHandle.into()),
        }
    }

    /// `Accept`: makes a port and joins it with the client's. Both ends get [`Causes::CONNECTED`].
    ///
    /// [`Error::BadHandle`]: no request that waits for an answer, perhaps because the client has withdrawn it. [`Error::Limit`],
    /// [`Error::NoMemory`]: the request stays.
    pub fn accept(&mut self, m: &mut impl Machine, who: PartitionIndex, token: u64) -> Result<Port, Failure> {
        self.caller(who)?;
        let client = self.request(who, token)?;
        let client_id = self.get(client.partition()).map_or(PartitionId::new(0), |p| p.id);
        let word = self.port_at(client).map_or(0, |port| port.request.word);
        let flags = RequestWord::from_register(word).map_or(RequestFlags::empty(), |word| word.flags);
        let p = self.caller(who)?;
        let grow = p.port_growth()?;
        let own_table = self.shared_growth(who, client, grow)?;
        let p = self.caller(who)?;
        let (page, table) = frames(m, &p.colours, grow, own_table)?;
        let colours = p.channel_colours;
        let mut record = PortRecord::new(PortState::Connected, client, client_id).end(flags, false);
        record.declare(colours);
        record.shared = self.shared_join(m, who, client, table);
        let port = self.caller(who)?.port_add(m, page, record)?;
        self.withdraw(client);
        if let Some(record) = self.port_at_mut(client) {
            record.state = PortState::Connected;
            record.peer = Link::new(who, port);
            record.declare(colours);
        }
        self.raise(m, client.partition(), client.port(), Causes::CONNECTED);
        self.raise(m, who, port, Causes::CONNECTED);
        Ok(Port::new(port))
    }

    /// `Refuse`: the client's port gets [`Causes::REFUSED`] and the reason.
    ///
    /// [`Error::BadHandle`]: as for [`System::accept`]. [`Error::InvalidArgument`]: the reason is no 32-bit number.
    pub fn refuse(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        token: u64,
        reason: u64,
    ) -> Result<(), Failure> {
        self.caller(who)?;
        let reason = u32::try_from(reason).map_err(|_| Error::InvalidArgument)?;
        let client = self.request(who, token)?;
        self.withdraw(client);
        if let Some(record) = self.port_at_mut(client) {
            record.state = PortState::Refused;
            record.reason = reason;
            record.peer = Link::NONE;
        }
        self.raise(m, client.partition(), client.port(), Causes::REFUSED);
        Ok(())
    }

    /// `PortStatus`: the causes that hold now (not those that are latched, but for [`Causes::SIGNAL`], which is nothing else), the peer's id, the
    /// reason of a refusal. Of port 0: whether a signal waits.
    pub fn port_status(&self, who: PartitionIndex, port: u64) -> Result<(Causes, PartitionId, u32), Failure> {
        let p = self.caller_ref(who)?;
        if port == 0 {
            let causes = if p.has_signals() { Causes::SIGNAL } else { Causes::empty() };
            return Ok((causes, PartitionId::new(0), 0));
        }
        let port = p.port(port)?;
        let mut causes = port.latch.causes() & Causes::SIGNAL;
        causes.set(Causes::REFUSED, port.state == PortState::Refused);
        causes.set(Causes::TIMED_OUT, port.state == PortState::TimedOut);
        causes.set(Causes::PEER_CLOSED, port.state == PortState::Severed && !self.is_being_left(port));
        let undone = port.state == PortState::Severed && self.is_ending(port.peer.partition());
        causes.set(Causes::MESSAGE, port.queue.count > 0 && !undone);
        if port.state == PortState::Connected {
            causes |= Causes::CONNECTED;
            let room = self.port_at(port.peer).is_some_and(|peer| peer.queue.count < peer.capacity());
            causes.set(Causes::SPACE, room);
        }
        Ok((causes, port.peer_id, port.reason))
    }
}
