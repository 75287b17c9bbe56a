//! TLB maintenance of the guest's own, in every form there is: what it says is forgotten must be, whether it traps or not.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use handover_guest::{
    Boot, Error,
    abi::layout::WINDOW_SLOT,
    fault::{self, Fault},
    hvc, processor,
};

use crate::{
    failure::{Failure, ensure, fail},
    processors,
    regions::QUIET,
    upper::{LAST_PAGE, Page, remap_last_page, with_last_page},
};

/// What the last page shows by turns.
static PAGES: [Page; 2] = [const { Page::new() }; 2];

/// Instructions of EL1 and what they name, all on the last page: `tlbi!("name", operand)`.
macro_rules! forms {
    ($($name:literal: $crm:literal $op2:literal $operand:expr;)*) => {
        &[$(($name, {
            fn form() {
                // SAFETY: TLB maintenance changes no memory and no register.
                unsafe {
                    asm!(
                        "dsb ishst",
                        concat!("sys #0, c8, c", $crm, ", #", $op2, ", {}"),
                        "dsb ish", "isb",
                        in(reg) $operand, options(nostack, preserves_flags)
                    )
                }
            }
            form as fn()
        })),*]
    };
}

type Form = (&'static str, fn());

/// VA[55:12], in ASID 0.
const PAGE: u64 = LAST_PAGE >> 12 & 0xfff_ffff_ffff;
/// VA[48:12] of a range of two pages that ends with it: NUM 0, SCALE 0, TG 4 KiB.
const RANGE: u64 = (LAST_PAGE - 4096) >> 12 & 0x1f_ffff_ffff | 1 << 46;

const SINGLE: &[Form] = forms! {
    "VMALLE1IS": 3 0 0u64;
    "VAE1IS": 3 1 PAGE;
    "ASIDE1IS": 3 2 0u64;
    "VAAE1IS": 3 3 PAGE;
    "VALE1IS": 3 5 PAGE;
    "VAALE1IS": 3 7 PAGE;
    "VMALLE1": 7 0 0u64;
    "VAE1": 7 1 PAGE;
    "ASIDE1": 7 2 0u64;
    "VAAE1": 7 3 PAGE;
    "VALE1": 7 5 PAGE;
    "VAALE1": 7 7 PAGE;
};
const OUTER: &[Form] = forms! {
    "VMALLE1OS": 1 0 0u64;
    "VAE1OS": 1 1 PAGE;
    "ASIDE1OS": 1 2 0u64;
    "VAAE1OS": 1 3 PAGE;
    "VALE1OS": 1 5 PAGE;
    "VAALE1OS": 1 7 PAGE;
};
const RANGES: &[Form] = forms! {
    "RVAE1IS": 2 1 RANGE;
    "RVAAE1IS": 2 3 RANGE;
    "RVALE1IS": 2 5 RANGE;
    "RVAALE1IS": 2 7 RANGE;
    "RVAE1OS": 5 1 RANGE;
    "RVAAE1OS": 5 3 RANGE;
    "RVALE1OS": 5 5 RANGE;
    "RVAALE1OS": 5 7 RANGE;
    "RVAE1": 6 1 RANGE;
    "RVAAE1": 6 3 RANGE;
    "RVALE1": 6 5 RANGE;
    "RVAALE1": 6 7 RANGE;
};
/// No instructions, or not EL1's.
const OTHERS: &[Form] = forms! {
    "op2 4 of the inner ones": 3 4 0u64;
    "op2 6 of the inner ones": 3 6 0u64;
    "op2 0 of the ranges": 2 0 0u64;
    "CRm 0": 0 1 0u64;
    "CRm 4": 4 1 0u64;
};

/// The forms that the processor says it has (ID_AA64ISAR0_EL1.TLB).
fn known() -> impl Iterator<Item = &'static Form> {
    let isar0: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0, options(nomem, nostack)) };
    let tlb = isar0 >> 56 & 0xf;
    let outer = if tlb >= 1 { OUTER } else { &[] };
    let ranges = if tlb >= 2 { RANGES } else { &[] };
    SINGLE.iter().chain(outer).chain(ranges)
}

fn shown() -> u64 {
    let value: u64;
    // SAFETY: the page is mapped as `with_last_page` runs; a read.
    unsafe { asm!("ldr {}, [{}]", out(reg) value, in(reg) LAST_PAGE, options(nostack, readonly)) };
    value
}

/// Every form makes its processor see the page that the table names now.
pub(crate) fn forms(_: &Boot) -> Result<(), Failure> {
    for (number, page) in PAGES.iter().enumerate() {
        page.set_wide(0, 0x1000 + number as u64);
    }
    let checked = with_last_page(0, &PAGES[0], || {
        let mut tried = 0;
        for turn in 1..=2 * known().count() + 1 {
            for (name, form) in known() {
                let before = shown();
                tried += 1;
                remap_last_page(0, &PAGES[(turn + tried) % 2]);
                form();
                let (found, expected) = (shown(), 0x1000 + ((turn + tried) % 2) as u64);
                if found != expected {
                    return Err((*name, before, found));
                }
            }
        }
        Ok(tried)
    });
    match checked {
        Ok(tried) => ensure!(tried > 100, "only {tried} were tried"),
        Err((name, before, found)) => fail!("TLBI {name}: the page shows {found:#x}, and {before:#x} before"),
    }
    for (name, form) in OTHERS {
        let Err(fault) = fault::catch(form) else { fail!("TLBI: {name} is none, and was executed") };
        ensure!(fault.class() == Fault::CLASS_UNDEFINED, "TLBI: {name}: {fault}");
    }
    Ok(())
}

/// What a storm has come to, by all processors.
static MOVED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// All processors broadcast, and map and unmap regions, as fast as they can; the argument `rounds` says how often each.
pub(crate) fn storm(boot: &Boot) -> Result<(), Failure> {
    let rounds = boot.argument("rounds").and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    for index in 1..boot.processors() {
        processor::start(index, storm_of, rounds)?;
    }
    storm_of(rounds);
    for index in 1..boot.processors() {
        processors::wait_until_off(index)?;
    }
    let [moved, refused, wrong] = [&MOVED, &REFUSED, &WRONG].map(|counter| counter.load(Ordering::Relaxed));
    ensure!(wrong == 0 && moved > 0, "{moved} unmapped, {refused} over the limit, {wrong} wrong");
    ensure!(boot.argument("limited").is_none() || refused > 0, "{moved} unmapped, and none over the limit");
    Ok(())
}

/// The same without an end, for somebody else to judge.
pub(crate) fn endless(boot: &Boot) -> Result<(), Failure> {
    GOES_ON.store(true, Ordering::Relaxed);
    storm(boot)
}

fn storm_of(rounds: usize) {
    let slot = QUIET + WINDOW_SLOT * (8 + processor::index() as u64);
    let Ok(region) = hvc::region_create(4096, 0) else {
        WRONG.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut round = 0;
    while round < rounds || GOES_ON.load(Ordering::Relaxed) {
        round += 1;
        for (_, form) in known() {
            form();
        }
        let mapped = hvc::region_map(region, slot);
        if !matches!(mapped, Ok(()) | Err(Error::InUse)) {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: nothing refers to the region's memory.
        match unsafe { hvc::region_unmap(region) } {
            Ok(()) => MOVED.fetch_add(1, Ordering::Relaxed),
            Err(Error::Throttled) => REFUSED.fetch_add(1, Ordering::Relaxed),
            Err(_) => WRONG.fetch_add(1, Ordering::Relaxed),
        };
    }
    loop {
        // SAFETY: as before.
        match unsafe { hvc::region_destroy(region) } {
            Ok(()) => return,
            Err(Error::Throttled) => {}
            Err(_) => {
                WRONG.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}
