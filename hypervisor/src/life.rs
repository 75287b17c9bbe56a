//! A partition's life as the machine sees it: memory for it, its first instruction, its end.

use core::ptr::NonNull;

use handover_abi::{Error, Name, PartitionId};
use handover_core::{Failure, Ipa, Machine, PAGE, Pa, Partition, PartitionIndex, Phase};

use crate::arch::registers::CNTPCT_EL0;
use crate::arch::{self, stage2};
use crate::bus::Restraint;
use crate::console::{RING, Terminal};
use crate::hypercall::Outcome;
use crate::kernel::{Hardware, Kernel};
use crate::partition::{Halt, Shell};
use crate::vcpu::{SavedListRegisters, Vcpu};
use handover_core::VcpuId;

/// Frames of a shell beside one for each logical processor: the rules' part, this side's part, the console's ring.
const FIXED: usize = 3;
const FRAMES_MAX: usize = FIXED + crate::partition::VCPUS;

const _: () = assert!(size_of::<Partition>() <= PAGE as usize);
const _: () = assert!(RING == PAGE as usize);

/// Frames taken for something that is not made yet.
struct Frames {
    list: [Pa; FRAMES_MAX],
    count: usize,
}

impl Frames {
    fn take(hardware: &mut Hardware, count: usize) -> Result<Frames, Failure> {
        let mut frames = Frames { list: [Pa::new(0); FRAMES_MAX], count: 0 };
        for slot in frames.list.iter_mut().take(count) {
            match hardware.allocate(12) {
                Some(frame) => *slot = frame,
                None => {
                    frames.give(hardware);
                    return Err(Error::NoMemory.into());
                }
            }
            frames.count += 1;
        }
        Ok(frames)
    }

    fn give(&self, hardware: &mut Hardware) {
        for &frame in &self.list[..self.count] {
            hardware.zero(frame, PAGE);
            hardware.free(frame, 12);
        }
    }
}

/// Makes an empty partition, which `creator` pays for.
pub fn create(
    kernel: &mut Kernel,
    creator: Option<PartitionIndex>,
    name: Name,
    processors: u32,
) -> Result<PartitionId, Failure> {
    if processors == 0 || processors as usize > crate::partition::VCPUS {
        return Err(Error::InvalidArgument.into());
    }
    let Kernel { system, hardware } = kernel;
    let count = processors as usize;
    let frames = Frames::take(hardware, FIXED + count)?;
    let bytes = (FIXED + count) as u64 * PAGE;
    let rules = hardware.records::<Partition>(frames.list[0]);
    let Some(rules) = rules.first_mut() else { return Err(Error::NoMemory.into()) };
    let id = match system.create(hardware, creator, name, processors, rules, bytes) {
        Ok(id) => id,
        Err((failure, _)) => {
            frames.give(hardware);
            return Err(failure);
        }
    };
    let partition = system.find(id)?;

    let place = frames.list[1].get() as *mut Shell;
    // SAFETY: a fresh frame, and a shell fits in one.
    let shell = unsafe {
        place.write(Shell::new(name, processors));
        &mut *place
    };
    // SAFETY: a fresh frame of zeroes, of which the shell is the only owner.
    shell.terminal.attach(unsafe { &mut *(frames.list[2].get() as *mut [u8; RING]) });
    for (index, frame) in frames.list[FIXED..FIXED + count].iter().enumerate() {
        let Some(vcpu) = NonNull::new(frame.get() as *mut Vcpu) else { continue };
        // SAFETY: a fresh frame of zeroes.
        let key = unsafe { Vcpu::place(vcpu, partition, index as u8) };
        shell.vcpus[index] = Some(key);
        hardware.schedule.place(&mut hardware.records, key);
    }
    shell.note_arrivals();
    hardware.insert_shell(partition, shell);
    Ok(id)
}

/// Starts logical processor 0.
pub fn start(kernel: &mut Kernel, partition: PartitionIndex, entry: u64, x0: u64) -> Result<(), Failure> {
    let Kernel { system, hardware } = kernel;
    system.start(partition)?;
    arch::discard_instructions();
    if let Some(shell) = hardware.shell_mut(partition) {
        shell.counter_offset = CNTPCT_EL0.get();
    }
    hardware.kick_watchdog(partition);
    hardware.arm_watchdog(partition);
    switch_on(kernel, VcpuId { partition, index: 0 }, entry, x0);
    Ok(())
}

/// Switches a logical processor on that is off.
pub fn switch_on(kernel: &mut Kernel, id: VcpuId, entry: u64, x0: u64) {
    let Kernel { system, hardware } = kernel;
    let Some(rules) = system.partition(id.partition) else { return };
    if rules.phase() != Phase::Active {
        return;
    }
    let vttbr = stage2::base(rules.root().get(), rules.vmid());
    let count = hardware.list_registers;
    let Some(shell) = hardware.shell_mut(id.partition) else { return };
    let index = usize::from(id.index);
    let Some(key) = shell.vcpus[index] else { return };
    // SAFETY: it is off, so nobody runs it, and the kernel is locked.
    let context = unsafe { &mut (*key.as_ptr()).context };
    let registers = &mut SavedListRegisters { state: &mut context.interrupts, count };
    let active = shell.vgic.active_devices(index, registers);
    let kick = shell.vgic.reset_processor(index, registers);
    context.reset(entry, x0, vttbr, u32::from(id.index), shell.counter_offset);
    system.vcpu_on(id);
    hardware.deactivate_devices(id.partition, active);
    hardware.make_ready(key);
    hardware.kick(id.partition, kick);
}

/// Pauses a partition. Done when none of its logical processors is on a physical one, which takes as long as their interrupts take.
///
/// [`Error::InvalidArgument`]: the caller itself. [`Error::WrongState`]: it does not run.
pub fn pause(
    kernel: &mut Kernel,
    who: PartitionIndex,
    partition: PartitionIndex,
) -> Result<Outcome, Failure> {
    if partition == who {
        return Err(Error::InvalidArgument.into());
    }
    kernel.system.pause(partition)?;
    Ok(if kernel.hardware.pause_processors(partition) { Outcome::Done } else { Outcome::Again })
}

/// Copies bytes from one partition into another that has not started.
pub fn write(
    kernel: &mut Kernel,
    to: PartitionIndex,
    to_ipa: Ipa,
    from: PartitionIndex,
    from_ipa: Ipa,
    size: u64,
) -> Result<(), Failure> {
    let Kernel { system, hardware } = kernel;
    let target = system.partition(to).ok_or(Error::BadHandle)?;
    if target.phase() != Phase::Created {
        return Err(Error::WrongState.into());
    }
    // Once to check everything, once to copy: neither translation can change meanwhile.
    for copy in [false, true] {
        let mut done = 0;
        while done < size {
            let span = |partition, ipa: Ipa| {
                let at = ipa.checked_add(done)?;
                system.translate(hardware, partition, at)
            };
            let source = span(from, from_ipa).ok_or(Error::BadAddress)?;
            let target = span(to, to_ipa).filter(|span| span.writable).ok_or(Error::BadAddress)?;
            let bytes = source.size.min(target.size).min(size - done);
            if copy {
                // SAFETY: both spans are memory of `bytes` bytes at least, mapped at EL2 at their physical addresses. They are different
                // partitions' memory, so they do not overlap. The target is not started; the source may change under the
                // copy, which reads it as bytes, once.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        source.pa.get() as *const u8,
                        target.pa.get() as *mut u8,
                        bytes as usize,
                    );
                }
                // It may be code, and the guest starts with its caches off.
                arch::clean(target.pa.get(), bytes);
            }
            done += bytes;
        }
    }
    Ok(())
}

/// Makes a partition that has ended as it was when it was made: one bounded step.
pub fn reset(kernel: &mut Kernel, id: PartitionId) -> Result<Outcome, Failure> {
    let partition = kernel.system.find(id)?;
    match kernel.system.partition(partition).map(Partition::phase) {
        Some(Phase::Terminated) => {}
        Some(Phase::Ending) => {
            crate::schedule::reap(kernel);
            return Ok(Outcome::Again);
        }
        _ => return Err(Error::WrongState.into()),
    }
    let Kernel { system, hardware } = kernel;
    if !hardware.console_drain(partition) {
        return Ok(Outcome::Again);
    }
    system.reset(id)?;
    if let Some(shell) = hardware.shell_mut(partition) {
        // Its processors are off, and no deadline is left.
        shell.vgic = Shell::interrupts(shell.count());
        shell.last = [0; crate::processor::PROCESSORS_MAX];
        shell.set_halt(Halt::No);
        shell.halted_at = u64::MAX;
        shell.counter_offset = 0;
        shell.watchdog.due = u64::MAX;
        if shell.restraint & Restraint::TRAPS == 0 {
            shell.restraint &= !Restraint::CONFINED;
            shell.note_arrivals();
        }
        for key in shell.vcpus.into_iter().flatten() {
            // SAFETY: a key names a placed frame; it is off, and the kernel is locked.
            unsafe { (*key.as_ptr()).last_processor = 0 };
        }
        let ring = shell.terminal.detach();
        shell.terminal = Terminal::new(shell.terminal.name());
        if let Some(ring) = ring {
            shell.terminal.attach(ring);
        }
    }
    Ok(Outcome::Done)
}

/// Forgets a partition that has ended, or has never started: one bounded step.
pub fn destroy(kernel: &mut Kernel, id: PartitionId) -> Result<Outcome, Failure> {
    let Kernel { system, hardware } = kernel;
    let partition = system.find(id)?;
    let rules = system.partition(partition).ok_or(Error::BadHandle)?;
    match rules.phase() {
        Phase::Active => return Err(Error::WrongState.into()),
        Phase::Created => {
            system.end(hardware, partition, handover_abi::EndReason::Stopped, 0);
            hardware.stop_processors(partition);
            return Ok(Outcome::Again);
        }
        Phase::Ending => {
            // Its end is under way; lend a hand.
            crate::schedule::reap(kernel);
            return Ok(Outcome::Again);
        }
        Phase::Terminated => {}
    }
    if !hardware.console_drain(partition) {
        return Ok(Outcome::Again);
    }
    let (rules, bytes) = system.destroy(hardware, id)?;
    let mut frames = Frames { list: [Pa::new(0); FRAMES_MAX], count: 0 };
    let mut add = |frame: u64| {
        frames.list[frames.count] = Pa::new(frame);
        frames.count += 1;
    };
    add(rules as *mut Partition as u64);
    if let Some(shell) = hardware.remove_shell(partition) {
        if let Some(ring) = shell.terminal.detach() {
            add(ring as *mut [u8; RING] as u64);
        }
        for &key in shell.vcpus.iter().flatten() {
            hardware.schedule.remove(&mut hardware.records, key);
            add(key.as_ptr() as u64);
        }
        add(shell as *mut Shell as u64);
    }
    debug_assert_eq!(bytes, frames.count as u64 * PAGE);
    frames.give(hardware);
    Ok(Outcome::Done)
}
