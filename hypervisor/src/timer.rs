//! A guest's physical timer, CNTP_* (Arm ARM D12.2.4), played by the control OS: it counts like the virtual one, so a guest cannot tell
//! how long it has not run from comparing them.

use handover_abi::layout::PHYSICAL_TIMER_INTID;

use crate::arch::context::Context;
use crate::kernel::Hardware;
use crate::vcpu::{Arrival, VcpuKey};
use handover_core::VcpuId;

const ENABLE: u64 = 1;
const MASKED: u64 = 2;
const STATUS: u64 = 4;

/// One of its registers.
#[derive(Clone, Copy, Debug)]
pub enum PhysicalTimer {
    /// CNTP_TVAL_EL0.
    Value,
    /// CNTP_CTL_EL0.
    Control,
    /// CNTP_CVAL_EL0.
    Compare,
}

fn met(context: &Context) -> bool {
    let [control, compare] = context.physical_timer;
    control & ENABLE != 0 && context.count() >= compare
}

/// What the guest reads.
pub fn read(context: &Context, register: PhysicalTimer) -> u64 {
    let [control, compare] = context.physical_timer;
    match register {
        PhysicalTimer::Value => compare.wrapping_sub(context.count()) & 0xffff_ffff,
        PhysicalTimer::Control => control | if met(context) { STATUS } else { 0 },
        PhysicalTimer::Compare => compare,
    }
}

/// What the guest writes.
pub fn write(context: &mut Context, register: PhysicalTimer, value: u64) {
    match register {
        PhysicalTimer::Value => {
            context.physical_timer[1] = context.count().wrapping_add(i64::from(value as i32) as u64);
        }
        PhysicalTimer::Control => context.physical_timer[0] = value & (ENABLE | MASKED),
        PhysicalTimer::Compare => context.physical_timer[1] = value,
    }
}

impl Hardware {
    /// The running guest has written its physical timer.
    pub fn physical_timer_written(&mut self, key: VcpuKey, context: &Context) {
        let [control, compare] = context.physical_timer;
        let armed = control & (ENABLE | MASKED) == ENABLE;
        // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
        let arrival = unsafe { &mut (*key.as_ptr()).arrival };
        *arrival = *arrival & !Arrival::TIMER | if armed { Arrival::TIMER } else { 0 };
        let due = met(context);
        let deadline = if armed && !due { compare.saturating_add(context.counter_offset) } else { u64::MAX };
        self.set_deadline(key, deadline);
        self.physical_timer_line(key.id(), armed && due);
    }

    /// Samples the timer's line again: its deadline has passed.
    pub fn update_physical_timer(&mut self, key: VcpuKey) {
        // SAFETY: its processor calls this, so that nobody else touches it; where it runs here, no borrow of it lives while interrupts are taken.
        let context = unsafe { &(*key.as_ptr()).context };
        let armed = context.physical_timer[0] & (ENABLE | MASKED) == ENABLE;
        let due = armed && met(context);
        if armed && !due {
            // The deadline was the virtual timer's.
            return;
        }
        self.physical_timer_line(key.id(), due);
    }

    /// Sets anew when the timer of one that runs is due.
    pub fn renew_physical_timer(&mut self, key: VcpuKey) {
        // SAFETY: as for `update_physical_timer`.
        let [control, compare] = unsafe { (*key.as_ptr()).context.physical_timer };
        // SAFETY: as before.
        let offset = unsafe { (*key.as_ptr()).context.counter_offset };
        if control & (ENABLE | MASKED) == ENABLE {
            self.set_deadline(key, compare.saturating_add(offset));
        }
    }

    fn physical_timer_line(&mut self, id: VcpuId, level: bool) {
        let Some(shell) = self.shell_mut(id.partition) else { return };
        let kick = shell.vgic.set_level(usize::from(id.index), PHYSICAL_TIMER_INTID, level);
        self.kick(id.partition, kick);
    }
}
