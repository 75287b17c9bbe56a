//! Messages: the way of a region from one partition to another.

use handover_abi::{Account, Causes, Error, MessageWord, Port, RegionHandle, SHORT_MAX, SHORT_WORDS};

use crate::channel::{Link, PortState, QUEUE_DEPTH, Queue, named};
use crate::event::{Latches, Raised, Retracted};
use crate::list::List;
use crate::plain::{by, only};
use crate::region::{Body, Region, Regions, Room, frames, optional_place};
use crate::stage2::Place;
use crate::table::{PagedTable, To256, per_page};
use crate::{Accounts, Failure, Machine, PAGE, Pa, Partition, PartitionIndex, System};

/// A message that waits, in its sender's table.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Bytes beyond `length` mean nothing.
    data: [u64; SHORT_WORDS],
    pub(crate) body: Option<Body>,
    /// The next one of the queue, or 0.
    pub(crate) next: u32,
    length: u8,
}

/// Messages that a partition has sent and that nobody has received.
pub(crate) type Entries = PagedTable<Entry, To256, { per_page::<Entry, To256>() }>;

/// What has become of a message that was sent.
#[must_use = "the peer may have to be told"]
pub struct Sent {
    /// Its bytes.
    pub bytes: u64,
    /// Who does not know of it yet: [`System::tell_sent`].
    pub untold: Option<Untold>,
}

/// A port at which a message waits that its partition does not know of.
#[derive(Clone, Copy)]
pub struct Untold {
    at: Link,
    /// It belongs into a set's list.
    member: bool,
}

impl System {
    /// `Send`: puts a message, and with it a region, into the peer's queue. When it returns, no processor reaches the region. → its bytes.
    ///
    /// [`Error::InvalidArgument`]: longer than 128 bytes. [`Error::BadHandle`], [`Error::NotConnected`], [`Error::TimedOut`], [`Error::PeerClosed`],
    /// [`Error::QueueFull`], [`Error::Denied`]: only the peer sends. [`Error::Throttled`]: with a region. [`Error::Limit`]: of
    /// [`Account::CacheColours`], the region has other colours than the channel; [`Error::NoMemory`].
    pub fn send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<u64, Failure> {
        let sent = match self.send_plainly(m, who, word, data) {
            Err(Failure::NOT_PLAIN) => return self.send_at_length(m, who, word, data),
            sent => sent?,
        };
        if let Some(untold) = sent.untold {
            self.tell_sent(m, untold);
        }
        Ok(sent.bytes)
    }

    /// [`System::send`] by the plain way. [`Failure::NOT_PLAIN`]: it belongs sent [at length](System::send_at_length).
    #[inline(always)]
    pub fn send_plainly(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<Sent, Failure> {
        self.send_by::<true>(m, who, word, data, false)
    }

    /// [`System::send`] by the other way.
    ///
    /// Errors as there.
    #[inline(never)]
    pub fn send_at_length(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<u64, Failure> {
        let sent = match self.attributes.fwb {
            true => self.send_with_room(m, who, word, data)?,
            false => self.send_cleaned(m, who, word, data)?,
        };
        if let Some(untold) = sent.untold {
            self.tell_sent(m, untold);
        }
        Ok(sent.bytes)
    }

    /// Tells the peer of a message that it has got.
    #[inline(always)]
    pub fn tell_sent(&mut self, m: &mut impl Machine, Untold { at, member }: Untold) {
        match member {
            true => self.announce(m, at.partition(), at.port()),
            false => m.interrupt(at.partition()),
        }
    }

    /// [`System::send_with_room`] where the caches of a region belong cleaned before.
    fn send_cleaned(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<Sent, Failure> {
        let port = self.caller_ref(who)?.ports.get(word.port().get()).filter(|port| port.connected().is_ok());
        let peer = port.and_then(|port| self.port_at(port.peer));
        let gets_through = peer.is_some_and(|peer| peer.queue.count < peer.capacity());
        let cleaned = match word.region().filter(|_| gets_through) {
            Some(handle) => self.clean_held(m, who, handle.get()),
            None => Ok(()),
        };
        let sent = cleaned.and_then(|()| self.send_with_room(m, who, word, data));
        self.handed_over(m, who, word, sent)
    }

    /// [`System::send_by`] by the long way: makes room for the message first, if there is none.
    #[inline(always)]
    fn send_with_room(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<Sent, Failure> {
        let mut room = false;
        loop {
            match self.send_by::<false>(m, who, word, data, room) {
                Err(Failure::NOT_PLAIN) if !room => self.prepare_entry(m, who, word)?,
                Err(Failure::NOT_PLAIN) => return Err(Error::NoMemory.into()),
                sent => return sent,
            }
            room = true;
        }
    }

    /// Sends a message. [`Failure::NOT_PLAIN`], by either way: the queue is full, or knows more about regions, unless `room` says that there is room;
    /// or there is no room for another entry.
    #[inline(always)]
    fn send_by<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
        room: bool,
    ) -> Result<Sent, Failure> {
        if usize::from(word.length()) > SHORT_MAX {
            return by::<PLAIN, _>(Err(Error::InvalidArgument.into()));
        }
        let p = self.caller_by::<PLAIN>(who)?;
        let port = by::<PLAIN, _>(p.ports.get(word.port().get()).ok_or(Error::BadHandle.into()))?;
        by::<PLAIN, _>(port.connected())?;
        let to = port.peer;
        if !PLAIN && let Some(handle) = word.region() {
            Region::held(&p.regions, handle.get())?;
            p.check_bus_for(m, handle.get())?;
        }
        let (sent, view) = if to.partition() == who {
            let Partition { ports, regions, entries, accounts, pending, control, vmid, .. } = p;
            let source = Source { regions, accounts, entries, vmid: *vmid };
            let peer = Peer { latches: Latches { ports, control }, pending };
            put::<PLAIN>(m, source, peer, to, word, data, room)?
        } else {
            let both = self.both(who, to.partition()).ok_or(Error::PeerClosed.into());
            let (p, Partition { ports, control, pending, .. }) = by::<PLAIN, _>(both)?;
            let Partition { regions, entries, accounts, vmid, .. } = p;
            let source = Source { regions, accounts, entries, vmid: *vmid };
            let peer = Peer { latches: Latches { ports, control }, pending };
            put::<PLAIN>(m, source, peer, to, word, data, room)?
        };
        if !PLAIN
            && word.region().is_some()
            && let Some(p) = self.get_mut(who)
        {
            p.drop_view(m, view);
            p.charge_bus(m);
        }
        Ok(sent)
    }

    /// The queue is full or knows more about regions, or there is no room for another entry: finds out which, and makes room.
    #[cold]
    fn prepare_entry(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
    ) -> Result<(), Failure> {
        let port = self.caller_ref(who)?.ports.get(word.port().get()).ok_or(Error::BadHandle)?;
        let at = self.port_at(port.peer).ok_or(Error::PeerClosed)?;
        if at.queue.count >= at.depth {
            self.check_room(m, who, at, word.region().map(|region| region.get()))?;
        }
        let p = self.caller(who)?;
        if !p.entries.is_full() {
            return Ok(());
        }
        if !p.entries.can_grow() {
            return Err(Failure::limit(Account::ControlMemory));
        }
        p.accounts.check(Account::ControlMemory, PAGE)?;
        if let (Some(frame), _) = frames(m, &p.colours, true, false)? {
            p.accounts.charge(Account::ControlMemory, PAGE);
            p.entries.grow(m, frame);
        }
        Ok(())
    }

    /// `Receive`: takes the next message; its region, if it brings one, becomes the caller's, mapped at `at` unless that is 0. Without a region
    /// `at` means nothing. A failure leaves the message where it is.
    ///
    /// [`Error::BadHandle`], [`Error::NotConnected`], [`Error::TimedOut`], [`Error::WouldBlock`]. [`Error::PeerClosed`]: and nothing is left.
    /// [`Error::Denied`]: only this end sends.
    /// [`Error::TooLarge`], [`Error::InvalidArgument`], [`Error::BadAddress`], [`Error::InUse`]: the region cannot go to `at`.
    /// [`Error::Limit`], [`Error::NoMemory`].
    pub fn receive(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
        data: &mut [u64; SHORT_WORDS],
    ) -> Result<MessageWord, Failure> {
        match self.receive_plainly(m, who, port, at, data) {
            Err(Failure::NOT_PLAIN) => self.receive_at_length(m, who, port, at, data),
            received => received,
        }
    }

    /// [`System::receive`] by the plain way. [`Error::WouldBlock`]. [`Failure::NOT_PLAIN`]: it belongs received [at length](System::receive_at_length).
    #[inline(always)]
    pub fn receive_plainly(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
        data: &mut [u64; SHORT_WORDS],
    ) -> Result<MessageWord, Failure> {
        self.receive_by::<true>(m, who, port, at, data).map(|received| received.word)
    }

    /// [`System::receive`] by the other way.
    ///
    /// Errors as there.
    #[inline(never)]
    pub fn receive_at_length(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
        data: &mut [u64; SHORT_WORDS],
    ) -> Result<MessageWord, Failure> {
        let here = Link::new(who, named(port)?);
        let record = self.caller_ref(who)?.ports.get(here.port()).ok_or(Error::BadHandle)?;
        let (queue, peer, severed) = (record.queue, record.peer, record.state == PortState::Severed);
        if record.state != PortState::Connected || queue.count == 0 {
            self.check_left(here)?;
        }
        let received = match self.receive_by::<false>(m, who, port, at, data) {
            Err(Failure::NOT_PLAIN) => {
                self.make_room(m, who, peer.partition(), queue.head, at)?;
                self.receive_by::<false>(m, who, port, at, data)?
            }
            received => received?,
        };
        if received.unlatch
            && let Some(p) = self.get_mut(who)
        {
            p.unlatch(here.port());
        }
        match queue.count {
            1 if severed => self.settle(here, peer),
            QUEUE_DEPTH if !severed => self.raise(m, peer.partition(), peer.port(), Causes::SPACE),
            _ => {}
        }
        Ok(received.word)
    }

    /// Takes a message that there is. [`Failure::NOT_PLAIN`], by either way: there is no room for its region.
    #[inline(always)]
    fn receive_by<const PLAIN: bool>(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        at: u64,
        data: &mut [u64; SHORT_WORDS],
    ) -> Result<Received, Failure> {
        let number = by::<PLAIN, _>(named(port))?;
        let p = self.caller_by::<PLAIN>(who)?;
        let port = by::<PLAIN, _>(p.ports.get(number).ok_or(Error::BadHandle.into()))?;
        let peer = port.peer.partition();
        if PLAIN {
            if port.state != PortState::Connected || port.queue.count == 0 {
                let waits = port.state == PortState::Connected && port.messages;
                return Err(if waits { Error::WouldBlock.into() } else { Failure::NOT_PLAIN });
            }
            // Somebody would have to be told, or the port to leave a list that is not the partition's own.
            only::<PLAIN>(port.queue.count != QUEUE_DEPTH && port.latch.retracts_alone(Causes::MESSAGE))?;
        }
        if peer == who {
            let Partition { ports, regions, entries, accounts, pending, control, root, vmid, .. } = p;
            let holder = Holder { regions, accounts, root: *root, vmid: *vmid };
            let here = Peer { latches: Latches { ports, control }, pending };
            take_next::<PLAIN>(m, number, here, holder, entries, None, at, data)
        } else {
            let both = self.both(who, peer).ok_or(Error::PeerClosed.into());
            let (p, Partition { entries, accounts: sender, .. }) = by::<PLAIN, _>(both)?;
            let Partition { ports, regions, accounts, pending, control, root, vmid, .. } = p;
            let holder = Holder { regions, accounts, root: *root, vmid: *vmid };
            let here = Peer { latches: Latches { ports, control }, pending };
            take_next::<PLAIN>(m, number, here, holder, entries, Some(sender), at, data)
        }
    }

    /// That there is a message to be received at a port that is not connected, or where none waits.
    #[cold]
    fn check_left(&self, at: Link) -> Result<(), Failure> {
        let port = self.port_at(at).ok_or(Error::BadHandle)?;
        let severed = port.state == PortState::Severed;
        if !severed {
            port.connected()?;
        }
        let gone = severed && (port.queue.count == 0 || self.is_ending(port.peer.partition()));
        match port.queue.count {
            _ if gone => Err(Error::PeerClosed.into()),
            0 if port.messages => Err(Error::WouldBlock.into()),
            0 => Err(Error::Denied.into()),
            _ => Ok(()),
        }
    }

    /// Makes room for the region of a message of `from`'s: for its record, and at `at`.
    #[cold]
    fn make_room(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        from: PartitionIndex,
        entry: u32,
        at: u64,
    ) -> Result<(), Failure> {
        let entry = self.get_mut(from).and_then(|sender| sender.entries.known(entry));
        let body = entry.and_then(|entry| entry.body).ok_or(Error::WouldBlock)?;
        let p = self.caller(who)?;
        let place = optional_place(m, p.root, at, body.order())?;
        let (grow, needs_table) = p.growth(&place)?;
        let pages = u64::from(grow) * PAGE + u64::from(needs_table) * PAGE;
        check_charges(&p.accounts, &body, who != from, &place, pages)?;
        let (page, table) = frames(m, &p.colours, grow, needs_table)?;
        p.furnish(m, Room { place, page, table });
        Ok(())
    }
}

/// What a partition has that a message comes from.
struct Source<'a> {
    regions: &'a mut Regions,
    accounts: &'a mut Accounts,
    entries: &'a mut Entries,
    vmid: u16,
}

/// What a partition has of its ports, where a message comes to.
struct Peer<'a> {
    latches: Latches<'a>,
    pending: &'a mut List,
}

/// Puts a message into the queue of the port at `to`; its region is there. → also the table by which that was lent, or 0.
#[inline(always)]
fn put<const PLAIN: bool>(
    m: &mut impl Machine,
    source: Source<'_>,
    peer: Peer<'_>,
    to: Link,
    word: MessageWord,
    data: &[u64; SHORT_WORDS],
    room: bool,
) -> Result<(Sent, Pa), Failure> {
    let Source { regions, accounts, entries, vmid } = source;
    let Peer { mut latches, pending } = peer;
    let region = match word.region() {
        None => None,
        Some(handle) => {
            let found = by::<PLAIN, _>(Region::found(regions, handle.get()))?;
            only::<PLAIN>(found.is_plain(m))?;
            Some(found)
        }
    };
    let at = by::<PLAIN, _>(latches.ports.known(to.port()).ok_or(Error::PeerClosed.into()))?;
    let Queue { tail, count, .. } = at.queue;
    if count >= at.depth && !room {
        return Err(Failure::NOT_PLAIN);
    }
    let (handle, entry) = entries.occupy().ok_or(Failure::NOT_PLAIN)?;

    // From here on it cannot fail.
    let length = word.length();
    entry.next = 0;
    entry.length = length;
    if length != 0 {
        copy(&mut entry.data, data);
    }
    let mut bytes = u64::from(length);
    let mut view = Pa::new(0);
    entry.body = None;
    if let Some(region) = region {
        entry.body = Some(region.body);
        let slot = region.unlink_by::<PLAIN>(m, vmid);
        accounts.release(Account::AddressSpace, slot);
        bytes = bytes.wrapping_add(region.body.size());
        if !PLAIN {
            view = region.view;
        }
        region.vacate();
    }
    at.queue.tail = handle;
    at.queue.count = count.wrapping_add(1);
    let mut untold = None;
    if count == 0 {
        at.queue.head = handle;
        untold = match at.latch.raise(pending, to.port(), Causes::MESSAGE) {
            Raised::Known => None,
            Raised::Member => Some(Untold { at: to, member: true }),
            Raised::Listed(joint) => {
                joint.close(&mut latches);
                Some(Untold { at: to, member: false })
            }
        };
    } else if let Some(last) = entries.known(tail) {
        last.next = handle;
    }
    Ok((Sent { bytes, untold }, view))
}

/// What has become of a message that was there.
struct Received {
    word: MessageWord,
    /// Its port's latch is in a set's list, and belongs cleared.
    unlatch: bool,
}

/// What a partition has that a region comes to.
struct Holder<'a> {
    regions: &'a mut Regions,
    accounts: &'a mut Accounts,
    root: Pa,
    vmid: u16,
}

/// Takes the next message of a port out of its sender's table: its words, its region, and the charge of that from `sender`, unless that is the
/// receiver itself. → what the receiver is told of it.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "parts of two partitions, which may be one")]
fn take_next<const PLAIN: bool>(
    m: &mut impl Machine,
    number: u32,
    here: Peer<'_>,
    holder: Holder<'_>,
    entries: &mut Entries,
    sender: Option<&mut Accounts>,
    at: u64,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Received, Failure> {
    let Peer { mut latches, pending } = here;
    let port = by::<PLAIN, _>(latches.ports.known(number).ok_or(Error::BadHandle.into()))?;
    let entry = by::<PLAIN, _>(entries.found(port.queue.head).ok_or(Error::WouldBlock.into()))?;
    // Each of its words is read where it is needed: there are more of them than registers.
    let mut handle = None;
    let mut order = 0;
    if let Some(body) = &entry.body {
        let Holder { regions, accounts, root, vmid } = holder;
        let place = by::<PLAIN, _>(optional_place(m, root, at, body.order()))?;
        if regions.is_full() || place.needs_table() {
            return Err(Failure::NOT_PLAIN);
        }
        by::<PLAIN, _>(check_charges(accounts, body, sender.is_some(), &place, 0))?;
        // What one partition hands to itself is charged to it already.
        if let Some(sender) = sender {
            body.release(sender);
            body.charge(accounts);
        }
        let mapping = place.charge_and_link(m, accounts, vmid, body.descriptor());
        let (held, region) = regions.occupy().ok_or(Error::NoMemory)?;
        region.renew(body, mapping);
        handle = Some(RegionHandle::new(held));
        order = body.order();
    }
    let entry = entry.vacate();
    copy_message(data, &entry.data, entry.length);
    let word = MessageWord::new(Port::new(number), handle, entry.length).with_order(order);
    port.queue.head = entry.next;
    port.queue.count = port.queue.count.wrapping_sub(1);
    let mut unlatch = false;
    if port.queue.count == 0 {
        port.queue.tail = 0;
        match port.latch.retract(pending, Causes::MESSAGE) {
            Retracted::Done => {}
            Retracted::Delisted(joint) => joint.close(&mut latches),
            Retracted::Member => unlatch = true,
        }
    }
    Ok(Received { word, unlatch })
}

/// That what a region takes at a place, and `pages` bytes more of control memory, are within the limits. `comes`: from another partition.
#[inline(always)]
fn check_charges(
    accounts: &Accounts,
    body: &Body,
    comes: bool,
    place: &Place,
    pages: u64,
) -> Result<(), Failure> {
    accounts.check(Account::AddressSpace, place.size())?;
    let mut control = pages;
    if comes {
        accounts.check(Account::Memory, body.size())?;
        control = control.wrapping_add(body.control());
    }
    if control == 0 { Ok(()) } else { accounts.check(Account::ControlMemory, control) }
}

macro_rules! each_word {
    ($index:ident => $body:expr) => {{
        each_word!($index => $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }};
    ($index:ident => $body:expr; $($number:literal)*) => {
        $({
            const $index: usize = $number;
            $body
        })*
    };
}

/// Copies a short message, register by register: on a target that allows no unaligned access, an assignment would become a call of `memcpy` that
/// costs ten times as much.
#[inline(always)]
fn copy(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS]) {
    // Four at a time: both may be in one record as far as the compiler sees, and it keeps the order of loads and stores.
    each_word!(N => if N.is_multiple_of(4) {
        let four = [from[N], from[N | 1], from[N | 2], from[N | 3]];
        [to[N], to[N | 1], to[N | 2], to[N | 3]] = four;
    });
}

/// Copies the first `length` bytes, at most [`SHORT_MAX`], and fills up with zeroes; of none, leaves all as it is.
#[inline(always)]
pub fn copy_message(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS], length: u8) {
    if usize::from(length) == SHORT_MAX {
        copy(to, from);
    } else if length != 0 {
        copy_part(to, from, length);
    }
}

/// The first `length` bytes, fewer than [`SHORT_MAX`].
#[inline(always)]
fn copy_part(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS], length: u8) {
    // 0, which the compiler does not know: it would call `memset`. And what it does not see to be a whole array it does not call `memcpy` for, or
    // unroll: short messages of other lengths must not cost those of this one registers.
    let zero = u64::from(length >> 7);
    each_word!(N => to[N] = zero);
    let whole = usize::from(length / 8);
    for n in 0..=whole {
        let bytes = if n < whole { 8 } else { length % 8 };
        let mask =
            if bytes == 8 { u64::MAX } else { 1u64.wrapping_shl(u32::from(bytes) * 8).wrapping_sub(1) };
        if let (Some(to), Some(from)) = (to.get_mut(n % SHORT_WORDS), from.get(n % SHORT_WORDS)) {
            *to = from & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_length_is_zero_and_no_message_changes_nothing() {
        let data: [u64; SHORT_WORDS] = core::array::from_fn(|n| 0x0101_0101_0101_0101 * (n as u64 + 1));
        for length in 1..=SHORT_MAX {
            let mut to = [u64::MAX; SHORT_WORDS];
            copy_message(&mut to, &data, length as u8);
            for byte in 0..SHORT_MAX {
                let expected = if byte < length { byte as u64 / 8 + 1 } else { 0 };
                assert_eq!(to[byte / 8] >> (byte % 8 * 8) & 0xff, expected, "length {length}, byte {byte}");
            }
        }
        let mut to = [u64::MAX; SHORT_WORDS];
        copy_message(&mut to, &data, 0);
        assert_eq!(to, [u64::MAX; SHORT_WORDS]);
    }
}
