//! Bytes that tell where they belong, written and checked.

use core::fmt;

use embedded_io_async::{BufRead, Read, Write};
use handover_guest::{
    ConnectError, Error, Region,
    stream::{ReadHalf, Stream, StreamError, WriteHalf},
    task::join,
};

/// Why a check failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Call(Error),
    Stream(StreamError),
    /// Not the byte that was written at this place of the stream.
    Wrong {
        at: u64,
    },
    /// The stream ended here.
    Short {
        at: u64,
    },
    Unexpected(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Call(error) => error.fmt(f),
            Failure::Stream(error) => error.fmt(f),
            Failure::Wrong { at } => write!(f, "byte {at} is not the one that was written"),
            Failure::Short { at } => write!(f, "the stream ended after {at} bytes"),
            Failure::Unexpected(what) => f.write_str(what),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Call(error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        Failure::Call(error.into())
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        Failure::Stream(error)
    }
}

/// `Err(Unexpected(what))` unless it is so.
pub(crate) fn expect(so: bool, what: &'static str) -> Result<(), Failure> {
    if so { Ok(()) } else { Err(Failure::Unexpected(what)) }
}

/// The byte at a place of a stream.
pub(crate) fn byte(seed: u64, at: u64) -> u8 {
    (at.wrapping_mul(167) ^ (at >> 8).wrapping_mul(29) ^ (at >> 16)).wrapping_add(seed * 41) as u8
}

/// Sizes of writes and reads, of every kind: from a byte to several regions.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = self.0 >> 33;
        let limit = [16, 256, 5000, 70_000][(random & 3) as usize];
        1 + (random >> 2) as usize % limit
    }
}

/// Bytes of the buffer that is written from.
const BUFFER: usize = 128 << 10;

pub(crate) async fn write_all(mut writer: WriteHalf<'_>, seed: u64, total: u64) -> Result<(), Failure> {
    let mut buffer = Region::create(BUFFER)?;
    let mut sizes = Sizes(seed);
    let mut at = 0;
    while at < total {
        let size = sizes.next().min((total - at) as usize);
        for (index, slot) in buffer[..size].iter_mut().enumerate() {
            *slot = byte(seed, at + index as u64);
        }
        writer.write_all(&buffer[..size]).await?;
        at += size as u64;
    }
    writer.flush().await?;
    Ok(())
}

/// Reads and checks, by `read` and by `fill_buf` in turn.
pub(crate) async fn check_all(reader: &mut ReadHalf<'_>, seed: u64, total: u64) -> Result<(), Failure> {
    let mut buffer = [0; 3000];
    let mut sizes = Sizes(!seed);
    let mut at = 0;
    while at < total {
        let size = sizes.next();
        let count = if size.is_multiple_of(2) {
            let count = reader.read(&mut buffer[..size.min(3000)]).await?;
            check(&buffer[..count], seed, at)?;
            count
        } else {
            let bytes = reader.fill_buf().await?;
            let count = bytes.len().min(size);
            check(&bytes[..count], seed, at)?;
            reader.consume(count);
            count
        };
        if count == 0 {
            return Err(Failure::Short { at });
        }
        at += count as u64;
    }
    Ok(())
}

fn check(bytes: &[u8], seed: u64, at: u64) -> Result<(), Failure> {
    match bytes.iter().zip(at..).find(|&(&found, at)| found != byte(seed, at)) {
        Some((_, at)) => Err(Failure::Wrong { at }),
        None => Ok(()),
    }
}

/// Writes `total` bytes and at the same time reads as many of another seed.
pub(crate) async fn exchange(stream: &mut Stream, out: u64, back: u64, total: u64) -> Result<(), Failure> {
    let (mut reader, writer) = stream.split();
    let (written, checked) = join(write_all(writer, out, total), check_all(&mut reader, back, total)).await;
    written.and(checked)
}
