//! Who is to be woken when.

use alloc::collections::BTreeSet;

/// Deadlines, each of somebody.
#[derive(Clone, Debug)]
pub struct Timers<W> {
    deadlines: BTreeSet<(u64, W)>,
}

impl<W: Copy + Ord> Default for Timers<W> {
    fn default() -> Timers<W> {
        Timers { deadlines: BTreeSet::new() }
    }
}

impl<W: Copy + Ord> Timers<W> {
    /// Somebody waits for a time.
    pub fn add(&mut self, deadline: u64, who: W) {
        self.deadlines.insert((deadline, who));
    }

    /// Somebody does so no more.
    pub fn remove(&mut self, deadline: u64, who: W) {
        self.deadlines.remove(&(deadline, who));
    }

    /// The next deadline.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Takes one whose time has come.
    pub fn take_due(&mut self, now: u64) -> Option<W> {
        if self.next()? > now {
            return None;
        }
        self.deadlines.pop_first().map(|(_, who)| who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_of_time() {
        let mut timers = Timers::default();
        timers.add(20, 'b');
        timers.add(10, 'c');
        timers.add(10, 'a');
        timers.add(30, 'd');
        timers.remove(30, 'd');
        timers.remove(30, 'x');
        assert_eq!(timers.next(), Some(10));
        assert_eq!(timers.take_due(9), None);
        assert_eq!(
            [timers.take_due(15), timers.take_due(15), timers.take_due(15)],
            [Some('a'), Some('c'), None]
        );
        assert_eq!(timers.take_due(20), Some('b'));
        assert_eq!(timers.next(), None);
    }
}
