//! [`Control`] by hypercalls.

use core::fmt;

use crate::{
    control::{Control, Device},
    device_tree::Seeds,
};
use handover_guest::{
    abi::{
        Account, BusLimit, EndReason, Error, Name, PartitionId, ProcessorClaim, TrafficLimit, Unsupported,
        smccc,
    },
    hvc, println,
};

/// Random bits of one `TRNG_RND64`: the most it gives (DEN0098, 2.5).
const BITS: u64 = 192;

/// The control OS, reached by `hvc`.
pub struct Hypercalls;

impl Control for Hypercalls {
    fn own_id(&mut self) -> Result<PartitionId, Error> {
        hvc::identify().map(|identity| identity.partition)
    }

    fn create(&mut self, name: Name, processors: u32) -> Result<PartitionId, Error> {
        hvc::partition_create(name, processors)
    }

    fn set_limit(&mut self, id: PartitionId, account: Account, limit: u64) -> Result<(), Error> {
        hvc::partition_set_limit(id, account, limit)
    }

    fn claim(&mut self, id: PartitionId, processor: u32, claim: ProcessorClaim) -> Result<(), Error> {
        hvc::processor_set(id, processor, claim)
    }

    fn set_watchdog(&mut self, id: PartitionId, nanoseconds: u64) -> Result<(), Error> {
        hvc::partition_set_watchdog(id, nanoseconds)
    }

    fn set_colours(&mut self, id: PartitionId, own: u64, channels: u64) -> Result<(), Error> {
        hvc::partition_set_colours(id, own, channels)
    }

    fn set_bus(&mut self, id: PartitionId, limit: BusLimit) -> Result<(), Error> {
        hvc::partition_set_bus(id, limit)
    }

    fn set_traffic(
        &mut self,
        id: PartitionId,
        limit: TrafficLimit,
    ) -> Result<(), (Error, Option<Unsupported>)> {
        hvc::partition_set_traffic(id, limit).map_err(|failure| (failure.error, failure.unsupported()))
    }

    fn colours(&mut self) -> Result<u32, Error> {
        hvc::cache_info()
    }

    fn add_memory(&mut self, id: PartitionId, address: u64, size: u64) -> Result<(), Error> {
        hvc::partition_add_memory(id, address, size)
    }

    fn write(&mut self, id: PartitionId, address: u64, bytes: &[u8]) -> Result<(), Error> {
        hvc::partition_write(id, address, bytes)
    }

    fn start(&mut self, id: PartitionId, entry: u64, x0: u64) -> Result<(), Error> {
        hvc::partition_start(id, entry, x0)
    }

    fn stop(&mut self, id: PartitionId) -> Result<(), Error> {
        hvc::partition_stop(id)
    }

    fn destroy(&mut self, id: PartitionId) -> Result<(), Error> {
        hvc::partition_destroy(id)
    }

    fn end_of(&mut self, id: PartitionId) -> Result<(EndReason, u64), Error> {
        hvc::partition_status(id).map(|status| (status.reason, status.exit_status))
    }

    fn free_memory(&mut self) -> Result<u64, Error> {
        hvc::machine_info().map(|info| info.free_memory)
    }

    fn device(&mut self, number: u64) -> Result<Device, Error> {
        hvc::device_info(number).map(|info| Device {
            base: info.base,
            size: info.size,
            interrupts: u32::from(info.state.interrupts),
            name: info.name,
            compatible: info.compatible,
            holder: info.holder,
            address: info.address,
            intid: info.intid,
        })
    }

    fn assign(
        &mut self,
        id: PartitionId,
        number: u64,
        address: u64,
        intid: u32,
    ) -> Result<(), (Error, Option<Unsupported>)> {
        hvc::device_assign(id, number, address, intid)
            .map_err(|failure| (failure.error, failure.unsupported()))
    }

    fn seeds(&mut self) -> Option<Seeds> {
        let (first, second) = (random()?, random()?);
        let mut random = [0; 32];
        for (bytes, word) in random.chunks_exact_mut(8).zip([first[1], first[2], second[0], second[1]]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Some(Seeds { kaslr: first[0], random })
    }

    fn say(&mut self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }
}

/// [`BITS`] random bits, if the control OS has a source and the source has them now.
fn random() -> Option<[u64; 3]> {
    let mut registers = [0; 18];
    (registers[0], registers[1]) = (u64::from(smccc::TRNG_RND64), BITS);
    // SAFETY: the call returns bits in registers and touches no memory (DEN0098, 2.5).
    let [status, bits @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _] = unsafe { hvc::raw(registers) };
    (status == 0).then_some(bits)
}
