//! What would harm those that come next on the same processor, and a witness that looks for it. These run in partitions of their
//! own: most of them do not come back.

use core::{
    arch::{asm, global_asm},
    sync::atomic::{AtomicU64, Ordering},
};

use handover_guest::{
    Boot,
    abi::layout::{GICR_BASE, GICR_STRIDE, UART_BASE, VIRTUAL_TIMER_INTID},
    fault, hvc,
    interrupts::{self, Trigger},
    println, processor, psci, timer,
};

use crate::failure::{Failure, ensure, fail};

/// SGIs that are made pending: more than there are list registers.
const SGIS: u64 = 10;
/// Timer interrupts that the witness must get, one after the other.
const TICKS: u64 = 200;
/// The witness waits a 1/RATE of a second for each.
const RATE: u64 = 500;
/// Bytes of a line that never ends: less than makes the control OS send it at once.
const LINE: usize = 1500;

/// Takes all the time of a processor that there is.
pub fn spin(_: &Boot) -> Result<(), Failure> {
    loop {
        for _ in 0..20_000 {
            // SAFETY: changes nothing.
            unsafe { asm!("nop", options(nomem, nostack, preserves_flags)) };
        }
        // Where one host thread plays all physical processors, others go on here.
        processor::yield_now();
    }
}

/// Makes SGIs pending for this processor, which has interrupts masked.
fn send_sgis() {
    const GICR_ISENABLER0: u64 = 0x1_0100;
    let register = GICR_BASE + processor::index() as u64 * GICR_STRIDE + GICR_ISENABLER0;
    // SAFETY: enables all SGIs, which stay masked at the processor.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(register as usize).write_volatile(0xffff) };
    for intid in 0..SGIS {
        let value = intid << 24 | 1 << processor::index();
        // SAFETY: ICC_SGI1R_EL1; as above.
        unsafe { asm!("msr s3_0_c12_c11_5, {}", "isb", in(reg) value, options(nostack)) };
    }
}

/// Lets the others start, and come to wait for something: then nobody is there to take the processor over.
fn let_others_start() -> Result<(), Failure> {
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, tick)?;
    timer::set_deadline(timer::now() + timer::frequency() / 20);
    while TAKEN.load(Ordering::Relaxed) == 0 {
        interrupts::wait();
    }
    Ok(interrupts::disable(VIRTUAL_TIMER_INTID)?)
}

/// More pending than fits the interface, which then asks for maintenance; and the partition ends.
pub(crate) fn sgis_then_end(_: &Boot) -> Result<(), Failure> {
    let_others_start()?;
    send_sgis();
    hvc::end(0);
    Ok(())
}

/// The same, and the processor waits for what it does not let through. It never comes back.
pub(crate) fn sgis_then_wait(_: &Boot) -> Result<(), Failure> {
    let_others_start()?;
    send_sgis();
    // SAFETY: ICC_IGRPEN1_EL1: switches all interrupts off.
    unsafe { asm!("msr s3_0_c12_c12_7, xzr", "isb", options(nostack)) };
    loop {
        interrupts::wait_for_interrupt();
    }
}

/// Leaves the highest priority active, in both groups.
pub(crate) fn active_priorities(_: &Boot) -> Result<(), Failure> {
    // SAFETY: ICC_AP0R0_EL1 and ICC_AP1R0_EL1: from here on nothing has the priority to interrupt.
    unsafe {
        asm!("msr s3_0_c12_c8_4, {0}", "msr s3_0_c12_c9_0, {0}", "isb", in(reg) 1u64, options(nostack))
    };
    Ok(())
}

/// DISR_EL1, which is there with FEAT_RAS only.
fn deferred_error() -> Option<u64> {
    // SAFETY: reading it changes nothing, and a fault is caught.
    let read = || unsafe {
        let value: u64;
        asm!("mrs {}, s3_0_c12_c1_1", out(reg) value, options(nostack));
        value
    };
    fault::catch(read).ok()
}

/// Leaves a deferred error's syndrome behind.
pub(crate) fn deferred_errors(_: &Boot) -> Result<(), Failure> {
    const DISR: u64 = 1 << 31 | 0xab_cdef;
    // SAFETY: nothing here looks at it, and a fault is caught.
    let written = fault::catch(|| unsafe { asm!("msr s3_0_c12_c1_1, {}", in(reg) DISR, options(nostack)) });
    if written.is_err() {
        println!("hostile: there is no DISR_EL1");
    }
    Ok(())
}

/// A line without an end, and then nothing more. It never comes back.
pub(crate) fn endless_line(_: &Boot) -> Result<(), Failure> {
    const LETTERS: usize = 100;
    for n in 0..LINE {
        let letter = b'a' + (n / LETTERS) as u8;
        // SAFETY: UARTDR.
        unsafe {
            core::ptr::with_exposed_provenance_mut::<u32>(UART_BASE as usize)
                .write_volatile(u32::from(letter));
        }
    }
    loop {
        interrupts::wait_for_interrupt();
    }
}

// Code of processors without a stack: one that goes off at once, and one that switches the processor in `x0` on at that, for
// ever.
global_asm!(
    ".section .text.switching, \"ax\"",
    "switched_on:",
    "mov x0, #0x0002",
    "movk x0, #0x8400, lsl #16", // CPU_OFF
    "hvc #0",
    "b switched_on",
    ".global switch_on_for_ever",
    "switch_on_for_ever:",
    "mov x19, x0",
    "0: mov x0, #0x0003",
    "movk x0, #0xc400, lsl #16", // CPU_ON
    "mov x1, x19",
    "adr x2, switched_on",
    "mov x3, #0",
    "hvc #0",
    "b 0b",
);

unsafe extern "C" {
    safe fn switch_on_for_ever(target: usize) -> !;
}

/// Ends the partition while a processor of it switches another on: the third, again and again, or else the one that ends it, which
/// is off from then on.
pub(crate) fn end_while_switching(boot: &Boot) -> Result<(), Failure> {
    ensure!(boot.processors() >= 2, "the case needs two processors");
    let target = if boot.processors() > 2 { 2 } else { 0 };
    processor::start(1, |target| switch_on_for_ever(target), target)?;
    let end = timer::now() + timer::frequency() / 20;
    while timer::now() < end {
        processor::yield_now();
    }
    ensure!(psci::affinity_info(1)? == psci::AffinityState::On, "processor 1 is off");
    hvc::end(0);
    Ok(())
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

fn tick(_: u32) {
    timer::stop();
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

/// Gets its timer's interrupts, and finds nothing of the others' in the registers of the interrupt controller and of errors.
pub(crate) fn witness(_: &Boot) -> Result<(), Failure> {
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, tick)?;
    for taken in 0..TICKS {
        timer::set_deadline(timer::now() + timer::frequency() / RATE);
        while TAKEN.load(Ordering::Relaxed) == taken {
            expect_nothing_active()?;
            interrupts::wait();
        }
    }
    Ok(interrupts::disable(VIRTUAL_TIMER_INTID)?)
}

fn expect_nothing_active() -> Result<(), Failure> {
    let (group0, group1): (u64, u64);
    // SAFETY: reads ICC_AP0R0_EL1 and ICC_AP1R0_EL1.
    unsafe {
        asm!("mrs {}, s3_0_c12_c8_4", "mrs {}, s3_0_c12_c9_0", out(reg) group0, out(reg) group1,
            options(nomem, nostack));
    }
    if group0 != 0 || group1 != 0 {
        fail!("nothing is active, but ICC_AP0R0_EL1 is {group0:#x} and ICC_AP1R0_EL1 {group1:#x}");
    }
    let error = deferred_error().unwrap_or(0);
    ensure!(error == 0, "DISR_EL1 is {error:#x}, and there was no error");
    Ok(())
}
