//! Doubly linked lists threaded through records that live in tables: no memory of their own, and anything leaves in one step.

const NONE: u32 = u32::MAX;

/// A record's place in a list. In at most one list at a time; who owns the record knows whether it is in one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    prev: u32,
    next: u32,
}

impl Node {
    pub(crate) const fn new() -> Node {
        Node { prev: NONE, next: NONE }
    }

    /// The one behind it.
    pub(crate) fn next(&self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

impl Default for Node {
    fn default() -> Node {
        Node::new()
    }
}

/// How a list finds its nodes. `u32::MAX` names none.
pub(crate) trait Nodes {
    fn node(&mut self, at: u32) -> Option<&mut Node>;
}

/// A record that lists go through.
pub(crate) trait Noded {
    fn node(&mut self) -> &mut Node;
}

/// Records that a list's numbers count, all in one piece.
pub(crate) struct Records<T: 'static> {
    records: &'static mut [T],
    /// How often one was looked at.
    #[cfg(test)]
    pub(crate) looks: u64,
}

impl<T> Records<T> {
    pub(crate) const fn new(records: &'static mut [T]) -> Records<T> {
        Records {
            records,
            #[cfg(test)]
            looks: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> Option<&mut T> {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        self.records.get_mut(index as usize)
    }
}

impl<T: Noded> Nodes for Records<T> {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.get(at).map(Noded::node)
    }
}

/// What the neighbours of a node that came or left have to be told. There are none as long as a list has one node at most.
#[must_use = "the list is broken until its neighbours know"]
pub(crate) struct Joint {
    before: u32,
    /// What comes behind `before` now.
    next: u32,
    after: u32,
    /// What comes before `after` now.
    prev: u32,
}

impl Joint {
    #[inline(always)]
    pub(crate) fn close(self, nodes: &mut impl Nodes) {
        if self.before != NONE
            && let Some(before) = nodes.node(self.before)
        {
            before.next = self.next;
        }
        if self.after != NONE
            && let Some(after) = nodes.node(self.after)
        {
            after.prev = self.prev;
        }
    }
}

/// Head and tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const fn new() -> List {
        List { head: NONE, tail: NONE }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    #[inline]
    pub(crate) fn head(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Appends a node that is in no list.
    #[inline]
    pub(crate) fn push_back(&mut self, nodes: &mut impl Nodes, at: u32) {
        let Some(node) = nodes.node(at) else { return };
        self.append(at, node).close(nodes);
    }

    /// [`List::push_back`] of a node that is at hand.
    #[inline(always)]
    pub(crate) fn append(&mut self, at: u32, node: &mut Node) -> Joint {
        let before = core::mem::replace(&mut self.tail, at);
        *node = Node { prev: before, next: NONE };
        if before == NONE {
            self.head = at;
        }
        Joint { before, next: at, after: NONE, prev: NONE }
    }

    /// Takes out a node that is in this list.
    #[inline]
    pub(crate) fn remove(&mut self, nodes: &mut impl Nodes, at: u32) {
        let Some(node) = nodes.node(at) else { return };
        self.detach(node).close(nodes);
    }

    /// [`List::remove`] of a node that is at hand.
    #[inline(always)]
    pub(crate) fn detach(&mut self, node: &mut Node) -> Joint {
        let Node { prev, next } = core::mem::take(node);
        if prev == NONE {
            self.head = next;
        }
        if next == NONE {
            self.tail = prev;
        }
        Joint { before: prev, next, after: next, prev }
    }

    /// Takes the first one out.
    #[inline]
    pub(crate) fn pop_front(&mut self, nodes: &mut impl Nodes) -> Option<u32> {
        let head = self.head()?;
        self.remove(nodes, head);
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Nodes for [Node; 5] {
        fn node(&mut self, at: u32) -> Option<&mut Node> {
            self.get_mut(at as usize)
        }
    }

    fn drain(list: &mut List, nodes: &mut [Node; 5]) -> [Option<u32>; 6] {
        core::array::from_fn(|_| list.pop_front(nodes))
    }

    #[test]
    fn order_holds_whatever_leaves() {
        for gone in 0..5 {
            let (mut list, mut nodes) = (List::new(), [Node::new(); 5]);
            (0..5).for_each(|at| list.push_back(&mut nodes, at));
            list.remove(&mut nodes, gone);
            list.push_back(&mut nodes, gone);
            let mut expected = [None; 6];
            let order = (0..5).filter(|&at| at != gone).chain([gone]);
            expected.iter_mut().zip(order).for_each(|(slot, at)| *slot = Some(at));
            assert_eq!(drain(&mut list, &mut nodes), expected);
            assert!(list.is_empty());
        }
    }
}
