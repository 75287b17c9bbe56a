//! Two processors with one ASID and tables that differ: each must see its own, also when they share a physical processor.

use core::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use handover_guest::{Boot, processor, timer};

use crate::{
    failure::{Failure, ensure},
    processors,
    upper::{LAST_PAGE, Page, with_last_page},
};

/// Both read for this part of a second from when both are ready: many turns on a processor.
const PART: u64 = 4;
/// Reads between two looks at the counter.
const READS: usize = 1000;
/// What the processors' pages hold, the processor's index apart.
const CONTENTS: u64 = 0x5157_0000;

static DATA: [Page; 2] = [const { Page::new() }; 2];
static READY: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

fn read_own(index: usize) {
    let expected = CONTENTS + index as u64;
    DATA[index].set_wide(0, expected);
    let wrong = with_last_page(index, &DATA[index], || {
        READY.fetch_add(1, Ordering::AcqRel);
        while READY.load(Ordering::Acquire) < 2 {
            processor::yield_now();
        }
        let end = timer::now() + timer::frequency() / PART;
        let mut wrong = 0;
        while timer::now() < end {
            wrong += (0..READS).filter(|_| read_last_page() != expected).count();
        }
        wrong
    });
    WRONG.fetch_add(wrong, Ordering::AcqRel);
}

fn read_last_page() -> u64 {
    // SAFETY: `with_last_page` has mapped a page there.
    unsafe { ptr::with_exposed_provenance::<u64>(LAST_PAGE as usize).read_volatile() }
}

/// No read goes to the other processor's page.
pub(crate) fn one_asid(boot: &Boot) -> Result<(), Failure> {
    ensure!(boot.processors() >= 2, "the case needs two processors");
    READY.store(0, Ordering::Relaxed);
    processor::start(1, read_own, 1)?;
    read_own(0);
    processors::wait_until_off(1)?;
    let wrong = WRONG.swap(0, Ordering::AcqRel);
    ensure!(wrong == 0, "{wrong} reads went to the other processor's page");
    Ok(())
}
