//! Pairs of connected sockets (`socketpair`).

use alloc::collections::VecDeque;

use linux_raw_sys::net::{SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};

use crate::{
    Errno, Readiness, Sink, Source,
    files::{Files, Waitable},
    pipe::ATOMIC,
    ring::{CAPACITY, Ring},
};

/// Records that wait at an end at most.
const RECORDS_MAX: usize = 256;

/// What the two exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    /// Records, without a connection that could be closed.
    Datagrams,
    Records,
}

impl Kind {
    /// By the number of a socket's type.
    pub(crate) fn of(number: u32) -> Option<Kind> {
        match number {
            SOCK_STREAM => Some(Kind::Stream),
            SOCK_DGRAM => Some(Kind::Datagrams),
            SOCK_SEQPACKET => Some(Kind::Records),
            _ => None,
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Kind::Stream => SOCK_STREAM,
            Kind::Datagrams => SOCK_DGRAM,
            Kind::Records => SOCK_SEQPACKET,
        }
    }
}

/// One of the two.
#[derive(Debug, Default)]
struct End {
    /// What was sent to it.
    ring: Ring,
    /// How long each record in the ring is.
    records: VecDeque<u32>,
    is_closed: bool,
    /// Whether it was shut down for reading, and for writing; be it by the other end, which then does the opposite no more.
    reads_no_more: bool,
    writes_no_more: bool,
    /// The other one has closed without having read everything, which is told once: with records at once, with a stream at its end.
    was_reset: bool,
}

/// Two sockets that are connected.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) kind: Kind,
    ends: [End; 2],
    /// Unlike its place in the arena, never used again.
    pub(crate) number: u64,
    /// Grows with every change, for edge-triggered waits.
    pub(crate) changes: u64,
}

/// A socket of a pair: which, and which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairEnd {
    pub(crate) pair: u32,
    pub(crate) second: bool,
}

impl Pair {
    pub(crate) fn new(kind: Kind, number: u64) -> Pair {
        Pair { kind, ends: Default::default(), number, changes: 0 }
    }

    /// An end, and its peer.
    fn split(&mut self, second: bool) -> (&mut End, &mut End) {
        let [one, two] = &mut self.ends;
        if second { (two, one) } else { (one, two) }
    }

    fn both(&self, second: bool) -> (&End, &End) {
        let [one, two] = &self.ends;
        if second { (two, one) } else { (one, two) }
    }

    /// Bytes that a read would find now.
    pub(crate) fn available(&self, second: bool) -> usize {
        let (own, _) = self.both(second);
        match self.kind {
            Kind::Stream => own.ring.length(),
            Kind::Datagrams | Kind::Records => own.records.front().map_or(0, |&length| length as usize),
        }
    }

    fn has_something(&self, second: bool) -> bool {
        let (own, _) = self.both(second);
        own.ring.length() > 0 || !own.records.is_empty()
    }

    fn read(&mut self, second: bool, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let (kind, something) = (self.kind, self.has_something(second));
        let (own, _) = self.split(second);
        if kind == Kind::Records && core::mem::take(&mut own.was_reset) {
            return Err(Errno::CONNRESET);
        }
        if !something {
            return match (core::mem::take(&mut own.was_reset), own.reads_no_more) {
                (true, _) => Err(Errno::CONNRESET),
                (false, true) => Ok(0),
                (false, false) => Err(Errno::AGAIN),
            };
        }
        if kind == Kind::Stream {
            return own.ring.read(usize::MAX, sink);
        }
        // A record that does not fit is cut off.
        let length = own.records.front().map_or(0, |&length| length as usize);
        let done = own.ring.read(length, sink)?;
        own.ring.skip(length - done);
        own.records.pop_front();
        Ok(done)
    }

    fn write(&mut self, second: bool, source: &mut dyn Source) -> Result<usize, Errno> {
        let kind = self.kind;
        let (own, peer) = self.split(second);
        if kind == Kind::Records && core::mem::take(&mut own.was_reset) {
            return Err(Errno::CONNRESET);
        }
        if own.writes_no_more || peer.reads_no_more {
            return Err(Errno::PIPE);
        }
        if peer.is_closed {
            return Err(Errno::CONNREFUSED);
        }
        let wanted = source.remaining();
        if kind == Kind::Stream {
            return match (wanted, peer.ring.room()) {
                (0, _) => Ok(0),
                (_, 0) => Err(Errno::AGAIN),
                _ => peer.ring.write(source),
            };
        }
        if wanted > CAPACITY {
            return Err(Errno::MSGSIZE);
        }
        if peer.records.len() == RECORDS_MAX || peer.ring.room() < wanted {
            return Err(Errno::AGAIN);
        }
        peer.records.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        let done = if wanted == 0 { 0 } else { peer.ring.write(source)? };
        if done < wanted {
            peer.ring.take_back(done);
            return Err(Errno::FAULT);
        }
        peer.records.push_back(done as u32);
        Ok(done)
    }

    pub(crate) fn readiness(&self, second: bool) -> Readiness {
        let (own, peer) = self.both(second);
        let over = own.reads_no_more;
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, self.has_something(second) || over || own.was_reset);
        ready.set(Readiness::READ_HANG_UP, over);
        let has_room = peer.ring.room() >= ATOMIC && peer.records.len() < RECORDS_MAX;
        ready.set(Readiness::OUT, has_room || own.writes_no_more || peer.is_closed);
        ready.set(Readiness::HANG_UP, own.reads_no_more && own.writes_no_more);
        ready.set(Readiness::ERROR, own.was_reset);
        ready
    }

    /// An end is closed; whether both are.
    fn close(&mut self, second: bool) -> bool {
        let unread = self.has_something(second);
        let connected = self.kind != Kind::Datagrams;
        let (own, peer) = self.split(second);
        *own = End { is_closed: true, ..End::default() };
        if connected {
            (peer.reads_no_more, peer.writes_no_more) = (true, true);
            peer.was_reset |= unread;
        }
        peer.is_closed
    }
}

impl Files {
    fn pair(&mut self, number: u32) -> Result<&mut Pair, Errno> {
        self.pairs.get_mut(number).ok_or(Errno::BADF)
    }

    fn pair_has_changed(&mut self, number: u32) {
        if let Some(pair) = self.pairs.get_mut(number) {
            pair.changes += 1;
        }
        self.wake(Waitable::Pair(number));
    }

    pub(crate) fn read_pair(&mut self, end: PairEnd, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let done = self.pair(end.pair)?.read(end.second, sink);
        if done != Err(Errno::AGAIN) {
            self.pair_has_changed(end.pair);
        }
        done
    }

    pub(crate) fn write_pair(&mut self, end: PairEnd, source: &mut dyn Source) -> Result<usize, Errno> {
        let done = self.pair(end.pair)?.write(end.second, source)?;
        self.pair_has_changed(end.pair);
        Ok(done)
    }

    /// `shutdown`, for reading, for writing, or both.
    pub(crate) fn shut_pair_down(&mut self, end: PairEnd, reads: bool, writes: bool) -> Result<(), Errno> {
        let pair = self.pair(end.pair)?;
        let connected = pair.kind != Kind::Datagrams;
        let (own, peer) = pair.split(end.second);
        own.reads_no_more |= reads;
        own.writes_no_more |= writes;
        peer.writes_no_more |= reads && connected;
        peer.reads_no_more |= writes && connected;
        self.pair_has_changed(end.pair);
        Ok(())
    }

    /// An end is closed; with the second one, the pair goes.
    pub(crate) fn close_pair(&mut self, end: PairEnd) {
        if self.pairs.get_mut(end.pair).is_some_and(|pair| pair.close(end.second)) {
            self.pairs.remove(end.pair);
        }
        self.pair_has_changed(end.pair);
    }
}
