//! The control OS's calls for message channels and regions, as the files use them.

use core::{ptr, slice, sync::atomic::AtomicU8};

use handover_files::{Channels, Errno, Failure, PortStatus, Received, Region, Sink, Source};
use handover_guest::{
    Error, PartitionId, Port, ServiceId,
    abi::{Event, MessageWord, SHORT_MAX, SHORT_WORDS, Signal, region_order},
    hvc, mapping, window,
};

use crate::host::Host;

/// The largest region that comes without its size being told before.
const SLOT: u64 = 1 << window::SLOT_ORDER;

/// A region's bytes from `offset` on, so many at most.
fn bytes(region: &Region, offset: u64, length: u64) -> &[AtomicU8] {
    let size = region.bytes.saturating_sub(offset).min(length);
    let start: *const AtomicU8 =
        ptr::with_exposed_provenance(mapping::address(region.address + offset.min(region.bytes)));
    // SAFETY: who has a `Region` holds it, so that it is mapped in the message window, all of which the start code maps for the kernel;
    // the range ends with the region. It stays for the length of one call of a trait below, none of which gives a region away meanwhile.
    unsafe { slice::from_raw_parts(start, size as usize) }
}

impl Host<'_> {
    /// The calling process may not hold so much more.
    fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        if self.regions.holdings.has_room(self.payer, bytes) { Ok(()) } else { Err(Error::Limit.into()) }
    }

    /// A region is this partition's no more: it was sent or destroyed.
    fn forget_region(&mut self, region: Region) {
        self.unmap_region(region);
        self.regions.holdings.remove(region.address);
        window::release(region.address);
    }

    /// Receives to a place with room for a region of `1 << order` bytes, if one comes.
    fn receive_at(&mut self, port: Port, order: u8) -> Result<Received, Failure> {
        let address = window::claim(order).ok_or(Error::InUse)?;
        let mut words = [0; SHORT_WORDS];
        let word = hvc::receive(port, address, &mut words).map_err(|hvc::Failure { error, detail }| {
            window::release(address);
            Failure { error, detail }
        })?;
        let region = word.region().map(|handle| Region { handle, address, bytes: 1 << word.order() });
        match region {
            Some(region) => self.regions.holdings.add(address, region.bytes, self.payer),
            None => window::release(address),
        }
        let mut short = [0; SHORT_MAX];
        for (bytes, word) in short.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Ok(Received { region, short, length: word.length() })
    }
}

impl Channels for Host<'_> {
    fn partition(&self) -> PartitionId {
        // The call has no errors.
        hvc::identify().map_or(PartitionId::new(0), |identity| identity.partition)
    }

    fn connect(&mut self, partition: PartitionId, service: ServiceId) -> Result<Port, Failure> {
        Ok(hvc::connect(partition, service)?)
    }

    fn accept(&mut self, token: u64) -> Result<Port, Failure> {
        Ok(hvc::accept(token)?)
    }

    fn refuse(&mut self, token: u64, reason: u32) -> Result<(), Failure> {
        Ok(hvc::refuse(token, reason)?)
    }

    fn disconnect(&mut self, port: Port) -> Result<(), Failure> {
        Ok(hvc::disconnect(port)?)
    }

    fn send(&mut self, port: Port, region: Option<Region>, short: &[u8]) -> Result<(), Failure> {
        let mut words = [0; SHORT_WORDS];
        for (word, part) in words.iter_mut().zip(short.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            *word = u64::from_le_bytes(bytes);
        }
        let word = MessageWord::new(port, region.map(|region| region.handle), short.len() as u8);
        // SAFETY: the kernel has no reference into a region but for the length of `read_region` and its like.
        unsafe { hvc::send(word, &words) }?;
        if let Some(region) = region {
            self.forget_region(region);
        }
        Ok(())
    }

    fn receive(&mut self, port: Port) -> Result<Received, Failure> {
        self.check_room(SLOT)?;
        match self.receive_at(port, window::SLOT_ORDER) {
            Err(Failure { error: Error::TooLarge, detail }) => {
                self.check_room(detail)?;
                self.receive_at(port, region_order(detail).ok_or(Error::TooLarge)?)
            }
            received => received,
        }
    }

    fn port_status(&mut self, port: Port) -> Result<PortStatus, Failure> {
        let hvc::PortStatus { causes, peer, reason } = hvc::port_status(port)?;
        Ok(PortStatus { causes, peer, reason })
    }

    fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        Ok(hvc::event_next()?)
    }

    fn next_signal(&mut self) -> Result<Option<Signal>, Failure> {
        Ok(hvc::signal_next()?)
    }

    fn create_region(&mut self, bytes: u64) -> Result<Region, Failure> {
        self.check_room(bytes)?;
        let order = region_order(bytes).ok_or(Error::InvalidArgument)?;
        let address = window::claim(order).ok_or(Error::InUse)?;
        let handle = hvc::region_create(bytes, address).inspect_err(|_| window::release(address))?;
        self.regions.holdings.add(address, bytes, self.payer);
        self.regions.made();
        Ok(Region { handle, address, bytes })
    }

    fn destroy_region(&mut self, region: Region) -> Result<(), Failure> {
        // SAFETY: as for `send`.
        unsafe { hvc::region_destroy(region.handle) }?;
        self.forget_region(region);
        Ok(())
    }

    fn read_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        sink: &mut dyn Sink,
    ) -> Result<usize, Errno> {
        sink.put_shared(bytes(&region, offset, length))
    }

    fn write_region(
        &mut self,
        region: Region,
        offset: u64,
        length: u64,
        source: &mut dyn Source,
    ) -> Result<usize, Errno> {
        source.take_shared(bytes(&region, offset, length))
    }

    fn copy_region(&mut self, from: Region, to: Region, length: u64) -> Result<(), Errno> {
        let (from, to) = (bytes(&from, 0, length), bytes(&to, 0, length));
        // SAFETY: two different regions' bytes, as many as both have; no program runs meanwhile.
        unsafe {
            to.as_ptr()
                .cast::<u8>()
                .cast_mut()
                .copy_from_nonoverlapping(from.as_ptr().cast(), from.len().min(to.len()))
        };
        Ok(())
    }

    fn map_region(&mut self, region: Region) -> Result<u64, Errno> {
        let process = self.tasks.processes.get(&self.caller).ok_or(Errno::SRCH)?;
        let space = process.space.as_ref().ok_or(Errno::SRCH)?;
        let mapping = self.regions.map(Some(region), None);
        let address = space.borrow_mut().map_region(&mapping, region.bytes)?;
        self.regions.begin(address);
        Ok(address)
    }

    fn unmap_region(&mut self, region: Region) {
        for mapping in self.regions.take(region.address) {
            for process in self.tasks.processes.values() {
                if let Some(space) = &process.space {
                    space.borrow_mut().drop_region(&mapping);
                }
            }
        }
    }
}
