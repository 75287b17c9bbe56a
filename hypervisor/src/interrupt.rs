//! Physical interrupts: the control OS takes them all.

use handover_abi::Counter;
use handover_abi::layout::VIRTUAL_TIMER_INTID;

use crate::arch;
use crate::arch::context::InterruptState;
use crate::drivers::gic;
use crate::kernel::Kernel;
use crate::processor;
use crate::schedule::expire_requests;
use crate::watchdog;
use handover_core::VcpuId;

/// EL2's physical timer (a PPI).
pub const TIMER_INTID: u32 = 26;
/// The GIC's maintenance interrupt (a PPI).
pub const MAINTENANCE_INTID: u32 = 25;

/// Private interrupts that a processor takes: bit n for INTID n.
pub const PRIVATE: u32 = 1 << gic::SGI_ATTENTION
    | 1 << gic::SGI_STOP
    | 1 << MAINTENANCE_INTID
    | 1 << TIMER_INTID
    | 1 << VIRTUAL_TIMER_INTID;

/// Handles what is pending. `current` runs here. Returns whether somebody else may have to run.
pub fn take(kernel: &mut Kernel, current: Option<VcpuId>) -> bool {
    let mut look = false;
    while let Some(intid) = gic::acknowledge() {
        gic::drop_priority(intid);
        let hardware = &mut kernel.hardware;
        match intid {
            gic::SGI_ATTENTION => look = true,
            gic::SGI_STOP => loop {
                arch::wait_for_interrupt();
            },
            TIMER_INTID => {
                let guest = processor::this().current();
                if !guest.is_null() {
                    // SAFETY: it runs here, so that this processor is the one to count.
                    unsafe { (*guest).counters.count(Counter::Timers) };
                }
                expire_requests(kernel);
                while let Some(caller) = kernel.hardware.timer_interrupt() {
                    kernel.system.call_expired(&mut kernel.hardware, caller);
                }
                watchdog::bite(kernel);
                look = true;
            }
            VIRTUAL_TIMER_INTID => {
                // Stays active until the guest ends it: the list register is linked to it.
                match current {
                    Some(id) => {
                        // SAFETY: it runs here, so that this processor is the one to touch its context, and no borrow of that lives meanwhile.
                        unsafe {
                            (*processor::this().current()).context.interrupts.held = InterruptState::UNKNOWN
                        };
                        if let Some(shell) = hardware.shell_mut(id.partition) {
                            let kick = shell.vgic.set_level(usize::from(id.index), VIRTUAL_TIMER_INTID, true);
                            hardware.kick(id.partition, kick);
                        }
                    }
                    None => gic::deactivate(intid),
                }
                continue;
            }
            MAINTENANCE_INTID => {
                // Without a guest the interface is off: what comes then was on its way already.
                if let Some(id) = current {
                    let count = hardware.list_registers;
                    hardware.flush_now(id, count);
                }
            }
            monitor if hardware.count_interrupt(monitor) => {}
            uart if uart == hardware.uart_intid => hardware.console_interrupt(),
            // Stays active until the guest ends it.
            device if hardware.device_interrupt(device) => continue,
            other => log::warn!("an interrupt that nobody asked for: INTID {other}"),
        }
        gic::deactivate(intid);
    }
    look
}
