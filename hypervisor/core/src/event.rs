//! Events: each port latches its causes until they are taken; a partition's pending ports form a list, first come first served.

use handover_abi::{Causes, Error, Event, Port};

use crate::channel::PortState;
use crate::list::{Node, Nodes};
use crate::{Failure, Machine, Partition, PartitionIndex, System};

/// A port's latched event. It is in its partition's list while there are causes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latch {
    pub(crate) causes: Causes,
    node: Node,
}

impl Latch {
    pub(crate) const fn new() -> Latch {
        Latch { causes: Causes::empty(), node: Node::new() }
    }
}

impl Partition {
    #[inline]
    fn latch(&mut self, port: u32) -> Option<&mut Latch> {
        match port {
            0 => Some(&mut self.control),
            _ => self.ports.get_mut(port).map(|port| &mut port.latch),
        }
    }

    /// Latches a cause. → whether the port was not pending before.
    #[inline]
    fn raise(&mut self, port: u32, causes: Causes) -> bool {
        let Some(latch) = self.latch(port) else { return false };
        let idle = latch.causes.is_empty();
        latch.causes |= causes;
        if idle {
            let mut pending = self.pending;
            pending.push_back(self, port);
            self.pending = pending;
        }
        idle
    }

    /// Forgets a port's causes.
    #[inline]
    pub(crate) fn unlatch(&mut self, port: u32) -> Causes {
        let Some(latch) = self.latch(port) else { return Causes::empty() };
        let causes = core::mem::replace(&mut latch.causes, Causes::empty());
        if !causes.is_empty() {
            let mut pending = self.pending;
            pending.remove(self, port);
            self.pending = pending;
        }
        causes
    }
}

impl Nodes for Partition {
    #[inline]
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        self.latch(at).map(|latch| &mut latch.node)
    }
}

impl System {
    /// Latches a cause at a port, and raises the event interrupt if the port was not pending.
    #[inline]
    pub(crate) fn raise(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32, causes: Causes) {
        if let Some(p) = self.get_mut(who)
            && p.raise(port, causes)
        {
            m.interrupt(who);
        }
    }

    /// `EventNext`: takes the event that has been pending longest. [`Error::WouldBlock`]: none is.
    pub fn event_next(&mut self, who: PartitionIndex) -> Result<Event, Failure> {
        let p = self.caller(who)?;
        let port = p.pending.head().ok_or(Error::WouldBlock)?;
        let causes = p.unlatch(port);
        Ok(Event { port: Port::new(port), causes })
    }

    /// `EventSend`: latches [`Causes::SIGNAL`] at the peer's port.
    ///
    /// [`Error::BadHandle`], [`Error::NotConnected`], [`Error::PeerClosed`].
    pub fn event_send(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let port = p.port(port)?;
        port.connected()?;
        debug_assert!(port.state == PortState::Connected);
        let peer = port.peer;
        self.raise(m, peer.partition(), peer.port(), Causes::SIGNAL);
        Ok(())
    }
}
