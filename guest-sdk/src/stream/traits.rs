//! Streams, and the traits of `embedded-io` and `embedded-io-async` for them.

use core::{cell::RefCell, fmt};

use handover_abi::{Causes, Error, Event, Port, region_order};

use handover_stream::{Carrier, Failure, Incoming, Shared, consume, fill, read};

use super::StreamError;
use crate::{
    Channel, ConnectError, Region, Service, Short,
    asynchronous::{RECEIVER, SENDER, until},
    events, waiters,
};

/// Bytes of a stream's regions, unless it is told otherwise.
const REGION_SIZE: usize = 64 << 10;

impl Carrier for Channel {
    type Region = Region;
    type Short = Short;
    type Error = StreamError;

    const EMPTY: Short = Short::EMPTY;

    fn failure(error: &StreamError) -> Failure {
        match error {
            StreamError::Malformed => Failure::Malformed,
            StreamError::Failed(Error::WouldBlock | Error::QueueFull) => Failure::Early,
            StreamError::Failed(Error::Limit | Error::NoMemory | Error::InUse) => Failure::NoRoom,
            StreamError::Failed(Error::PeerClosed) => Failure::Closed,
            StreamError::Failed(_) => Failure::Other,
        }
    }

    fn malformed() -> StreamError {
        StreamError::Malformed
    }

    fn short(bytes: &[u8]) -> Result<Short, StreamError> {
        Ok(Short::new(bytes)?)
    }

    fn create(&self, size: usize) -> Result<Region, StreamError> {
        Ok(Region::create(size)?)
    }

    fn send(&self, region: Option<Region>, short: &Short) -> Result<(), (StreamError, Option<Region>)> {
        self.send_from(region, short).map_err(|failure| (failure.error.into(), failure.region))
    }

    fn receive(&mut self, short: &mut Short) -> Result<Option<Region>, StreamError> {
        Ok(self.receive_into(short)?)
    }

    fn has_room(&self) -> Result<bool, StreamError> {
        Ok(Channel::has_room(self)?)
    }

    fn announce(&self) {
        waiters::deliver(Event { port: self.port(), causes: Causes::MESSAGE });
    }
}

/// A byte stream over a channel; see the [module](crate::stream). Dropping it closes the channel; what was written can
/// still be read.
pub struct Stream {
    shared: RefCell<Shared<Channel>>,
    incoming: Incoming<Channel>,
    port: Port,
}

/// Reads from a [`Stream`].
pub struct ReadHalf<'a> {
    shared: &'a RefCell<Shared<Channel>>,
    incoming: &'a mut Incoming<Channel>,
    port: Port,
}

/// Writes to a [`Stream`].
pub struct WriteHalf<'a> {
    shared: &'a RefCell<Shared<Channel>>,
    port: Port,
}

impl Stream {
    /// A stream over a channel. The peer must have one too.
    #[must_use]
    pub fn new(channel: Channel) -> Stream {
        Stream::make(channel, REGION_SIZE)
    }

    /// A stream whose large writes go in regions of `size` bytes: a power of two, 4 KiB to 1 GiB; 64 KiB for others. The peer
    /// may have another size, but regions are used for both directions only if they are the same.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for any other size, and the channel is closed.
    pub fn with_region_size(channel: Channel, size: usize) -> Result<Stream, Error> {
        region_order(size as u64).ok_or(Error::InvalidArgument)?;
        Ok(Stream::make(channel, size))
    }

    fn make(channel: Channel, size: usize) -> Stream {
        let port = channel.port();
        Stream { shared: RefCell::new(Shared::new(channel, size)), incoming: Incoming::NOTHING, port }
    }

    /// A stream to a service.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect`].
    pub fn connect(service: Service) -> Result<Stream, ConnectError> {
        Channel::connect(service).map(Stream::new)
    }

    /// A stream to a service. Cancel-safe as [`Channel::connect_async`] is.
    ///
    /// # Errors
    ///
    /// As for [`Channel::connect_async`].
    pub async fn connect_async(service: Service) -> Result<Stream, ConnectError> {
        Channel::connect_async(service).await.map(Stream::new)
    }

    /// The channel's port, by which events name it.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// A reader and a writer, to be used at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let Stream { shared, incoming, port } = self;
        (ReadHalf { shared, incoming, port: *port }, WriteHalf { shared, port: *port })
    }

    fn reader(&mut self) -> ReadHalf<'_> {
        self.split().0
    }

    fn writer(&mut self) -> WriteHalf<'_> {
        self.split().1
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream {{ port: {} }}", self.port)
    }
}

/// Tries until there is something, waiting for the port's events in between.
fn wait<T>(
    port: Port,
    mut attempt: impl FnMut() -> Result<Option<T>, StreamError>,
) -> Result<T, StreamError> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        events::wait_for(port)?;
    }
}

/// The same for asynchronous programs.
async fn wait_async<T>(
    port: Port,
    causes: Causes,
    mut attempt: impl FnMut() -> Result<Option<T>, StreamError> + Unpin,
) -> Result<T, StreamError> {
    // An error of the stream is something to return as well.
    until(port, causes, || attempt().map_or_else(|error| Ok(Some(Err(error))), |value| Ok(value.map(Ok))))
        .await?
}

impl<'a> ReadHalf<'a> {
    fn reads<'b>(
        &'b mut self,
        buffer: &'b mut [u8],
    ) -> impl FnMut() -> Result<Option<usize>, StreamError> + Unpin {
        move || {
            if buffer.is_empty() {
                Ok(Some(0))
            } else {
                read(&mut self.shared.borrow_mut(), self.incoming, buffer)
            }
        }
    }

    fn is_filled(&mut self) -> Result<Option<()>, StreamError> {
        Ok(fill(&mut self.shared.borrow_mut(), self.incoming)?.map(|_| ()))
    }

    /// What is there, after [`is_filled`](ReadHalf::is_filled).
    fn filled(self) -> Result<&'a [u8], StreamError> {
        Ok(fill(&mut self.shared.borrow_mut(), self.incoming)?.unwrap_or_default())
    }
}

impl WriteHalf<'_> {
    fn writes(&mut self, bytes: &[u8]) -> impl FnMut() -> Result<Option<usize>, StreamError> + Unpin {
        move || if bytes.is_empty() { Ok(Some(0)) } else { self.shared.borrow_mut().write(bytes) }
    }
}

mod blocking {
    use embedded_io::{BufRead, ErrorType, Read, ReadReady, Write, WriteReady};

    use super::*;

    impl ErrorType for ReadHalf<'_> {
        type Error = StreamError;
    }

    impl ErrorType for WriteHalf<'_> {
        type Error = StreamError;
    }

    impl ErrorType for Stream {
        type Error = StreamError;
    }

    impl Read for ReadHalf<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
            wait(self.port, self.reads(buffer))
        }
    }

    impl BufRead for ReadHalf<'_> {
        fn fill_buf(&mut self) -> Result<&[u8], StreamError> {
            wait(self.port, || self.is_filled())?;
            ReadHalf { shared: self.shared, incoming: self.incoming, port: self.port }.filled()
        }

        fn consume(&mut self, count: usize) {
            consume(&mut self.shared.borrow_mut(), self.incoming, count);
        }
    }

    impl ReadReady for ReadHalf<'_> {
        fn read_ready(&mut self) -> Result<bool, StreamError> {
            Ok(self.is_filled()?.is_some())
        }
    }

    impl Write for WriteHalf<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            wait(self.port, self.writes(bytes))
        }

        fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }

    impl WriteReady for WriteHalf<'_> {
        fn write_ready(&mut self) -> Result<bool, StreamError> {
            Ok(self.shared.borrow().carrier.has_room()?)
        }
    }

    impl Read for Stream {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
            self.reader().read(buffer)
        }
    }

    impl BufRead for Stream {
        fn fill_buf(&mut self) -> Result<&[u8], StreamError> {
            let mut reader = self.reader();
            wait(reader.port, || reader.is_filled())?;
            reader.filled()
        }

        fn consume(&mut self, count: usize) {
            BufRead::consume(&mut self.reader(), count);
        }
    }

    impl ReadReady for Stream {
        fn read_ready(&mut self) -> Result<bool, StreamError> {
            self.reader().read_ready()
        }
    }

    impl Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            self.writer().write(bytes)
        }

        fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }

    impl WriteReady for Stream {
        fn write_ready(&mut self) -> Result<bool, StreamError> {
            self.writer().write_ready()
        }
    }
}

mod asynchronous {
    use embedded_io_async::{BufRead, Read, Write};

    use super::*;

    impl Read for ReadHalf<'_> {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
            wait_async(self.port, RECEIVER, self.reads(buffer)).await
        }
    }

    impl BufRead for ReadHalf<'_> {
        async fn fill_buf(&mut self) -> Result<&[u8], StreamError> {
            wait_async(self.port, RECEIVER, || self.is_filled()).await?;
            ReadHalf { shared: self.shared, incoming: self.incoming, port: self.port }.filled()
        }

        fn consume(&mut self, count: usize) {
            consume(&mut self.shared.borrow_mut(), self.incoming, count);
        }
    }

    impl Write for WriteHalf<'_> {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            wait_async(self.port, SENDER, self.writes(bytes)).await
        }

        async fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }

    impl Read for Stream {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
            self.reader().read(buffer).await
        }
    }

    impl BufRead for Stream {
        async fn fill_buf(&mut self) -> Result<&[u8], StreamError> {
            let mut reader = self.reader();
            wait_async(reader.port, RECEIVER, || reader.is_filled()).await?;
            reader.filled()
        }

        fn consume(&mut self, count: usize) {
            BufRead::consume(&mut self.reader(), count);
        }
    }

    impl Write for Stream {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
            self.writer().write(bytes).await
        }

        async fn flush(&mut self) -> Result<(), StreamError> {
            Ok(())
        }
    }
}
