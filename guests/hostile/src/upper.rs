//! The last page of the address space, which the SDK's tables leave alone, and what may come of executing there.

use core::{arch::asm, cell::UnsafeCell};

use handover_guest::{
    Boot,
    abi::{Call, layout::VIRTUAL_TIMER_INTID},
    fault::{self, Fault},
    interrupts::{self, Masked, Trigger},
    timer,
};

use crate::failure::{Failure, ensure, fail};

/// Address of the last page.
pub(crate) const LAST_PAGE: u64 = 0xffff_ffff_ffff_f000;
/// Where the last word of it is, as an index of 32-bit words.
const LAST_WORD: usize = 1023;
/// Valid page (or table), inner shareable, accessed, attribute 1 (Normal), not global.
const PAGE: u64 = 3 | 1 << 2 | 3 << 8 | 1 << 10 | 1 << 11;
const TABLE: u64 = 3;
/// TCR_EL1's fields for TTBR1: EPD1, A1 and T1SZ, which are replaced, and the new ones: T1SZ 25, walks write-back and inner
/// shareable, TG1 4 KiB.
const TCR_REPLACED: u64 = 1 << 23 | 0x3f << 16;
const TCR_TTBR1: u64 = 25 << 16 | 1 << 24 | 1 << 26 | 3 << 28 | 2 << 30;

/// A page, as words.
#[repr(C, align(4096))]
pub(crate) struct Page(UnsafeCell<[u32; 1024]>);

// SAFETY: each is written by the one processor that has it, before it maps it.
unsafe impl Sync for Page {}

impl Page {
    pub(crate) const fn new() -> Page {
        Page(UnsafeCell::new([0; 1024]))
    }

    /// Writes a word, and has instruction fetches see it.
    fn set(&self, word: usize, value: u32) {
        assert!(word < 1024);
        // SAFETY: in the page, which no other processor uses (see above). The maintenance changes nothing.
        unsafe {
            let word = self.0.get().cast::<u32>().add(word);
            word.write_volatile(value);
            asm!("dc cvau, {}", "dsb ish", "ic iallu", "dsb ish", "isb", in(reg) word, options(nostack));
        }
    }

    /// Writes doubleword `index`.
    pub(crate) fn set_wide(&self, index: usize, value: u64) {
        assert!(index < 512);
        // SAFETY: as for `set`.
        unsafe { self.0.get().cast::<u64>().add(index).write_volatile(value) };
    }

    fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

/// A processor's tables of levels 1 to 3.
static TABLES: [[Page; 3]; 2] = [const { [const { Page::new() }; 3] }; 2];

/// Calls `function` while this processor, 0 or 1, finds `page` at `LAST_PAGE`, by tables of its own.
pub(crate) fn with_last_page<T>(processor: usize, page: &Page, function: impl FnOnce() -> T) -> T {
    let [level1, level2, level3] = &TABLES[processor];
    level1.set_wide(511, level2.address() | TABLE);
    level2.set_wide(511, level3.address() | TABLE);
    level3.set_wide(511, page.address() | PAGE);
    let tcr: u64;
    // SAFETY: gives addresses in the upper half a table, which nothing else here uses.
    unsafe {
        asm!(
            "mrs {tcr}, tcr_el1", "bic {scratch}, {tcr}, {replaced}", "orr {scratch}, {scratch}, {fields}",
            "dsb sy", "msr ttbr1_el1, {table}", "msr tcr_el1, {scratch}", "isb", "tlbi vmalle1", "dsb sy", "isb",
            tcr = out(reg) tcr, scratch = out(reg) _,
            replaced = in(reg) TCR_REPLACED, fields = in(reg) TCR_TTBR1, table = in(reg) level1.address()
        );
    }
    let result = function();
    // SAFETY: what it was.
    unsafe { asm!("msr tcr_el1, {}", "isb", "tlbi vmalle1", "dsb sy", "isb", in(reg) tcr) };
    result
}

/// Has the last page lead to `page` from now on; what was cached of the other stays until the caller has it forgotten.
pub(crate) fn remap_last_page(processor: usize, page: &Page) {
    TABLES[processor][2].set_wide(511, page.address() | PAGE);
}

static CODE: Page = Page::new();

/// Executes `instruction` in the last word of the address space, with the version call's number in `x0`.
fn run_last(instruction: u32) -> Result<(), Fault> {
    CODE.set(LAST_WORD, instruction);
    let _masked = Masked::new();
    with_last_page(0, &CODE, || {
        timer::set_deadline(timer::now() + timer::frequency() / 1000);
        // SAFETY: what follows the instruction is at address 0, which cannot be executed, and the fault is caught. The instructions
        // change x0 to x17 at most.
        let result = fault::catch(|| unsafe {
            asm!("br {}", in(reg) LAST_PAGE + 4 * LAST_WORD as u64, in("x0") Call::Version as u64,
                clobber_abi("C"), options(nostack));
        });
        timer::stop();
        result
    })
}

/// Instructions that are played for the guest where the next one's address wraps to 0.
pub(crate) fn last_word(_: &Boot) -> Result<(), Failure> {
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| timer::stop())?;
    let instructions = [
        ("WFI", 0xd503_207f),
        ("MRS of ID_AA64PFR0_EL1", 0xd538_0402),
        ("HVC", 0xd400_0002),
        ("NOP", 0xd503_201f),
    ];
    for (name, instruction) in instructions {
        let Err(fault) = run_last(instruction) else { fail!("{name} in the last word has been survived") };
        ensure!(
            fault.class() == Fault::CLASS_INSTRUCTION_ABORT && fault.elr == 0 && fault.far == 0,
            "{name} in the last word: {fault}; expected an instruction abort at address 0"
        );
    }
    Ok(interrupts::disable(VIRTUAL_TIMER_INTID)?)
}

/// `mrs x16, tpidrro_el0` and `br x16`.
const TO_REAL_VECTOR: [u32; 2] = [0xd53b_d070, 0xd61f_0200];

/// Reads a register that is not there, with VBAR_EL1 and SPSel as given and the real vectors in TPIDRRO_EL0.
fn undefined_with(vectors: u64, real: u64, handler_stack: u64) -> Result<(), Fault> {
    let _masked = Masked::new();
    // SAFETY: the read makes an exception, which is caught, and puts SPSel back; VBAR_EL1 is put back behind it.
    let result = fault::catch(|| unsafe {
        asm!("msr tpidrro_el0, {}", "msr vbar_el1, {}", "isb",
            "cbz {}, 0f", "msr spsel, #1", "0: mrs {}, s3_0_c15_c2_0",
            in(reg) real, in(reg) vectors, in(reg) handler_stack, out(reg) _, out("x16") _);
    });
    // SAFETY: what it was.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) real) };
    result
}

/// The low bits of VBAR_EL1 mean nothing, and its high bits may all be set.
pub(crate) fn vectors(_: &Boot) -> Result<(), Failure> {
    let real: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, vbar_el1", out(reg) real, options(nomem, nostack)) };
    // Where synchronous exceptions from EL1 on SP_EL1 go, with the vectors in the page's second half.
    for (word, instruction) in TO_REAL_VECTOR.into_iter().enumerate() {
        CODE.set((0x800 + 0x200) / 4 + word, instruction);
    }
    let cases = [(real | 0x7ff, 0), (real | 0x20, 0), (LAST_PAGE | 0x800, 1), (LAST_PAGE | 0xfff, 1)];
    for (vectors, handler_stack) in cases {
        let result = with_last_page(0, &CODE, || undefined_with(vectors, real, handler_stack));
        let Err(fault) = result else {
            fail!("VBAR_EL1 {vectors:#x}: a register that is not there was read")
        };
        ensure!(fault.class() == Fault::CLASS_UNDEFINED, "VBAR_EL1 {vectors:#x}: {fault}");
    }
    Ok(())
}
