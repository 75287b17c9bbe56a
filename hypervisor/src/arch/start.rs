//! Start code and vectors, and what each processor's EL2 registers hold.

use core::arch::global_asm;

use aarch64_cpu::registers::{CNTHCTL_EL2, HCR_EL2, MDCR_EL2, VBAR_EL2};
use tock_registers::interfaces::{Readable, Writeable};

use super::features::Capabilities;
use super::registers::*;
use super::{stage1, stage2};
use crate::bug;
use crate::hypercall;
use crate::processor::{STACK_SIZE, STACK_TOP, STACKS};
use crate::trap::How;
use handover_abi::Call;

global_asm!(
    include_str!("start.s"),
    stacks = sym STACKS,
    stack_size = const STACK_SIZE,
    stack_top = const STACK_TOP,
    translation = sym stage1::TRANSLATION,
    boot_main = sym crate::boot_main,
    secondary_main = sym crate::secondary_main,
);

global_asm!(
    include_str!("vectors.s"),
    hvc = const super::exception::HVC,
    call_base = const Call::BASE,
    call_count = const Call::ReplyAndWait as u32 - Call::BASE + 1,
    version_call = const Call::Version as u32,
    version = sym hypercall::version,
    send_call = const Call::Send as u32,
    send = sym hypercall::send,
    receive_call = const Call::Receive as u32,
    receive = sym hypercall::receive,
    event_next_call = const Call::EventNext as u32,
    event_next = sym hypercall::event_next,
    event_send_call = const Call::EventSend as u32,
    event_send = sym hypercall::event_send,
    call_call = const Call::Call as u32,
    reply_and_wait_call = const Call::ReplyAndWait as u32,
    how_undecided = const How::UNDECIDED,
    direct_call = sym crate::call::call,
    reply_and_wait = sym crate::call::reply_and_wait,
    synchronous = sym crate::trap::synchronous,
    wait = sym crate::trap::wait,
    wfi = const super::exception::WFI,
    interrupt = sym crate::trap::interrupt,
    serror = sym crate::trap::serror,
);

global_asm!(
    include_str!("bug.s"),
    last_stack = sym bug::LAST_STACK,
    last_stack_size = const bug::LAST_STACK_SIZE,
    registers = const bug::REGISTERS,
    unexpected = sym bug::unexpected,
    hopeless = sym bug::hopeless,
);

#[expect(improper_ctypes, reason = "only its address goes there")]
unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __image_end: u8;
    static vectors: u8;
    fn secondary_start();
    /// `vectors.s`.
    pub fn enter_guest(guest: crate::vcpu::Running) -> !;
}

/// Where the image lies.
pub struct Image {
    /// Code from here to `rodata`.
    pub start: u64,
    /// Constants from here to `data`.
    pub rodata: u64,
    /// Data and stacks from here to `end`.
    pub data: u64,
    /// Exclusive.
    pub end: u64,
}

impl Image {
    /// Of this image, page-aligned.
    pub fn find() -> Image {
        Image {
            start: (&raw const __image_start) as u64,
            rodata: (&raw const __rodata_start) as u64,
            data: (&raw const __data_start) as u64,
            end: (&raw const __image_end) as u64,
        }
    }
}

/// Where PSCI starts other processors.
pub fn secondary_entry() -> u64 {
    secondary_start as *const () as u64
}

/// Sets this processor's EL2 up for guests: traps, stage 2, vectors, timers.
pub fn configure(capabilities: &Capabilities) {
    let has = |feature: bool| u64::from(feature);
    HCR_EL2.write(
        // Stage 2; no walk of a guest's tables through device memory; set/way cleans also invalidate.
        HCR_EL2::VM::SET
            + HCR_EL2::PTW::SET
            + HCR_EL2::SWIO::SET
            // All interrupts come here.
            + HCR_EL2::FMO::SET
            + HCR_EL2::IMO::SET
            + HCR_EL2::AMO::SET
            // What a guest's maintenance says of one processor holds for all it has.
            + HCR_EL2::FB::SET
            + HCR_EL2::BSU::InnerShareable
            // Traps: WFI, ID registers, SMC, what is implementation defined, ACTLR_EL1, LORegions, error records.
            + HCR_EL2::TWI::SET
            + HCR_EL2::TID3::SET
            + HCR_EL2::TSC::SET
            + HCR_EL2::TIDCP::SET
            + HCR_EL2::TACR::SET
            + HCR_EL2::TLOR::SET
            + HCR_EL2::TERR::SET
            + HCR_EL2::RW::SET
            + HCR_EL2::APK.val(has(capabilities.pointer_authentication))
            + HCR_EL2::API.val(has(capabilities.pointer_authentication))
            + HCR_EL2::FWB.val(has(capabilities.forced_write_back)),
    );
    if capabilities.hcrx {
        HCRX_EL2.set(0);
    }
    let clear = |registers: &[&dyn Register]| registers.iter().for_each(|register| register.set(0));
    if capabilities.fine_grained_traps {
        clear(&[&HFGRTR_EL2, &HFGWTR_EL2, &HFGITR_EL2, &HDFGRTR_EL2, &HDFGWTR_EL2]);
    }
    if capabilities.fine_grained_traps_2 {
        clear(&[&HFGRTR2_EL2, &HFGWTR2_EL2, &HFGITR2_EL2, &HDFGRTR2_EL2, &HDFGWTR2_EL2]);
    }
    if capabilities.memory_partitioning {
        const TRAP_EL1_EL0: u64 = 1 << 48 | 1 << 49;
        MPAM2_EL2.set(TRAP_EL1_EL0);
    }
    if capabilities.error_records {
        // The syndrome of virtual SErrors, of which there are none.
        VSESR_EL2.set(0);
    }
    stage2::configure();
    stage2::unload();
    VPIDR_EL2.set(MIDR_EL1.get());
    HSTR_EL2.set(0);
    CPTR_EL2.set(CPTR_BASE | CPTR_TFP);
    // Debug, trace, profiling and the PMU: trapped. HPMN stays what it is: nobody uses the counters.
    MDCR_EL2.write(
        MDCR_EL2::HPMN.val(MDCR_EL2.read(MDCR_EL2::HPMN))
            + MDCR_EL2::TPMCR::SET
            + MDCR_EL2::TPM::SET
            + MDCR_EL2::TDA::SET
            + MDCR_EL2::TDOSA::SET
            + MDCR_EL2::TDRA::SET
            + MDCR_EL2::TPMS::SET
            + MDCR_EL2::TTRF::SET,
    );
    // EL1PCTEN = EL1PCEN = 0: the physical counter and timer are emulated.
    CNTHCTL_EL2.set(0);
    CNTVOFF_EL2.set(0);
    CNTV_CTL_EL0.set(0);
    CNTHP_CTL_EL2.set(0);
    VBAR_EL2.set((&raw const vectors) as u64);
    stage2::step::isb();
}

/// RES1 bits (among them TZ and TSM: SVE and SME trap), trace (TTA) and activity monitors (TAM).
const CPTR_BASE: u64 = 0x33ff | 1 << 20 | 1 << 30;
const CPTR_TFP: u64 = 1 << 10;

/// HCR_EL2.TWI: WFI of EL1 traps.
const HCR_TWI: u64 = 1 << 13;

/// Whether WFI of the guest that runs here traps.
pub fn trap_wait(trap: bool) {
    let others = HCR_EL2.get() & !HCR_TWI;
    HCR_EL2.set(others | if trap { HCR_TWI } else { 0 });
    stage2::step::isb();
}

/// Whether FP/SIMD instructions of guests (and of EL2) trap.
#[inline]
pub fn trap_float(trap: bool) {
    CPTR_EL2.set(if trap { CPTR_BASE | CPTR_TFP } else { CPTR_BASE });
    stage2::step::isb();
}
