//! Limits of the bus, carried out: a guest's broadcasts trap and wait, and a counter ends the turn of who has caused its memory traffic.
//!
//! Whoever has a limit pays for it, and nobody else: without one, coming onto a physical processor and leaving it look at bytes that they look at anyway.

use handover_abi::{BusLimit, BusStatus, Counter, Error, TrafficLimit, Unsupported};
use handover_core::bus::Bucket;
use handover_core::schedule::State;
use handover_core::{Failure, PartitionIndex, VcpuId};

use crate::arch;
use crate::arch::broadcast::{self, Tlbi};
use crate::arch::exception::{self, SystemAccess};
use crate::arch::monitor::{self, Monitor};
use crate::arch::registers::CNTPCT_EL0;
use crate::arch::stage2;
use crate::kernel::{Hardware, KERNEL, Kernel};
use crate::processor::{self, Marks, PROCESSORS_MAX};
use crate::schedule::{Leave, schedule};
use crate::trap::{self, resume};
use crate::vcpu::{Attention, Running, VcpuKey};

/// What limits ask of a physical processor while a partition is on it: bits of [`Shell::restraint`](crate::partition::Shell::restraint) and of
/// [`Restrained::bits`].
pub struct Restraint;

impl Restraint {
    /// Broadcasts of TLB maintenance trap.
    pub const TRAPS: u8 = 1;
    /// Its memory traffic is counted.
    pub const COUNTS: u8 = 2;
    /// Its broadcasts have trapped at some time: since then, what one of its processors has forgotten may be remembered where it ran before.
    pub const CONFINED: u8 = 4;
    /// Nothing of the bus: it reads its stolen time ([`crate::steal`]).
    pub const TELLS: u8 = 8;
    /// Nothing of the bus either: one of its processors owns a physical one alone, and waits there without the control OS ([`crate::claim`]).
    pub const OWNS: u8 = 16;
}

/// How the physical processors are restrained.
pub struct Restrained {
    /// The counter, if the processors have one for us.
    pub monitor: Option<Monitor>,
    /// For each: [`Restraint::TRAPS`] and [`Restraint::COUNTS`], and [`Restraint::OWNS`] if WFI does not trap there.
    pub bits: [u8; PROCESSORS_MAX],
    /// For each that counts: its share of the partition's events.
    shares: [u64; PROCESSORS_MAX],
}

impl Restrained {
    /// None is.
    pub const NONE: Restrained =
        Restrained { monitor: None, bits: [0; PROCESSORS_MAX], shares: [0; PROCESSORS_MAX] };
}

/// `PartitionSetBus`.
pub fn set_bus(kernel: &mut Kernel, partition: PartitionIndex, limit: BusLimit) -> Result<(), Failure> {
    let Kernel { system, hardware } = kernel;
    system.set_bus(hardware, partition, limit)?;
    let limited = system.bus(partition).is_some_and(Bucket::is_limited);
    match limited {
        true => hardware.set_restraint(partition, 0, Restraint::TRAPS | Restraint::CONFINED),
        false => hardware.set_restraint(partition, Restraint::TRAPS, 0),
    }
    hardware.limits_changed(partition);
    Ok(())
}

/// [`set_bus`] with another number of operations in the same period.
pub fn set_operations(
    kernel: &mut Kernel,
    partition: PartitionIndex,
    operations: u64,
) -> Result<(), Failure> {
    let bucket = kernel.system.bus(partition).ok_or(Error::BadHandle)?;
    let limit = BusLimit { operations, ..bucket.limit() };
    set_bus(kernel, partition, limit)
}

/// `PartitionSetTraffic`.
pub fn set_traffic(
    kernel: &mut Kernel,
    partition: PartitionIndex,
    mut limit: TrafficLimit,
) -> Result<(), Failure> {
    let hardware = &mut kernel.hardware;
    if limit.events != 0 {
        let unsupported = Failure::unsupported(Unsupported::Traffic);
        let monitor = hardware.restrained.monitor.ok_or(unsupported)?;
        if limit.event == 0 {
            limit.event = monitor.traffic().ok_or(unsupported)?;
        } else if limit.event <= 0xffff && !monitor.counts(limit.event) {
            return Err(unsupported);
        }
    }
    let now = hardware.now();
    let shell = hardware.shell_mut(partition).ok_or(Error::BadHandle)?;
    shell.traffic.set(limit, now)?;
    let counts = if shell.traffic.is_limited() { Restraint::COUNTS } else { 0 };
    hardware.set_restraint(partition, Restraint::COUNTS, counts);
    hardware.limits_changed(partition);
    Ok(())
}

/// `BusRead`.
pub fn read(kernel: &Kernel, partition: PartitionIndex) -> Result<BusStatus, Failure> {
    let Kernel { system, hardware } = kernel;
    let bucket = system.bus(partition).ok_or(Error::BadHandle)?;
    let traffic = hardware.shell(partition).ok_or(Error::BadHandle)?.traffic;
    let now = hardware.now();
    Ok(BusStatus {
        limit: bucket.limit(),
        used: bucket.used(now),
        traffic: traffic.limit(),
        caused: traffic.used(now),
    })
}

/// TLB maintenance of the guest's has trapped: it is carried out as soon as the limit allows, and the logical processor waits until then. The
/// instruction is executed again after that, so that interrupts come in between.
pub fn maintain(mut guest: Running, access: &SystemAccess) -> Running {
    let operand = guest.context().value(access.register);
    let who = guest.id().partition;
    let mut kernel = KERNEL.lock();
    let Some(tlbi) = Tlbi::decode(access.name, &kernel.hardware.capabilities) else {
        return trap::undefined(guest);
    };
    let Kernel { system, hardware } = &mut *kernel;
    if tlbi.is_broadcast() {
        match system.broadcast(hardware, who) {
            Ok(()) => guest.counters().count(Counter::Broadcasts),
            Err(Failure { error: Error::Throttled, detail }) => {
                return wait(kernel, guest, detail);
            }
            // It has ended, and leaves.
            Err(_) => return resume(kernel, guest, false),
        }
    }
    tlbi.perform(operand);
    exception::skip(guest.context());
    resume(kernel, guest, false)
}

/// The one that runs here has used its limit up, for so many nanoseconds.
fn wait(kernel: crate::lock::Guard<Kernel>, guest: Running, nanoseconds: u64) -> Running {
    guest.counters().count(Counter::BusWaits);
    // A tick more: both conversions round down.
    let ticks = kernel.hardware.schedule.ticks(nanoseconds).saturating_add(2);
    schedule(kernel, Leave::Throttled(CNTPCT_EL0.get().saturating_add(ticks)))
}

/// Something of the limits concerns the one that runs here: they have changed, or its share of events is used up. → whether it goes on.
pub fn renew(
    mut kernel: crate::lock::Guard<Kernel>,
    guest: Running,
) -> Result<crate::lock::Guard<Kernel>, Running> {
    let here = processor::this().index();
    kernel.hardware.stop_counting(here, guest.id().partition);
    match kernel.hardware.restrain(here, guest.id().partition) {
        Ok(()) => Ok(kernel),
        Err(nanoseconds) => Err(wait(kernel, guest, nanoseconds)),
    }
}

impl Hardware {
    /// Nanoseconds of a clock that does not stop.
    pub fn now(&self) -> u64 {
        self.schedule.nanoseconds(CNTPCT_EL0.get())
    }

    /// Takes some of a partition's restraints away and adds others: bits of [`Restraint`].
    pub fn set_restraint(&mut self, partition: PartitionIndex, away: u8, added: u8) {
        if let Some(shell) = self.shell_mut(partition) {
            shell.restraint = shell.restraint & !away | added;
            shell.note_arrivals();
        }
    }

    /// Whoever runs looks at the limits, and whoever waits for them tries again.
    pub fn limits_changed(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell(partition) else { return };
        for (index, key) in shell.vcpus.into_iter().enumerate() {
            let Some(key) = key else { continue };
            // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
            let throttled = unsafe { core::mem::take(&mut (*key.as_ptr()).throttled) };
            match self.schedule.state(&self.records, key) {
                State::Running => {
                    // SAFETY: as above.
                    unsafe { (*key.as_ptr()).attention |= Attention::LIMITS };
                    self.attend(partition, index);
                }
                State::Blocked if throttled => self.make_ready(key),
                _ => {}
            }
        }
    }

    /// A logical processor comes onto this physical one, and it or the one before has a limit.
    #[cold]
    #[inline(never)]
    pub fn enter_restrained(&mut self, here: usize, key: VcpuKey) {
        let VcpuId { partition, .. } = key.id();
        let restraint = self.shell(partition).map_or(0, |shell| shell.restraint);
        if restraint & Restraint::TELLS != 0 {
            self.tell_stolen_time(key);
        }
        let confined = restraint & Restraint::CONFINED != 0;
        // SAFETY: it has been picked to run here, so that this processor is the one to touch it; under the lock.
        let vcpu = unsafe { &mut *key.as_ptr() };
        vcpu.throttled = false;
        if confined && core::mem::replace(&mut vcpu.last_processor, here as u8 + 1) != here as u8 + 1 {
            // What it has had forgotten elsewhere may be remembered here.
            stage2::forget_guest_here();
        }
        // With nothing left, its first event ends its turn.
        let _: Result<(), u64> = self.restrain(here, partition);
    }

    /// Makes this physical processor as a partition's limits want it. `Err`: it has caused all the traffic that it may, for so many nanoseconds.
    fn restrain(&mut self, here: usize, partition: PartitionIndex) -> Result<(), u64> {
        let now = self.now();
        let Some(shell) = self.shell_mut(partition) else { return Ok(()) };
        let restraint = shell.restraint;
        let share = match restraint & Restraint::COUNTS {
            0 => None,
            _ => Some(shell.traffic.take(u64::from(shell.count()), monitor::RUN_MAX, now)),
        };
        let event = shell.traffic.limit().event;
        let bits = self.restrained.bits[here];
        let owned = self.schedule.is_owned(here);
        if owned != (bits & Restraint::OWNS != 0) {
            arch::start::trap_wait(!owned);
        }
        if (bits ^ restraint) & Restraint::TRAPS != 0 {
            broadcast::trap(&self.capabilities, restraint & Restraint::TRAPS != 0);
        }
        let owns = if owned { Restraint::OWNS } else { 0 };
        let bits = restraint & (Restraint::TRAPS | Restraint::COUNTS) | owns;
        self.restrained.bits[here] = bits;
        processor::this().mark(Marks::RESTRAINED, bits != 0);
        if let (Some(share), Some(monitor)) = (share, self.restrained.monitor) {
            self.restrained.shares[here] = share.unwrap_or(0);
            monitor.start(event, share.unwrap_or(0));
        }
        match share {
            Some(Err(renewal)) => Err(renewal.saturating_sub(now)),
            _ => Ok(()),
        }
    }

    /// A logical processor of the partition's leaves this physical one, or is about to be given another share.
    #[inline]
    pub fn stop_counting(&mut self, here: usize, partition: PartitionIndex) {
        if self.restrained.bits[here] & Restraint::COUNTS != 0 {
            self.settle_share(here, partition);
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_share(&mut self, here: usize, partition: PartitionIndex) {
        self.restrained.bits[here] &= !Restraint::COUNTS;
        let share = self.restrained.shares[here];
        let used = self.restrained.monitor.map_or(0, |monitor| monitor.stop(share));
        if let Some(shell) = self.shell_mut(partition) {
            shell.traffic.settle(share, used);
        }
    }

    /// Whether it is the counter's interrupt; then the share of the one that runs here is used up.
    pub fn count_interrupt(&mut self, intid: u32) -> bool {
        let Some(monitor) = self.restrained.monitor.filter(|monitor| monitor.intid == intid) else {
            return false;
        };
        monitor.quiet();
        let current = processor::this().current();
        if !current.is_null() {
            // SAFETY: it runs here; the field is touched under the lock alone, which this is.
            unsafe { (*current).attention |= Attention::LIMITS };
        }
        true
    }
}
