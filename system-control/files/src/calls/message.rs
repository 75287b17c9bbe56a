//! Messages through sockets: as files, or as mappings.

use alloc::vec::Vec;

use handover_abi::{
    Error, SHORT_MAX,
    layout::{REGION_MAX, REGION_MIN},
};
use linux_raw_sys::general::AT_FDCWD;

use super::{Caller, Fd};
use crate::{
    Errno, Received, Region, Sink, Source,
    channels::errno,
    interface::{MAPPED_HEADER, MESSAGES, RECORD_MAX},
    message::{MappedAt, destroy},
    node::Node,
    socket::SocketState,
    walk::PATH_LIMIT,
};

/// What a record names besides its short message.
enum Carried {
    Nothing,
    /// A message file, by its number.
    File(u32, Region),
    Mapping(MappedAt, Region),
}

impl Carried {
    fn region(&self) -> Option<Region> {
        match *self {
            Carried::Nothing => None,
            Carried::File(_, region) | Carried::Mapping(_, region) => Some(region),
        }
    }
}

impl Caller<'_> {
    /// Takes the next message of a socket's: a record, or nothing when the other side has closed and none is left.
    pub(super) fn read_socket(&mut self, number: u32, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let Some(received) = self.take_message(number)? else { return Ok(0) };
        // Until the program has the record, the message is held.
        let maps = self.files.socket(number)?.maps;
        let told = match (received.region, maps) {
            (None, _) => self.tell(&received, if maps { &[0; MAPPED_HEADER] } else { &[0] }, sink),
            (Some(region), true) => self.tell_mapping(&received, region, sink),
            (Some(region), false) => self.tell_file(&received, region, sink),
        };
        let socket = self.files.socket_mut(number)?;
        if told.is_err() {
            socket.held = Some(received);
        }
        told
    }

    /// The next message: one that is held, or one from the port.
    fn take_message(&mut self, number: u32) -> Result<Option<Received>, Errno> {
        let socket = self.files.socket_mut(number)?;
        let port = match socket.state {
            SocketState::Connected(port) => port,
            SocketState::Closed(_) if !socket.reads => return Ok(None),
            SocketState::Closed(failed) => return Err(socket.error.take().unwrap_or(failed)),
            SocketState::Connecting(_) => return Err(Errno::AGAIN),
            SocketState::New | SocketState::Listening { .. } => return Err(Errno::NOTCONN),
        };
        if !socket.reads {
            return Ok(None);
        }
        if let Some(held) = socket.held.take() {
            return Ok(Some(held));
        }
        match self.system.receive(port) {
            Ok(received) => Ok(Some(received)),
            Err(failure) if failure.error == Error::WouldBlock => {
                socket.message = false;
                Err(Errno::AGAIN)
            }
            Err(failure) if failure.error == Error::PeerClosed => {
                socket.peer_closed = true;
                if socket.peer_ended {
                    // Told once, like Linux does; then it is at its end.
                    socket.peer_ended = false;
                    Err(Errno::CONNRESET)
                } else {
                    Ok(None)
                }
            }
            Err(failure) => Err(errno(failure)),
        }
    }

    fn tell(&self, received: &Received, header: &[u8], sink: &mut dyn Sink) -> Result<usize, Errno> {
        let short = received.short.get(..usize::from(received.length)).unwrap_or_default();
        let length = header.len() + short.len();
        if length > sink.room() {
            return Err(Errno::MSGSIZE);
        }
        let mut record = [0; RECORD_MAX];
        record[..header.len()].copy_from_slice(header);
        record[header.len()..length].copy_from_slice(short);
        if sink.put(&record[..length])? < length { Err(Errno::FAULT) } else { Ok(length) }
    }

    fn tell_mapping(
        &mut self,
        received: &Received,
        region: Region,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        let address = self.system.map_region(region)?;
        let mut header = [0; MAPPED_HEADER];
        header[..8].copy_from_slice(&address.to_le_bytes());
        header[8..].copy_from_slice(&region.bytes.to_le_bytes());
        match self.tell(received, &header, sink) {
            Ok(length) => {
                let process = self.system.current();
                self.files.mapped.insert(MappedAt { process, address }, region);
                Ok(length)
            }
            Err(failed) => {
                self.system.unmap_region(region);
                Err(failed)
            }
        }
    }

    fn tell_file(
        &mut self,
        received: &Received,
        region: Region,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        self.files.room_for_message()?;
        let name = self.files.next_message_name()?;
        let mut header = Vec::with_capacity(MESSAGES.len() + name.len() + 2);
        header.extend_from_slice(MESSAGES.as_bytes());
        header.push(b'/');
        header.extend_from_slice(&name);
        header.push(0);
        let length = self.tell(received, &header, sink)?;
        let (owner, now) = (self.system.current(), self.system.now());
        self.files.receive_message(&name, region, owner, now)?;
        Ok(length)
    }

    /// Sends the message that a record describes. What it names is gone afterwards.
    pub(super) fn write_socket(&mut self, number: u32, source: &mut dyn Source) -> Result<usize, Errno> {
        let socket = self.files.socket(number)?;
        let maps = socket.maps;
        let port = match socket.state {
            _ if !socket.writes => return Err(Errno::PIPE),
            SocketState::Connected(_) if socket.peer_closed => return Err(Errno::PIPE),
            SocketState::Connected(port) => port,
            SocketState::Closed(_) => return Err(Errno::PIPE),
            SocketState::Connecting(_) => return Err(Errno::AGAIN),
            SocketState::New | SocketState::Listening { .. } => return Err(Errno::NOTCONN),
        };
        let length = source.remaining();
        if length > PATH_LIMIT + 1 + SHORT_MAX {
            return Err(Errno::MSGSIZE);
        }
        let mut record = alloc::vec![0; length];
        if source.take(&mut record)? < length {
            return Err(Errno::FAULT);
        }
        let (carried, short) = if maps { self.named_mapping(&record)? } else { self.named_file(&record)? };
        if short.len() > SHORT_MAX {
            return Err(Errno::MSGSIZE);
        }
        match self.system.send(port, carried.region(), short) {
            Ok(()) => {}
            Err(failure) => {
                let socket = self.files.socket_mut(number)?;
                socket.full |= failure.error == Error::QueueFull;
                socket.peer_closed |= failure.error == Error::PeerClosed;
                return Err(errno(failure));
            }
        }
        match carried {
            Carried::Nothing => {}
            Carried::Mapping(at, _) => _ = self.files.mapped.remove(&at),
            Carried::File(message, _) => self.files.forget_message(message, self.system.now())?,
        }
        Ok(length)
    }

    /// A record's file, and its short message.
    fn named_file<'r>(&self, record: &'r [u8]) -> Result<(Carried, &'r [u8]), Errno> {
        let end = record.iter().position(|&byte| byte == 0);
        let (name, short) = match end {
            Some(end) => (&record[..end], &record[end + 1..]),
            None => (record, &[][..]),
        };
        if name.is_empty() {
            return Ok((Carried::Nothing, short));
        }
        let Node::Inode(inode) = self.find(AT_FDCWD, name, true)? else { return Err(Errno::INVAL) };
        let message = self.files.message_of(inode).ok_or(Errno::INVAL)?;
        // A file that nothing was written to has no region.
        let region = self.files.message(message)?.region()?.ok_or(Errno::INVAL)?;
        Ok((Carried::File(message, region), short))
    }

    /// A record's mapping, and its short message.
    fn named_mapping<'r>(&self, record: &'r [u8]) -> Result<(Carried, &'r [u8]), Errno> {
        let (header, short) = record.split_at_checked(MAPPED_HEADER).ok_or(Errno::INVAL)?;
        let (address, bytes) = header.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| Errno::INVAL);
        let (address, bytes) = (word(address)?, word(bytes)?);
        if address == 0 {
            return if bytes == 0 { Ok((Carried::Nothing, short)) } else { Err(Errno::INVAL) };
        }
        let at = MappedAt { process: self.system.current(), address };
        let region = *self.files.mapped.get(&at).ok_or(Errno::INVAL)?;
        if bytes != 0 && bytes != region.bytes {
            return Err(Errno::INVAL);
        }
        Ok((Carried::Mapping(at, region), short))
    }

    /// `mmap` on a socket: makes a region to send, and maps it; its address, and its bytes, which may be more.
    ///
    /// # Errors
    ///
    /// [`Errno::NODEV`] when it is no socket, [`Errno::INVAL`] for no bytes or more than a region has; an account's.
    pub fn map_new(&mut self, fd: Fd, bytes: u64) -> Result<(u64, u64), Errno> {
        self.socket_of(fd).map_err(|failed| if failed == Errno::NOTSOCK { Errno::NODEV } else { failed })?;
        if bytes == 0 || bytes > REGION_MAX {
            return Err(Errno::INVAL);
        }
        let region = self.system.create_region(bytes.next_power_of_two().max(REGION_MIN)).map_err(errno)?;
        match self.system.map_region(region) {
            Ok(address) => {
                self.files.mapped.insert(MappedAt { process: self.system.current(), address }, region);
                Ok((address, region.bytes))
            }
            Err(failed) => {
                destroy(region, self.system);
                Err(failed)
            }
        }
    }

    /// `munmap` of a region that a socket gave, by the address it gave: discards the message.
    ///
    /// # Errors
    ///
    /// [`Errno::INVAL`] when there is none.
    pub fn discard_mapped(&mut self, address: u64) -> Result<(), Errno> {
        let at = MappedAt { process: self.system.current(), address };
        let region = self.files.mapped.remove(&at).ok_or(Errno::INVAL)?;
        destroy(region, self.system);
        Ok(())
    }
}
