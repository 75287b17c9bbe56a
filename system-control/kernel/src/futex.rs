//! Futexes: threads that wait until somebody says that a word in memory has changed.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

/// A word in memory, however many programs have it mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// By address space and address.
    Private {
        /// The address space.
        space: u64,
        /// The address in it.
        address: u64,
    },
    /// By physical address, for memory that several address spaces share.
    Shared(u64),
}

#[derive(Clone, Copy, Debug)]
struct Waiter<T> {
    who: T,
    bits: u32,
}

/// Everybody who waits for a word.
#[derive(Clone, Debug)]
pub struct Futexes<T> {
    words: BTreeMap<Word, VecDeque<Waiter<T>>>,
}

impl<T: Copy + PartialEq> Default for Futexes<T> {
    fn default() -> Futexes<T> {
        Futexes { words: BTreeMap::new() }
    }
}

impl<T: Copy + PartialEq> Futexes<T> {
    /// Somebody waits for a word, to be woken by whoever names one of the bits.
    pub fn wait(&mut self, word: Word, who: T, bits: u32) {
        self.words.entry(word).or_default().push_back(Waiter { who, bits });
    }

    /// Wakes those who have waited longest for a word and one of the bits.
    pub fn wake(&mut self, word: Word, most: usize, bits: u32) -> Vec<T> {
        let mut woken = Vec::new();
        let Some(queue) = self.words.get_mut(&word) else { return woken };
        queue.retain(|waiter| {
            let wake = woken.len() < most && waiter.bits & bits != 0;
            if wake {
                woken.push(waiter.who);
            }
            !wake
        });
        if queue.is_empty() {
            self.words.remove(&word);
        }
        woken
    }

    /// Has those who wait for a word wait for another; who, in order, so that their own records can follow.
    pub fn requeue(&mut self, from: Word, to: Word, most: usize) -> Vec<T> {
        if from == to {
            return Vec::new();
        }
        let Some(mut queue) = self.words.remove(&from) else { return Vec::new() };
        let rest = queue.split_off(most.min(queue.len()));
        if !rest.is_empty() {
            self.words.insert(from, rest);
        }
        let moved = queue.iter().map(|waiter| waiter.who).collect();
        if !queue.is_empty() {
            self.words.entry(to).or_default().append(&mut queue);
        }
        moved
    }

    /// Somebody does not wait any more.
    pub fn remove(&mut self, word: Word, who: T) {
        let Some(queue) = self.words.get_mut(&word) else { return };
        queue.retain(|waiter| waiter.who != who);
        if queue.is_empty() {
            self.words.remove(&word);
        }
    }

    /// How many words somebody waits for.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: Word = Word::Shared(0x1000);
    const OTHER: Word = Word::Private { space: 1, address: 0x1000 };

    #[test]
    fn who_waited_longest_is_woken_first() {
        let mut futexes = Futexes::default();
        for who in 1..=4 {
            futexes.wait(WORD, who, u32::MAX);
        }
        assert_eq!(futexes.wake(OTHER, 9, u32::MAX), []);
        assert_eq!(futexes.wake(WORD, 0, u32::MAX), []);
        assert_eq!(futexes.wake(WORD, 2, u32::MAX), [1, 2]);
        futexes.remove(WORD, 3);
        assert_eq!(futexes.wake(WORD, 9, u32::MAX), [4]);
        assert_eq!(futexes.words(), 0);
    }

    #[test]
    fn bits_choose() {
        let mut futexes = Futexes::default();
        futexes.wait(WORD, 'r', 1);
        futexes.wait(WORD, 'w', 2);
        assert_eq!(futexes.wake(WORD, 9, 2), ['w']);
        assert_eq!(futexes.wake(WORD, 9, 2), []);
        assert_eq!(futexes.wake(WORD, 9, 3), ['r']);
    }

    #[test]
    fn requeued_in_order_behind_others() {
        let mut futexes = Futexes::default();
        futexes.wait(OTHER, 9, 1);
        for who in 1..=3 {
            futexes.wait(WORD, who, 1);
        }
        assert_eq!(futexes.requeue(WORD, OTHER, 2), [1, 2]);
        assert_eq!(futexes.requeue(WORD, WORD, 2), []);
        assert_eq!(futexes.wake(OTHER, 9, 1), [9, 1, 2]);
        assert_eq!(futexes.wake(WORD, 9, 1), [3]);
        assert_eq!(futexes.requeue(WORD, OTHER, 2), []);
        assert_eq!(futexes.words(), 0);
    }
}
