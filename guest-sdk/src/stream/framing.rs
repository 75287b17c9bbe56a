//! Bytes to messages and back.

use core::{cell::RefCell, mem, ops::DerefMut};

use arrayvec::ArrayVec;
use handover_abi::{Error, SHORT_MAX};

use super::StreamError;
use crate::Short;

/// Regions that a stream keeps for what it will write.
pub(crate) const POOL: usize = 8;
/// Up to this many bytes go in short messages: so many are cheaper than a region there and back.
const SHORT_WRITE: usize = 2 * SHORT_MAX;

/// What a stream's bytes travel through: a channel, or a test's stand-in.
pub(crate) trait Carrier {
    /// A message region.
    type Region: DerefMut<Target = [u8]>;

    /// Makes a region.
    fn create(&self, size: usize) -> Result<Self::Region, Error>;

    /// Sends a message, or gives the region back.
    fn send(&self, region: Option<Self::Region>, short: &Short) -> Result<(), (Error, Option<Self::Region>)>;

    /// Takes a message: its bytes in `short`. [`Error::WouldBlock`] when there is none.
    fn receive(&mut self, short: &mut Short) -> Result<Option<Self::Region>, Error>;

    /// Whether `send` would find something else than a full queue.
    fn has_room(&self) -> Result<bool, Error>;

    /// Lets whoever waits for a message look again: one has been taken out of the queue for it.
    fn announce(&self);
}

/// What both directions of a stream share.
pub(crate) struct Shared<C: Carrier> {
    pub(crate) carrier: C,
    /// Bytes that the writer found when it looked for regions.
    found: Option<Incoming<C::Region>>,
    pool: ArrayVec<C::Region, POOL>,
    /// Size of the regions that this end makes.
    region_size: usize,
    /// Regions that the peer may send back.
    lent: usize,
    /// The peer broke the rules; there is no telling what its messages mean.
    malformed: bool,
}

/// The message that is being read.
pub(crate) struct Incoming<R> {
    bytes: Bytes<R>,
    /// What has been read.
    at: usize,
    end: usize,
}

enum Bytes<R> {
    Nothing,
    Short(Short),
    Region(R),
}

impl<R> Incoming<R> {
    pub(crate) const NOTHING: Incoming<R> = Incoming { bytes: Bytes::Nothing, at: 0, end: 0 };

    fn is_read(&self) -> bool {
        self.at == self.end
    }
}

/// What a region's message says: how many of its bytes count.
fn counting(count: usize) -> Short {
    Short::from(&(count as u64).to_le_bytes())
}

impl<C: Carrier> Shared<C> {
    pub(crate) fn new(carrier: C, region_size: usize) -> Shared<C> {
        Shared { carrier, found: None, pool: ArrayVec::new(), region_size, lent: 0, malformed: false }
    }

    /// The next message with bytes, if there is one. Regions that come back go to the pool.
    fn receive(&mut self) -> Result<Option<Incoming<C::Region>>, StreamError> {
        loop {
            if self.malformed {
                return Err(StreamError::Malformed);
            }
            let mut short = Short::EMPTY;
            let region = match self.carrier.receive(&mut short) {
                Ok(region) => region,
                Err(Error::WouldBlock) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let count = match (&region, <[u8; 8]>::try_from(&*short)) {
                (None, _) => Some(short.len()).filter(|&count| count != 0),
                (Some(region), Ok(count)) => {
                    usize::try_from(u64::from_le_bytes(count)).ok().filter(|&count| count <= region.len())
                }
                (Some(_), Err(_)) => None,
            };
            match (region, count) {
                (Some(region), Some(0)) if self.lent > 0 => {
                    self.lent -= 1;
                    self.keep(region);
                }
                (_, None | Some(0)) => self.malformed = true,
                (region, Some(end)) => {
                    let bytes = region.map_or(Bytes::Short(short), Bytes::Region);
                    return Ok(Some(Incoming { bytes, at: 0, end }));
                }
            }
        }
    }

    /// Keeps a region for what will be written, if it is of use.
    fn keep(&mut self, region: C::Region) {
        if region.len() == self.region_size && !self.pool.is_full() {
            self.pool.push(region);
        }
    }

    /// A region was read: one is kept for an answer, others go back. It never waits: without room a region is given up.
    fn was_read(&mut self, region: C::Region) {
        if self.pool.is_empty() && region.len() == self.region_size {
            self.pool.push(region);
        } else if let Err((_, Some(region))) = self.carrier.send(Some(region), &counting(0)) {
            self.keep(region);
        }
    }

    /// A region to write to.
    fn region(&mut self) -> Result<C::Region, StreamError> {
        if self.pool.is_empty() && self.found.is_none() {
            match self.receive() {
                Ok(found) => {
                    self.found = found;
                    if self.found.is_some() {
                        self.carrier.announce();
                    }
                }
                // The writer learns it when it sends.
                Err(StreamError::Failed(_)) => {}
                Err(malformed) => return Err(malformed),
            }
        }
        match self.pool.pop() {
            Some(region) => Ok(region),
            None => Ok(self.carrier.create(self.region_size)?),
        }
    }

    /// Sends some of `bytes`, which must not be empty; how many, or `None` when the queue is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        if self.malformed {
            return Err(StreamError::Malformed);
        }
        if bytes.len() <= SHORT_WRITE {
            return self.write_short(bytes);
        }
        // Before so many bytes are copied for nothing.
        if !self.carrier.has_room()? {
            return Ok(None);
        }
        let mut region = match self.region() {
            Ok(region) => region,
            // No room for a region here: it goes without one.
            Err(StreamError::Failed(Error::Limit | Error::NoMemory | Error::InUse)) => {
                return self.write_short(bytes);
            }
            Err(error) => return Err(error),
        };
        let count = bytes.len().min(region.len());
        region[..count].copy_from_slice(&bytes[..count]);
        match self.carrier.send(Some(region), &counting(count)) {
            Ok(()) => {
                self.lent += 1;
                Ok(Some(count))
            }
            Err((error, region)) => {
                if let Some(region) = region {
                    self.keep(region);
                }
                if error == Error::QueueFull { Ok(None) } else { Err(error.into()) }
            }
        }
    }

    fn write_short(&mut self, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        let count = bytes.len().min(SHORT_MAX);
        match self.carrier.send(None, &Short::new(&bytes[..count])?) {
            Ok(()) => Ok(Some(count)),
            Err((Error::QueueFull, _)) => Ok(None),
            Err((error, _)) => Err(error.into()),
        }
    }
}

/// The bytes of the message that is being read, or of the next one; none at the stream's end; `None` when there is no message.
pub(crate) fn fill<'a, C: Carrier>(
    shared: &RefCell<Shared<C>>,
    incoming: &'a mut Incoming<C::Region>,
) -> Result<Option<&'a [u8]>, StreamError> {
    if incoming.is_read() {
        let shared = &mut *shared.borrow_mut();
        let received = match shared.found.take() {
            Some(found) => Ok(Some(found)),
            None => shared.receive(),
        };
        match received {
            Ok(Some(message)) => *incoming = message,
            Ok(None) => return Ok(None),
            Err(StreamError::Failed(Error::PeerClosed)) => return Ok(Some(&[])),
            Err(error) => return Err(error),
        }
    }
    let bytes = match &incoming.bytes {
        Bytes::Nothing => &[],
        Bytes::Short(short) => &**short,
        Bytes::Region(region) => &**region,
    };
    Ok(Some(&bytes[incoming.at..incoming.end]))
}

/// `count` of the bytes that [`fill`] returned were read.
pub(crate) fn consume<C: Carrier>(
    shared: &RefCell<Shared<C>>,
    incoming: &mut Incoming<C::Region>,
    count: usize,
) {
    incoming.at = incoming.end.min(incoming.at.saturating_add(count));
    if incoming.is_read()
        && let Bytes::Region(region) = mem::replace(incoming, Incoming::NOTHING).bytes
    {
        shared.borrow_mut().was_read(region);
    }
}

/// Reads what there is into `buffer`; 0 at the stream's end, `None` when there is nothing.
pub(crate) fn read<C: Carrier>(
    shared: &RefCell<Shared<C>>,
    incoming: &mut Incoming<C::Region>,
    buffer: &mut [u8],
) -> Result<Option<usize>, StreamError> {
    let Some(bytes) = fill(shared, incoming)? else { return Ok(None) };
    let count = bytes.len().min(buffer.len());
    buffer[..count].copy_from_slice(&bytes[..count]);
    consume(shared, incoming, count);
    Ok(Some(count))
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
