//! Interrupts: the timer and the control OS's events.

use handover_guest::{
    Error,
    abi::layout::{EVENT_INTID, UART_INTID, VIRTUAL_TIMER_INTID},
    console,
    interrupts::{self, Trigger},
    timer,
};

use crate::kernel::Kernel;

/// Enables what the kernel takes.
pub fn init() -> Result<(), Error> {
    interrupts::init()?;
    // They are acknowledged by `take`, so no handler is called.
    interrupts::enable(VIRTUAL_TIMER_INTID, Trigger::Level, |_| {})?;
    console::enable_input();
    interrupts::enable(UART_INTID, Trigger::Level, |_| {})
}

/// Takes all interrupts that are pending.
pub fn take(kernel: &mut Kernel) {
    while let Some(intid) = interrupts::acknowledge() {
        match intid {
            // Its line is high until it is stopped; whoever goes on sets it again.
            VIRTUAL_TIMER_INTID => timer::stop(),
            UART_INTID => take_input(kernel),
            EVENT_INTID => kernel.with_host(0, |files, host| files.channel_events(host)),
            _ => {}
        }
        interrupts::end(intid);
    }
}

fn take_input(kernel: &mut Kernel) {
    let mut bytes = [0; 64];
    loop {
        let mut count = 0;
        while count < bytes.len()
            && let Some(byte) = console::read_byte()
        {
            bytes[count] = byte;
            count += 1;
        }
        if count == 0 {
            return;
        }
        kernel.console_input(&bytes[..count]);
    }
}
