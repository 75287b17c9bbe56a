//! A logical processor: one frame each, charged with its partition's shell.

use handover_core::PartitionIndex;

use crate::arch::context::{Context, InterruptState, read_list_register, write_list_register};
use crate::arch::registers::ICH_ELRSR_EL2;
use crate::counters::Counters;
use crate::partition::VcpuId;

/// A logical processor's registers and what its physical processor needs at hand. While it runs, that processor alone touches
/// it; otherwise whoever holds the kernel lock.
#[repr(C)]
pub struct Vcpu {
    /// First, so that a pointer to one is a pointer to the other (`vectors.s`).
    pub context: Context,
    /// Whose it is.
    pub partition: PartitionIndex,
    /// Which of that partition's it is: affinity 0.0.0.n.
    pub index: u8,
    /// Something concerns it while it runs: interrupts to load, or its partition's end ([`crate::schedule`] says so under the lock).
    pub attention: bool,
    /// What it has done. Added to by the physical processor that runs it, or under the lock while none does; read by anybody.
    pub counters: Counters,
}

const _: () = assert!(size_of::<Vcpu>() <= 4096);

impl Vcpu {
    /// Initialises a zeroed frame.
    ///
    /// # Safety
    /// `frame` is 4096 zeroed bytes of nobody else's.
    pub unsafe fn place(frame: *mut Vcpu, partition: PartitionIndex, index: u8) {
        // SAFETY: by the caller; a zeroed `Context` is a valid one, all of it being integers.
        unsafe {
            (&raw mut (*frame).partition).write(partition);
            (&raw mut (*frame).index).write(index);
            (&raw mut (*frame).attention).write(false);
        }
    }
}

/// The logical processor that runs on this physical one, as handlers pass it around: a pointer, not a borrow, since between two uses
/// the scheduler saves and loads the same frame.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Running(*mut Vcpu);

impl Running {
    /// # Safety
    /// `vcpu` was placed, runs here from now on, and is not freed before it has left.
    pub unsafe fn new(vcpu: *mut Vcpu) -> Running {
        Running(vcpu)
    }

    /// Its name.
    #[inline(always)]
    pub fn id(self) -> VcpuId {
        // SAFETY: by `new`; these fields never change.
        unsafe { VcpuId { partition: (*self.0).partition, index: (*self.0).index } }
    }

    /// Its registers. The borrow must end before anything that may switch: `schedule` and `resume` take `self` by value, and the
    /// borrow checker sees to it.
    #[inline(always)]
    pub fn context(&mut self) -> &mut Context {
        // SAFETY: by `new`: only this processor touches them, and no other borrow lives, as each is tied to the one `Running` of a handler.
        unsafe { &mut (*self.0).context }
    }

    /// What it has done.
    #[inline(always)]
    pub fn counters<'a>(self) -> &'a Counters {
        // SAFETY: by `new`, the frame is there until it has left; a handler holds none of these references across a switch. The counters are
        // atomic and no other field, so that this may live beside `context`.
        unsafe { &(*self.0).counters }
    }

    /// Whether something concerns it; the kernel must be locked.
    #[inline(always)]
    pub fn attention(self) -> bool {
        // SAFETY: by `new`; the field is touched under the lock alone.
        unsafe { (*self.0).attention }
    }

    /// It has been looked at; the kernel must be locked.
    pub fn attended(self) {
        // SAFETY: as for `attention`.
        unsafe { (*self.0).attention = false }
    }
}

/// List registers of this physical processor.
pub struct HardwareListRegisters {
    /// How many there are.
    pub count: usize,
}

impl handover_core::vgic::ListRegisterAccess for HardwareListRegisters {
    fn count(&self) -> usize {
        self.count
    }

    #[inline]
    fn read(&self, number: usize) -> u64 {
        read_list_register(number)
    }

    #[inline]
    fn write(&mut self, number: usize, value: u64) {
        write_list_register(number, value);
    }

    #[inline]
    fn empty_status(&self) -> u32 {
        ICH_ELRSR_EL2.get() as u32
    }
}

/// List registers of a logical processor that no physical one holds.
pub struct SavedListRegisters<'a> {
    /// Where they were saved.
    pub state: &'a mut InterruptState,
    /// How many there are.
    pub count: usize,
}

impl handover_core::vgic::ListRegisterAccess for SavedListRegisters<'_> {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&self, number: usize) -> u64 {
        self.state.list[number & 15]
    }

    fn write(&mut self, number: usize, value: u64) {
        self.state.list[number & 15] = value;
    }

    fn empty_status(&self) -> u32 {
        // ICH_ELRSR_EL2: no state, and no maintenance interrupt due (HW, or EOI clear).
        (0..self.count).fold(0, |status, number| {
            let value = self.state.list[number & 15];
            let empty = value >> 62 == 0 && (value & 1 << 61 != 0 || value & 1 << 41 == 0);
            status | u32::from(empty) << number
        })
    }
}
