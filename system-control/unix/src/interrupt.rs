//! Interrupts: the timer and the control OS's events.

use handover_guest::{
    Error,
    abi::layout::{EVENT_INTID, VIRTUAL_TIMER_INTID},
    hvc,
    interrupts::{self, Trigger},
    timer,
};

use crate::kernel::Kernel;

/// Enables what the kernel takes.
pub fn init() -> Result<(), Error> {
    interrupts::init()?;
    // They are acknowledged by `take`, so no handler is called.
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| {})
}

/// Takes all interrupts that are pending.
pub fn take(_kernel: &mut Kernel) {
    while let Some(intid) = interrupts::acknowledge() {
        match intid {
            // Its line is high until it is stopped; whoever goes on sets it again.
            VIRTUAL_TIMER_INTID => timer::stop(),
            EVENT_INTID => take_events(),
            _ => {}
        }
        interrupts::end(intid);
    }
}

/// Nobody listens to ports yet, and requests for services are refused by nobody asking for them.
fn take_events() {
    while let Ok(Some(_)) = hvc::event_next() {}
}
