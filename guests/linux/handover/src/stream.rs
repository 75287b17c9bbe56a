//! Byte streams over channels.
//!
//! A [`Stream`] reads and writes bytes by the standard library's traits, and by those of `embedded-io` and `embedded-io-async`. What it sends is what the SDK's streams for
//! bare-metal guests send (the crate `handover-stream`), so that the other end may be one of those.
//!
//! ```no_run
//! use std::io::{BufRead, BufReader, Write};
//!
//! use handover_linux::{Handover, Stream};
//!
//! let handover = Handover::open()?;
//! let mut stream = Stream::connect(&handover, &handover.service("upper")?)?;
//! stream.write_all(b"hello\n")?;
//! let mut line = String::new();
//! BufReader::new(stream).read_line(&mut line)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A read returns what is there, or waits for at least one byte; 0 bytes are the end: the peer has closed, and everything it wrote was read. `fill_buf`
//! returns the bytes where they are, in the peer's region, and copies nothing.
//!
//! A write of up to 256 bytes goes in short messages; more goes in a region, at most its size at a time. So a write may take a part of the bytes;
//! `write_all` goes on with the rest. Each write sends at once, and waits only while the peer's queue (64 messages) is full; `flush` has nothing to do.
//! That a write returned means that its bytes are in the peer's queue, not that the peer has read them.
//!
//! Two ends that write to each other without reading stop when both queues are full: [`Stream::split`] makes a reader and a writer
//! for two threads.
//!
//! [`io::ErrorKind::InvalidData`]: the peer has sent what is no part of a stream, and this one is of no use any more. Otherwise errors are those of
//! [`Channel::send`] and [`Channel::receive`].

mod asynchronous;
mod embedded;

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use handover_stream::{Carrier, Failure, Incoming, Shared, consume, fill, read};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::Errno,
};

use crate::{Channel, ConnectError, Handover, Port, Region, Service, Short, ports::End};

/// Bytes of a stream's regions, unless it is told otherwise.
const REGION_SIZE: usize = 64 << 10;

/// What a stream waits at.
struct Waits {
    end: Arc<End>,
    /// Readable when the writer has found a message for the reader.
    found: OwnedFd,
}

impl Waits {
    /// Until there may be something to read.
    fn for_reader(&self) -> io::Result<()> {
        let mut both = [PollFd::new(&*self.end, PollFlags::IN), PollFd::new(&self.found, PollFlags::IN)];
        match poll(&mut both, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if both[1].revents().contains(PollFlags::IN) { self.forget_found() } else { Ok(()) }
    }

    /// What the writer has found is looked for now.
    fn forget_found(&self) -> io::Result<()> {
        match rustix::io::read(&self.found, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Until there may be room to write.
    fn for_writer(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&*self.end, PollFlags::OUT)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A channel that carries a stream.
struct Carried {
    channel: Channel,
    waits: Arc<Waits>,
}

impl Carrier for Carried {
    type Region = Region;
    type Short = Short;
    type Error = io::Error;

    const EMPTY: Short = Short::EMPTY;

    fn failure(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::WouldBlock => Failure::Early,
            io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => Failure::NoRoom,
            io::ErrorKind::UnexpectedEof => Failure::Closed,
            io::ErrorKind::InvalidData => Failure::Malformed,
            _ => Failure::Other,
        }
    }

    fn malformed() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "the peer sent what is no part of a stream")
    }

    fn short(bytes: &[u8]) -> io::Result<Short> {
        Short::new(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    fn create(&self, size: usize) -> io::Result<Region> {
        Region::create_for(&self.channel, size)
    }

    fn send(&self, region: Option<Region>, short: &Short) -> Result<(), (io::Error, Option<Region>)> {
        let message = crate::Message { region, short: *short };
        self.channel.send(message).map_err(|failed| (failed.error, failed.region))
    }

    fn receive(&mut self, short: &mut Short) -> io::Result<Option<Region>> {
        let message = self.channel.receive()?.ok_or(io::ErrorKind::WouldBlock)?;
        *short = message.short;
        Ok(message.region)
    }

    fn has_room(&self) -> io::Result<bool> {
        self.channel.has_room()
    }

    fn announce(&self) {
        // It fails only if the reader has been told 2^64 times and has not looked once.
        let _told: Result<usize, Errno> = rustix::io::write(&self.waits.found, &1u64.to_ne_bytes());
    }
}

/// A byte stream over a channel; see the [module](self). Dropping it closes the channel; what was written can still be read.
pub struct Stream {
    shared: Mutex<Shared<Carried>>,
    incoming: Incoming<Carried>,
    waits: Arc<Waits>,
}

/// Reads from a [`Stream`].
pub struct ReadHalf<'a> {
    shared: &'a Mutex<Shared<Carried>>,
    incoming: &'a mut Incoming<Carried>,
    waits: &'a Waits,
}

/// Writes to a [`Stream`].
pub struct WriteHalf<'a> {
    shared: &'a Mutex<Shared<Carried>>,
    waits: &'a Waits,
}

impl Stream {
    /// A stream over a channel. The peer must have one too.
    pub fn new(channel: Channel) -> io::Result<Stream> {
        Stream::with_region_size(channel, REGION_SIZE)
    }

    /// A stream whose large writes go in regions of `size` bytes: a power of two, 4 KiB to 1 GiB; 64 KiB for others. The peer may have another size, but
    /// regions are used for both directions only if they are the same. [`io::ErrorKind::InvalidInput`] for any other size, and the channel is closed.
    pub fn with_region_size(channel: Channel, size: usize) -> io::Result<Stream> {
        if crate::region_size(size) != Some(size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "regions have other sizes"));
        }
        let found = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let waits = Arc::new(Waits { end: Arc::clone(channel.end()), found });
        let carried = Carried { channel, waits: Arc::clone(&waits) };
        Ok(Stream { shared: Mutex::new(Shared::new(carried, size)), incoming: Incoming::NOTHING, waits })
    }

    /// A stream to a service.
    pub fn connect(handover: &Handover, service: &Service) -> Result<Stream, ConnectError> {
        Stream::new(Channel::connect(handover, service)?).map_err(ConnectError::Failed)
    }

    /// The channel's port, by which events name it.
    #[must_use]
    pub fn port(&self) -> Port {
        self.waits.end.port()
    }

    /// A reader and a writer, to be used at the same time. Where [`BufRead`] is in scope, which has a `split` of its own, write `Stream::split(&mut stream)`.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let Stream { shared, incoming, waits } = self;
        (ReadHalf { shared, incoming, waits }, WriteHalf { shared, waits })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waits.end.as_fd()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream {{ port: {} }}", self.port())
    }
}

/// Nothing that is done under the lock leaves anything half done.
fn lock(shared: &Mutex<Shared<Carried>>) -> MutexGuard<'_, Shared<Carried>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> ReadHalf<'a> {
    /// Waits until there are bytes, or the end.
    fn wait(&mut self) -> io::Result<()> {
        while fill(&mut lock(self.shared), self.incoming)?.is_none() {
            self.waits.for_reader()?;
        }
        Ok(())
    }

    /// What is there, after [`wait`](ReadHalf::wait).
    fn filled(self) -> io::Result<&'a [u8]> {
        Ok(fill(&mut lock(self.shared), self.incoming)?.unwrap_or_default())
    }

    /// Whether a read would find bytes, or the end, at once.
    pub fn read_ready(&mut self) -> io::Result<bool> {
        Ok(fill(&mut lock(self.shared), self.incoming)?.is_some())
    }
}

impl WriteHalf<'_> {
    /// Whether a write would find room at once.
    pub fn write_ready(&mut self) -> io::Result<bool> {
        lock(self.shared).carrier.has_room()
    }
}

impl Read for ReadHalf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = read(&mut lock(self.shared), self.incoming, buffer)? {
                return Ok(count);
            }
            self.waits.for_reader()?;
        }
    }
}

impl BufRead for ReadHalf<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.wait()?;
        ReadHalf { shared: self.shared, incoming: self.incoming, waits: self.waits }.filled()
    }

    fn consume(&mut self, count: usize) {
        consume(&mut lock(self.shared), self.incoming, count);
    }
}

impl Write for WriteHalf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = lock(self.shared).write(bytes)? {
                return Ok(count);
            }
            self.waits.for_writer()?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Whether a read would find bytes, or the end, at once.
    pub fn read_ready(&mut self) -> io::Result<bool> {
        self.split().0.read_ready()
    }

    /// Whether a write would find room at once.
    pub fn write_ready(&mut self) -> io::Result<bool> {
        self.split().1.write_ready()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.split().0.read(buffer)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let mut reader = self.split().0;
        reader.wait()?;
        reader.filled()
    }

    fn consume(&mut self, count: usize) {
        self.split().0.consume(count);
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.split().1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
