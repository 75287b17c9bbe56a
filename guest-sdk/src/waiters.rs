//! Who waits for which port's events: wakers, in a table without a heap.

use core::{
    sync::atomic::{AtomicU32, Ordering},
    task::Waker,
};

use handover_abi::{Causes, Error, Event, Port};

use crate::lock::MaskingLock;

/// Futures that can wait for events at a time.
pub(crate) const WAITERS_MAX: usize = 256;
const BUCKETS: usize = 32;

static WAITERS: MaskingLock<Waiters<WAITERS_MAX>> = MaskingLock::new(Waiters::new());

/// Why taking an event is more than asking the control OS for it.
pub(crate) static ATTENTION: AtomicU32 = AtomicU32::new(0);
/// In [`ATTENTION`]: somebody waits.
pub(crate) const ATTENTION_WAITERS: u32 = 1 << 0;
/// In [`ATTENTION`]: events are kept.
#[cfg(target_os = "none")]
pub(crate) const ATTENTION_KEPT: u32 = 1 << 1;

/// One future's place in the table, taken at the first [`wait`](Waiter::wait) and given back at drop.
#[derive(Debug)]
pub(crate) struct Waiter {
    place: Option<Place>,
}

impl Waiter {
    pub(crate) const fn new() -> Waiter {
        Waiter { place: None }
    }

    /// Has `waker` woken by the next event of `port` with one of `causes`. To be called before the future looks whether it
    /// has to wait, at every poll: then nothing that happens after the look is missed.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when [`WAITERS_MAX`] futures wait already.
    pub(crate) fn wait(&mut self, port: Port, causes: Causes, waker: &Waker) -> Result<(), Error> {
        self.enter(port, causes, true, waker)
    }

    /// The same for any cause, and the event is not used up by it.
    #[cfg(target_os = "none")]
    pub(crate) fn watch(&mut self, port: Port, waker: &Waker) -> Result<(), Error> {
        self.enter(port, Causes::all(), false, waker)
    }

    fn enter(&mut self, port: Port, causes: Causes, consumes: bool, waker: &Waker) -> Result<(), Error> {
        // Cloned and dropped outside the lock: both may call anything.
        let waker = waker.clone();
        let _replaced = WAITERS.with(|waiters| {
            let place = match self.place {
                Some(place) => place,
                None => {
                    let place = waiters.add(port, causes, consumes).ok_or(Error::Limit)?;
                    ATTENTION.fetch_or(ATTENTION_WAITERS, Ordering::Relaxed);
                    *self.place.insert(place)
                }
            };
            Ok::<_, Error>(waiters.set(place, waker))
        })?;
        Ok(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let _waker = WAITERS.with(|waiters| {
                let waker = waiters.remove(place);
                if waiters.is_empty() {
                    ATTENTION.fetch_and(!ATTENTION_WAITERS, Ordering::Relaxed);
                }
                waker
            });
        }
    }
}

/// Wakes who waits for an event; the causes that nobody waits for.
pub(crate) fn deliver(event: Event) -> Causes {
    let consumed = WAITERS.with(|waiters| waiters.consumed(event.port));
    while let Some(waker) = WAITERS.with(|waiters| waiters.take_waker(event.port, event.causes)) {
        waker.wake();
    }
    event.causes.difference(consumed)
}

/// A number of an entry, plus 1: so that the whole table is zero at first.
type Place = core::num::NonZeroU16;

struct Entry {
    port: Port,
    causes: Causes,
    /// Whether its future gets at the event's matter by itself, so that nobody else needs the event.
    consumes: bool,
    waker: Option<Waker>,
    /// The next one of the bucket, or the next free one.
    next: Option<Place>,
}

/// The table: a list for each bucket of ports.
struct Waiters<const N: usize> {
    entries: [Entry; N],
    buckets: [Option<Place>; BUCKETS],
    free: Option<Place>,
    /// Entries that were ever used; those behind are free too.
    touched: usize,
    count: usize,
}

fn bucket(port: Port) -> usize {
    port.get() as usize % BUCKETS
}

impl<const N: usize> Waiters<N> {
    const fn new() -> Waiters<N> {
        const { assert!(N < u16::MAX as usize) };
        Waiters {
            entries: [const {
                Entry {
                    port: Port::CONTROL,
                    causes: Causes::empty(),
                    consumes: false,
                    waker: None,
                    next: None,
                }
            }; N],
            buckets: [None; BUCKETS],
            free: None,
            touched: 0,
            count: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn entry(&mut self, place: Place) -> &mut Entry {
        &mut self.entries[usize::from(place.get()) - 1]
    }

    fn add(&mut self, port: Port, causes: Causes, consumes: bool) -> Option<Place> {
        let place = match self.free {
            Some(place) => {
                self.free = self.entry(place).next;
                place
            }
            None if self.touched < N => {
                self.touched += 1;
                Place::new(self.touched as u16)?
            }
            None => return None,
        };
        let next = self.buckets[bucket(port)].replace(place);
        *self.entry(place) = Entry { port, causes, consumes, waker: None, next };
        self.count += 1;
        Some(place)
    }

    /// Replaces an entry's waker; the one before.
    fn set(&mut self, place: Place, waker: Waker) -> Option<Waker> {
        self.entry(place).waker.replace(waker)
    }

    fn remove(&mut self, place: Place) -> Option<Waker> {
        let port = self.entry(place).port;
        let next = self.entry(place).next;
        let mut at = self.buckets[bucket(port)];
        if at == Some(place) {
            self.buckets[bucket(port)] = next;
        }
        while let Some(current) = at {
            let entry = self.entry(current);
            if entry.next == Some(place) {
                entry.next = next;
                break;
            }
            at = entry.next;
        }
        let free = self.free.replace(place);
        self.count -= 1;
        let entry = self.entry(place);
        entry.next = free;
        entry.waker.take()
    }

    fn of(&mut self, port: Port, mut visit: impl FnMut(&mut Entry) -> bool) {
        let mut at = self.buckets[bucket(port)];
        while let Some(place) = at {
            let entry = self.entry(place);
            at = entry.next;
            if entry.port == port && visit(entry) {
                return;
            }
        }
    }

    /// What futures that consume wait for at a port.
    fn consumed(&mut self, port: Port) -> Causes {
        let mut causes = Causes::empty();
        self.of(port, |entry| {
            if entry.consumes {
                causes |= entry.causes;
            }
            false
        });
        causes
    }

    /// A waker of somebody who waits for one of these causes; it is not found again until it is set again.
    fn take_waker(&mut self, port: Port, causes: Causes) -> Option<Waker> {
        let mut found = None;
        self.of(port, |entry| {
            if entry.causes.intersects(causes) {
                found = entry.waker.take();
            }
            found.is_some()
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    pub(crate) struct Counter(AtomicUsize);

    impl Counter {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Counter {
        fn wake(self: Arc<Counter>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn event(port: u32, causes: Causes) -> Event {
        Event { port: Port::new(port), causes }
    }

    /// Ports of this test alone: the table is shared by the tests of one process.
    const PORT: u32 = 0x10_0000;

    #[test]
    fn an_event_wakes_those_who_wait_for_it_once() {
        let [reader, writer] = [Arc::<Counter>::default(), Arc::<Counter>::default()];
        let [mut reads, mut writes] = [Waiter::new(), Waiter::new()];
        let port = Port::new(PORT);
        reads.wait(port, Causes::MESSAGE, &reader.clone().into()).unwrap();
        writes.wait(port, Causes::SPACE | Causes::PEER_CLOSED, &writer.clone().into()).unwrap();

        assert_eq!(deliver(event(PORT, Causes::MESSAGE)), Causes::empty());
        assert_eq!((reader.count(), writer.count()), (1, 0));
        assert_eq!(deliver(event(PORT, Causes::MESSAGE | Causes::SPACE)), Causes::empty());
        assert_eq!((reader.count(), writer.count()), (1, 1), "a reader that was not polled again is awake");
        reads.wait(port, Causes::MESSAGE, &reader.clone().into()).unwrap();
        assert_eq!(deliver(event(PORT, Causes::MESSAGE | Causes::SIGNAL)), Causes::SIGNAL, "nobody's");
        assert_eq!(reader.count(), 2);
        assert_eq!(deliver(event(PORT + 32, Causes::MESSAGE)), Causes::MESSAGE, "another of the bucket");

        writes.wait(port, Causes::SPACE, &writer.clone().into()).unwrap();
        drop(writes);
        assert_eq!(deliver(event(PORT, Causes::SPACE)), Causes::SPACE);
        assert_eq!(writer.count(), 1, "a future that is gone is not woken");
        drop(reads);
        assert_eq!((Arc::strong_count(&reader), Arc::strong_count(&writer)), (1, 1), "no waker is kept");
    }

    #[test]
    fn places_come_back_in_any_order() {
        let mut waiters = Waiters::<4>::new();
        let port = |number| Port::new(number);
        let waker = || Waker::noop().clone();
        let places: Vec<_> =
            (0..4).map(|index| waiters.add(port(index % 2 * 32), Causes::MESSAGE, true).unwrap()).collect();
        assert_eq!(waiters.add(port(1), Causes::MESSAGE, true), None, "full");
        for order in [[1, 3, 0, 2], [0, 1, 2, 3], [3, 2, 1, 0]] {
            for &index in &order[..2] {
                waiters.remove(places[index]);
            }
            let again = [0, 1].map(|_| waiters.add(port(32), Causes::SPACE, false).unwrap());
            assert_eq!(waiters.add(port(1), Causes::MESSAGE, true), None);
            for place in again {
                waiters.set(place, waker());
            }
            let woken = core::iter::from_fn(|| waiters.take_waker(port(32), Causes::SPACE)).count();
            assert_eq!(woken, 2);
            assert_eq!(waiters.consumed(port(32)) & Causes::SPACE, Causes::empty());
            let _wakers = again.map(|place| waiters.remove(place));
            for &index in &order[2..] {
                waiters.remove(places[index]);
            }
            assert!(waiters.is_empty());
            assert!(waiters.buckets.iter().all(Option::is_none), "no list has anything left");
            let mut taken: Vec<_> = (0..4)
                .map(|index| waiters.add(port(index % 2 * 32), Causes::MESSAGE, true).unwrap())
                .collect();
            taken.sort_unstable();
            let mut all = places.clone();
            all.sort_unstable();
            assert_eq!(taken, all);
        }
    }
}
