//! Interrupts: the GICv3 as this partition sees it.
//!
//! [`Boot`](crate::Boot) programs find the controller set up for processor 0, the event interrupt enabled, and
//! interrupts masked at the processor. They either stay masked and [`wait`], or [`unmask`] and have handlers called.

use core::{
    arch::asm,
    mem,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering, fence},
};

use arm_gic::{
    IntId, Trigger as GicTrigger, UniqueMmioPointer,
    gicv3::{GicCpuInterface, GicV3},
};
use handover_abi::{
    Error,
    layout::{EVENT_INTID, GICD_BASE, GICR_BASE, PROCESSORS_MAX},
};

use crate::{
    mapping,
    processor::{self, Lock},
};

/// INTIDs that can have a handler.
const INTIDS: usize = 256;
/// Anything is more urgent than this.
const LOWEST_PRIORITY: u8 = 0xff;

static GIC: Lock<Option<GicV3<'static>>> = Lock::new(None);
// In a section of its own, so that the compiler has no other address for it than its beginning's.
#[unsafe(link_section = ".bss.handlers")]
static HANDLERS: [AtomicPtr<()>; INTIDS] = [const { AtomicPtr::new(ptr::null_mut()) }; INTIDS];

/// Called with interrupts masked, the INTID as argument.
pub type Handler = fn(u32);

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Pending since an edge.
    Edge,
    /// Pending while the line is high.
    Level,
}

/// Interrupts are masked while this exists.
pub struct Masked {
    daif: u64,
}

impl Masked {
    /// Masks interrupts at this processor.
    #[inline]
    #[must_use]
    pub fn new() -> Masked {
        let daif: u64;
        // SAFETY: masks interrupts; no `nomem`, so that memory accesses stay inside.
        unsafe { asm!("mrs {}, daif", "msr daifset, #2", out(reg) daif, options(nostack, preserves_flags)) };
        Masked { daif }
    }
}

impl Default for Masked {
    fn default() -> Masked {
        Masked::new()
    }
}

impl Drop for Masked {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: restores what `new` found.
        unsafe { asm!("msr daif, {}", in(reg) self.daif, options(nostack, preserves_flags)) };
    }
}

/// Lets interrupts be taken: their handlers run.
pub fn unmask() {
    // SAFETY: handlers save what they use.
    unsafe { asm!("msr daifclr, #2", options(nostack, preserves_flags)) };
}

/// Masks interrupts.
pub fn mask() {
    // SAFETY: masks interrupts.
    unsafe { asm!("msr daifset, #2", options(nostack, preserves_flags)) };
}

/// WFI: stops this processor until an interrupt is pending for it, masked or not.
#[inline(always)]
pub fn wait_for_interrupt() {
    // SAFETY: a hint, after which anything shared may have changed, hence no `nomem`.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// What ICC_IAR1_EL1 holds when there is nothing to acknowledge (Arm IHI 0069, "Special INTIDs").
const NONE: u64 = 1023;

/// ICC_IAR1_EL1: the INTID, above which there are zeroes (Arm IHI 0069, 12.2.14).
#[inline(always)]
fn acknowledge_any() -> u64 {
    let intid: u64;
    // SAFETY: makes an interrupt of this processor active; no `nomem`, so that what its handler does comes after.
    unsafe { asm!("mrs {}, icc_iar1_el1", out(reg) intid, options(nostack, preserves_flags)) };
    intid
}

/// Acknowledges the most urgent pending interrupt, which is then active until [`end`].
#[inline(always)]
pub fn acknowledge() -> Option<u32> {
    let intid = acknowledge_any();
    (intid != NONE).then_some(intid as u32)
}

/// Ends what [`acknowledge`] returned.
#[inline(always)]
pub fn end(intid: u32) {
    end_any(intid.into());
}

/// ICC_EOIR1_EL1.
#[inline(always)]
fn end_any(intid: u64) {
    // SAFETY: changes which interrupts of this processor are active; no `nomem`, so that what a handler does comes before.
    unsafe { asm!("msr icc_eoir1_el1, {}", in(reg) intid, options(nostack, preserves_flags)) };
}

/// Waits for an interrupt and takes it: its handler runs. Interrupts must be masked, or the handler may have run before
/// the wait starts.
#[inline(always)]
pub fn wait() {
    wait_for_interrupt();
    take();
}

/// Takes one pending interrupt, if there is one: its handler runs. Returns whether there was.
#[inline(always)]
pub fn take() -> bool {
    let intid = acknowledge_any();
    if let Some(handler) = HANDLERS.get(intid as usize) {
        let handler = handler.load(Ordering::Relaxed);
        if !handler.is_null() {
            // What was done before it was stored comes before it runs.
            fence(Ordering::Acquire);
            // SAFETY: `enable` and `offer` alone store here, and only a `Handler`.
            let handler: Handler = unsafe { mem::transmute(handler) };
            handler(intid as u32);
        }
    } else if intid == NONE {
        return false;
    }
    end_any(intid);
    true
}

/// Has `handler` called for an interrupt that is enabled already, unless it has a handler; whether `handler` is it now.
pub(crate) fn offer(intid: u32, handler: Handler) -> bool {
    let handler = handler as *mut ();
    HANDLERS.get(intid as usize).is_some_and(|entry| {
        match entry.compare_exchange(ptr::null_mut(), handler, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(other) => other == handler,
        }
    })
}

/// Sets up the interrupt controller and this processor's part of it, and enables the event interrupt.
///
/// # Errors
///
/// [`Error::NotSupported`] when there is no GICv3.
pub fn init() -> Result<(), Error> {
    let distributor = NonNull::new(ptr::with_exposed_provenance_mut(mapping::address(GICD_BASE)));
    let redistributors = NonNull::new(ptr::with_exposed_provenance_mut(mapping::address(GICR_BASE)));
    let (Some(distributor), Some(redistributors)) = (distributor, redistributors) else {
        return Err(Error::NotSupported);
    };
    let mut gic = GIC.lock();
    // SAFETY: a partition's address map has the GICv3 frames there, which the start code maps as Device memory; the
    // lock is held and what was in it is replaced, so there is no other driver of them.
    let mut created = unsafe {
        GicV3::new(UniqueMmioPointer::new(distributor), redistributors, PROCESSORS_MAX as usize)
            .map_err(|_| Error::NotSupported)?
    };
    created.distributor().configure_default_settings();
    *gic = Some(created);
    drop(gic);
    init_processor(processor::index());
    set_up(EVENT_INTID, Trigger::Edge)
}

/// Sets up the part of the interrupt controller that belongs to this processor.
pub(crate) fn init_processor(index: usize) {
    if let Some(gic) = GIC.lock().as_mut() {
        gic.init_cpu(index);
        if let Ok(mut redistributor) = gic.redistributor(index) {
            redistributor.configure_default_settings();
        }
        GicCpuInterface::set_priority_mask(LOWEST_PRIORITY);
        GicCpuInterface::enable_group1(true);
    }
}

/// Has `handler` called for an interrupt (an SGI or PPI of this processor, or an SPI, which is routed to this
/// processor), and enables it.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for an INTID that cannot have a handler; [`Error::WrongState`] before [`init`].
pub fn enable(intid: u32, trigger: Trigger, handler: Handler) -> Result<(), Error> {
    let entry = HANDLERS.get(intid as usize).ok_or(Error::InvalidArgument)?;
    entry.store(handler as *mut (), Ordering::Release);
    set_up(intid, trigger)
}

fn set_up(intid: u32, trigger: Trigger) -> Result<(), Error> {
    let intid = int_id(intid).ok_or(Error::InvalidArgument)?;
    let trigger = match trigger {
        Trigger::Edge => GicTrigger::Edge,
        Trigger::Level => GicTrigger::Level,
    };
    let index = processor::index();
    let _masked = Masked::new();
    let mut gic = GIC.lock();
    let gic = gic.as_mut().ok_or(Error::WrongState)?;
    if !intid.is_sgi() {
        gic.set_trigger(intid, Some(index), trigger).map_err(|_| Error::InvalidArgument)?;
    }
    if !intid.is_private() {
        gic.distributor().set_routing(intid, Some(index as u64)).map_err(|_| Error::InvalidArgument)?;
    }
    gic.enable_interrupt(intid, Some(index), true).map_err(|_| Error::InvalidArgument)
}

/// Disables an interrupt.
///
/// # Errors
///
/// [`Error::InvalidArgument`] for an INTID that is not there; [`Error::WrongState`] before [`init`].
pub fn disable(intid: u32) -> Result<(), Error> {
    let intid = int_id(intid).ok_or(Error::InvalidArgument)?;
    let _masked = Masked::new();
    let mut gic = GIC.lock();
    let gic = gic.as_mut().ok_or(Error::WrongState)?;
    gic.enable_interrupt(intid, Some(processor::index()), false).map_err(|_| Error::InvalidArgument)
}

#[inline]
fn int_id(intid: u32) -> Option<IntId> {
    match intid {
        0..16 => Some(IntId::sgi(intid)),
        16..32 => Some(IntId::ppi(intid - 16)),
        32..1020 => Some(IntId::spi(intid - 32)),
        _ => None,
    }
}

#[unsafe(no_mangle)]
extern "C" fn handover_interrupt() {
    // A fault in a handler is the handler's own, not that of what it interrupted.
    crate::fault::outside_catch(|| _ = take());
}
