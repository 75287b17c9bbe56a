//! Message channels as sockets: their states, and what the control OS's events do to them.

use alloc::collections::VecDeque;

use handover_abi::{
    Causes, Event, PartitionId, Port, RequestFlags, RequestWord, ServiceId, Signal, SignalKind,
};

use crate::{
    Errno, Received,
    files::{Files, Waitable},
    interface::{Address, REFUSED_BUSY, REFUSED_KIND, REFUSED_UNKNOWN},
    message::destroy,
    readiness::Readiness,
    system::System,
};

/// Requests that may wait at one listener at most.
pub(crate) const BACKLOG_MAX: usize = 128;

/// A request that waits to be accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) token: u64,
    pub(crate) partition: PartitionId,
    /// Which of the two ends sends, if not both do.
    pub(crate) flags: RequestFlags,
}

/// What a socket is doing.
#[derive(Debug)]
pub(crate) enum SocketState {
    /// Nothing yet.
    New,
    /// It permits connections to its service, so many at a time.
    Listening { backlog: usize, requests: VecDeque<Request> },
    /// It has asked for a channel.
    Connecting(Port),
    /// It has a channel.
    Connected(Port),
    /// Its request was not accepted, for this reason, or its channel is closed.
    Closed(Errno),
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) state: SocketState,
    /// The service it is bound to, or whose request was accepted.
    pub(crate) service: Option<ServiceId>,
    pub(crate) peer: Option<Address>,
    /// Whether messages come as mappings.
    pub(crate) maps: bool,
    /// A message that was taken and could not be told to the program yet.
    pub(crate) held: Option<Received>,
    /// Whether a message may wait at the port.
    pub(crate) message: bool,
    /// Whether the peer's queue is full.
    pub(crate) full: bool,
    /// Whether the peer has closed its end.
    pub(crate) peer_closed: bool,
    /// Whether that is because its partition has ended.
    pub(crate) peer_ended: bool,
    /// By `shutdown`.
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// What `SO_ERROR` and the next `connect` tell, once.
    pub(crate) error: Option<Errno>,
    pub(crate) refusal: u32,
    /// Unlike its place in the arena, never used again.
    pub(crate) number: u64,
    /// Grows with every change, for edge-triggered waits.
    pub(crate) changes: u64,
}

impl Socket {
    pub(crate) fn new(state: SocketState, number: u64) -> Socket {
        Socket {
            state,
            service: None,
            peer: None,
            maps: false,
            held: None,
            message: false,
            full: false,
            peer_closed: false,
            peer_ended: false,
            reads: true,
            writes: true,
            error: None,
            refusal: 0,
            number,
            changes: 0,
        }
    }

    /// Its port, if it has one.
    pub(crate) fn port(&self) -> Option<Port> {
        match self.state {
            SocketState::Connecting(port) | SocketState::Connected(port) => Some(port),
            _ => None,
        }
    }

    /// Takes the causes of an event; whether its request has failed.
    fn take(&mut self, causes: Causes) -> Option<Errno> {
        self.changes += 1;
        if let SocketState::Connecting(port) = self.state {
            if causes.contains(Causes::CONNECTED) {
                self.state = SocketState::Connected(port);
            } else if causes.contains(Causes::REFUSED) {
                return Some(Errno::CONNREFUSED);
            } else if causes.contains(Causes::TIMED_OUT) {
                return Some(Errno::TIMEDOUT);
            } else if causes.contains(Causes::PEER_CLOSED) {
                return Some(Errno::CONNRESET);
            }
        }
        self.message |= causes.contains(Causes::MESSAGE);
        self.full &= !causes.contains(Causes::SPACE);
        self.peer_closed |= causes.contains(Causes::PEER_CLOSED);
        None
    }
}

impl Files {
    pub(crate) fn socket(&self, number: u32) -> Result<&Socket, Errno> {
        self.sockets.get(number).ok_or(Errno::BADF)
    }

    pub(crate) fn socket_mut(&mut self, number: u32) -> Result<&mut Socket, Errno> {
        self.sockets.get_mut(number).ok_or(Errno::BADF)
    }

    /// Takes everything that the control OS has to tell: events of ports, and control signals. To be called when its interrupt was taken.
    pub fn channel_events(&mut self, system: &mut dyn System) {
        // An error means that there is no control OS, and no events.
        while let Ok(Some(event)) = system.next_event() {
            if event.port == Port::CONTROL {
                self.control_signals(system);
            } else {
                self.channel_event(event, system);
            }
        }
    }

    fn channel_event(&mut self, event: Event, system: &mut dyn System) {
        // The port of a socket that was closed meanwhile may still have had an event.
        let Some(&number) = self.ports.get(&event.port) else { return };
        let Some(socket) = self.sockets.get_mut(number) else { return };
        if let Some(failed) = socket.take(event.causes) {
            if failed == Errno::CONNREFUSED
                && let Ok(status) = system.port_status(event.port)
            {
                socket.refusal = status.reason;
            }
            socket.state = SocketState::Closed(failed);
            socket.error = Some(failed);
            self.drop_port(event.port, system);
        }
        self.wake(Waitable::Socket(number));
    }

    /// Takes the control signals.
    fn control_signals(&mut self, system: &mut dyn System) {
        loop {
            match system.next_signal() {
                Ok(Some(signal)) if signal.kind == SignalKind::Connect => self.request(signal, system),
                Ok(Some(signal)) => {
                    if signal.kind == SignalKind::PartitionEnded {
                        self.partition_ended(signal.partition);
                    }
                    self.signals.push(signal);
                    self.wake(Waitable::Control);
                }
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn partition_ended(&mut self, partition: PartitionId) {
        for (_, socket) in self.sockets.iter_mut() {
            if socket.peer.is_some_and(|peer| peer.partition == partition) {
                socket.peer_ended = true;
            }
        }
    }

    /// Somebody asks for a channel.
    fn request(&mut self, signal: Signal, system: &mut dyn System) {
        let (token, partition) = (signal.token, signal.partition);
        let word = RequestWord::from_register(signal.argument);
        let Some(RequestWord { service, flags, .. }) =
            word.filter(|word| !word.flags.intersects(RequestFlags::EVENTS | RequestFlags::MEMORY))
        else {
            let request = Request { token, partition, flags: RequestFlags::empty() };
            return refuse(request, REFUSED_KIND, system);
        };
        let request = Request { token, partition, flags };
        let listener = self.services.get(&service).copied();
        let reason = match listener.and_then(|listener| self.sockets.get_mut(listener)) {
            Some(Socket { state: SocketState::Listening { backlog, requests }, changes, .. }) => {
                if requests.len() < *backlog {
                    requests.push_back(request);
                    *changes += 1;
                    None
                } else {
                    Some(REFUSED_BUSY)
                }
            }
            _ => Some(REFUSED_UNKNOWN),
        };
        match (reason, listener) {
            (Some(reason), _) => refuse(request, reason, system),
            (None, Some(listener)) => self.wake(Waitable::Socket(listener)),
            (None, None) => {}
        }
    }

    /// Destroys a port. It fails only if the control OS does not know the port, which is what is wanted.
    pub(crate) fn drop_port(&mut self, port: Port, system: &mut dyn System) {
        self.ports.remove(&port);
        _ = system.disconnect(port);
    }

    /// A listener permits no more connections: the requests that wait are refused.
    pub(crate) fn stop_listening(&mut self, number: u32, system: &mut dyn System) {
        let Some(socket) = self.sockets.get_mut(number) else { return };
        let SocketState::Listening { requests, .. } = core::mem::replace(&mut socket.state, SocketState::New)
        else {
            return;
        };
        for request in requests {
            refuse(request, REFUSED_UNKNOWN, system);
        }
    }

    /// The last descriptor was closed: the port goes, and with it what was sent to it.
    pub(crate) fn close_socket(&mut self, number: u32, system: &mut dyn System) {
        if let Some(Socket { state: SocketState::Listening { .. }, .. }) = self.sockets.get(number) {
            self.stop_listening(number, system);
        }
        let Some(socket) = self.sockets.remove(number) else { return };
        if let Some(service) = socket.service
            && self.services.get(&service) == Some(&number)
        {
            self.services.remove(&service);
        }
        if let Some(region) = socket.held.and_then(|held| held.region) {
            destroy(region, system);
        }
        if let Some(port) = socket.port() {
            self.drop_port(port, system);
        }
    }

    pub(crate) fn socket_readiness(&mut self, number: u32, system: &mut dyn System) -> Readiness {
        let Some(socket) = self.sockets.get_mut(number) else { return Readiness::INVALID };
        let gone = Readiness::HANG_UP | Readiness::READ_HANG_UP | Readiness::IN | Readiness::OUT;
        let mut ready = Readiness::empty();
        match &socket.state {
            SocketState::New => return Readiness::OUT | Readiness::HANG_UP,
            SocketState::Listening { requests, .. } => {
                ready.set(Readiness::IN, !requests.is_empty());
                return ready;
            }
            SocketState::Connecting(_) => return ready,
            SocketState::Closed(_) => {
                ready.set(Readiness::ERROR, socket.error.is_some());
                return gone | ready;
            }
            &SocketState::Connected(port) => {
                if socket.message && socket.held.is_none() {
                    // The event may be older than the last message that was taken.
                    socket.message =
                        system.port_status(port).is_ok_and(|status| status.causes.contains(Causes::MESSAGE));
                }
            }
        }
        if socket.peer_closed {
            return gone;
        }
        ready.set(Readiness::IN, socket.message || socket.held.is_some() || !socket.reads);
        ready.set(Readiness::READ_HANG_UP, !socket.reads);
        ready.set(Readiness::OUT, !socket.full || !socket.writes);
        ready
    }
}

/// Refuses a request. It fails only if the asker has gone.
fn refuse(request: Request, reason: u32, system: &mut dyn System) {
    _ = system.refuse(request.token, reason);
}
