//! Heaps through records: the least key first, those of equal keys in the order in which they came as far as the heap remembers.
//!
//! Leftist: the right spine of a heap of n has at most log2(n + 1) nodes, so inserting and taking the first are that long.

use super::record::Records;

/// A record's place in a heap. It is in one at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<K> {
    pub(super) key: u64,
    left: Option<K>,
    right: Option<K>,
    parent: Option<K>,
    /// Nodes on the way to the nearest free place; 0: in no heap.
    rank: u32,
}

impl<K> Node<K> {
    pub(super) const fn new() -> Node<K> {
        Node { key: 0, left: None, right: None, parent: None, rank: 0 }
    }

    #[inline]
    pub(super) fn is_in(&self) -> bool {
        self.rank != 0
    }
}

/// Puts a record, which is in no heap, into the heap `root`.
#[inline]
pub(super) fn insert<R: Records>(records: &mut R, root: &mut Option<R::Key>, item: R::Key, key: u64) {
    records.get_mut(item).node = Node { key, left: None, right: None, parent: None, rank: 1 };
    *root = match *root {
        None => Some(item),
        some => merge(records, some, Some(item)),
    };
}

/// Takes a record out of the heap `root`, which it is in.
#[inline]
pub(super) fn remove<R: Records>(records: &mut R, root: &mut Option<R::Key>, item: R::Key) {
    let Node { left, right, parent, .. } = core::mem::replace(&mut records.get_mut(item).node, Node::new());
    let rest = if left.is_none() { None } else { merge(records, left, right) };
    if let Some(rest) = rest {
        records.get_mut(rest).node.parent = parent;
    }
    let Some(parent) = parent else {
        *root = rest;
        return;
    };
    let above = &mut records.get_mut(parent).node;
    if above.left == Some(item) {
        above.left = rest;
    } else {
        above.right = rest;
    }
    repair(records, Some(parent), false);
}

/// The least key in the heap.
#[inline]
pub(super) fn least<R: Records>(records: &R, root: Option<R::Key>) -> u64 {
    root.map_or(u64::MAX, |item| records.get(item).node.key)
}

fn rank<R: Records>(records: &R, item: Option<R::Key>) -> u32 {
    item.map_or(0, |item| records.get(item).node.rank)
}

/// Joins two heaps along their right spines.
#[inline(never)]
fn merge<R: Records>(
    records: &mut R,
    mut first: Option<R::Key>,
    mut second: Option<R::Key>,
) -> Option<R::Key> {
    let mut root = None;
    let mut last: Option<R::Key> = None;
    loop {
        let (item, next) = match (first, second) {
            (Some(a), Some(b)) => {
                if records.get(b).node.key < records.get(a).node.key {
                    core::mem::swap(&mut first, &mut second);
                }
                let Some(item) = first else { break };
                first = records.get(item).node.right;
                (item, true)
            }
            (Some(item), None) | (None, Some(item)) => (item, false),
            (None, None) => break,
        };
        records.get_mut(item).node.parent = last;
        match last {
            Some(last) => records.get_mut(last).node.right = Some(item),
            None => root = Some(item),
        }
        if !next {
            break;
        }
        last = Some(item);
    }
    repair(records, last, true);
    root
}

/// Makes ranks true again from `at` upwards: to the root, or to the first that is true already.
fn repair<R: Records>(records: &mut R, mut at: Option<R::Key>, to_root: bool) {
    while let Some(item) = at {
        let Node { left, right, parent, rank: old, .. } = records.get(item).node;
        let (on_left, on_right) = (rank(records, left), rank(records, right));
        let node = &mut records.get_mut(item).node;
        if on_left < on_right {
            (node.left, node.right) = (right, left);
        }
        node.rank = on_left.min(on_right).wrapping_add(1);
        if node.rank == old && !to_root {
            return;
        }
        at = parent;
    }
}
