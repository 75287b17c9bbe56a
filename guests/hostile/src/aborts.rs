//! Accesses to what is not there, or not this partition's any more.

use core::{arch::asm, ptr};

use handover_guest::{
    Boot, Region,
    abi::layout::{
        ARCHIVE_BASE, GICD_BASE, GICR_BASE, GICR_STRIDE, MEMORY_END, PROCESSORS_MAX, UART_BASE, UART_SIZE,
        WINDOW_BASE, WINDOW_SIZE,
    },
    fault::{self, Fault},
};

use crate::{
    failure::{Failure, ensure, fail},
    messages::loopback,
    regions::QUIET,
    user,
};

fn touch<T: Copy>(address: u64, write: Option<T>) -> Result<(), Fault> {
    let pointer = ptr::with_exposed_provenance_mut::<T>(address as usize);
    fault::catch(|| {
        // SAFETY: the caller has nothing there, and a fault is caught.
        unsafe {
            match write {
                Some(value) => pointer.write_volatile(value),
                None => _ = pointer.read_volatile(),
            }
        }
    })
}

/// A synchronous external abort at `address`, with nothing more said in the syndrome than whether it was a write.
pub(crate) fn expect_abort(
    result: Result<(), Fault>,
    class: u64,
    address: u64,
    write: bool,
) -> Result<(), Failure> {
    let access = if write { "write to" } else { "read of" };
    let Err(fault) = result else { fail!("a {access} {address:#x} did not fault") };
    let syndrome = u64::from(write) << 6 | Fault::STATUS_EXTERNAL;
    ensure!(
        fault.class() == class && fault.esr & 0x1ff_ffff == syndrome && fault.far == address,
        "a {access} {address:#x}: {fault}; expected EC={class:#x} ISS={syndrome:#x}"
    );
    Ok(())
}

fn expect_abort_at(address: u64) -> Result<(), Failure> {
    let class = Fault::CLASS_DATA_ABORT;
    expect_abort(touch::<u64>(address, None), class, address, false)?;
    expect_abort(touch::<u32>(address, None), class, address, false)?;
    expect_abort(touch::<u16>(address + 2, None), class, address + 2, false)?;
    expect_abort(touch::<u8>(address + 3, None), class, address + 3, false)?;
    expect_abort(touch(address, Some(0u64)), class, address, true)?;
    expect_abort(touch(address, Some(0u32)), class, address, true)?;
    expect_abort(touch(address + 2, Some(0u16)), class, address + 2, true)?;
    expect_abort(touch(address + 3, Some(0u8)), class, address + 3, true)
}

pub(crate) fn unmapped(boot: &Boot) -> Result<(), Failure> {
    let addresses = [
        0,
        0x1000,
        GICD_BASE - 8,
        GICR_BASE + u64::from(PROCESSORS_MAX) * GICR_STRIDE,
        UART_BASE + UART_SIZE,
        0x3fff_fff8,
        boot.memory().end,
        MEMORY_END - 8,
        QUIET,
        WINDOW_BASE + WINDOW_SIZE - 8,
    ];
    addresses.into_iter().try_for_each(expect_abort_at)?;
    // The SDK maps these read-only.
    for address in [ARCHIVE_BASE, WINDOW_BASE - 8] {
        expect_abort(touch::<u64>(address, None), Fault::CLASS_DATA_ABORT, address, false)?;
    }
    // Behind a region's end, within its slot.
    let region = Region::create(4096)?;
    expect_abort_at(region.address() + 4096)?;
    expect_abort_at(region.address() + (1 << 20))?;
    let address = region.address();
    drop(region);
    expect_abort_at(address)?;
    walk_in_nowhere()
}

/// A translation table where nothing is: an abort of some kind, and no more.
fn walk_in_nowhere() -> Result<(), Failure> {
    const TTBR1_ADDRESS: u64 = 0xffff_ff80_0000_0000;
    // T1SZ 25, walks write-back and inner shareable, TG1 4 KiB, EPD1 0.
    const TCR_TTBR1: u64 = 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;
    const TCR_EPD1: u64 = 1 << 23;
    let tcr: u64;
    // SAFETY: gives addresses in the upper half a table, which nothing here uses otherwise.
    unsafe {
        asm!(
            "mrs {tcr}, tcr_el1",
            "bic {scratch}, {tcr}, {epd1}", "orr {scratch}, {scratch}, {ttbr1_fields}",
            "msr ttbr1_el1, {table}", "msr tcr_el1, {scratch}", "isb", "tlbi vmalle1", "dsb sy", "isb",
            tcr = out(reg) tcr, scratch = out(reg) _,
            epd1 = in(reg) TCR_EPD1, ttbr1_fields = in(reg) TCR_TTBR1, table = in(reg) QUIET
        );
    }
    let result = touch::<u64>(TTBR1_ADDRESS, None);
    // SAFETY: what it was.
    unsafe { asm!("msr tcr_el1, {}", "isb", "tlbi vmalle1", "dsb sy", "isb", in(reg) tcr) };
    let Err(fault) = result else { fail!("a walk of tables that are not there succeeded") };
    ensure!(
        fault.class() == Fault::CLASS_DATA_ABORT && fault.far == TTBR1_ADDRESS,
        "a walk of tables that are not there: {fault}"
    );
    Ok(())
}

/// Accesses to devices that tell nothing about themselves in the syndrome: they may fault, and no more.
pub(crate) fn undecodable(_: &Boot) -> Result<(), Failure> {
    for base in [GICD_BASE, GICR_BASE, UART_BASE] {
        // SAFETY: reads device registers; a fault is caught.
        let pair = fault::catch(|| unsafe {
            asm!("ldp {}, {}, [{}]", out(reg) _, out(reg) _, in(reg) base, options(nostack));
        });
        // SAFETY: as above.
        let exclusive = fault::catch(|| unsafe {
            asm!("ldxr {:w}, [{}]", "clrex", out(reg) _, in(reg) base, options(nostack));
        });
        // SAFETY: as above.
        let indexed = fault::catch(|| unsafe {
            asm!("ldr {:w}, [{}], #4", out(reg) _, inout(reg) base => _, options(nostack));
        });
        // SAFETY: maintenance changes nothing; a fault is caught.
        let _maintained = fault::catch(|| unsafe { asm!("dc civac, {}", in(reg) base, options(nostack)) });
        for (what, result) in [("LDP", pair), ("LDXR", exclusive), ("LDR with write-back", indexed)] {
            if let Err(fault) = result {
                ensure!(
                    fault.class() == Fault::CLASS_DATA_ABORT && fault.far == base,
                    "{what} at {base:#x}: {fault}"
                );
            }
        }
    }
    // SAFETY: maintenance of an address where nothing is, and a fault is caught.
    let _maintained = fault::catch(|| unsafe { asm!("dc civac, {}", in(reg) QUIET, options(nostack)) });
    Ok(())
}

/// A region on its way, at every page's edge, and its old place when it has arrived at another.
pub(crate) fn touch_sent(_: &Boot) -> Result<(), Failure> {
    for size in [4096, 64 << 10, 2 << 20, 4 << 20] {
        let (sender, mut receiver) = loopback()?;
        let mut region = Region::create(size)?;
        region[size - 1] = 0x77;
        let address = region.address();
        sender.send(region)?;
        expect_abort_at(address)?;
        expect_abort_at(address + size as u64 - 8)?;
        // Whatever takes the old place, the message goes elsewhere.
        let other = Region::create(size)?;
        let message = receiver.receive()?;
        let Some(region) = message.and_then(|message| message.region) else { fail!("no region received") };
        ensure!(region.address() != other.address(), "two regions at {:#x}", region.address());
        ensure!(region[size - 1] == 0x77, "the region has changed");
        ensure!(other[size - 1] == 0, "a fresh region shows what was sent");
        drop(other);
        if region.address() != address {
            expect_abort_at(address)?;
        }
    }
    Ok(())
}

/// The same from EL0: the abort comes from the lower exception level.
pub(crate) fn touch_sent_from_user(_: &Boot) -> Result<(), Failure> {
    let class = Fault::CLASS_DATA_ABORT_EL0;
    let (sender, mut receiver) = loopback()?;
    let mut region = Region::create(4096)?;
    region[0] = 0x66;
    let address = region.address();
    user::with_access(|| {
        user::expect_call(user::write, address + 8)?;
        user::expect_call(user::read, address)?;
        sender.send(region)?;
        expect_abort(Err(user::run(user::read, address)), class, address, false)?;
        expect_abort(Err(user::run(user::write, address)), class, address, true)
    })?;
    let message = receiver.receive()?;
    let Some(region) = message.and_then(|message| message.region) else { fail!("no region received") };
    ensure!(region[0] == 0x66 && region[8] == 0x55, "the region has changed: {:x?}", &region[..16]);
    Ok(())
}
