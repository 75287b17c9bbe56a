//! A logical processor's registers, and the switch between two of them.

use core::arch::asm;

use super::features::Capabilities;
use super::registers::*;
use super::stage2;
use super::watch::{self, Kept};
use crate::processor::Processor;
use handover_core::watch::Watch;

/// Interrupt state as the hardware holds it while the logical processor is on a physical one (IHI 0069, 12.4).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct InterruptState {
    /// List registers: those in `held`; the others are 0.
    pub list: [u64; 16],
    /// ICH_VMCR_EL2.
    pub vmcr: u64,
    /// ICH_HCR_EL2: En, and what `Vgic::flush` asked for.
    pub hcr: u64,
    /// ICH_AP0R0_EL2 and ICH_AP1R0_EL2: five bits of priority need one of each, and a guest can write both. While no guest is on a physical processor, its own are 0.
    pub active: [u64; 2],
    /// 0: no list register holds anything, no priority is active, and no physical interrupt that is linked to one is in flight. [`InterruptState::UNKNOWN`]: that may be,
    /// or is. Bit n, while it is not on a physical processor: list register n was not empty when it left, or has been written since.
    pub held: u64,
}

/// Floating point and Advanced SIMD registers, switched when first used.
#[repr(C, align(16))]
pub struct FloatState {
    q: [u128; 32],
    fpcr: u64,
    fpsr: u64,
}

/// All of a logical processor's registers. Only the physical processor that runs it, or holds it stopped under the lock, touches them.
/// `vectors.s` knows the offsets of the first four fields.
#[repr(C)]
pub struct Context {
    /// x0 to x18, which a procedure call may change (AAPCS64 6.1.1).
    pub x: [u64; CHANGING],
    /// x30, which one changes as well, so that it makes a pair with x18; x20 to x29; x19.
    others: [u64; 12],
    /// Where it goes on (ELR_EL2).
    pub pc: u64,
    /// PSTATE there (SPSR_EL2).
    pub spsr: u64,
    /// VTTBR_EL2: stage-2 root and VMID.
    pub vttbr: u64,
    /// VMPIDR_EL2.
    pub vmpidr: u64,
    /// CNTVOFF_EL2: physical minus virtual count.
    pub counter_offset: u64,
    /// CNTV_CTL_EL0 and CNTV_CVAL_EL0.
    pub virtual_timer: [u64; 2],
    /// The physical timer as emulated: control and compare value, in the guest's count.
    pub physical_timer: [u64; 2],
    /// Interrupts.
    pub interrupts: InterruptState,
    /// What of `el1` is true while it is on a physical processor: bits of [`Kept`].
    pub kept: u8,
    watch: Watch,
    /// The registers of EL1 and EL0 that are not above, by the lists of `register_pairs` below.
    el1: [u64; EL1_COUNT],
    float: FloatState,
}

/// General registers of a [`Context`] that are in their own places.
const CHANGING: usize = 19;
/// General registers.
pub const REGISTERS: usize = 31;

const _: () = assert!(core::mem::offset_of!(Context, pc) == 248);
const _: () = assert!(core::mem::offset_of!(Context, spsr) == 256);

/// Registers by their encodings, saved and restored two at a time. Each list says where in the one array its pairs are.
macro_rules! register_pairs {
    ($($(#[$doc:meta])* $save:ident, $restore:ident: $($index:literal $first:literal $second:literal),*;)*) => { $(
        $(#[$doc])*
        #[inline(always)]
        fn $save(to: &mut [u64; EL1_COUNT]) {
            const { $(assert!(2 * $index + 1 < EL1_COUNT);)* }
            // SAFETY: reads system registers, and writes the array at the offsets of its pairs.
            unsafe {
                asm!(
                    $(concat!("mrs {a}, ", $first, "\nmrs {b}, ", $second, "\nstp {a}, {b}, [{to}, #16 * ", $index, "]"),)*
                    to = in(reg) to, a = out(reg) _, b = out(reg) _, options(nostack, preserves_flags)
                )
            }
        }

        $(#[$doc])*
        #[inline(always)]
        fn $restore(from: &[u64; EL1_COUNT]) {
            // SAFETY: reads the array at the offsets of its pairs, and writes registers that only EL1 and EL0 look at.
            unsafe {
                asm!(
                    $(concat!("ldp {a}, {b}, [{from}, #16 * ", $index, "]\nmsr ", $first, ", {a}\nmsr ", $second, ", {b}"),)*
                    from = in(reg) from, a = out(reg) _, b = out(reg) _, options(nostack, preserves_flags, readonly)
                )
            }
        }
    )* };
}

/// Registers in all of the lists.
const EL1_COUNT: usize = 34;

register_pairs! {
    /// What exceptions change, or no trap tells of (CNTKCTL_EL1).
    save_changing, restore_changing:
        0 "sp_el0" "sp_el1",
        1 "elr_el1" "spsr_el1",
        2 "esr_el1" "far_el1",
        3 "par_el1" "cntkctl_el1";
    /// Watched, and never the same in two guests.
    save_system, restore_system:
        4 "sctlr_el1" "cpacr_el1",
        5 "ttbr0_el1" "ttbr1_el1",
        6 "tcr_el1" "mair_el1",
        7 "vbar_el1" "tpidr_el1",
        8 "tpidr_el0" "tpidrro_el0";
    /// Watched, and 0 in most guests; AFSR0_EL1 and AFSR1_EL1, where they are, keep their guests from being quiet.
    save_seldom, restore_seldom:
        9 "contextidr_el1" "csselr_el1",
        10 "mdscr_el1" "amair_el1",
        11 "afsr0_el1" "afsr1_el1";
    /// APIA, APIB, APDA, APDB and APGA, low and high halves, by encoding: the names need a processor that has them. Watched.
    save_keys, restore_keys:
        12 "s3_0_c2_c1_0" "s3_0_c2_c1_1",
        13 "s3_0_c2_c1_2" "s3_0_c2_c1_3",
        14 "s3_0_c2_c2_0" "s3_0_c2_c2_1",
        15 "s3_0_c2_c2_2" "s3_0_c2_c2_3",
        16 "s3_0_c2_c3_0" "s3_0_c2_c3_1";
}

/// Where SCTLR_EL1 is in these lists.
const SCTLR_EL1_INDEX: usize = 8;
/// Where the seldom ones begin.
const SELDOM_INDEX: usize = 18;
/// Where the keys begin, behind those.
const KEYS_INDEX: usize = 24;

/// SCTLR_EL1 with everything off: the architecture's RES1 bits, or bits whose 1 means "as before the feature" (SPAN, EIS, EOS…).
const SCTLR_EL1_RESET: u64 = 0x30d0_0980;
/// EL1 with SP_EL1, all interrupts masked.
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;

impl Context {
    /// A general register by its number; `None` for the zero register.
    pub fn register(&mut self, number: usize) -> Option<&mut u64> {
        match number {
            30 => self.others.first_mut(),
            19 => self.others.last_mut(),
            20..30 => self.others.get_mut(number - CHANGING),
            _ => self.x.get_mut(number),
        }
    }

    /// What is in a register that an instruction names: 31 is the zero register.
    pub fn value(&mut self, number: usize) -> u64 {
        self.register(number).map_or(0, |register| *register)
    }

    /// A processor as PSCI CPU_ON leaves it: EL1, MMU off, interrupts masked (DEN0022, 6.4).
    pub fn reset(&mut self, pc: u64, x0: u64, vttbr: u64, index: u32, counter_offset: u64) {
        self.x = [0; CHANGING];
        self.others = [0; 12];
        self.x[0] = x0;
        self.pc = pc;
        self.spsr = PSTATE_EL1H_MASKED;
        self.vttbr = vttbr;
        self.vmpidr = 1 << 31 | u64::from(index);
        self.counter_offset = counter_offset;
        self.virtual_timer = [0; 2];
        self.physical_timer = [0; 2];
        self.interrupts = InterruptState { list: [0; 16], vmcr: 0, active: [0; 2], hcr: 1, held: 0 };
        self.kept = Kept::NOTHING;
        self.watch = Watch::new();
        self.el1 = [0; EL1_COUNT];
        self.el1[SCTLR_EL1_INDEX] = SCTLR_EL1_RESET;
        self.float = FloatState { q: [0; 32], fpcr: 0, fpsr: 0 };
    }

    /// Takes this processor's registers into the context, but for those that writes to trap if it is quiet ([`Context::save_watched`] otherwise). List registers stay
    /// where they are, see [`InterruptState::save_list`], and FP/SIMD registers, see [`FloatState`].
    #[inline(always)]
    pub fn save(&mut self) {
        self.save_plainly();
        if !InterruptState::none_active() {
            self.interrupts.save_active();
        }
    }

    /// [`Context::save`] of one with no active priority.
    #[inline(always)]
    pub fn save_plainly(&mut self) {
        // Its TLB and cache maintenance is over here before its barriers, on another processor, say so (Arm ARM D8.14).
        stage2::step::dsb_ish();
        stage2::unload();
        save_changing(&mut self.el1);
        self.virtual_timer = [CNTV_CTL_EL0.get(), CNTV_CVAL_EL0.get()];
        CNTV_CTL_EL0.clear();
        self.interrupts.vmcr = ICH_VMCR_EL2.get();
        // Off, or a maintenance interrupt that it asks for would stay pending with nobody to remove its cause.
        ICH_HCR_EL2.clear();
    }

    /// Whether its copies of the watched registers are true.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.kept & Kept::QUIET != 0
    }

    /// Takes the rest of the registers of one that is open, after [`Context::save`]. It has come onto physical processors `switches` times.
    #[inline(always)]
    pub fn save_watched(&mut self, capabilities: &Capabilities, switches: u64) {
        save_system(&mut self.el1);
        save_seldom(&mut self.el1);
        if capabilities.pointer_authentication {
            save_keys(&mut self.el1);
        }
        if self.watch.saved(switches) && capabilities.watched_writes {
            self.become_quiet();
        }
    }

    #[cold]
    #[inline(never)]
    fn become_quiet(&mut self) {
        let (seldom, keys) = self.el1[SELDOM_INDEX..].split_at(KEYS_INDEX - SELDOM_INDEX);
        let zero = |values: &[u64], kept: u8| if values.iter().all(|value| *value == 0) { kept } else { 0 };
        self.kept = Kept::QUIET | zero(seldom, Kept::PLAIN) | zero(keys, Kept::KEYLESS);
    }

    /// One that is quiet, and has come onto physical processors `switches` times, has written what is watched.
    pub fn open(&mut self, switches: u64) {
        self.kept = Kept::NOTHING;
        self.watch.written(switches);
    }

    /// Puts the context into the registers of `processor`, which is this one.
    #[inline(always)]
    pub fn restore(&mut self, capabilities: &Capabilities, processor: &Processor) {
        if self.is_plain(processor) {
            return self.restore_plainly(processor);
        }
        restore_changing(&self.el1);
        restore_system(&self.el1);
        self.restore_rest(capabilities, processor);
        self.restore_last();
    }

    /// Whether its seldom registers are as they are in this processor, which is `processor`.
    #[inline(always)]
    pub fn is_plain(&self, processor: &Processor) -> bool {
        self.kept & processor.kept() & Kept::PLAIN != 0
    }

    /// [`Context::restore`] of one that [is plain](Context::is_plain).
    #[inline(always)]
    pub fn restore_plainly(&mut self, processor: &Processor) {
        restore_changing(&self.el1);
        restore_system(&self.el1);
        if self.kept & processor.kept() & Kept::KEYLESS == 0 {
            restore_keys(&self.el1);
            processor.set_kept(self.kept);
        }
        // As in `restore_rest`; `watched_writes` says that it is there.
        VDISR_EL2.clear();
        self.restore_last();
    }

    #[inline(always)]
    fn restore_last(&self) {
        // Each pair by one load.
        let (vttbr, vmpidr) = (self.vttbr, self.vmpidr);
        let [control, compare] = self.virtual_timer;
        let (vmcr, hcr) = (self.interrupts.vmcr, self.interrupts.hcr);
        let counter_offset = self.counter_offset;
        // EL1's registers first: its walks must never mix two guests.
        stage2::step::isb();
        VTTBR_EL2.set(vttbr);
        VMPIDR_EL2.set(vmpidr);
        CNTVOFF_EL2.set(counter_offset);
        CNTV_CVAL_EL0.set(compare);
        CNTV_CTL_EL0.set(control);
        ICH_VMCR_EL2.set(vmcr);
        ICH_HCR_EL2.set(hcr);
    }

    #[inline(never)]
    fn restore_rest(&self, capabilities: &Capabilities, processor: &Processor) {
        restore_seldom(&self.el1);
        if capabilities.pointer_authentication {
            restore_keys(&self.el1);
        }
        if capabilities.error_records {
            // DISR_EL1 is nobody's: RAS is hidden.
            VDISR_EL2.clear();
        }
        if (self.kept ^ processor.kept()) & Kept::QUIET != 0 {
            watch::trap(self.is_quiet());
        }
        processor.set_kept(self.kept);
    }

    /// The guest's count now.
    pub fn count(&self) -> u64 {
        CNTPCT_EL0.get().wrapping_sub(self.counter_offset)
    }

    /// When the virtual or the emulated physical timer next wants attention, as a physical count. Only while not on a processor.
    #[inline(always)]
    pub fn deadline(&self) -> Option<u64> {
        if self.has_timer() { self.first_due() } else { None }
    }

    /// Whether either is on. Only while not on a processor.
    #[inline(always)]
    pub fn has_timer(&self) -> bool {
        const ENABLE: u64 = 1;
        (self.virtual_timer[0] | self.physical_timer[0]) & ENABLE != 0
    }

    fn first_due(&self) -> Option<u64> {
        let due = |[control, compare]: [u64; 2]| {
            (control & 3 == 1).then(|| compare.saturating_add(self.counter_offset).max(1))
        };
        match (due(self.virtual_timer), due(self.physical_timer)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Saves the FP/SIMD registers here.
    pub fn save_float(&mut self) {
        // SAFETY: `float` is 528 writable bytes, aligned to 16; the code generator uses no FP register (softfloat target).
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "stp q0, q1, [{0}]", "stp q2, q3, [{0}, #32]", "stp q4, q5, [{0}, #64]", "stp q6, q7, [{0}, #96]",
                "stp q8, q9, [{0}, #128]", "stp q10, q11, [{0}, #160]", "stp q12, q13, [{0}, #192]", "stp q14, q15, [{0}, #224]",
                "stp q16, q17, [{0}, #256]", "stp q18, q19, [{0}, #288]", "stp q20, q21, [{0}, #320]", "stp q22, q23, [{0}, #352]",
                "stp q24, q25, [{0}, #384]", "stp q26, q27, [{0}, #416]", "stp q28, q29, [{0}, #448]", "stp q30, q31, [{0}, #480]",
                "mrs {1}, s3_3_c4_c4_0", "mrs {2}, s3_3_c4_c4_1", "str {1}, [{0}, #512]", "str {2}, [{0}, #520]",
                in(reg) &raw mut self.float, out(reg) _, out(reg) _, options(nostack, preserves_flags)
            )
        }
    }

    /// Loads the FP/SIMD registers from here.
    pub fn restore_float(&self) {
        // SAFETY: `float` is 528 readable bytes, aligned to 16; the code generator uses no FP register (softfloat target).
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "ldp q0, q1, [{0}]", "ldp q2, q3, [{0}, #32]", "ldp q4, q5, [{0}, #64]", "ldp q6, q7, [{0}, #96]",
                "ldp q8, q9, [{0}, #128]", "ldp q10, q11, [{0}, #160]", "ldp q12, q13, [{0}, #192]", "ldp q14, q15, [{0}, #224]",
                "ldp q16, q17, [{0}, #256]", "ldp q18, q19, [{0}, #288]", "ldp q20, q21, [{0}, #320]", "ldp q22, q23, [{0}, #352]",
                "ldp q24, q25, [{0}, #384]", "ldp q26, q27, [{0}, #416]", "ldp q28, q29, [{0}, #448]", "ldp q30, q31, [{0}, #480]",
                "ldr {1}, [{0}, #512]", "ldr {2}, [{0}, #520]", "msr s3_3_c4_c4_0, {1}", "msr s3_3_c4_c4_1, {2}",
                in(reg) &raw const self.float, out(reg) _, out(reg) _, options(nostack, preserves_flags)
            )
        }
    }
}

macro_rules! list_registers {
    ($($index:literal $name:ident),*) => {
        /// Reads list register `n` of this processor; 0 for one that no architecture has.
        #[inline]
        pub fn read_list_register(n: usize) -> u64 {
            match n { $($index => $name.get(),)* _ => 0 }
        }

        /// Writes list register `n` of this processor.
        #[inline]
        pub fn write_list_register(n: usize, value: u64) {
            match n { $($index => $name.set(value),)* _ => {} }
        }
    };
}

list_registers! {
    0 ICH_LR0_EL2, 1 ICH_LR1_EL2, 2 ICH_LR2_EL2, 3 ICH_LR3_EL2, 4 ICH_LR4_EL2, 5 ICH_LR5_EL2, 6 ICH_LR6_EL2, 7 ICH_LR7_EL2,
    8 ICH_LR8_EL2, 9 ICH_LR9_EL2, 10 ICH_LR10_EL2, 11 ICH_LR11_EL2, 12 ICH_LR12_EL2, 13 ICH_LR13_EL2, 14 ICH_LR14_EL2,
    15 ICH_LR15_EL2
}

impl InterruptState {
    /// See [`InterruptState::held`].
    pub const UNKNOWN: u64 = 1 << 63;

    /// Whether no priority of the one that is here is active.
    #[inline(always)]
    pub fn none_active() -> bool {
        ICH_AP0R0_EL2.get() | ICH_AP1R0_EL2.get() == 0
    }

    /// Takes the active priorities, most often none, and leaves none.
    #[cold]
    #[inline(never)]
    fn save_active(&mut self) {
        self.active = [ICH_AP0R0_EL2.get(), ICH_AP1R0_EL2.get()];
        self.held |= InterruptState::UNKNOWN;
        ICH_AP0R0_EL2.clear();
        ICH_AP1R0_EL2.clear();
    }

    /// Takes the list registers in `occupied`, which may hold something, and leaves them empty. The others are.
    pub fn save_list(&mut self, occupied: u32) {
        // One that is empty has no state of its own to keep (IHI 0069, ICH_ELRSR_EL2).
        self.held = u64::from(occupied) & !ICH_ELRSR_EL2.get();
        for n in listed(self.held) {
            self.list[n] = read_list_register(n);
            write_list_register(n, 0);
        }
        if self.active != [0; 2] {
            self.held |= InterruptState::UNKNOWN;
        }
    }

    /// Puts the list registers back, all of which are empty, before [`Context::restore`].
    pub fn restore_list(&mut self) {
        for n in listed(self.held) {
            write_list_register(n, core::mem::take(&mut self.list[n]));
        }
        let [group0, group1] = core::mem::take(&mut self.active);
        if group0 | group1 != 0 {
            ICH_AP0R0_EL2.set(group0);
            ICH_AP1R0_EL2.set(group1);
        }
        // ICH_ELRSR_EL2 shows them from here on: who is about to use an empty one must not take one of these (Arm ARM D24.1.2, synchronization requirements).
        stage2::step::isb();
    }
}

/// The list registers in a mask.
#[inline(always)]
fn listed(held: u64) -> impl Iterator<Item = usize> {
    let mut mask = held & !InterruptState::UNKNOWN;
    core::iter::from_fn(move || {
        let n = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (n < 64).then_some(n & 15)
    })
}
