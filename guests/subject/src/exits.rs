//! Exits to the control OS of one kind each, as often as they are asked for.

use core::{arch::asm, ptr, time::Duration};

use handover_guest::{
    Error,
    abi::{
        Counter,
        layout::{ARCHIVE_BASE, GICD_BASE, MEMORY_BASE, UART_BASE},
    },
    fault, hvc, interrupts, memory, psci, timer,
};

/// Nobody's address.
const NOWHERE: u64 = GICD_BASE - 8;
/// A GiB where nothing is, of which stage 1 would execute.
const EXECUTABLE: u64 = ARCHIVE_BASE - (8 << 30);
/// Where memory is taken and given back, two granules at once.
const MEMORY: u64 = MEMORY_BASE + (1 << 30);
const GRANULES: u64 = 4 << 20;

/// Does what this counter counts, so many times.
pub(crate) fn cause(counter: u64, times: u64) -> Result<(), Error> {
    let counter =
        Counter::ALL.iter().find(|&&known| known as u64 == counter).ok_or(Error::InvalidArgument)?;
    (0..times).try_for_each(|_| once(*counter))
}

fn once(counter: Counter) -> Result<(), Error> {
    match counter {
        Counter::Calls => hvc::identify().map(|_| ())?,
        Counter::FirmwareCalls => _ = psci::version(),
        Counter::Waits => nap(),
        Counter::FloatTraps => {
            nap();
            // SAFETY: CPACR_EL1.FPEN [21:20]: no trap to this program; nothing here uses FP/SIMD registers.
            unsafe {
                asm!(
                    ".arch_extension fp", "msr cpacr_el1, {}", "isb", "fmov d0, xzr", ".arch_extension nofp",
                    in(reg) 3u64 << 20, options(nomem, nostack, preserves_flags)
                );
            }
        }
        // SAFETY: reads an identification register.
        Counter::SystemRegisters => unsafe {
            asm!("mrs {}, id_aa64isar0_el1", out(reg) _, options(nomem, nostack, preserves_flags));
        },
        Counter::DataAborts | Counter::AbortsGiven => _ = fault::catch(|| read(NOWHERE)),
        Counter::DistributorAccesses => read(GICD_BASE),
        Counter::ConsoleAccesses => read(UART_BASE + 0x18),
        Counter::InstructionAborts => {
            make_executable();
            // SAFETY: nothing is there, and the fault is caught.
            _ = fault::catch(|| unsafe { asm!("blr {}", in(reg) EXECUTABLE, clobber_abi("C")) });
        }
        Counter::Undefined => {
            // SAFETY: SMC is undefined, and the fault is caught.
            _ = fault::catch(|| unsafe {
                asm!(".inst 0xd4000003", clobber_abi("C"));
            })
        }
        Counter::Interrupts => {
            timer::set_deadline(timer::after(Duration::from_micros(20)));
            interrupts::unmask();
            let end = timer::after(Duration::from_micros(40));
            while timer::now() < end {}
            interrupts::mask();
        }
        Counter::TranslationFlushes => {
            memory::add(MEMORY, GRANULES)?;
            // SAFETY: it was taken just now, and nothing uses it.
            unsafe { memory::remove(MEMORY, GRANULES) }?;
        }
        _ => return Err(Error::InvalidArgument),
    }
    Ok(())
}

/// Lets stage 1 execute a GiB where this partition has nothing.
fn make_executable() {
    // Valid block, Normal, inner shareable, read-only, accessed, UXN.
    const BLOCK: u64 = 1 | 1 << 2 | 1 << 7 | 3 << 8 | 1 << 10 | 1 << 54;
    let ttbr0: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, ttbr0_el1", out(reg) ttbr0, options(nomem, nostack, preserves_flags)) };
    let entry = ptr::with_exposed_provenance_mut::<u64>((ttbr0 + 8 * (EXECUTABLE >> 30)) as usize);
    // SAFETY: an entry of the start code's level-1 table, which nothing else writes, for addresses that nothing uses. Break before make: Arm ARM D8.16.
    unsafe {
        entry.write_volatile(0);
        asm!("dsb sy", "tlbi vmalle1is", "dsb sy", "isb", options(nostack));
        entry.write_volatile(EXECUTABLE | BLOCK);
        asm!("dsb sy", "isb", options(nostack));
    }
}

/// One WFI, which waits.
fn nap() {
    timer::set_deadline(timer::after(Duration::from_micros(100)));
    interrupts::wait();
}

fn read(address: u64) {
    // SAFETY: reads a register of a device, or faults where that is caught.
    _ = unsafe { ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() };
}
