//! Who waits for which time: wakers, in a table without a heap.

use core::task::Waker;

struct Sleeper {
    deadline: u64,
    waker: Option<Waker>,
}

/// The table.
pub(crate) struct Sleepers<const N: usize> {
    places: [Option<Sleeper>; N],
    /// Places in front of which all others are.
    end: usize,
}

impl<const N: usize> Sleepers<N> {
    pub(crate) const fn new() -> Sleepers<N> {
        Sleepers { places: [const { None }; N], end: 0 }
    }

    /// Takes a place; `None` when all are taken.
    pub(crate) fn add(&mut self, deadline: u64) -> Option<usize> {
        let place = self.places.iter().position(Option::is_none)?;
        self.places[place] = Some(Sleeper { deadline, waker: None });
        self.end = self.end.max(place + 1);
        Some(place)
    }

    /// Replaces the waker of a place that `add` returned; the one before.
    pub(crate) fn set(&mut self, place: usize, waker: Waker) -> Option<Waker> {
        self.places[place].as_mut()?.waker.replace(waker)
    }

    pub(crate) fn remove(&mut self, place: usize) -> Option<Waker> {
        let sleeper = self.places[place].take();
        while self.end > 0 && self.places[self.end - 1].is_none() {
            self.end -= 1;
        }
        sleeper?.waker
    }

    /// A waker that is due, not to be found again until it is set again; or else the earliest deadline of those that wait.
    pub(crate) fn take_due(&mut self, now: u64) -> Result<Waker, Option<u64>> {
        let mut earliest = None;
        for sleeper in self.places[..self.end].iter_mut().flatten() {
            let Some(waker) = sleeper.waker.take() else { continue };
            if sleeper.deadline <= now {
                return Ok(waker);
            }
            sleeper.waker = Some(waker);
            earliest = Some(earliest.map_or(sleeper.deadline, |other: u64| other.min(sleeper.deadline)));
        }
        Err(earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_due_are_woken_and_the_earliest_of_the_others_is_known() {
        let mut sleepers = Sleepers::<3>::new();
        assert!(matches!(sleepers.take_due(u64::MAX), Err(None)));
        let places = [30, 10, 20].map(|deadline| sleepers.add(deadline).unwrap());
        assert_eq!(sleepers.add(40), None, "full");
        assert!(matches!(sleepers.take_due(u64::MAX), Err(None)), "without a waker nobody waits");
        for place in places {
            sleepers.set(place, Waker::noop().clone());
        }
        assert!(matches!(sleepers.take_due(9), Err(Some(10))));
        assert!(sleepers.take_due(20).is_ok());
        assert!(sleepers.take_due(20).is_ok());
        assert!(matches!(sleepers.take_due(20), Err(Some(30))), "each is found once");
        assert!(sleepers.remove(places[0]).is_some());
        assert!(matches!(sleepers.take_due(20), Err(None)));
        assert_eq!(sleepers.add(50), Some(places[0]));
        let _wakers = places.map(|place| sleepers.remove(place));
        assert_eq!(sleepers.end, 0);
    }
}
