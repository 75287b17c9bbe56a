//! Events: each port latches its causes until they are taken; a partition's pending ports form a list, first come first served. Members of a
//! [set](crate::set) are in the set's list instead, and masked ports in none.

use handover_abi::{Causes, Error, Event, Port};

use crate::channel::{PortState, Ports, named};
use crate::list::{Joint, List, Node, Nodes};
use crate::{Failure, Machine, Partition, PartitionIndex, System};

/// A port's latched event. It is in a list while there are causes and it is not masked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latch {
    /// Beside the causes: [`MASKED`]. So a masked port is never the idle one that has to be put into a list.
    raw: u32,
    node: Node,
    /// The set whose member it is, or 0.
    pub(crate) set: u32,
}

/// In [`Latch::raw`].
const MASKED: u32 = 1 << 31;
const _: () = assert!(Causes::all().bits() & MASKED == 0);

impl Latch {
    pub(crate) const fn new() -> Latch {
        Latch { raw: 0, node: Node::new(), set: 0 }
    }

    pub(crate) const fn causes(&self) -> Causes {
        Causes::from_bits_retain(self.raw & !MASKED)
    }

    pub(crate) const fn is_masked(&self) -> bool {
        self.raw & MASKED != 0
    }

    /// Whether it is in a list.
    pub(crate) const fn is_pending(&self) -> bool {
        self.raw != 0 && !self.is_masked()
    }
}

/// What is left to do for a cause that has been latched.
#[must_use = "somebody may wait for it"]
pub(crate) enum Raised {
    /// Nothing: the port was pending, or is masked.
    Known,
    /// It has come into the partition's own list, which has to know; raise its interrupt.
    Listed(Joint),
    /// It belongs into a set's list ([`System::announce`]).
    Member,
}

impl Latch {
    /// Latches a cause at `port`'s latch, in the partition whose list is `pending`.
    #[inline(always)]
    pub(crate) fn raise(&mut self, pending: &mut List, port: u32, causes: Causes) -> Raised {
        let idle = self.raw == 0;
        self.raw |= causes.bits();
        if !idle {
            return Raised::Known;
        }
        if self.set != 0 { Raised::Member } else { Raised::Listed(pending.append(port, &mut self.node)) }
    }

    /// Whether [`Latch::retract`] of these causes needs nothing of the set that it may be a member of.
    #[inline(always)]
    pub(crate) fn retracts_alone(&self, causes: Causes) -> bool {
        self.set == 0 || self.raw & causes.bits() == 0
    }

    /// What these causes told of is over. → what is left to do.
    #[inline(always)]
    pub(crate) fn retract(&mut self, pending: &mut List, causes: Causes) -> Retracted {
        let left = self.raw & !causes.bits();
        if left == self.raw {
            return Retracted::Done;
        }
        if left == 0 && self.set != 0 {
            return Retracted::Member;
        }
        self.raw = left;
        if left == 0 { Retracted::Delisted(pending.detach(&mut self.node)) } else { Retracted::Done }
    }
}

/// What is left to do for causes that are over.
#[must_use = "a list may be broken"]
pub(crate) enum Retracted {
    /// Nothing.
    Done,
    /// The port has left the partition's own list, which has to know.
    Delisted(Joint),
    /// It is in a set's list, and nothing has happened yet: [`Partition::unlatch`].
    Member,
}

/// What a set keeps of its members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Members {
    /// Those with events that were not taken.
    pub(crate) pending: List,
    pub(crate) count: u32,
}

impl Members {
    pub(crate) const NONE: Members = Members { pending: List::new(), count: 0 };
}

impl Partition {
    /// The latch of a port, or of port 0.
    #[inline]
    pub(crate) fn latch(&mut self, port: u32) -> Option<&mut Latch> {
        match port {
            0 => Some(&mut self.control),
            _ => self.ports.get_mut(port).map(|port| &mut port.latch),
        }
    }

    /// Takes a port that is pending in `list` out of it.
    #[inline(always)]
    pub(crate) fn take(&mut self, port: u32, mut list: List) -> (Causes, List) {
        let Some(latch) = self.latch(port) else { return (Causes::empty(), list) };
        let causes = core::mem::replace(&mut latch.raw, 0);
        list.detach(&mut latch.node).close(self);
        (Causes::from_bits_retain(causes), list)
    }

    /// Puts a port, whose latch is set, into the list that it belongs into. → the interrupt to raise: 0 is the event interrupt.
    fn enlist(&mut self, port: u32, set: u32) -> Option<u8> {
        if set == 0 {
            let mut pending = self.pending;
            pending.push_back(self, port);
            self.pending = pending;
            return Some(0);
        }
        // A set outlives its members but for the end of the partition, which needs no interrupt any more.
        let mut list = self.ports.get(set)?.members.pending;
        list.push_back(self, port);
        let set = self.ports.get_mut(set)?;
        set.members.pending = list;
        Some(set.intid)
    }

    /// Takes a port out of the list that it is in, if it is pending. Its causes stay.
    pub(crate) fn delist(&mut self, port: u32) {
        let Some(latch) = self.latch(port).filter(|latch| latch.is_pending()) else { return };
        let set = latch.set;
        if set == 0 {
            let mut pending = self.pending;
            pending.remove(self, port);
            self.pending = pending;
            return;
        }
        let Some(mut list) = self.ports.get(set).map(|set| set.members.pending) else { return };
        list.remove(self, port);
        if let Some(set) = self.ports.get_mut(set) {
            set.members.pending = list;
        }
    }

    /// Forgets a port's causes, and that it was masked.
    pub(crate) fn unlatch(&mut self, port: u32) {
        self.delist(port);
        if let Some(latch) = self.latch(port) {
            latch.raw = 0;
        }
    }
}

/// A partition's latches, while its other parts are borrowed.
pub(crate) struct Latches<'a> {
    pub(crate) ports: &'a mut Ports,
    pub(crate) control: &'a mut Latch,
}

impl Nodes for Latches<'_> {
    #[inline]
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        match at {
            0 => Some(&mut self.control.node),
            _ => self.ports.get_mut(at).map(|port| &mut port.latch.node),
        }
    }
}

impl Nodes for Partition {
    #[inline]
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.latch(at).map(|latch| &mut latch.node)
    }
}

/// Raises a port's or a set's interrupt (0: the event interrupt) for those who are not in such a hurry that they have it in line.
#[inline(never)]
fn interrupt(m: &mut impl Machine, who: PartitionIndex, intid: u8) {
    match intid {
        0 => m.interrupt(who),
        intid => m.interrupt_chosen(who, intid),
    }
}

impl System {
    /// Latches a cause at a port, and raises its interrupt if the port was not pending.
    #[inline]
    pub(crate) fn raise(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32, causes: Causes) {
        let Some(p) = self.get_mut(who) else { return };
        let mut pending = p.pending;
        let Some(latch) = p.latch(port) else { return };
        let raised = latch.raise(&mut pending, port, causes);
        p.pending = pending;
        self.tell(m, who, port, raised);
    }

    /// Does what is left to do for a cause.
    #[inline(always)]
    pub(crate) fn tell(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32, raised: Raised) {
        match raised {
            Raised::Known => {}
            Raised::Listed(joint) => {
                if let Some(p) = self.get_mut(who) {
                    joint.close(p);
                }
                m.interrupt(who);
            }
            Raised::Member => self.announce(m, who, port),
        }
    }

    /// Puts a port that has just become pending into its list, and raises the interrupt of that.
    #[inline(never)]
    pub(crate) fn announce(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32) {
        let Some(p) = self.get_mut(who) else { return };
        let set = p.latch(port).map_or(0, |latch| latch.set);
        match p.enlist(port, set) {
            None => {}
            Some(intid) => interrupt(m, who, intid),
        }
    }

    /// `EventNext`: takes the event that has been pending longest. [`Error::WouldBlock`]: none is.
    pub fn event_next(&mut self, who: PartitionIndex) -> Result<Event, Failure> {
        let p = self.caller(who)?;
        let pending = p.pending;
        let port = pending.head().ok_or(Error::WouldBlock)?;
        let (causes, pending) = p.take(port, pending);
        p.pending = pending;
        Ok(Event { port: Port::new(port), causes })
    }

    /// `EventSend`: latches [`Causes::SIGNAL`] at the peer's port, or raises the interrupt that this is bound to.
    ///
    /// [`Error::BadHandle`], [`Error::NotConnected`], [`Error::TimedOut`], [`Error::PeerClosed`]. [`Error::Denied`]: only the peer sends.
    #[inline]
    pub fn event_send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        let number = named(port)?;
        let p = self.caller(who)?;
        let port = p.ports.get(number).ok_or(Error::BadHandle)?;
        port.connected()?;
        debug_assert!(port.state == PortState::Connected);
        if !port.signals {
            return Err(Error::Denied.into());
        }
        let peer = port.peer;
        let Some(target) = self.port_at(peer) else { return Ok(()) };
        if target.intid != 0 && !target.latch.is_masked() {
            m.interrupt_chosen(peer.partition(), target.intid);
            return Ok(());
        }
        self.raise(m, peer.partition(), peer.port(), Causes::SIGNAL);
        Ok(())
    }

    /// `EventMask`: a port's events, or those of port 0, are latched and neither taken nor told of. [`Error::BadHandle`].
    pub fn event_mask(&mut self, who: PartitionIndex, port: u64) -> Result<(), Failure> {
        let (p, number) = self.listener(who, port)?;
        p.delist(number);
        if let Some(latch) = p.latch(number) {
            latch.raw |= MASKED;
        }
        Ok(())
    }

    /// `EventUnmask`: what was latched meanwhile is told of now. [`Error::BadHandle`].
    pub fn event_unmask(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        let (p, number) = self.listener(who, port)?;
        let Some(latch) = p.latch(number).filter(|latch| latch.is_masked()) else { return Ok(()) };
        latch.raw &= !MASKED;
        self.deliver(m, who, number);
        Ok(())
    }

    /// What is latched at a port that is in no list goes where it belongs: a signal to the interrupt that it is bound to, all else into the list.
    pub(crate) fn deliver(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32) {
        let Some(p) = self.get_mut(who) else { return };
        let intid = p.ports.get(port).map_or(0, |port| port.intid);
        let Some(latch) = p.latch(port) else { return };
        let bound = intid != 0 && latch.causes().contains(Causes::SIGNAL);
        if bound {
            latch.raw &= !Causes::SIGNAL.bits();
        }
        if latch.is_pending() {
            self.announce(m, who, port);
        }
        if bound {
            interrupt(m, who, intid);
        }
    }

    /// A port that events reach: one that the caller can name, or port 0.
    pub(crate) fn listener(
        &mut self,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(&mut Partition, u32), Failure> {
        let number = named(port)?;
        let p = self.caller(who)?;
        if number != 0 {
            p.port(port)?;
        }
        Ok((p, number))
    }
}
