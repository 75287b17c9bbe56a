//! A logical processor: one frame each, charged with its partition's shell.

use core::ptr::NonNull;

use handover_core::PartitionIndex;
use handover_core::schedule::{Record, Records};

use crate::arch::context::{Context, InterruptState, read_list_register, write_list_register};
use crate::arch::registers::{ICH_ELRSR_EL2, ICH_LR0_EL2, ICH_LR1_EL2, ICH_LR2_EL2};
use crate::counters::Counters;
use handover_core::VcpuId;

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
    /// Something concerns it while it runs: bits of [`Attention`] ([`crate::schedule`] says so under the lock).
    pub attention: u8,
    /// What is to be looked at when it comes onto a physical processor: bits of [`Arrival`]. Touched under the lock alone.
    pub arrival: u8,
    /// What it has done. Added to by the physical processor that runs it, or under the lock while none does; read by anybody.
    pub counters: Counters,
    /// Whether it waits by a direct call.
    pub in_call: InCall,
    /// When its direct call has taken too long, as a physical count; `u64::MAX`: never.
    pub timeout: u64,
    /// It waits because of a limit of its partition's ([`crate::bus`]).
    pub throttled: bool,
    /// The physical processor that it was on last, plus one; 0: none. Kept where its partition's broadcasts have trapped.
    pub last_processor: u8,
    /// The physical address of the structure in which its guest reads its stolen time; 0: it does not.
    pub stolen_time: u64,
    /// What the scheduler keeps of it.
    record: Record<VcpuKey>,
}

/// How a logical processor that does not run waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InCall {
    /// Not by a direct call.
    No,
    /// For a call, or an interrupt.
    Waiting,
    /// For its reply, whatever interrupts there are.
    Calling,
}

/// What may concern a logical processor that runs.
pub struct Attention;

impl Attention {
    /// Interrupts to load, or its partition's end.
    pub const INTERRUPTS: u8 = 1;
    /// Somebody else may have to run.
    pub const SCHEDULE: u8 = 2;
    /// Limits of the bus: they have changed, or its share is used up.
    pub const LIMITS: u8 = 4;
}

/// What concerns a logical processor that comes onto a physical one; most often nothing.
pub struct Arrival;

impl Arrival {
    /// There may be something for its list registers: set, also while it runs, with whatever makes its interrupt controller want a flush, and taken back by that.
    pub const INTERRUPTS: u8 = 1;
    /// Its guest's physical timer may be on.
    pub const TIMER: u8 = 2;
    /// Its partition has others, who may use an ASID for something else.
    pub const SIBLINGS: u8 = 4;
    /// Its partition has limits of the bus, or something else that [`Restraint`](crate::bus::Restraint) names.
    pub const RESTRAINED: u8 = 8;
    /// Its partition is paused or has ended, and it must not come.
    pub const HALTED: u8 = 16;
    /// What its partition's shell says ([`Shell::note_arrivals`](crate::partition::Shell::note_arrivals)).
    pub const OF_PARTITION: u8 = Arrival::SIBLINGS | Arrival::RESTRAINED | Arrival::HALTED;
}

const _: () = assert!(size_of::<Vcpu>() <= 4096);

impl Vcpu {
    /// Initialises a zeroed frame.
    ///
    /// # Safety
    /// `frame` is 4096 zeroed bytes of nobody else's.
    pub unsafe fn place(frame: NonNull<Vcpu>, partition: PartitionIndex, index: u8) -> VcpuKey {
        let key = VcpuKey(frame);
        let frame = frame.as_ptr();
        // SAFETY: by the caller; a zeroed `Context` is a valid one, all of it being integers.
        unsafe {
            (&raw mut (*frame).partition).write(partition);
            (&raw mut (*frame).index).write(index);
            (&raw mut (*frame).attention).write(0);
            (&raw mut (*frame).arrival).write(0);
            (&raw mut (*frame).in_call).write(InCall::No);
            (&raw mut (*frame).timeout).write(u64::MAX);
            (&raw mut (*frame).throttled).write(false);
            (&raw mut (*frame).stolen_time).write(0);
            (&raw mut (*frame).record).write(Record::new());
        }
        key
    }
}

/// A logical processor by its frame, which was placed and stays until its partition is forgotten; nothing keeps a key for longer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct VcpuKey(NonNull<Vcpu>);

// SAFETY: what a key names is touched under the kernel lock, or by the physical processor that runs it.
unsafe impl Send for VcpuKey {}

impl VcpuKey {
    /// Its name.
    #[inline(always)]
    pub fn id(self) -> VcpuId {
        // SAFETY: it is placed; these fields never change.
        unsafe { VcpuId { partition: (*self.0.as_ptr()).partition, index: (*self.0.as_ptr()).index } }
    }

    /// Its frame.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Vcpu {
        self.0.as_ptr()
    }

    /// Whether its partition lets it run; the kernel must be locked.
    #[inline(always)]
    pub fn may_come(self) -> bool {
        // SAFETY: it is placed; the field is touched under the lock alone.
        unsafe { (*self.0.as_ptr()).arrival & Arrival::HALTED == 0 }
    }
}

/// The scheduler's records, in the frames of those they are of. There is one value of this type, in the kernel's state.
pub struct VcpuRecords(());

impl VcpuRecords {
    /// # Safety
    /// The only one.
    pub const unsafe fn new() -> VcpuRecords {
        VcpuRecords(())
    }
}

impl Records for VcpuRecords {
    type Key = VcpuKey;

    #[inline(always)]
    fn get(&self, key: VcpuKey) -> &Record<VcpuKey> {
        // SAFETY: a key's frame is placed, and its record is reached through the one `VcpuRecords` alone, whose borrow this one is part of.
        unsafe { &(*key.as_ptr()).record }
    }

    #[inline(always)]
    fn get_mut(&mut self, key: VcpuKey) -> &mut Record<VcpuKey> {
        // SAFETY: as for `get`.
        unsafe { &mut (*key.as_ptr()).record }
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

    /// Its frame.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Vcpu {
        self.0
    }

    /// By its frame.
    #[inline(always)]
    pub fn key(self) -> VcpuKey {
        // SAFETY: by `new` it is placed, so not null.
        VcpuKey(unsafe { NonNull::new_unchecked(self.0) })
    }

    /// Whether an interrupt may be there for it, or its partition is halted; the kernel must be locked.
    #[inline(always)]
    pub fn may_be_interrupted(self) -> bool {
        // SAFETY: by `new`; this processor runs it, and `arrival` is touched under the lock alone.
        let (held, arrival) = unsafe { ((*self.0).context.interrupts.held, (*self.0).arrival) };
        held != 0 || arrival & (Arrival::INTERRUPTS | Arrival::HALTED) != 0
    }

    /// What concerns it; the kernel must be locked.
    #[inline(always)]
    pub fn attention(self) -> u8 {
        // SAFETY: by `new`; the field is touched under the lock alone.
        unsafe { (*self.0).attention }
    }

    /// It has been looked at; the kernel must be locked.
    pub fn attended(self) {
        // SAFETY: as for `attention`.
        unsafe { (*self.0).attention = 0 }
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

    #[inline(always)]
    fn write(&mut self, number: usize, value: u64) {
        // Which one it is takes a table of instructions, and it is nearly always one of the first.
        match number {
            0 => ICH_LR0_EL2.set(value),
            1 => ICH_LR1_EL2.set(value),
            2 => ICH_LR2_EL2.set(value),
            _ => write_other(number, value),
        }
    }

    #[inline]
    fn empty_status(&self) -> u32 {
        ICH_ELRSR_EL2.get() as u32
    }
}

#[cold]
#[inline(never)]
fn write_other(number: usize, value: u64) {
    write_list_register(number, value);
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
        self.state.held |= 1 << (number & 15);
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
