//! Messages by copying: memory that both partitions share, an event port each way, and a private copy on both sides.

use handover_guest::{Error, Region, Service, Shared, Writers, mapping, println};

use crate::{
    copy::{BLOCK, copy},
    event::{Ports, request, wait},
    sample::{measure, sampled},
};

/// Bytes of the memory.
const AREA: usize = 256 << 10;
/// The largest message.
const LARGEST: usize = 64 << 10;
/// The word that says how large the message is; behind it. 0: it was the last.
const SIZE: usize = AREA / 8 - 1;

/// One side: the memory, what it copies to and from, and how they tell each other.
struct Side<'a> {
    ports: &'a Ports,
    shared: Shared,
    private: Region,
}

impl<'a> Side<'a> {
    fn new(ports: &'a Ports, shared: Shared) -> Result<Self, Error> {
        Ok(Side { ports, shared, private: Region::create(LARGEST)? })
    }

    /// Copies a message in and tells the peer.
    #[inline]
    fn send(&self, bytes: usize) -> Result<(), Error> {
        let words = self.shared.atomics().ok_or(Error::Denied)?;
        // SAFETY: both are mapped and larger than the largest message; the peer alone writes to the memory too, and it waits.
        unsafe {
            copy(
                mapping::address(self.shared.address()) as u64,
                mapping::address(self.private.address()) as u64,
                bytes,
            );
        }
        words[SIZE].store(bytes as u64, core::sync::atomic::Ordering::Release);
        self.ports.sends.send()
    }

    /// Waits for a message and copies it out; its size.
    #[inline]
    fn receive(&mut self) -> Result<usize, Error> {
        wait();
        let size = self.shared.words()[SIZE].load(core::sync::atomic::Ordering::Acquire) as usize;
        if size == 0 || size > LARGEST || !size.is_multiple_of(BLOCK) {
            return Ok(0);
        }
        // SAFETY: as for `send`; `self` is borrowed exclusively, so that nobody refers to the region's bytes.
        unsafe {
            copy(
                mapping::address(self.private.address()) as u64,
                mapping::address(self.shared.address()) as u64,
                size,
            );
        }
        Ok(size)
    }

    /// A message there and back.
    #[inline]
    fn echo(&mut self, bytes: usize) -> Result<(), Error> {
        let sent = self.private.first_word() + 1;
        *self.private.first_word_mut() = sent;
        self.send(bytes)?;
        if self.receive()? == bytes && self.private.first_word() == !sent {
            Ok(())
        } else {
            Err(Error::BadAddress)
        }
    }
}

/// Measures; moving a region there and back costs `moved`.
pub(crate) fn run(service: Service, ports: &Ports, moved: u64) -> Result<(), Error> {
    let mut side = Side::new(ports, Shared::connect(service, AREA, Writers::Both)?)?;
    measure("shared_echo_4k", (), |()| side.echo(4 << 10))?;
    // Copying costs as much for each block: between a size that is cheaper than moving and one that is not, the middle tells.
    let (mut cheaper, mut dearer) = (0, LARGEST / BLOCK);
    while cheaper + 1 < dearer {
        let middle = cheaper.midpoint(dearer);
        let ((), copied) = sampled((), |()| side.echo(middle * BLOCK))?;
        if copied > moved {
            dearer = middle;
        } else {
            cheaper = middle;
        }
    }
    println!("bench: crossover {} bytes", dearer * BLOCK);
    side.shared.atomics().ok_or(Error::Denied)?[SIZE].store(0, core::sync::atomic::Ordering::Release);
    ports.sends.send()?;
    // The next event is another one only when this has been taken.
    wait();
    Ok(())
}

/// Sends every message back, the first word of the private copy flipped, until one of no size.
pub(crate) fn serve(ports: &Ports) -> Result<(), Error> {
    let request = request(|request| request.memory > 0)?;
    let mut side = Side::new(ports, Shared::from_channel(request.accept()?)?)?;
    loop {
        let size = side.receive()?;
        if size == 0 {
            return ports.sends.send();
        }
        let word = side.private.first_word_mut();
        *word = !*word;
        side.send(size)?;
    }
}
