//! Whose turn it is: everybody who can run, one after the other.

use alloc::collections::VecDeque;

/// A turn, in nanoseconds.
pub const TURN: u64 = 5_000_000;

/// Who can run and waits for the processor.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    waiting: VecDeque<T>,
}

impl<T: Copy + PartialEq> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { waiting: VecDeque::new() }
    }
}

impl<T: Copy + PartialEq> Queue<T> {
    /// At the end.
    pub fn push(&mut self, who: T) {
        self.waiting.push_back(who);
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes somebody out who has ended.
    pub fn remove(&mut self, who: T) {
        self.waiting.retain(|&other| other != who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn() {
        let mut queue = Queue::default();
        assert!(queue.is_empty());
        for who in 1..=4 {
            queue.push(who);
        }
        queue.remove(2);
        assert_eq!(queue.pop(), Some(1));
        queue.push(1);
        assert_eq!([queue.pop(), queue.pop(), queue.pop(), queue.pop()], [Some(3), Some(4), Some(1), None]);
    }
}
