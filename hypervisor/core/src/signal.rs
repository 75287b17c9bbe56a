//! Control signals. A signal has no memory of its own: a request to connect is the client's port, a partition's end is the partition, as is the
//! request that it shut down; the first two are
//! threaded into the list of the partition they are for, and whoever sends one pays for it.

use handover_abi::{Causes, Error, PartitionId, Signal, SignalKind};

use crate::channel::{Link, PortState};
use crate::list::{Node, Nodes};
use crate::{Failure, Machine, PartitionIndex, System};

/// Which of a partition's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signals {
    /// Not taken yet.
    Queued,
    /// Requests that were taken and not answered.
    Delivered,
}

impl Nodes for System {
    fn node(&mut self, at: u32) -> Option<&mut Node> {
        let link = Link::from_raw(at);
        match link.port() {
            0 => self.get_mut(link.partition()).map(|p| &mut p.ended.node),
            _ => self.port_at_mut(link).map(|port| &mut port.request.node),
        }
    }
}

/// The signal that tells of a partition's end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    node: Node,
    /// Whether it is in its creator's list.
    pub(crate) queued: bool,
}

impl Ended {
    pub(crate) const fn new() -> Ended {
        Ended { node: Node::new(), queued: false }
    }
}

impl System {
    /// Sends a signal, with an event if the port was empty.
    pub(crate) fn signal(&mut self, m: &mut impl Machine, to: PartitionIndex, signal: Link) {
        if self.signals_push(to, Signals::Queued, signal) {
            self.raise(m, to, 0, Causes::SIGNAL);
        }
    }

    /// Appends a signal to one of `to`'s lists. → whether it was empty.
    fn signals_push(&mut self, to: PartitionIndex, list: Signals, signal: Link) -> bool {
        let Some(p) = self.get_mut(to) else { return false };
        let mut signals = *p.signals(list);
        let first = signals.is_empty();
        signals.push_back(self, signal.raw());
        if let Some(p) = self.get_mut(to) {
            *p.signals(list) = signals;
        }
        first
    }

    /// Takes a signal out of one of `to`'s lists.
    pub(crate) fn signals_remove(&mut self, to: PartitionIndex, list: Signals, signal: Link) {
        let Some(p) = self.get_mut(to) else { return };
        let mut signals = *p.signals(list);
        signals.remove(self, signal.raw());
        if let Some(p) = self.get_mut(to) {
            *p.signals(list) = signals;
        }
    }

    /// The first of one of `to`'s lists, taken out.
    pub(crate) fn signals_pop(&mut self, to: PartitionIndex, list: Signals) -> Option<Link> {
        let mut signals = *self.get_mut(to)?.signals(list);
        let first = signals.pop_front(self)?;
        if let Some(p) = self.get_mut(to) {
            *p.signals(list) = signals;
        }
        Some(Link::from_raw(first))
    }

    /// `SignalNext`: takes the next control signal. [`Error::WouldBlock`]: there is none.
    pub fn signal_next(&mut self, who: PartitionIndex) -> Result<Signal, Failure> {
        let p = self.caller(who)?;
        if let Some(argument) = p.shutdown.take() {
            // It overtakes the others: time may be short.
            let partition = p.creator.map_or(p.id, |(_, id)| id);
            return Ok(Signal { kind: SignalKind::ShutdownRequest, token: 0, partition, argument });
        }
        let link = self.signals_pop(who, Signals::Queued).ok_or(Error::WouldBlock)?;
        let partition = self.get(link.partition()).map_or(PartitionId::new(0), |p| p.id);
        if link.port() == 0 {
            let mut argument = 0;
            if let Some(p) = self.get_mut(link.partition()) {
                p.ended.queued = false;
                argument = p.reason as u64;
            }
            return Ok(Signal { kind: SignalKind::PartitionEnded, token: 0, partition, argument });
        }
        let port = self.port_at_mut(link).ok_or(Error::WouldBlock)?;
        port.state = PortState::Delivered;
        let signal = Signal {
            kind: SignalKind::Connect,
            token: port.request.token(link),
            partition,
            argument: port.request.word,
        };
        self.signals_push(who, Signals::Delivered, link);
        Ok(signal)
    }
}
