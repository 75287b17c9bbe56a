//! Messages: the way of a region from one partition to another.

use handover_abi::{Account, Causes, Error, MessageWord, Port, RegionHandle, SHORT_MAX, SHORT_WORDS};

use crate::channel::{Link, PortRecord, PortState, QUEUE_DEPTH, Queue, named};
use crate::event::Retracted;
use crate::list::List;
use crate::region::{Body, Region, Room, frames, optional_place};
use crate::stage2::Place;
use crate::table::{PagedTable, To256, per_page};
use crate::{Failure, Machine, PAGE, Pa, PartitionIndex, System};

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

impl System {
    /// `Send`: puts a message, and with it a region, into the peer's queue. When it returns, no processor reaches the region. → its bytes.
    ///
    /// [`Error::InvalidArgument`]: longer than 128 bytes. [`Error::BadHandle`], [`Error::NotConnected`], [`Error::TimedOut`], [`Error::PeerClosed`],
    /// [`Error::QueueFull`], [`Error::Denied`]: only the peer sends. [`Error::Throttled`]: with a region. [`Error::Limit`]: of [`Account::CacheColours`], the region has other
    /// colours than the channel; [`Error::NoMemory`].
    #[inline]
    pub fn send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<u64, Failure> {
        if self.attributes.fwb {
            self.send_now(m, who, word, data)
        } else {
            self.send_cleaned(m, who, word, data)
        }
    }

    /// [`System::send`] where the caches of a region belong cleaned before.
    #[cold]
    #[inline(never)]
    fn send_cleaned(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<u64, Failure> {
        let port = self.caller_ref(who)?.ports.get(word.port().get()).filter(|port| port.connected().is_ok());
        let peer = port.and_then(|port| self.port_at(port.peer));
        let gets_through = peer.is_some_and(|peer| peer.queue.count < peer.capacity());
        let cleaned = match word.region().filter(|_| gets_through) {
            Some(handle) => self.clean_held(m, who, handle.get()),
            None => Ok(()),
        };
        let sent = cleaned.and_then(|()| self.send_now(m, who, word, data));
        self.handed_over(m, who, word, sent)
    }

    #[inline(always)]
    fn send_now(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        word: MessageWord,
        data: &[u64; SHORT_WORDS],
    ) -> Result<u64, Failure> {
        let length = word.length();
        if usize::from(length) > SHORT_MAX {
            return Err(Error::InvalidArgument.into());
        }
        let p = self.caller(who)?;
        let port = p.ports.get(word.port().get()).ok_or(Error::BadHandle)?;
        port.connected()?;
        let peer = port.peer;
        let mut sent = None;
        if let Some(handle) = word.region() {
            sent = Some((handle.get(), *Region::held(&p.regions, handle.get())?));
            p.check_bus_for(m, handle.get())?;
        }
        let mut next = p.entries.next();
        let (mut at, mut pending) = self.port_and_list(peer).ok_or(Error::PeerClosed)?;
        if at.queue.count >= at.depth || next.is_none() {
            next = Some(self.prepare_entry(m, who, peer, word)?);
            (at, pending) = self.port_and_list(peer).ok_or(Error::PeerClosed)?;
        }
        let handle = next.ok_or(Error::NoMemory)?;

        // Nobody looks at the queue before the call is over: its last entry may be named before it is written.
        let Queue { tail, count, .. } = at.queue;
        at.queue.tail = handle;
        at.queue.count = count.wrapping_add(1);
        if count == 0 {
            at.queue.head = handle;
            let raised = at.latch.raise(pending, peer.port(), Causes::MESSAGE);
            self.tell(m, peer.partition(), peer.port(), raised);
        }
        let p = self.get_mut(who).ok_or(Error::WrongState)?;
        if count != 0
            && let Some(last) = p.entries.known(tail)
        {
            last.next = handle;
        }
        let (_, entry) = p.entries.occupy().ok_or(Error::NoMemory)?;
        entry.next = 0;
        entry.length = length;
        if length != 0 {
            copy(&mut entry.data, data);
        }
        let Some((handle, region)) = sent else {
            entry.body = None;
            return Ok(u64::from(length));
        };
        entry.body = Some(region.body);
        p.regions.vacate(handle);
        let slot = region.unlink(m, p.vmid);
        p.accounts.release(Account::AddressSpace, slot);
        p.drop_view(m, region.view);
        p.charge_bus(m);
        Ok(region.body.size().wrapping_add(u64::from(length)))
    }

    /// A port and its partition's list of pending ones.
    #[inline(always)]
    fn port_and_list(&mut self, link: Link) -> Option<(&mut PortRecord, &mut List)> {
        let p = self.get_mut(link.partition())?;
        Some((p.ports.known(link.port())?, &mut p.pending))
    }

    /// The queue is full or knows more about regions, or there is no room for another entry: finds out which, and makes room. → the next entry's handle.
    #[cold]
    fn prepare_entry(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        to: Link,
        word: MessageWord,
    ) -> Result<u32, Failure> {
        let at = self.port_at(to).ok_or(Error::PeerClosed)?;
        if at.queue.count >= at.depth {
            self.check_room(m, who, at, word.region().map(|region| region.get()))?;
        }
        let p = self.caller(who)?;
        if let Some(handle) = p.entries.next() {
            return Ok(handle);
        }
        if !p.entries.can_grow() {
            return Err(Failure::limit(Account::ControlMemory));
        }
        p.accounts.check(Account::ControlMemory, PAGE)?;
        if let (Some(frame), _) = frames(m, &p.colours, true, false)? {
            p.accounts.charge(Account::ControlMemory, PAGE);
            p.entries.grow(m, frame);
        }
        p.entries.next().ok_or(Error::NoMemory.into())
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
        let number = named(port)?;
        let p = self.caller(who)?;
        let port = p.ports.get(number).ok_or(Error::BadHandle)?;
        let (queue, peer) = (port.queue, port.peer);
        if port.state != PortState::Connected || queue.count == 0 {
            self.check_left(Link::new(who, number))?;
        }
        let sender = self.get_mut(peer.partition()).ok_or(Error::PeerClosed)?;
        let entry = sender.entries.known(queue.head).ok_or(Error::WouldBlock)?;
        let (next, length) = (entry.next, entry.length);
        let mut word = MessageWord::new(Port::new(number), None, length);
        if let Some(body) = entry.body {
            let place = self.room_for(m, who, peer.partition(), &body, at)?;
            let handle = self.take(m, who, peer.partition(), body, place)?;
            word = MessageWord::new(Port::new(number), Some(handle), length).with_order(body.order());
        }

        let sender = self.get_mut(peer.partition()).ok_or(Error::PeerClosed)?;
        if let Some(entry) = sender.entries.vacate(queue.head) {
            copy_message(data, &entry.data, length);
        }
        self.advance(m, Link::new(who, number), next);
        Ok(word)
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

    /// That there is room for a region of `from`'s. → where it goes.
    #[inline(always)]
    fn room_for(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        from: PartitionIndex,
        body: &Body,
        at: u64,
    ) -> Result<Place, Failure> {
        let p = self.caller(who)?;
        let place = optional_place(m, p.root, at, body.order())?;
        if p.is_ready(&place) {
            self.check_charges(who, from, body, &place, 0)?;
            Ok(place)
        } else {
            let table = self.make_room(m, who, from, *body, at)?;
            Ok(place.in_table(table))
        }
    }

    /// [`System::room_for`] where the receiver needs more for its records, which it has then. → the table that the place is in.
    #[cold]
    fn make_room(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        from: PartitionIndex,
        body: Body,
        at: u64,
    ) -> Result<Pa, Failure> {
        let p = self.caller(who)?;
        let place = optional_place(m, p.root, at, body.order())?;
        let (grow, needs_table) = p.growth(&place)?;
        let pages = u64::from(grow) * PAGE + u64::from(needs_table) * PAGE;
        self.check_charges(who, from, &body, &place, pages)?;
        let p = self.caller(who)?;
        let (page, table) = frames(m, &p.colours, grow, needs_table)?;
        Ok(p.furnish(m, Room { place, page, table }).table())
    }

    /// That what a region of `from`'s takes at a place, and `pages` bytes more of control memory, are within the limits of `who`.
    #[inline(always)]
    fn check_charges(
        &mut self,
        who: PartitionIndex,
        from: PartitionIndex,
        body: &Body,
        place: &Place,
        pages: u64,
    ) -> Result<(), Failure> {
        let accounts = &self.caller(who)?.accounts;
        accounts.check(Account::AddressSpace, place.size())?;
        let mut control = pages;
        if who != from {
            accounts.check(Account::Memory, body.size())?;
            control = control.wrapping_add(body.control());
        }
        if control == 0 { Ok(()) } else { accounts.check(Account::ControlMemory, control) }
    }

    /// Moves the charge of a region of `from`'s to the receiver, which has room for it, and the region into its table and window.
    #[inline(always)]
    fn take(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        from: PartitionIndex,
        body: Body,
        place: Place,
    ) -> Result<RegionHandle, Failure> {
        // What one partition hands to itself is charged to it already.
        if who != from
            && let Some(sender) = self.get_mut(from)
        {
            sender.release_body(&body);
        }
        let p = self.get_mut(who).ok_or(Error::WrongState)?;
        if who != from {
            p.accounts.charge(Account::Memory, body.size());
            p.accounts.charge(Account::ControlMemory, body.control());
        }
        p.hold(m, body, Room::at(place))
    }

    /// Makes `next` the head of a port's queue, once the old head's entry is gone, and tells the peer what follows from it.
    #[inline(always)]
    fn advance(&mut self, m: &mut impl Machine, at: Link, next: u32) {
        let Some((port, pending)) = self.port_and_list(at) else { return };
        let count = port.queue.count;
        let (peer, severed) = (port.peer, port.state == PortState::Severed);
        port.queue.head = next;
        port.queue.count = count.wrapping_sub(1);
        if count == 1 {
            port.queue.tail = 0;
            let retracted = port.latch.retract(pending, Causes::MESSAGE);
            match (retracted, self.get_mut(at.partition())) {
                (Retracted::Delisted(joint), Some(p)) => joint.close(p),
                (Retracted::Member, Some(p)) => p.unlatch(at.port()),
                _ => {}
            }
            if severed {
                self.settle(at, peer);
            }
        } else if count == QUEUE_DEPTH && !severed {
            self.raise(m, peer.partition(), peer.port(), Causes::SPACE);
        }
    }
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
#[inline(never)]
fn copy_part(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS], length: u8) {
    // A zero that the compiler does not know to be one: it would call `memset`.
    let zero = core::hint::black_box(0);
    each_word!(N => to[N] = zero);
    let mut left = length;
    for (to, from) in to.iter_mut().zip(from) {
        if left < 8 {
            *to = from & ((1u64 << (left * 8)).wrapping_sub(1));
            return;
        }
        *to = *from;
        left -= 8;
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
