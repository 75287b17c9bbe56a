//! Queues through records, for turns.

use super::record::Records;

/// A record's place in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<K> {
    next: Option<K>,
    previous: Option<K>,
    queued: bool,
}

impl<K> Link<K> {
    pub(super) const fn new() -> Link<K> {
        Link { next: None, previous: None, queued: false }
    }

    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.queued
    }
}

/// First and last of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue<K> {
    head: Option<K>,
    tail: Option<K>,
}

impl<K: Copy + PartialEq> Queue<K> {
    pub(super) const fn new() -> Queue<K> {
        Queue { head: None, tail: None }
    }

    #[inline]
    pub(super) fn head(&self) -> Option<K> {
        self.head
    }

    #[inline]
    pub(super) fn push_back<R: Records<Key = K>>(&mut self, records: &mut R, item: K) {
        let previous = self.tail.replace(item);
        records.get_mut(item).link = Link { next: None, previous, queued: true };
        match previous {
            Some(previous) => records.get_mut(previous).link.next = Some(item),
            None => self.head = Some(item),
        }
    }

    pub(super) fn push_front<R: Records<Key = K>>(&mut self, records: &mut R, item: K) {
        let next = self.head.replace(item);
        records.get_mut(item).link = Link { next, previous: None, queued: true };
        match next {
            Some(next) => records.get_mut(next).link.previous = Some(item),
            None => self.tail = Some(item),
        }
    }

    #[inline]
    pub(super) fn remove<R: Records<Key = K>>(&mut self, records: &mut R, item: K) {
        let Link { next, previous, .. } = core::mem::replace(&mut records.get_mut(item).link, Link::new());
        match previous {
            Some(previous) => records.get_mut(previous).link.next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => records.get_mut(next).link.previous = previous,
            None => self.tail = previous,
        }
    }

    /// The first of the queue's first few for which `fits` holds.
    pub(super) fn find<R: Records<Key = K>>(
        &self,
        records: &R,
        few: usize,
        fits: impl Fn(&R, K) -> bool,
    ) -> Option<K> {
        let mut at = self.head;
        for _ in 0..few {
            let item = at?;
            if fits(records, item) {
                return Some(item);
            }
            at = records.get(item).link.next;
        }
        None
    }
}
