//! The end of a port.

use handover_abi::Causes;

use crate::channel::{Link, PortState, named};
use crate::region::STEP;
use crate::{Failure, Machine, PartitionIndex, Progress, System};

impl System {
    /// `Disconnect`: one step of destroying a port. From the first step on the port has no name and the peer knows. What was sent to it
    /// is given back to free memory; what was sent from it can still be received. A request without an answer is withdrawn.
    ///
    /// [`BadHandle`](handover_abi::Error::BadHandle). [`Throttled`](handover_abi::Error::Throttled): of shared memory that is mapped, and stays so.
    pub fn disconnect(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<Progress, Failure> {
        let p = self.caller(who)?;
        let number = named(port)?;
        match p.ports.get(number).map(|port| port.state) {
            None | Some(PortState::Lingering | PortState::Set) => Err(handover_abi::Error::BadHandle.into()),
            Some(_) => {
                p.shared_charge_bus(m, number)?;
                Ok(self.close(m, Link::new(who, number), false))
            }
        }
    }

    /// One step of closing a port. If its partition `ended`, what was sent from it goes too.
    pub(crate) fn close(&mut self, m: &mut impl Machine, at: Link, ended: bool) -> Progress {
        let Some(port) = self.port_at_mut(at) else { return Progress::Done };
        let (state, peer) = (port.state, port.peer);
        match state {
            PortState::Requested
            | PortState::Delivered
            | PortState::Refused
            | PortState::TimedOut
            | PortState::Set => {
                self.withdraw(at);
                if self.has_no_memory(at) {
                    self.forget(at);
                    return Progress::Done;
                }
                self.hide(at);
                self.part(at);
            }
            PortState::Connected | PortState::Severed => {
                self.hide(at);
                self.calls_close(m, at);
                if state == PortState::Connected {
                    self.sever(m, peer);
                }
            }
            PortState::Closing | PortState::Lingering => {}
        }
        let mut budget = STEP;
        if !self.shared_leave(m, at, ended, &mut budget) || !self.drain(m, at, &mut budget) {
            return Progress::Again;
        }
        // Draining may have freed the peer.
        let Some(peer) = self.port_at(at).map(|port| port.peer) else { return Progress::Done };
        let waiting = self.port_at(peer).is_some_and(|peer| peer.queue.count > 0);
        if waiting && ended {
            if !self.drain(m, peer, &mut budget) {
                return Progress::Again;
            }
        } else if waiting {
            if let Some(port) = self.port_at_mut(at) {
                port.state = PortState::Lingering;
            }
            return Progress::Done;
        }
        self.unjoin(at);
        Progress::Done
    }

    fn has_no_memory(&self, at: Link) -> bool {
        self.port_at(at).is_none_or(|port| !port.shared.is_some())
    }

    /// From here on no guest can name it.
    fn hide(&mut self, at: Link) {
        if let Some(port) = self.port_at_mut(at) {
            port.state = PortState::Closing;
        }
        if let Some(p) = self.get_mut(at.partition()) {
            p.leave_set(at.port());
        }
    }

    /// It has no peer: what it names as one is the server that it has asked.
    fn part(&mut self, at: Link) {
        if let Some(port) = self.port_at_mut(at) {
            port.peer = Link::NONE;
        }
    }

    /// Tells a connected port that its peer is gone, or as good as gone. Where they share memory, the event comes once that is zero.
    fn sever(&mut self, m: &mut impl Machine, at: Link) {
        if let Some(port) = self.port_at_mut(at)
            && port.state == PortState::Connected
        {
            port.state = PortState::Severed;
            if !port.shared.is_some() {
                self.raise(m, at.partition(), at.port(), Causes::PEER_CLOSED);
            }
        }
    }

    /// The same for a port whose request nobody will answer any more.
    pub(crate) fn abandon(&mut self, m: &mut impl Machine, client: Link) {
        self.forget_timeout(client);
        if let Some(port) = self.port_at_mut(client) {
            port.state = PortState::Severed;
            port.peer = Link::NONE;
            self.raise(m, client.partition(), client.port(), Causes::PEER_CLOSED);
        }
    }

    /// Clears what is in a port's queue, at most `budget` pages or messages of it. → whether nothing is left.
    fn drain(&mut self, m: &mut impl Machine, at: Link, budget: &mut u32) -> bool {
        loop {
            let Some(port) = self.port_at(at) else { return true };
            let (head, owner) = (port.queue.head, port.peer.partition());
            if port.queue.count == 0 {
                return true;
            }
            if *budget == 0 {
                return false;
            }
            let Some(p) = self.get_mut(owner) else { return true };
            let Some(entry) = p.entries.get_mut(head) else { return true };
            let next = entry.next;
            match &mut entry.body {
                Some(body) => {
                    if !body.clear(m, budget) {
                        return false;
                    }
                    let body = *body;
                    p.release_body(&body);
                }
                None => *budget = budget.wrapping_sub(1),
            }
            p.entries.remove(head);
            self.drop_head(at, next);
        }
    }

    fn drop_head(&mut self, at: Link, next: u32) {
        let Some(port) = self.port_at_mut(at) else { return };
        port.queue.head = next;
        port.queue.count = port.queue.count.wrapping_sub(1);
        if port.queue.count == 0 {
            port.queue.tail = 0;
            let peer = port.peer;
            self.settle(at, peer);
        }
    }

    /// After the queue of `at` ran empty: a peer that lingered for its sake goes.
    pub(crate) fn settle(&mut self, at: Link, peer: Link) {
        if self.port_at(peer).is_some_and(|peer| peer.state == PortState::Lingering) {
            self.forget(peer);
            if let Some(port) = self.port_at_mut(at) {
                port.peer = Link::NONE;
            }
        }
    }

    /// Forgets a port between which and its peer no message is left. The peer does not linger: it would have gone with the last one.
    fn unjoin(&mut self, at: Link) {
        let Some(peer) = self.port_at(at).map(|port| port.peer) else { return };
        if let Some(peer) = self.port_at_mut(peer) {
            debug_assert!(peer.state != PortState::Lingering);
            peer.peer = Link::NONE;
        }
        self.forget(at);
    }

    fn forget(&mut self, at: Link) {
        if let Some(p) = self.get_mut(at.partition()) {
            p.port_remove(at.port());
        }
    }
}
