//! Message channels to guests' services and from guests: sockets that carry one message at a time.

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use handover_abi::{PartitionId, SHORT_MAX, ServiceId};

use crate::{
    Service,
    region::{MappedRegion, MessageFile, Region},
    wire::{self, Address, HANDOVER_MAP, HANDOVER_REFUSAL, MAPPED_HEADER, RECORD_MAX},
};

/// How regions reach a program, and leave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As files: [`MessageFile`].
    #[default]
    Files,
    /// As memory: [`MappedRegion`].
    Mapping,
}

/// A message: a region, or up to 128 bytes, or both.
#[derive(Debug, Default)]
pub struct Message {
    /// The region, which moves.
    pub region: Option<Region>,
    /// The bytes, which are copied.
    pub short: Vec<u8>,
}

impl From<Region> for Message {
    fn from(region: Region) -> Message {
        Message { region: Some(region), short: Vec::new() }
    }
}

impl From<&[u8]> for Message {
    fn from(short: &[u8]) -> Message {
        Message { region: None, short: short.to_vec() }
    }
}

impl From<(Region, &[u8])> for Message {
    fn from((region, short): (Region, &[u8])) -> Message {
        Message { region: Some(region), short: short.to_vec() }
    }
}

/// A message that was not sent.
#[derive(Debug)]
pub struct SendError {
    /// Why: [`ErrorKind::BrokenPipe`] when the other side has closed, [`ErrorKind::WouldBlock`] when its queue is full and
    /// the channel does not wait.
    pub error: io::Error,
    /// The message.
    pub message: Message,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message not sent: {}", self.error)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> io::Error {
        error.error
    }
}

/// One end of a message channel. Dropping it disconnects. `poll` says when a message waits (or the other side has closed) and when
/// there is room for one.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    delivery: Delivery,
}

impl Channel {
    /// Asks for a channel to a service and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConnectionRefused`], with the other side's reason in its text; [`ErrorKind::ConnectionReset`] when it has ended.
    pub fn connect(service: &Service) -> io::Result<Channel> {
        Channel::connect_to(service.partition, service.id)
    }

    /// The same, by numbers.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Channel::connect).
    pub fn connect_to(partition: PartitionId, service: ServiceId) -> io::Result<Channel> {
        let socket = wire::socket()?;
        wire::connect(&socket, Address::new(partition, service)).map_err(|error| {
            match wire::option(&socket, HANDOVER_REFUSAL) {
                Ok(reason) if error.kind() == ErrorKind::ConnectionRefused => {
                    io::Error::new(error.kind(), format!("refused, reason {reason}"))
                }
                _ => error,
            }
        })?;
        Ok(Channel { socket, delivery: Delivery::Files })
    }

    /// How regions come and go from now on.
    ///
    /// # Errors
    ///
    /// None that this kernel knows.
    pub fn set_delivery(&mut self, delivery: Delivery) -> io::Result<()> {
        wire::set_option(&self.socket, HANDOVER_MAP, (delivery == Delivery::Mapping).into())?;
        self.delivery = delivery;
        Ok(())
    }

    /// Whether [`send`](Channel::send) and [`receive`](Channel::receive) fail with [`ErrorKind::WouldBlock`] where they would wait.
    ///
    /// # Errors
    ///
    /// None that this kernel knows.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        set_nonblocking(self.socket.as_fd(), nonblocking)
    }

    /// Sends a message: a [`Region`], bytes, or both as a pair. Waits while the other side's queue is full.
    ///
    /// # Errors
    ///
    /// The message comes back; see [`SendError::error`]. [`ErrorKind::InvalidInput`]: more than 128 bytes, or a region of the other
    /// kind of delivery.
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        match self.write_record(&mut message) {
            Ok(()) => Ok(()),
            Err(error) => Err(SendError { error, message }),
        }
    }

    fn write_record(&self, message: &mut Message) -> io::Result<()> {
        let unfit = |what: &str| io::Error::new(ErrorKind::InvalidInput, what.to_owned());
        if message.short.len() > SHORT_MAX {
            return Err(unfit("a short message has 128 bytes at most"));
        }
        let mut record = match (&message.region, self.delivery) {
            (None, Delivery::Files) => vec![0],
            (None, Delivery::Mapping) => vec![0; MAPPED_HEADER],
            (Some(Region::File(file)), Delivery::Files) => file.name_record()?,
            (Some(Region::Mapped(region)), Delivery::Mapping) => region.record(),
            (Some(Region::File(_)), Delivery::Mapping) => {
                return Err(unfit("this channel's regions are mappings"));
            }
            (Some(Region::Mapped(_)), Delivery::Files) => {
                return Err(unfit("this channel's regions are files"));
            }
        };
        record.extend_from_slice(&message.short);
        let mut file = self.file();
        let written = file.write(&record);
        if written.is_ok()
            && let Some(region) = message.region.take()
        {
            region.forget();
        }
        written.map(drop)
    }

    /// Waits for the next message; `None` when the other side has closed and everything was received.
    ///
    /// # Errors
    ///
    /// Those of reading: [`ErrorKind::ConnectionReset`] when the other side has ended, once.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut record = [0; RECORD_MAX];
        let length = self.file().read(&mut record)?;
        let record = &record[..length];
        if record.is_empty() {
            return Ok(None);
        }
        let damaged = || io::Error::from(ErrorKind::InvalidData);
        Ok(Some(match self.delivery {
            Delivery::Files => {
                let end = record.iter().position(|&byte| byte == 0).ok_or_else(damaged)?;
                let name = str::from_utf8(&record[..end]).map_err(|_| damaged())?;
                let region = (!name.is_empty()).then(|| MessageFile::received(name.into()));
                Message { region: region.transpose()?.map(Region::File), short: record[end + 1..].to_vec() }
            }
            Delivery::Mapping => {
                let (header, short) = record.split_first_chunk().ok_or_else(damaged)?;
                // SAFETY: the kernel has mapped what it tells for this process, and tells it once.
                let region = unsafe { MappedRegion::from_record(header) };
                Message { region: region.map(Region::Mapped), short: short.to_vec() }
            }
        }))
    }

    /// A region of so many bytes at least, to be sent by this channel.
    ///
    /// # Errors
    ///
    /// More than 1 GiB; an account's limit ([`io::ErrorKind::OutOfMemory`] or `ENOBUFS`).
    pub fn region(&self, bytes: usize) -> io::Result<Region> {
        match self.delivery {
            Delivery::Files => MessageFile::create(bytes).map(Region::File),
            Delivery::Mapping => MappedRegion::create(self.socket.as_fd(), bytes).map(Region::Mapped),
        }
    }

    /// Its descriptor as a file, which is not closed.
    fn file(&self) -> std::mem::ManuallyDrop<File> {
        // SAFETY: the descriptor is open as long as `self` is, and what is returned does not close it and is used before `self` is gone.
        std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(self.socket.as_raw_fd()) })
    }
}

/// Records as the kernel has them: name, zero byte and bytes, or address, size and bytes.
impl Read for &Channel {
    fn read(&mut self, record: &mut [u8]) -> io::Result<usize> {
        self.file().read(record)
    }
}

/// As for reading.
impl Write for &Channel {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.file().write(record)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Channel {
        Channel { socket, delivery: Delivery::Files }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Permits connections to a service. Dropping it forbids them again. `poll` says when somebody asks.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens on a service that the manifest lets this program provide.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]: no such service; [`ErrorKind::AddrInUse`].
    pub fn listen(service: &str) -> io::Result<Listener> {
        Listener::listen_on(Service::find(service)?.id)
    }

    /// Listens on a service by its number.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`].
    pub fn listen_on(service: ServiceId) -> io::Result<Listener> {
        let socket = wire::socket()?;
        wire::bind(&socket, Address::new(PartitionId::new(0), service))?;
        wire::listen(&socket, libc::SOMAXCONN)?;
        Ok(Listener { socket })
    }

    /// Waits for the next connection, and whose it is.
    ///
    /// # Errors
    ///
    /// A limit: the request stays.
    pub fn accept(&self) -> io::Result<(Channel, PartitionId)> {
        let (socket, address) = wire::accept(&self.socket)?;
        Ok((Channel::from(socket), PartitionId::new(address.partition)))
    }

    /// Whether [`accept`](Listener::accept) fails with [`ErrorKind::WouldBlock`] where it would wait.
    ///
    /// # Errors
    ///
    /// None that this kernel knows.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        set_nonblocking(self.socket.as_fd(), nonblocking)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn set_nonblocking(socket: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: touches no memory.
    let flags = wire::check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    // SAFETY: as above.
    wire::check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of sockets that keep messages apart, as the kernel's do.
    fn pair() -> (Channel, Channel) {
        let mut ends = [0; 2];
        // SAFETY: writes two descriptors where it is told to.
        let made = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr()) };
        wire::check(made).unwrap();
        // SAFETY: just made, and nobody else's.
        let [a, b] = ends.map(|end| Channel::from(unsafe { OwnedFd::from_raw_fd(end) }));
        (a, b)
    }

    #[test]
    fn short_messages() {
        let (a, b) = pair();
        a.send(&b"one"[..]).unwrap();
        a.send(&b""[..]).unwrap();
        assert_eq!(b.receive().unwrap().unwrap().short, b"one");
        let empty = b.receive().unwrap().unwrap();
        assert!(empty.short.is_empty() && empty.region.is_none());
        b.set_nonblocking(true).unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), ErrorKind::WouldBlock);
        let failed = a.send(&[0; 129][..]).unwrap_err();
        assert_eq!((failed.error.kind(), failed.message.short.len()), (ErrorKind::InvalidInput, 129));
        drop(a);
        assert!(b.receive().unwrap().is_none());
        let failed = b.send(&b"late"[..]).unwrap_err();
        assert_eq!((failed.error.kind(), &failed.message.short[..]), (ErrorKind::BrokenPipe, &b"late"[..]));
    }

    #[test]
    fn records_that_are_none() {
        let (a, b) = pair();
        (&a).write_all(b"no zero byte").unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), ErrorKind::InvalidData);
        (&a).write_all(b"/nowhere/1\0short").unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), ErrorKind::NotFound);
        // Here is no such socket: another system's domain of that number has other options.
        assert!({ a }.set_delivery(Delivery::Mapping).is_err());
        assert!(Listener::listen_on(ServiceId::new(1)).is_err());
    }
}
