//! Whose turn it is to hold a lock: whoever comes while nobody holds it and nobody waits, else in the order in which they came to wait.
//!
//! Nothing here waits: the image does, between two looks ([`Turns::comes`]).

use core::sync::atomic::{AtomicU32, Ordering};

/// Nobody holds it or waits for it.
const FREE: u32 = 0;
/// Somebody holds it: the low byte, so that one store of a byte gives it back ([`Turns::word`]).
const HELD: u32 = 1;
const HELD_BYTE: u32 = 0xff;
/// One who waits for it.
const WAITS: u32 = 0x100;

/// A place in the order of those who wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u32);

/// What a [`Turns`] is made of: atomic words.
pub trait Word: Sized {
    /// Adds, round the end; what was there.
    fn add(&self, value: u32, order: Ordering) -> u32;
    /// Puts `to` there if `from` is.
    fn replace(&self, from: u32, to: u32, order: Ordering) -> bool;
    /// Keeps these bits only.
    fn keep(&self, bits: u32, order: Ordering);
    /// What is there.
    fn get(&self, order: Ordering) -> u32;
    /// Puts it there.
    fn set(&self, value: u32, order: Ordering);
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            #[inline(always)]
            fn add(&self, value: u32, order: Ordering) -> u32 {
                self.fetch_add(value, order)
            }

            #[inline(always)]
            fn replace(&self, from: u32, to: u32, order: Ordering) -> bool {
                self.compare_exchange(from, to, order, Ordering::Relaxed).is_ok()
            }

            #[inline(always)]
            fn keep(&self, bits: u32, order: Ordering) {
                self.fetch_and(bits, order);
            }

            #[inline(always)]
            fn get(&self, order: Ordering) -> u32 {
                self.load(order)
            }

            #[inline(always)]
            fn set(&self, value: u32, order: Ordering) {
                self.store(value, order);
            }
        }
    };
}

word!(AtomicU32);

/// See the module.
///
/// One word says all that somebody needs to know who comes or leaves while nobody waits. Who waits is counted there first, so that nobody passes from then on, and
/// takes a ticket for the order.
#[derive(Debug)]
#[repr(C)]
pub struct Turns<W = AtomicU32> {
    /// [`HELD`], and [`WAITS`] for each that waits.
    state: W,
    /// The next ticket.
    next: W,
    /// The ticket of who is first.
    first: W,
}

impl Turns {
    /// Nobody holds it.
    #[must_use]
    pub const fn new() -> Turns {
        Turns { state: AtomicU32::new(FREE), next: AtomicU32::new(0), first: AtomicU32::new(0) }
    }

    /// The word whose lowest byte is 0 while nobody holds it: for [`leave`](Turns::leave) in one instruction, a store of that byte with release.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self) -> *mut u32 {
        self.state.as_ptr()
    }
}

impl Default for Turns {
    fn default() -> Turns {
        Turns::new()
    }
}

impl<W: Word> Turns<W> {
    /// Takes it, if nobody holds it and nobody waits for it. Who has it sees what was done before it was given back.
    #[inline(always)]
    pub fn takes(&self) -> bool {
        self.state.replace(FREE, HELD, Ordering::Acquire)
    }

    /// Waits for it from now on: [`comes`](Turns::comes) has to be asked until it is so.
    #[inline(always)]
    pub fn waits(&self) -> Ticket {
        self.state.add(WAITS, Ordering::Relaxed);
        Ticket(self.next.add(1, Ordering::Relaxed))
    }

    /// Takes it, if the turn has come of who has this ticket, whose last use that is.
    #[inline(always)]
    pub fn comes(&self, ticket: &Ticket) -> bool {
        // The one before has taken it for who sees this, so that what is read of the state is not older.
        if self.first.get(Ordering::Acquire) != ticket.0 || self.state.get(Ordering::Acquire) & HELD_BYTE != 0
        {
            return false;
        }
        // Nobody else takes it meanwhile: this one waits and is first.
        self.state.add(HELD.wrapping_sub(WAITS), Ordering::Relaxed);
        self.first.set(ticket.0.wrapping_add(1), Ordering::Release);
        true
    }

    /// Gives it back.
    #[inline(always)]
    pub fn leaves(&self) {
        self.state.keep(!HELD_BYTE, Ordering::Release);
    }
}

#[cfg(test)]
word!(loom::sync::atomic::AtomicU32);

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use loom::{cell::Cell, sync::Arc, thread};
    use std::vec::Vec;

    type Shared = (Turns<loom::sync::atomic::AtomicU32>, Cell<u32>);

    fn shared() -> Arc<Shared> {
        let word = loom::sync::atomic::AtomicU32::new;
        Arc::new((Turns { state: word(FREE), next: word(0), first: word(0) }, Cell::new(0)))
    }

    /// Adds one to what is guarded, unless it is somebody else's turn at that many looks. Fails if another one's access is not before or after.
    fn work((turns, value): &Shared, looks: usize) -> bool {
        if !turns.takes() {
            let ticket = turns.waits();
            let waited = (0..looks).any(|look| {
                if look > 0 {
                    thread::yield_now();
                }
                turns.comes(&ticket)
            });
            if !waited {
                return false;
            }
        }
        value.set(value.get() + 1);
        turns.leaves();
        true
    }

    /// Runs `others` and this one, in the orders in which they are interrupted three times at most.
    fn in_all_orders(others: usize, work: fn(&Shared) -> u32) {
        let mut orders = loom::model::Builder::new();
        orders.preemption_bound = Some(3);
        orders.check(move || {
            let shared = shared();
            let others: Vec<_> = (0..others)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || work(&shared))
                })
                .collect();
            let done = work(&shared) + others.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>();
            assert_eq!(shared.1.get(), done);
            assert_eq!(shared.0.state.get(Ordering::Relaxed) & HELD_BYTE, 0);
        });
    }

    #[test]
    #[cfg_attr(miri, ignore = "loom switches stacks itself")]
    fn each_has_its_turn_whatever_the_order() {
        in_all_orders(1, |shared| {
            assert!(work(shared, usize::MAX) && work(shared, usize::MAX));
            2
        });
    }

    /// Three that wait would be orders without an end, in which the two look and look.
    #[test]
    #[cfg_attr(miri, ignore = "loom switches stacks itself")]
    fn it_is_ones_at_a_time_whatever_the_order() {
        in_all_orders(2, |shared| work(shared, 2).into());
    }

    #[test]
    fn nobody_passes_those_who_wait() {
        let turns = Turns::new();
        assert!(turns.takes() && !turns.takes());
        let (one, two) = (turns.waits(), turns.waits());
        assert!(!turns.comes(&one) && !turns.comes(&two));
        turns.leaves();
        assert!(!turns.takes() && !turns.comes(&two) && turns.comes(&one));
        let three = turns.waits();
        turns.leaves();
        assert!(!turns.takes() && !turns.comes(&three) && turns.comes(&two));
        turns.leaves();
        assert!(!turns.takes() && turns.comes(&three) && !turns.takes());
        turns.leaves();
        assert!(turns.takes());
    }

    #[test]
    fn tickets_go_round_the_end() {
        let turns = Turns {
            state: AtomicU32::new(HELD),
            next: AtomicU32::new(u32::MAX),
            first: AtomicU32::new(u32::MAX),
        };
        let tickets = [turns.waits(), turns.waits()];
        for ticket in &tickets {
            turns.leaves();
            assert!(turns.comes(ticket) && !turns.takes());
        }
        turns.leaves();
        assert!(turns.takes());
    }

    #[test]
    fn a_byte_gives_it_back() {
        let turns = Turns::new();
        assert!(turns.takes());
        let _waiting = turns.waits();
        let held = turns.state.get(Ordering::Relaxed);
        turns.leaves();
        let [lowest, rest @ ..] = held.to_le_bytes();
        assert_ne!(lowest, 0);
        let [after, rest_after @ ..] = turns.state.get(Ordering::Relaxed).to_le_bytes();
        assert_eq!((after, rest_after), (0, rest));
    }
}
