//! Byte streams over channels.
//!
//! A [`Stream`] reads and writes bytes by the traits of `embedded-io` (blocking) and `embedded-io-async`. Its two ends may be
//! in two partitions or in one.
#![doc = concat!("```ignore\n", include_str!("../examples/stream.rs"), "```")]
//!
//! # Reading
//!
//! A read returns what is there, or waits for at least one byte. The end of the stream (0 bytes) comes when the peer has
//! closed its end and everything it wrote was read. `fill_buf` returns the bytes where they are, in the peer's region, and
//! copies nothing.
//!
//! # Writing
//!
//! A write of up to 256 bytes goes in short messages, of up to 128 bytes each; more goes in a region, at most its size at a
//! time. So a write may take a part of the bytes; `write_all` goes on with the rest. Each write sends at once, and waits only
//! while the peer's queue (64 messages) is full.
//!
//! Nothing is held back, so `flush` has nothing to do and returns at once. That a write returned means that its bytes are in
//! the peer's queue, not that the peer has read them; it can read them also after this end was closed, but not after this
//! *partition* has ended.
//!
//! A region that was read goes back to its writer, or carries what the reader writes itself; each end keeps up to 8. So a
//! stream soon stops making regions. When there is no memory for one, bytes go in short messages.
//!
//! # Both at once
//!
//! Two ends that write to each other without reading stop when both queues are full. [`Stream::split`] makes a reader and a
//! writer of one stream, for two futures of one [`join`](crate::task::join()).
//!
//! # Dropped futures
//!
//! `read`, `fill_buf` and `write` are cancel-safe: a future that is dropped before it has ended has read nothing and written
//! nothing. `read_exact` and `write_all` are loops of these: what they have done stays done, and is forgotten.
//!
//! # Messages
//!
//! The crate `handover-stream` says what they are made of, and the Linux library's streams are made of the same. After any other
//! message ([`StreamError::Malformed`]) a stream is of no use.

#[cfg(target_os = "none")]
mod traits;

use core::fmt;

use embedded_io::ErrorKind;
use handover_abi::Error;

#[cfg(target_os = "none")]
pub use traits::{ReadHalf, Stream, WriteHalf};

/// Why reading or writing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// A call failed.
    Failed(Error),
    /// The peer sent what is no part of a stream.
    Malformed,
}

impl From<Error> for StreamError {
    fn from(error: Error) -> StreamError {
        StreamError::Failed(error)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Failed(error) => write!(f, "stream: {error}"),
            StreamError::Malformed => f.write_str("stream: the peer sent what is no part of a stream"),
        }
    }
}

impl core::error::Error for StreamError {}

impl embedded_io::Error for StreamError {
    fn kind(&self) -> ErrorKind {
        match self {
            StreamError::Malformed => ErrorKind::InvalidData,
            StreamError::Failed(error) => match error {
                Error::PeerClosed => ErrorKind::BrokenPipe,
                Error::NotConnected | Error::BadHandle => ErrorKind::NotConnected,
                Error::Limit | Error::NoMemory | Error::InUse | Error::TooLarge => ErrorKind::OutOfMemory,
                Error::InvalidArgument | Error::BadAddress => ErrorKind::InvalidInput,
                Error::Denied => ErrorKind::PermissionDenied,
                Error::NotSupported => ErrorKind::Unsupported,
                Error::TimedOut => ErrorKind::TimedOut,
                Error::WouldBlock
                | Error::QueueFull
                | Error::WrongState
                | Error::NoCapacity
                | Error::Throttled
                | Error::Deadlock => ErrorKind::Other,
            },
        }
    }
}
