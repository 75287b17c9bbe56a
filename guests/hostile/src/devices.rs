//! Devices at every offset and size, and the timers.

use core::{
    arch::asm,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use handover_guest::{
    Boot,
    abi::{
        console::{SWITCH, SWITCH_END},
        layout::{
            GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE, PHYSICAL_TIMER_INTID, UART_BASE, UART_SIZE,
            VIRTUAL_TIMER_INTID,
        },
    },
    console, events,
    fault::{self, Fault},
    interrupts::{self, Trigger},
    println, timer,
};

use crate::failure::{Failure, ensure, fail};

fn read<T: Copy>(address: u64) -> Result<T, Fault> {
    // SAFETY: a device register, whose reading touches no memory; a fault is caught.
    fault::catch(|| unsafe { ptr::with_exposed_provenance::<T>(address as usize).read_volatile() })
}

fn write<T: Copy>(address: u64, value: T) -> Result<(), Fault> {
    // SAFETY: a device register; these devices write no memory. A fault is caught.
    fault::catch(|| unsafe { ptr::with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) })
}

fn no_fault<T>(what: &str, address: u64, result: Result<T, Fault>) -> Result<T, Failure> {
    match result {
        Ok(value) => Ok(value),
        Err(fault) => fail!("{what} {address:#x}: {fault}"),
    }
}

/// Reads and writes every word, and bytes, halfwords and doublewords here and there.
fn sweep(base: u64, size: u64) -> Result<(), Failure> {
    for address in (base..base + size).step_by(4) {
        no_fault("read of", address, read::<u32>(address))?;
    }
    for address in (base..base + size).step_by(4) {
        no_fault("write to", address, write(address, u32::MAX))?;
    }
    for address in (base..base + size).step_by(0x48) {
        no_fault("byte read of", address + 1, read::<u8>(address + 1))?;
        no_fault("halfword read of", address + 2, read::<u16>(address + 2))?;
        no_fault("doubleword read of", address, read::<u64>(address))?;
        no_fault("byte write to", address + 3, write(address + 3, 0xffu8))?;
        no_fault("halfword write to", address, write(address, 0xffffu16))?;
        no_fault("doubleword write to", address, write(address, u64::MAX))?;
    }
    Ok(())
}

fn expect_zero(addresses: impl IntoIterator<Item = u64>) -> Result<(), Failure> {
    for address in addresses {
        let value = no_fault("read of", address, read::<u32>(address))?;
        ensure!(value == 0, "{address:#x} is reserved and reads as {value:#x}");
    }
    Ok(())
}

/// Every register of the GIC's frames, reserved ones too, which read as zero and ignore writes.
pub(crate) fn gic_frames(boot: &Boot) -> Result<(), Failure> {
    sweep(GICD_BASE, GICD_SIZE)?;
    expect_zero([0xc, 0x30, 0x5c, 0xc0, 0x5fe0, 0xa000, 0xc000, 0xff00].map(|offset| GICD_BASE + offset))?;
    for processor in 0..boot.processors() as u64 {
        let base = GICR_BASE + processor * GICR_STRIDE;
        sweep(base, GICR_STRIDE)?;
        expect_zero([0x30, 0x50, 0x80, 0xd0, 0x1_0000, 0x1_1000, 0x1_ff00].map(|offset| base + offset))?;
    }
    // The sweep has set what it could, and cleared it behind itself.
    while let Some(intid) = interrupts::acknowledge() {
        interrupts::end(intid);
    }
    interrupts::init()?;
    while events::next()?.is_some() {}
    Ok(())
}

/// Every register of the console; it still prints.
pub(crate) fn uart_frame(_: &Boot) -> Result<(), Failure> {
    const UARTIMSC: u64 = UART_BASE + 0x38;
    const UARTCR: u64 = UART_BASE + 0x30;
    const UARTLCR_H: u64 = UART_BASE + 0x2c;
    for address in (UART_BASE..UART_BASE + UART_SIZE).step_by(4) {
        no_fault("read of", address, read::<u32>(address))?;
        // Behind UARTDR, which would print.
        if address != UART_BASE {
            no_fault("write to", address, write(address, u32::MAX))?;
            no_fault("write to", address, write(address, 0u32))?;
        }
    }
    for (register, value) in [(UARTIMSC, 0), (UARTLCR_H, 0x70), (UARTCR, 0x301u32)] {
        no_fault("write to", register, write(register, value))?;
    }
    Ok(())
}

/// More output than anybody reads, some of it in another partition's name.
pub(crate) fn uart_flood(_: &Boot) -> Result<(), Failure> {
    for line in 0..1000u32 {
        println!("flood {line:04} {:-<80}", "");
    }
    console::write_bytes(&[SWITCH]);
    console::write_bytes(b"system-control");
    console::write_bytes(&[SWITCH_END]);
    println!("handover: end status=0 is not for a guest to say");
    Ok(())
}

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A timer: how it is started for a number of ticks, and what its interrupt does.
struct Timer {
    intid: u32,
    start: fn(u64),
    handler: interrupts::Handler,
}

fn stop_virtual(_: u32) {
    timer::stop();
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

fn start_physical(ticks: u64) {
    // SAFETY: sets and enables the timer.
    unsafe {
        asm!(
            "msr cntp_tval_el0, {}", "msr cntp_ctl_el0, {}", "isb",
            in(reg) ticks, in(reg) 1u64,
            options(nomem, nostack)
        );
    }
}

fn stop_physical(_: u32) {
    // SAFETY: disables the timer.
    unsafe { asm!("msr cntp_ctl_el0, xzr", "isb", options(nomem, nostack)) };
    TAKEN.fetch_add(1, Ordering::Relaxed);
}

/// Both timers wake WFI and interrupt, once.
pub(crate) fn timers(_: &Boot) -> Result<(), Failure> {
    let start_virtual = |ticks| timer::set_deadline(timer::now() + ticks);
    let timers = [
        Timer { intid: VIRTUAL_TIMER_INTID, start: start_virtual, handler: stop_virtual },
        Timer { intid: PHYSICAL_TIMER_INTID, start: start_physical, handler: stop_physical },
    ];
    for Timer { intid, start, handler } in timers {
        interrupts::enable(intid, Trigger::Level, handler)?;
        for ticks in [0, 1, 1000, timer::frequency() / 100] {
            TAKEN.store(0, Ordering::Relaxed);
            let before = timer::now();
            start(ticks);
            while TAKEN.load(Ordering::Relaxed) == 0 {
                interrupts::wait();
            }
            let elapsed = timer::now() - before;
            ensure!(elapsed >= ticks, "INTID {intid} after {elapsed} ticks instead of {ticks}");
        }
        ensure!(interrupts::acknowledge().is_none(), "INTID {intid} is still pending");
        interrupts::disable(intid)?;
    }
    Ok(())
}
