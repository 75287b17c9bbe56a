//! Whose turn it is: users in a circle, and each one's threads in a circle of their own. So who has many threads has no more turns than others.

use alloc::{collections::VecDeque, vec::Vec};

use handover_files::USERS_MAX;

/// A turn, in nanoseconds.
pub const TURN: u64 = 5_000_000;

/// Who can run and waits for the processor.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    /// By user.
    waiting: Vec<VecDeque<T>>,
    /// Users of whom somebody waits, in turn.
    turns: VecDeque<u32>,
}

impl<T: Copy + PartialEq> Default for Queue<T> {
    fn default() -> Queue<T> {
        let waiting = (0..USERS_MAX).map(|_| VecDeque::new()).collect();
        Queue { waiting, turns: VecDeque::with_capacity(USERS_MAX as usize) }
    }
}

impl<T: Copy + PartialEq> Queue<T> {
    /// Behind all others of the user's.
    pub fn push(&mut self, user: u32, who: T) {
        let Some(waiting) = self.waiting.get_mut(user as usize) else { return };
        if waiting.is_empty() {
            self.turns.push_back(user);
        }
        waiting.push_back(who);
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<T> {
        let user = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(user as usize)?;
        let who = waiting.pop_front();
        if !waiting.is_empty() {
            self.turns.push_back(user);
        }
        who
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Takes somebody out who has ended.
    pub fn remove(&mut self, user: u32, who: T) {
        let Some(waiting) = self.waiting.get_mut(user as usize) else { return };
        waiting.retain(|&other| other != who);
        if waiting.is_empty() {
            self.turns.retain(|&other| other != user);
        }
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
            queue.push(0, who);
        }
        queue.remove(0, 2);
        assert_eq!(queue.pop(), Some(1));
        queue.push(0, 1);
        assert_eq!([queue.pop(), queue.pop(), queue.pop(), queue.pop()], [Some(3), Some(4), Some(1), None]);
    }

    #[test]
    fn many_threads_of_one_user_are_one_turn() {
        let mut queue = Queue::default();
        for who in 10..14 {
            queue.push(1, who);
        }
        queue.push(2, 20);
        queue.push(0, 0);
        let all: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(all, [10, 20, 0, 11, 12, 13]);
        for who in [10, 11] {
            queue.push(1, who);
        }
        queue.push(2, 20);
        let mut turns = Vec::new();
        for _ in 0..6 {
            let next = queue.pop().unwrap();
            turns.push(next);
            queue.push(next / 10, next);
        }
        assert_eq!(turns, [10, 20, 11, 20, 10, 20]);
        queue.remove(2, 20);
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(11), Some(10), None]);
        assert!(queue.is_empty());
    }
}
