//! Direct calls: the caller waits, the server runs at once on the caller's processor and time, and the reply comes straight back.
//!
//! ```no_run
//! use handover_linux::{Channel, Handover, Region, Short};
//!
//! let handover = Handover::open()?;
//! let channel = Channel::connect(&handover, &handover.service("adder")?)?;
//! let mut short = Short::from(b"17 plus 25");
//! channel.call(None, &mut short)?;
//!
//! let mut region = Region::create(&handover, 4096)?;
//! channel.call_lending(&mut region, &mut short)?; // out of reach meanwhile, and back whatever happens
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A Linux program calls, and is not called. The control OS gives a call to a logical processor that waits for one, and that processor owes the reply; but
//! Linux moves threads from one of its processors to another and runs others in between, and a processor that waited for calls would run none of them. So the
//! SDK's `calls::serve`, `wait`, `reply` and `forward`, and `Lent`, which is what a server sees of a region that it is lent, have no counterpart here.

use std::{
    fmt, io,
    os::fd::{FromRawFd, OwnedFd},
};

use crate::{Channel, Region, SHORT_MAX, Short, uapi};

/// A call that came to nothing.
#[derive(Debug)]
pub struct CallError {
    /// Why.
    pub error: io::Error,
    /// The region that was to go along, unless the server had taken it.
    pub region: Option<Region>,
}

impl From<CallError> for io::Error {
    /// The region is dropped.
    fn from(error: CallError) -> io::Error {
        error.error
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.error)
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Channel {
    /// Calls the peer: `short` is the message and then the reply, `region` goes along, the reply's is returned.
    ///
    /// [`io::ErrorKind::TimedOut`] after its [patience](Channel::set_patience); [`io::ErrorKind::Deadlock`] when nobody could answer;
    /// [`io::ErrorKind::BrokenPipe`] when the peer has gone; [`io::ErrorKind::WouldBlock`] when it has no room for the region. The region comes back, unless the
    /// server had taken it.
    pub fn call(&self, region: Option<Region>, short: &mut Short) -> Result<Option<Region>, CallError> {
        match self.call_with(region.as_ref(), 0, short) {
            Ok(answer) => Ok(answer),
            Err(error) => Err(CallError { error, region: region.filter(Region::is_alive) }),
        }
    }

    /// Calls the peer and lends it a region until it replies: the peer reads, and nobody here can touch it meanwhile. It comes back whatever happens, as it was and
    /// where it was. What the reply brings is returned. Errors as for [`call`](Channel::call).
    pub fn call_lending(&self, region: &mut Region, short: &mut Short) -> Result<Option<Region>, CallError> {
        let answer = self.call_with(Some(region), uapi::LEND, short);
        answer.map_err(|error| CallError { error, region: None })
    }

    /// The same; this process goes on reading it.
    pub fn call_showing(&self, region: &Region, short: &mut Short) -> Result<Option<Region>, CallError> {
        let answer = self.call_with(Some(region), uapi::SHOW, short);
        answer.map_err(|error| CallError { error, region: None })
    }

    /// How long calls wait for their replies, in nanoseconds: up to a second, which it is without this. The logical processor that calls does nothing else
    /// meanwhile, not even for Linux. [`io::ErrorKind::InvalidInput`] for 0 and for more.
    pub fn set_patience(&self, patience: u64) -> io::Result<()> {
        Ok(uapi::give::<{ uapi::PATIENCE }, _>(self, patience)?)
    }

    fn call_with(
        &self,
        region: Option<&Region>,
        flags: u32,
        short: &mut Short,
    ) -> io::Result<Option<Region>> {
        let mut raw = uapi::Message {
            region_fd: region.map_or(-1, Region::raw_fd),
            length: short.len() as u32,
            region_size: 0,
            flags,
            reserved: 0,
            data: short.padded(),
        };
        // Not again after a signal: nobody knows what has been done of it.
        uapi::exchange::<{ uapi::CALL }, _>(self, &mut raw)?;
        *short = Short::from_driver(raw.length, raw.data);
        debug_assert!(raw.length as usize <= SHORT_MAX, "a reply of {} bytes", raw.length);
        match raw.region_fd {
            -1 => Ok(None),
            // SAFETY: the driver has just opened this descriptor for us, and nobody else has it.
            fd => Some(unsafe { Region::from_fd(OwnedFd::from_raw_fd(fd)) }).transpose(),
        }
    }
}
