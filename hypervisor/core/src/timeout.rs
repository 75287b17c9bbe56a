//! Requests that are given up when nobody has answered them in time: a wheel of lists, threaded through the ports, so that setting, forgetting
//! and finding the next take a bounded time however many there are, and no memory.
//!
//! Each level of the wheel has 64 slots, one level's as long as eight of the level's below. A request waits in the finest level that reaches
//! its deadline, in the first slot that starts behind it: it is never given up early, and late by a seventh of its timeout at most
//! (or by the finest slot, 1,024 ticks). Nothing moves from level to level.

use handover_abi::Causes;

use crate::channel::{Link, PortState};
use crate::list::{List, Node, Nodes};
use crate::region::STEP;
use crate::{Machine, Progress, System};

const LEVELS: usize = 12;
const SLOTS: usize = 64;
/// log2 of the ticks of a slot of level 0.
const GRAIN: u32 = 10;

/// A request's timeout, in ticks of a counter of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// What the counter is at.
    pub now: u64,
    /// How much more it may count before the request is given up.
    pub after: u64,
}

/// A request's place in the wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    node: Node,
    /// [`Timer::NOWHERE`], or which slot.
    slot: u16,
}

impl Timer {
    const NOWHERE: u16 = u16::MAX;

    pub(crate) const fn new() -> Timer {
        Timer { node: Node::new(), slot: Timer::NOWHERE }
    }
}

/// See the [module](self).
pub(crate) struct Wheel {
    /// Nothing in the wheel is due earlier.
    base: u64,
    slots: [[List; SLOTS]; LEVELS],
    /// Bit n: slot n of the level is not empty.
    occupied: [u64; LEVELS],
}

const fn shift(level: usize) -> u32 {
    (GRAIN + 3 * level as u32) & 63
}

impl Wheel {
    pub(crate) const fn new() -> Wheel {
        Wheel { base: 0, slots: [[List::new(); SLOTS]; LEVELS], occupied: [0; LEVELS] }
    }

    /// When the next one is due, and in which slot it is.
    fn first(&self) -> Option<(u64, u16)> {
        let each = self.occupied.iter().enumerate().filter(|(_, occupied)| **occupied != 0);
        each.map(|(level, occupied)| {
            let bucket = self.base >> shift(level);
            let ahead = occupied.rotate_right(bucket as u32 & 63).trailing_zeros();
            let bucket = bucket.saturating_add(u64::from(ahead));
            let due = bucket.saturating_mul(1 << shift(level));
            (due, (level * SLOTS) as u16 | (bucket & 63) as u16)
        })
        .min()
    }

    /// Lets time pass as far as nothing is due.
    fn pass(&mut self, now: u64) {
        let now = self.first().map_or(now, |(due, _)| due.min(now));
        self.base = self.base.max(now);
    }

    /// The slot for something that is due after `deadline`.
    fn slot_for(&self, deadline: u64) -> u16 {
        let deadline = deadline.max(self.base);
        let place = (0..LEVELS).find_map(|level| {
            let (bucket, base) = (deadline >> shift(level), self.base >> shift(level));
            let ahead = bucket.wrapping_sub(base).wrapping_add(1);
            (ahead < SLOTS as u64).then_some((level, bucket.wrapping_add(1)))
        });
        let last = LEVELS - 1;
        let (level, bucket) =
            place.unwrap_or((last, (self.base >> shift(last)).wrapping_add(SLOTS as u64 - 1)));
        (level * SLOTS) as u16 | (bucket & 63) as u16
    }

    fn list(&mut self, slot: u16) -> Option<&mut List> {
        let (level, slot) = (usize::from(slot) / SLOTS, usize::from(slot) % SLOTS);
        self.slots.get_mut(level)?.get_mut(slot)
    }

    fn mark(&mut self, slot: u16, occupied: bool) {
        let (level, bit) = (usize::from(slot) / SLOTS, 1u64 << (slot & 63));
        if let Some(word) = self.occupied.get_mut(level) {
            *word = if occupied { *word | bit } else { *word & !bit };
        }
    }
}

/// The wheel's lists go through the timers of requests.
struct Timers<'a>(&'a mut System);

impl Nodes for Timers<'_> {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.0.timer(Link::from_raw(at)).map(|timer| &mut timer.node)
    }
}

impl System {
    fn timer(&mut self, at: Link) -> Option<&mut Timer> {
        self.port_at_mut(at).map(|port| &mut port.request.timer)
    }

    /// Sets when a request without a timeout is given up.
    pub(crate) fn set_timeout(&mut self, at: Link, timeout: Timeout) {
        self.timeouts.pass(timeout.now);
        let slot = self.timeouts.slot_for(timeout.now.saturating_add(timeout.after));
        let Some(mut list) = self.timeouts.list(slot).copied() else { return };
        list.push_back(&mut Timers(self), at.raw());
        if let Some(timer) = self.timer(at) {
            timer.slot = slot;
        }
        self.put_back(slot, list);
    }

    /// Forgets a request's timeout, if it has one.
    pub(crate) fn forget_timeout(&mut self, at: Link) {
        let Some(timer) = self.timer(at) else { return };
        let slot = core::mem::replace(&mut timer.slot, Timer::NOWHERE);
        let Some(mut list) = self.timeouts.list(slot).copied() else { return };
        list.remove(&mut Timers(self), at.raw());
        self.put_back(slot, list);
    }

    fn put_back(&mut self, slot: u16, list: List) {
        self.timeouts.mark(slot, !list.is_empty());
        if let Some(place) = self.timeouts.list(slot) {
            *place = list;
        }
    }

    /// When [`System::expire`] has something to do: what the counter of [`Timeout`] is at then.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.timeouts.first().map(|(due, _)| due)
    }

    /// One bounded step of giving up requests that nobody has answered in time: the client's port gets [`Causes::TIMED_OUT`], and the server's
    /// signal or token is gone.
    pub fn expire(&mut self, m: &mut impl Machine, now: u64) -> Progress {
        for _ in 0..STEP {
            self.timeouts.pass(now);
            let due = self.timeouts.first().filter(|(due, _)| *due <= now);
            let Some((_, slot)) = due else { return Progress::Done };
            let Some(first) = self.timeouts.list(slot).and_then(|list| list.head()) else {
                return Progress::Done;
            };
            let client = Link::from_raw(first);
            self.withdraw(client);
            if let Some(port) = self.port_at_mut(client) {
                port.state = PortState::TimedOut;
                port.peer = Link::NONE;
            }
            self.raise(m, client.partition(), client.port(), Causes::TIMED_OUT);
        }
        Progress::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_early_and_late_by_a_seventh_at_most() {
        for base in [0u64, 1, 1023, 1024, 77_777, 1 << 40, (1 << 52) + 12_345] {
            for exponent in 0..49 {
                for after in [1u64 << exponent, (1 << exponent) + 1, (1 << exponent) * 3 / 2] {
                    let mut wheel = Wheel::new();
                    wheel.pass(base);
                    let slot = wheel.slot_for(base + after);
                    wheel.mark(slot, true);
                    let (due, found) = wheel.first().unwrap();
                    assert_eq!(found, slot);
                    assert!(due > base + after || after >= 1 << 48, "{base} + {after}: {due}");
                    let late = due.saturating_sub(base + after);
                    assert!(late <= (after / 7).max(1024), "{base} + {after}: {late} late");
                    // What is due keeps its place while time passes.
                    wheel.pass(due - 1);
                    assert_eq!(wheel.first(), Some((due, slot)));
                    wheel.pass(due + 5000);
                    assert_eq!((wheel.first(), wheel.base), (Some((due, slot)), due));
                }
            }
        }
    }
}
