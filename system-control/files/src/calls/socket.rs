//! Sockets: making them, and having them connected.

use handover_abi::{PartitionId, RequestFlags};
use linux_raw_sys::{
    general::{O_CLOEXEC, O_NONBLOCK, O_RDWR},
    net::{
        AF_UNIX, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ACCEPTCONN, SO_DOMAIN, SO_ERROR, SO_PROTOCOL, SO_RCVBUF,
        SO_REUSEADDR, SO_SNDBUF, SO_TYPE, SOCK_SEQPACKET, SOL_SOCKET,
    },
};

use super::{Caller, Fd};
use crate::{
    Errno,
    channels::errno,
    files::Waitable,
    interface::{AF_HANDOVER, Address, HANDOVER_MAP, HANDOVER_REFUSAL, SOL_HANDOVER},
    open::{Object, Open},
    pair::{Kind, Pair, PairEnd},
    ring::CAPACITY,
    socket::{BACKLOG_MAX, Request, Socket, SocketState},
};

impl Caller<'_> {
    pub(super) fn socket_of(&self, fd: Fd) -> Result<u32, Errno> {
        match self.open_of(fd)?.1.object {
            Object::Socket(number) => Ok(number),
            // Connected for good.
            Object::Pair(_) => Err(Errno::OPNOTSUPP),
            Object::Path => Err(Errno::BADF),
            _ => Err(Errno::NOTSOCK),
        }
    }

    /// Whether a descriptor is a socket.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn is_socket(&self, fd: Fd) -> Result<bool, Errno> {
        Ok(matches!(self.open_of(fd)?.1.object, Object::Socket(_) | Object::Pair(_)))
    }

    /// The pair that a socket is of, and which of the two it is.
    fn pair_of(&self, fd: Fd) -> Result<Option<PairEnd>, Errno> {
        match self.open_of(fd)?.1.object {
            Object::Pair(end) => Ok(Some(end)),
            _ => Ok(None),
        }
    }

    /// Whether a socket is one of a pair.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn is_pair(&self, fd: Fd) -> Result<bool, Errno> {
        Ok(self.pair_of(fd)?.is_some())
    }

    /// `socketpair`, of the domain `AF_UNIX`.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::OPNOTSUPP`] for message channels, [`Errno::AFNOSUPPORT`] for other domains.
    pub fn socketpair(&mut self, domain: u32, kind: u32, protocol: u32) -> Result<[Fd; 2], Errno> {
        let flags = kind & (O_CLOEXEC | O_NONBLOCK);
        match domain {
            AF_UNIX => {}
            domain if domain == u32::from(AF_HANDOVER) => return Err(Errno::OPNOTSUPP),
            _ => return Err(Errno::AFNOSUPPORT),
        }
        let kind = Kind::of(kind & !flags).ok_or(Errno::SOCKTNOSUPPORT)?;
        if protocol > AF_UNIX {
            return Err(Errno::PROTONOSUPPORT);
        }
        let first = self.descriptors.lowest(0)?;
        self.descriptors.lowest(first + 1)?;
        let number = self.files.next_number();
        let pair = self.files.pairs.insert(self.files.payer, Pair::new(kind, number)).ok_or(Errno::NFILE)?;
        let mut ends = [0; 2];
        for (place, second) in [false, true].into_iter().enumerate() {
            let object = Object::Pair(PairEnd { pair, second });
            let made = self.files.make_open(Open::new(object, None, O_RDWR | flags & O_NONBLOCK));
            match made.and_then(|open| self.install(open, flags & O_CLOEXEC != 0)) {
                Ok(fd) => ends[place] = fd,
                Err(errno) => {
                    if second {
                        self.close(ends[0])?;
                    }
                    self.files.pairs.remove(pair);
                    return Err(errno);
                }
            }
        }
        Ok(ends)
    }

    fn install_socket(&mut self, socket: Socket, flags: u32) -> Result<(Fd, u32), Errno> {
        let number = self.files.sockets.insert(self.files.payer, socket).ok_or(Errno::NFILE)?;
        match self.files.make_open(Open::new(Object::Socket(number), None, O_RDWR | flags & O_NONBLOCK)) {
            Ok(open) => Ok((self.install(open, flags & O_CLOEXEC != 0)?, number)),
            Err(failed) => {
                self.files.close_socket(number, self.system);
                Err(failed)
            }
        }
    }

    /// `socket`: of the domain [`AF_HANDOVER`], `SOCK_SEQPACKET`.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::AFNOSUPPORT`] for other domains.
    pub fn socket(&mut self, domain: u32, kind: u32, protocol: u32) -> Result<Fd, Errno> {
        let flags = kind & (O_CLOEXEC | O_NONBLOCK);
        if domain != u32::from(AF_HANDOVER) {
            return Err(Errno::AFNOSUPPORT);
        }
        if kind & !flags != SOCK_SEQPACKET {
            return Err(Errno::SOCKTNOSUPPORT);
        }
        if protocol != 0 {
            return Err(Errno::PROTONOSUPPORT);
        }
        self.descriptors.lowest(0)?;
        let number = self.files.next_number();
        self.install_socket(Socket::new(SocketState::New, number), flags).map(|(fd, _)| fd)
    }

    fn address(&self, bytes: &[u8]) -> Result<Address, Errno> {
        if bytes.len() < Address::SIZE {
            return Err(Errno::INVAL);
        }
        let mut address = Address::from_bytes(bytes).ok_or(Errno::AFNOSUPPORT)?;
        if address.partition == PartitionId::new(0) {
            address.partition = self.system.partition();
        }
        Ok(address)
    }

    /// `bind`: the service that the socket is to listen on.
    ///
    /// # Errors
    ///
    /// [`Errno::ADDRINUSE`] when another socket is bound to it, [`Errno::ADDRNOTAVAIL`] when the address is another partition's,
    /// [`Errno::INVAL`] when it is bound already or the address is too short.
    pub fn bind(&mut self, fd: Fd, address: &[u8]) -> Result<(), Errno> {
        let number = self.socket_of(fd)?;
        let address = self.address(address)?;
        if address.partition != self.system.partition() {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let socket = self.files.socket(number)?;
        if socket.service.is_some() || !matches!(socket.state, SocketState::New) {
            return Err(Errno::INVAL);
        }
        if self.files.services.contains_key(&address.service) {
            return Err(Errno::ADDRINUSE);
        }
        self.files.services.insert(address.service, number);
        self.files.socket_mut(number)?.service = Some(address.service);
        Ok(())
    }

    /// `listen`: permits connections to the service; so many requests may wait.
    ///
    /// # Errors
    ///
    /// [`Errno::DESTADDRREQ`] when it is bound to none, [`Errno::INVAL`] when it is connected.
    pub fn listen(&mut self, fd: Fd, backlog: i32) -> Result<(), Errno> {
        let number = self.socket_of(fd)?;
        let socket = self.files.socket_mut(number)?;
        let most = usize::try_from(backlog).unwrap_or(BACKLOG_MAX).clamp(1, BACKLOG_MAX);
        match &mut socket.state {
            SocketState::Listening { backlog, .. } => *backlog = most,
            SocketState::New if socket.service.is_none() => return Err(Errno::DESTADDRREQ),
            SocketState::New => {
                socket.state = SocketState::Listening { backlog: most, requests: Default::default() };
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// `accept4`: a new descriptor for the oldest request; [`getpeername`](Caller::getpeername) tells whose it was.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::AGAIN`] when no request waits. [`Errno::NOBUFS`], [`Errno::NOMEM`] and [`Errno::MFILE`] leave the request waiting.
    pub fn accept4(&mut self, fd: Fd, flags: u32) -> Result<Fd, Errno> {
        if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
            return Err(Errno::INVAL);
        }
        let number = self.socket_of(fd)?;
        let service = self.files.socket(number)?.service;
        self.descriptors.lowest(0)?;
        if !self.files.sockets.has_room(self.files.payer) || !self.files.opens.has_room(self.files.payer) {
            return Err(Errno::NFILE);
        }
        loop {
            let SocketState::Listening { requests, .. } = &mut self.files.socket_mut(number)?.state else {
                return Err(Errno::INVAL);
            };
            let Request { token, partition, flags: kind } = *requests.front().ok_or(Errno::AGAIN)?;
            let accepted = self.system.accept(token);
            if let Err(failure) = accepted
                && failure.error != handover_abi::Error::BadHandle
            {
                return Err(errno(failure));
            }
            requests.pop_front();
            // Otherwise the client has withdrawn it.
            if let Ok(port) = accepted {
                let mut socket = Socket::new(SocketState::Connected(port), self.files.next_number());
                socket.writes = !kind.contains(RequestFlags::SEND_ONLY);
                socket.reads = !kind.contains(RequestFlags::RECEIVE_ONLY);
                socket.peer = service.map(|service| Address { partition, service });
                let (fd, number) = self.install_socket(socket, flags)?;
                self.files.ports.insert(port, number);
                return Ok(fd);
            }
        }
    }

    /// `connect`: asks for a channel, and returns before there is an answer. A thread that may wait waits for the descriptor's key until
    /// [`connect_result`](Caller::connect_result) has one.
    ///
    /// # Errors
    ///
    /// [`Errno::INPROGRESS`] when it was asked for; Linux's.
    pub fn connect(&mut self, fd: Fd, address: &[u8]) -> Result<(), Errno> {
        let number = self.socket_of(fd)?;
        let address = self.address(address)?;
        match self.files.socket(number)?.state {
            SocketState::New => {}
            SocketState::Connecting(_) => return Err(Errno::ALREADY),
            SocketState::Connected(_) => return Err(Errno::ISCONN),
            SocketState::Listening { .. } => return Err(Errno::INVAL),
            SocketState::Closed(_) => return self.connect_result(fd).and(Err(Errno::CONNABORTED)),
        }
        let port = self.system.connect(address.partition, address.service).map_err(|failure| {
            match failure.error {
                handover_abi::Error::BadHandle => Errno::ADDRNOTAVAIL,
                // It has not started, or has ended.
                handover_abi::Error::NotConnected | handover_abi::Error::PeerClosed => Errno::CONNREFUSED,
                _ => errno(failure),
            }
        })?;
        let socket = self.files.socket_mut(number)?;
        socket.state = SocketState::Connecting(port);
        socket.peer = Some(address);
        self.files.ports.insert(port, number);
        Err(Errno::INPROGRESS)
    }

    /// What became of [`connect`](Caller::connect).
    ///
    /// # Errors
    ///
    /// [`Errno::AGAIN`] when there is no answer yet, [`Errno::CONNREFUSED`], [`Errno::TIMEDOUT`] or [`Errno::CONNRESET`] when it failed.
    pub fn connect_result(&mut self, fd: Fd) -> Result<(), Errno> {
        let number = self.socket_of(fd)?;
        let socket = self.files.socket_mut(number)?;
        match socket.state {
            SocketState::Connecting(_) => Err(Errno::AGAIN),
            SocketState::Connected(_) => Ok(()),
            SocketState::Closed(_) => socket.error.take().map_or(Ok(()), Err),
            _ => Err(Errno::NOTCONN),
        }
    }

    /// `shutdown`. A listener forbids connections again, whatever `how` says. The other end of a channel is told only when both directions
    /// are shut down: then the channel is closed.
    ///
    /// # Errors
    ///
    /// [`Errno::NOTCONN`], [`Errno::INVAL`].
    pub fn shutdown(&mut self, fd: Fd, how: u32) -> Result<(), Errno> {
        if !matches!(how, SHUT_RD | SHUT_WR | SHUT_RDWR) {
            return Err(Errno::INVAL);
        }
        if let Some(end) = self.pair_of(fd)? {
            return self.files.shut_pair_down(end, how != SHUT_WR, how != SHUT_RD);
        }
        let number = self.socket_of(fd)?;
        let socket = self.files.socket_mut(number)?;
        match socket.state {
            SocketState::Listening { .. } => self.files.stop_listening(number, self.system),
            SocketState::Connected(port) => {
                socket.reads &= how == SHUT_WR;
                socket.writes &= how == SHUT_RD;
                if !socket.reads && !socket.writes {
                    let held = socket.held.take();
                    socket.state = SocketState::Closed(Errno::PIPE);
                    self.files.drop_port(port, self.system);
                    if let Some(region) = held.and_then(|held| held.region) {
                        crate::message::destroy(region, self.system);
                    }
                }
            }
            _ => return Err(Errno::NOTCONN),
        }
        self.files.socket_mut(number)?.changes += 1;
        self.files.wake(Waitable::Socket(number));
        Ok(())
    }

    /// `getsockname`.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`], [`Errno::NOTSOCK`].
    pub fn getsockname(&self, fd: Fd) -> Result<Address, Errno> {
        let socket = self.files.socket(self.socket_of(fd)?)?;
        let none = handover_abi::ServiceId::new(0);
        Ok(Address { partition: self.system.partition(), service: socket.service.unwrap_or(none) })
    }

    /// `getpeername`: the partition at the other end, and the service that was asked for.
    ///
    /// # Errors
    ///
    /// [`Errno::NOTCONN`].
    pub fn getpeername(&self, fd: Fd) -> Result<Address, Errno> {
        let socket = self.files.socket(self.socket_of(fd)?)?;
        match socket.state {
            SocketState::Connected(_) => socket.peer.ok_or(Errno::NOTCONN),
            _ => Err(Errno::NOTCONN),
        }
    }

    /// `getsockopt`, of options that are an `int`.
    ///
    /// # Errors
    ///
    /// [`Errno::NOPROTOOPT`] for options that there are not.
    pub fn getsockopt(&mut self, fd: Fd, level: u32, option: u32) -> Result<u32, Errno> {
        if let Some(end) = self.pair_of(fd)? {
            let kind = self.files.pairs.get(end.pair).ok_or(Errno::BADF)?.kind;
            return match (level, option) {
                (SOL_SOCKET, SO_TYPE) => Ok(kind.number()),
                (SOL_SOCKET, SO_DOMAIN) => Ok(AF_UNIX),
                (SOL_SOCKET, SO_SNDBUF | SO_RCVBUF) => Ok(CAPACITY as u32),
                (SOL_SOCKET, SO_ERROR | SO_PROTOCOL | SO_REUSEADDR | SO_ACCEPTCONN) => Ok(0),
                _ => Err(Errno::NOPROTOOPT),
            };
        }
        let number = self.socket_of(fd)?;
        let socket = self.files.socket_mut(number)?;
        match (level, option) {
            (SOL_SOCKET, SO_ERROR) => Ok(socket.error.take().map_or(0, |failed| failed.number().into())),
            (SOL_SOCKET, SO_TYPE) => Ok(SOCK_SEQPACKET),
            (SOL_SOCKET, SO_DOMAIN) => Ok(AF_HANDOVER.into()),
            (SOL_SOCKET, SO_PROTOCOL | SO_REUSEADDR) => Ok(0),
            (SOL_SOCKET, SO_ACCEPTCONN) => Ok(matches!(socket.state, SocketState::Listening { .. }).into()),
            (SOL_HANDOVER, HANDOVER_MAP) => Ok(socket.maps.into()),
            (SOL_HANDOVER, HANDOVER_REFUSAL) => Ok(socket.refusal),
            _ => Err(Errno::NOPROTOOPT),
        }
    }

    /// `setsockopt`, of options that are an `int`.
    ///
    /// # Errors
    ///
    /// [`Errno::NOPROTOOPT`] for options that there are not, or that cannot be set.
    pub fn setsockopt(&mut self, fd: Fd, level: u32, option: u32, value: u32) -> Result<(), Errno> {
        let number = self.socket_of(fd)?;
        match (level, option) {
            (SOL_HANDOVER, HANDOVER_MAP) => self.files.socket_mut(number)?.maps = value != 0,
            // A service is free as soon as its listener is closed.
            (SOL_SOCKET, SO_REUSEADDR) => {}
            _ => return Err(Errno::NOPROTOOPT),
        }
        Ok(())
    }
}
