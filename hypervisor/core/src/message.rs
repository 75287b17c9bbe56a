//! Messages: the way of a region from one partition to another.

use handover_abi::{Account, Causes, Error, MessageWord, Port, SHORT_MAX, SHORT_WORDS};

use crate::channel::{Link, PortRecord, PortState, QUEUE_DEPTH, Queue, named};
use crate::event::Retracted;
use crate::list::List;
use crate::region::{Body, Region, frames, optional_place, taken};
use crate::table::{PagedTable, To256, per_page};
use crate::{Failure, Machine, PAGE, PartitionIndex, System};

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
        if let Some(handle) = word.region() {
            Region::held(&p.regions, handle.get())?;
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
        let mut body = None;
        if let Some(handle) = word.region()
            && let Some(region) = p.regions.vacate(handle.get())
        {
            body = Some(region.body);
            let (slot, view) = (region.unlink(m, p.vmid), region.view);
            p.accounts.release(Account::AddressSpace, slot);
            p.drop_view(m, view);
            p.charge_bus(m);
        }
        if count != 0
            && let Some(last) = p.entries.get_mut(tail)
        {
            last.next = handle;
        }
        let (_, entry) = p.entries.occupy().ok_or(Error::NoMemory)?;
        if length != 0 {
            copy(&mut entry.data, data);
        }
        entry.body = body;
        entry.next = 0;
        entry.length = length;
        Ok(word.with_order(body.map_or(0, |body| body.order())).bytes())
    }

    /// A port and its partition's list of pending ones.
    #[inline(always)]
    fn port_and_list(&mut self, link: Link) -> Option<(&mut PortRecord, &mut List)> {
        let p = self.get_mut(link.partition())?;
        Some((p.ports.get_mut(link.port())?, &mut p.pending))
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
        let (queue, peer, severed) = (port.queue, port.peer, port.state == PortState::Severed);
        let messages = port.messages;
        if !severed {
            port.connected()?;
        }
        if queue.count == 0 {
            return Err(match messages {
                _ if severed => Error::PeerClosed,
                false => Error::Denied,
                true => Error::WouldBlock,
            }
            .into());
        }
        if severed && self.is_ending(peer.partition()) {
            return Err(Error::PeerClosed.into());
        }
        let sender = self.get_mut(peer.partition()).ok_or(Error::PeerClosed)?;
        let entry = sender.entries.get(queue.head).ok_or(Error::WouldBlock)?;
        let (next, length) = (entry.next, entry.length);
        let mut word = MessageWord::new(Port::new(number), None, length);
        if let Some(body) = entry.body {
            let handle = self.take(m, who, peer.partition(), body, at)?;
            word = MessageWord::new(Port::new(number), Some(handle), length).with_order(body.order());
        }

        let sender = self.get_mut(peer.partition()).ok_or(Error::PeerClosed)?;
        if let Some(entry) = sender.entries.vacate(queue.head) {
            copy_filled(data, &entry.data, length);
        }
        self.advance(m, Link::new(who, number), next);
        Ok(word)
    }

    /// Moves a region's charge to the receiver and the region into its table.
    #[inline(always)]
    fn take(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        from: PartitionIndex,
        body: Body,
        at: u64,
    ) -> Result<handover_abi::RegionHandle, Failure> {
        let p = self.caller(who)?;
        let place = optional_place(m, p.root, at, body.order())?;
        let (grow, needs_table) = p.growth(p.regions.is_full(), p.regions.can_grow(), &place)?;
        let pages = u64::from(grow) * PAGE + u64::from(needs_table) * PAGE;
        p.accounts.check(Account::AddressSpace, taken(&place))?;
        if who == from {
            p.accounts.check(Account::ControlMemory, pages)?;
        } else {
            p.accounts.check(Account::Memory, body.size())?;
            p.accounts.check(Account::ControlMemory, pages + body.control())?;
        }
        let (page, table) = frames(m, &p.colours, grow, needs_table)?;
        // What one partition hands to itself is charged to it already.
        if who != from {
            p.accounts.charge(Account::Memory, body.size());
            p.accounts.charge(Account::ControlMemory, body.control());
            if let Some(sender) = self.get_mut(from) {
                sender.release_body(&body);
            }
        }
        let p = self.get_mut(who).ok_or(Error::WrongState)?;
        p.hold(m, body, place, page, table)
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

/// Copies the first `length` bytes, at most [`SHORT_MAX`], and fills up with zeroes.
#[inline(always)]
pub fn copy_filled(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS], length: u8) {
    if usize::from(length) == SHORT_MAX {
        return copy(to, from);
    }
    // A zero that the compiler does not know to be one: it would call `memset`.
    let zero = core::hint::black_box(0);
    each_word!(N => to[N] = zero);
    if length != 0 {
        copy_part(to, from, length);
    }
}

/// The first `length` bytes, fewer than [`SHORT_MAX`].
#[inline(never)]
fn copy_part(to: &mut [u64; SHORT_WORDS], from: &[u64; SHORT_WORDS], length: u8) {
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
    fn what_is_beyond_the_length_is_zero() {
        let data: [u64; SHORT_WORDS] = core::array::from_fn(|n| 0x0101_0101_0101_0101 * (n as u64 + 1));
        for length in 0..=SHORT_MAX {
            let mut to = [u64::MAX; SHORT_WORDS];
            copy_filled(&mut to, &data, length as u8);
            for byte in 0..SHORT_MAX {
                let expected = if byte < length { byte as u64 / 8 + 1 } else { 0 };
                assert_eq!(to[byte / 8] >> (byte % 8 * 8) & 0xff, expected, "length {length}, byte {byte}");
            }
        }
    }
}
