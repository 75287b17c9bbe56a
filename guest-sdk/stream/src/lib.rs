//! Byte streams over channels: bytes to messages and back.
//!
//! What a stream is to a program is the SDK's, and the Linux library's; this is what both ends agree on, in one place for both.
//!
//! # Messages
//!
//! A message without a region is 1 to 128 bytes of the stream. A message with a region has 8 bytes that say how many of the region's bytes, from its
//! start, are of the stream (little-endian); 0 means that the region is one of the receiver's that comes back. Any other message is
//! [`Failure::Malformed`], after which the stream is of no use.
//!
//! Nothing here waits: `None` says that there is nothing to read, or no room to write, for now.

#![cfg_attr(not(test), no_std)]

use core::{
    mem,
    ops::{Deref, DerefMut},
};

use arrayvec::ArrayVec;
use handover_abi::SHORT_MAX;

/// Regions that a stream keeps for what it will write.
const POOL: usize = 8;
/// Up to this many bytes go in short messages: so many are cheaper than a region there and back.
const SHORT_WRITE: usize = 2 * SHORT_MAX;

/// What an error of a [`Carrier`] means to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no message, or the peer's queue is full: later there may be one, or room.
    Early,
    /// There is no memory for a region here.
    NoRoom,
    /// The peer has gone, and left no message.
    Closed,
    /// The peer sent what is no part of a stream.
    Malformed,
    /// Anything else.
    Other,
}

/// What a stream's bytes travel through: a channel, or a test's stand-in.
pub trait Carrier {
    /// A message region.
    type Region: DerefMut<Target = [u8]>;
    /// The bytes of a short message.
    type Short: Deref<Target = [u8]> + for<'a> From<&'a [u8; 8]>;
    /// Why something failed.
    type Error;

    /// No bytes.
    const EMPTY: Self::Short;

    /// What an error means.
    fn failure(error: &Self::Error) -> Failure;

    /// The error of a stream that is [`Failure::Malformed`].
    fn malformed() -> Self::Error;

    /// A short message of at most 128 bytes.
    ///
    /// # Errors
    ///
    /// More are.
    fn short(bytes: &[u8]) -> Result<Self::Short, Self::Error>;

    /// Makes a region.
    ///
    /// # Errors
    ///
    /// [`Failure::NoRoom`]: its bytes will go in short messages.
    fn create(&self, size: usize) -> Result<Self::Region, Self::Error>;

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`Failure::Early`] when the peer's queue is full. The region comes back.
    fn send(
        &self,
        region: Option<Self::Region>,
        short: &Self::Short,
    ) -> Result<(), (Self::Error, Option<Self::Region>)>;

    /// Takes a message: its bytes in `short`.
    ///
    /// # Errors
    ///
    /// [`Failure::Early`] when there is none; [`Failure::Closed`].
    fn receive(&mut self, short: &mut Self::Short) -> Result<Option<Self::Region>, Self::Error>;

    /// Whether `send` would find something else than a full queue.
    ///
    /// # Errors
    ///
    /// Those of asking.
    fn has_room(&self) -> Result<bool, Self::Error>;

    /// Lets whoever waits for a message look again: one has been taken out of the queue for it.
    fn announce(&self);
}

/// What both directions of a stream share.
pub struct Shared<C: Carrier> {
    /// What they travel through.
    pub carrier: C,
    /// Bytes that the writer found when it looked for regions.
    found: Option<Incoming<C>>,
    pool: ArrayVec<C::Region, POOL>,
    /// Size of the regions that this end makes.
    region_size: usize,
    /// Regions that the peer may send back.
    lent: usize,
    /// The peer broke the rules; there is no telling what its messages mean.
    malformed: bool,
}

/// The message that is being read.
pub struct Incoming<C: Carrier> {
    bytes: Bytes<C>,
    /// What has been read.
    at: usize,
    end: usize,
}

enum Bytes<C: Carrier> {
    Nothing,
    Short(C::Short),
    Region(C::Region),
}

impl<C: Carrier> Incoming<C> {
    /// None yet.
    pub const NOTHING: Incoming<C> = Incoming { bytes: Bytes::Nothing, at: 0, end: 0 };

    fn is_read(&self) -> bool {
        self.at == self.end
    }
}

/// What a region's message says: how many of its bytes count.
fn counting<C: Carrier>(count: usize) -> C::Short {
    C::Short::from(&(count as u64).to_le_bytes())
}

impl<C: Carrier> Shared<C> {
    /// A stream whose large writes go in regions of `region_size` bytes, which must be a size that regions have.
    pub fn new(carrier: C, region_size: usize) -> Shared<C> {
        Shared { carrier, found: None, pool: ArrayVec::new(), region_size, lent: 0, malformed: false }
    }

    /// The next message with bytes, if there is one. Regions that come back go to the pool.
    fn receive(&mut self) -> Result<Option<Incoming<C>>, C::Error> {
        loop {
            if self.malformed {
                return Err(C::malformed());
            }
            let mut short = C::EMPTY;
            let region = match self.carrier.receive(&mut short) {
                Ok(region) => region,
                Err(error) if C::failure(&error) == Failure::Early => return Ok(None),
                Err(error) => return Err(error),
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
        } else if let Err((_, Some(region))) = self.carrier.send(Some(region), &counting::<C>(0)) {
            self.keep(region);
        }
    }

    /// A region to write to.
    fn region(&mut self) -> Result<C::Region, C::Error> {
        if self.pool.is_empty() && self.found.is_none() {
            match self.receive() {
                Ok(found) => {
                    self.found = found;
                    if self.found.is_some() {
                        self.carrier.announce();
                    }
                }
                Err(error) if C::failure(&error) == Failure::Malformed => return Err(error),
                // The writer learns it when it sends.
                Err(_) => {}
            }
        }
        match self.pool.pop() {
            Some(region) => Ok(region),
            None => self.carrier.create(self.region_size),
        }
    }

    /// Sends some of `bytes`, which must not be empty; how many, or `None` when the queue is full.
    ///
    /// # Errors
    ///
    /// Those of the carrier but for [`Failure::Early`] and [`Failure::NoRoom`]; [`Failure::Malformed`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<Option<usize>, C::Error> {
        if self.malformed {
            return Err(C::malformed());
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
            Err(error) if C::failure(&error) == Failure::NoRoom => return self.write_short(bytes),
            Err(error) => return Err(error),
        };
        let count = bytes.len().min(region.len());
        region[..count].copy_from_slice(&bytes[..count]);
        match self.carrier.send(Some(region), &counting::<C>(count)) {
            Ok(()) => {
                self.lent += 1;
                Ok(Some(count))
            }
            Err((error, region)) => {
                if let Some(region) = region {
                    self.keep(region);
                }
                if C::failure(&error) == Failure::Early { Ok(None) } else { Err(error) }
            }
        }
    }

    fn write_short(&mut self, bytes: &[u8]) -> Result<Option<usize>, C::Error> {
        let count = bytes.len().min(SHORT_MAX);
        match self.carrier.send(None, &C::short(&bytes[..count])?) {
            Ok(()) => Ok(Some(count)),
            Err((error, _)) if C::failure(&error) == Failure::Early => Ok(None),
            Err((error, _)) => Err(error),
        }
    }
}

/// The bytes of the message that is being read, or of the next one; none at the stream's end; `None` when there is no message.
///
/// # Errors
///
/// Those of the carrier but for [`Failure::Early`] and [`Failure::Closed`]; [`Failure::Malformed`].
pub fn fill<'a, C: Carrier>(
    shared: &mut Shared<C>,
    incoming: &'a mut Incoming<C>,
) -> Result<Option<&'a [u8]>, C::Error> {
    if incoming.is_read() {
        let received = match shared.found.take() {
            Some(found) => Ok(Some(found)),
            None => shared.receive(),
        };
        match received {
            Ok(Some(message)) => *incoming = message,
            Ok(None) => return Ok(None),
            Err(error) if C::failure(&error) == Failure::Closed => return Ok(Some(&[])),
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
pub fn consume<C: Carrier>(shared: &mut Shared<C>, incoming: &mut Incoming<C>, count: usize) {
    incoming.at = incoming.end.min(incoming.at.saturating_add(count));
    if incoming.is_read()
        && let Bytes::Region(region) = mem::replace(incoming, Incoming::NOTHING).bytes
    {
        shared.was_read(region);
    }
}

/// Reads what there is into `buffer`; 0 at the stream's end, `None` when there is nothing.
///
/// # Errors
///
/// As for [`fill`].
pub fn read<C: Carrier>(
    shared: &mut Shared<C>,
    incoming: &mut Incoming<C>,
    buffer: &mut [u8],
) -> Result<Option<usize>, C::Error> {
    let Some(bytes) = fill(shared, incoming)? else { return Ok(None) };
    let count = bytes.len().min(buffer.len());
    buffer[..count].copy_from_slice(&bytes[..count]);
    consume(shared, incoming, count);
    Ok(Some(count))
}

#[cfg(test)]
mod tests;
