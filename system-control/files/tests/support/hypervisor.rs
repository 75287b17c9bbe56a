//! A model of the control OS's channels and regions, as docs/abi.md has them, for the host.

use handover_abi::{Causes, Error, Event, PartitionId, Port, RegionHandle, SHORT_MAX, Signal, SignalKind};
use std::collections::{BTreeMap, VecDeque};

/// Messages that may wait at a port.
pub const QUEUE: usize = 64;

#[derive(Debug)]
struct Record {
    owner: u32,
    service: u32,
    peer: Option<u32>,
    state: State,
    queue: VecDeque<(Option<u64>, Vec<u8>)>,
    latched: Causes,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Asking,
    Connected,
    Refused(u32),
    TimedOut,
    PeerClosed,
}

/// Partitions by number, with what they hold.
#[derive(Debug, Default)]
pub struct Hypervisor {
    ports: BTreeMap<u32, Record>,
    next_port: u32,
    /// Regions by a name that never comes back: the holder (0: a queue), and the bytes.
    regions: BTreeMap<u64, (u32, Vec<u8>)>,
    next_region: u64,
    signals: BTreeMap<u32, VecDeque<Signal>>,
    events: BTreeMap<u32, VecDeque<u32>>,
    /// Regions that a partition may hold.
    pub limit: Option<usize>,
    /// Regions that partitions have sent and received.
    pub moved: BTreeMap<u32, [usize; 2]>,
}

/// A message that was received: the region, and the short message.
pub type Message = (Option<u64>, Vec<u8>);

impl Hypervisor {
    fn latch(&mut self, port: u32, causes: Causes) {
        let (owner, fresh) = match self.ports.get_mut(&port) {
            Some(record) => {
                let fresh = record.latched.is_empty();
                record.latched |= causes;
                (record.owner, fresh)
            }
            None => return,
        };
        if fresh {
            self.events.entry(owner).or_default().push_back(port);
        }
    }

    /// Which port of a partition this is, if it is.
    fn own(&mut self, me: u32, port: u32) -> Result<&mut Record, Error> {
        self.ports.get_mut(&port).filter(|record| record.owner == me).ok_or(Error::BadHandle)
    }

    pub fn connect(&mut self, me: u32, to: u32, service: u32) -> Result<u32, Error> {
        if !(1..10).contains(&to) {
            return Err(Error::BadHandle);
        }
        self.next_port += 1;
        let port = self.next_port;
        let (state, latched) = (State::Asking, Causes::empty());
        self.ports
            .insert(port, Record { owner: me, service, peer: None, state, queue: VecDeque::new(), latched });
        let argument = service.into();
        let signal = Signal {
            kind: SignalKind::Connect,
            token: port.into(),
            partition: PartitionId::new(me),
            argument,
        };
        self.signal(to, signal);
        Ok(port)
    }

    pub fn signal(&mut self, to: u32, signal: Signal) {
        let queue = self.signals.entry(to).or_default();
        queue.push_back(signal);
        if queue.len() == 1 {
            self.events.entry(to).or_default().push_back(0);
        }
    }

    /// The signal that was sent last.
    pub fn last_signal(&mut self, to: u32) -> &mut Signal {
        self.signals.get_mut(&to).and_then(VecDeque::back_mut).unwrap()
    }

    fn asking(&self, token: u64) -> Result<u32, Error> {
        let port = token as u32;
        self.ports
            .get(&port)
            .filter(|record| record.state == State::Asking)
            .map(|_| port)
            .ok_or(Error::BadHandle)
    }

    pub fn accept(&mut self, me: u32, token: u64) -> Result<u32, Error> {
        let client = self.asking(token)?;
        self.next_port += 1;
        let port = self.next_port;
        let service = self.ports[&client].service;
        let (peer, state, latched) = (Some(client), State::Connected, Causes::empty());
        self.ports.insert(port, Record { owner: me, service, peer, state, queue: VecDeque::new(), latched });
        let record = self.ports.get_mut(&client).unwrap();
        record.state = State::Connected;
        record.peer = Some(port);
        self.latch(client, Causes::CONNECTED);
        self.latch(port, Causes::CONNECTED);
        Ok(port)
    }

    pub fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Error> {
        let client = self.asking(token)?;
        self.ports.get_mut(&client).unwrap().state = State::Refused(reason);
        self.latch(client, Causes::REFUSED);
        Ok(())
    }

    /// The request of this port's has no answer in time.
    pub fn time_out(&mut self, port: u32) {
        self.ports.get_mut(&port).unwrap().state = State::TimedOut;
        self.latch(port, Causes::TIMED_OUT);
    }

    pub fn disconnect(&mut self, me: u32, port: u32) -> Result<(), Error> {
        self.own(me, port)?;
        let record = self.ports.remove(&port).unwrap();
        self.events.entry(me).or_default().retain(|&other| other != port);
        for (region, _) in record.queue {
            region.map(|region| self.regions.remove(&region));
        }
        if let Some(peer) = record.peer
            && let Some(other) = self.ports.get_mut(&peer)
        {
            other.state = State::PeerClosed;
            other.peer = None;
            self.latch(peer, Causes::PEER_CLOSED);
        }
        Ok(())
    }

    pub fn send(&mut self, me: u32, port: u32, region: Option<u64>, short: &[u8]) -> Result<(), Error> {
        let peer = match self.own(me, port)? {
            Record { state: State::Connected, peer: Some(peer), .. } => *peer,
            Record { state: State::PeerClosed, .. } => return Err(Error::PeerClosed),
            _ => return Err(Error::NotConnected),
        };
        if let Some(region) = region {
            assert_eq!(self.regions.get(&region).map(|region| region.0), Some(me), "the sender holds it");
        }
        let queue = &mut self.ports.get_mut(&peer).unwrap().queue;
        if queue.len() == QUEUE {
            return Err(Error::QueueFull);
        }
        queue.push_back((region, short.to_vec()));
        let first = queue.len() == 1;
        region.map(|region| self.regions.get_mut(&region).map(|region| region.0 = 0));
        self.moved.entry(me).or_default()[0] += usize::from(region.is_some());
        if first {
            self.latch(peer, Causes::MESSAGE);
        }
        Ok(())
    }

    pub fn receive(&mut self, me: u32, port: u32) -> Result<Message, Error> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let held = self.regions.values().filter(|region| region.0 == me).count();
        let record = self.own(me, port)?;
        let full = record.queue.len() == QUEUE;
        let Some((region, _)) = record.queue.front() else {
            return Err(match record.state {
                State::Connected => Error::WouldBlock,
                State::PeerClosed => Error::PeerClosed,
                _ => Error::NotConnected,
            });
        };
        if region.is_some() && held >= limit {
            return Err(Error::Limit);
        }
        let (region, short) = record.queue.pop_front().unwrap();
        let peer = record.peer;
        region.map(|region| self.regions.get_mut(&region).map(|region| region.0 = me));
        self.moved.entry(me).or_default()[1] += usize::from(region.is_some());
        if let Some(peer) = peer.filter(|_| full) {
            self.latch(peer, Causes::SPACE);
        }
        Ok((region, short))
    }

    /// The causes that hold, the peer, the reason.
    pub fn status(&mut self, me: u32, port: u32) -> Result<(Causes, u32, u32), Error> {
        let record = self.own(me, port)?;
        let (mut causes, reason, peer) = (Causes::empty(), record.state, record.peer);
        causes.set(Causes::MESSAGE, !record.queue.is_empty());
        causes.set(Causes::CONNECTED, record.state == State::Connected);
        causes.set(Causes::PEER_CLOSED, record.state == State::PeerClosed);
        let owner = peer.and_then(|peer| self.ports.get(&peer)).map_or(0, |peer| peer.owner);
        Ok((causes, owner, if let State::Refused(reason) = reason { reason } else { 0 }))
    }

    pub fn next_event(&mut self, me: u32) -> Option<Event> {
        let port = self.events.entry(me).or_default().pop_front()?;
        let causes = match self.ports.get_mut(&port) {
            Some(record) => std::mem::replace(&mut record.latched, Causes::empty()),
            None => Causes::SIGNAL,
        };
        Some(Event { port: Port::new(port), causes })
    }

    pub fn next_signal(&mut self, me: u32) -> Option<Signal> {
        self.signals.entry(me).or_default().pop_front()
    }

    pub fn create(&mut self, me: u32, bytes: u64) -> Result<u64, Error> {
        let held = self.regions.values().filter(|region| region.0 == me).count();
        if self.limit.is_some_and(|limit| held >= limit) {
            return Err(Error::Limit);
        }
        assert!(bytes.is_power_of_two() && bytes >= 4096);
        self.next_region += 1;
        self.regions.insert(self.next_region, (me, vec![0; bytes as usize]));
        Ok(self.next_region)
    }

    pub fn destroy(&mut self, me: u32, region: u64) -> Result<(), Error> {
        self.bytes(me, region)?;
        self.regions.remove(&region);
        Ok(())
    }

    pub fn bytes(&mut self, me: u32, region: u64) -> Result<&mut Vec<u8>, Error> {
        self.regions
            .get_mut(&region)
            .filter(|region| region.0 == me)
            .map(|region| &mut region.1)
            .ok_or(Error::BadHandle)
    }

    /// Regions that a partition holds.
    pub fn held(&self, me: u32) -> usize {
        self.regions.values().filter(|region| region.0 == me).count()
    }

    /// All regions there are, also in queues.
    pub fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Ports that a partition has.
    pub fn ports(&self, me: u32) -> usize {
        self.ports.values().filter(|record| record.owner == me).count()
    }
}

/// A region's handle; 24 bits are enough for a test.
pub fn handle(region: u64) -> RegionHandle {
    RegionHandle::new(region as u32)
}

/// A short message, as registers carry it.
pub fn padded(short: &[u8]) -> [u8; SHORT_MAX] {
    let mut bytes = [0; SHORT_MAX];
    bytes[..short.len()].copy_from_slice(short);
    bytes
}
