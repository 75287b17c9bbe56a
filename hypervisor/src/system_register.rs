//! System register accesses that trap (Arm ARM D24, Table of EC 0x18): identification, debug, timers, SGIs.

use crate::arch::exception::SystemAccess;
use crate::arch::features::guest_id;
use crate::arch::registers::MDSCR_EL1;
use crate::kernel::KERNEL;
use crate::timer::{self, PhysicalTimer};
use crate::trap::opens;
use crate::vcpu::{Attention, Running};

/// What came of it.
pub enum Access {
    /// The register has this value.
    Read(u64),
    /// The write has been dealt with.
    Written,
    /// There is no such register.
    Undefined,
}

/// `(op0, op1, CRn, CRm, op2)` as the access names it.
pub fn access(mut guest: Running, access: &SystemAccess, value: u64) -> Access {
    let id = guest.id();
    let ignored = || if access.read { Access::Read(0) } else { Access::Written };
    match access.name {
        // ID registers (HCR_EL2.TID3); reserved ones read as zero.
        (3, 0, 0, crm @ 1..=7, op2) if access.read => Access::Read(guest_id(crm, op2)),
        // ICC_SGI1R_EL1; ICC_ASGI1R_EL1 and ICC_SGI0R_EL1 have nowhere to go.
        (3, 0, 12, 11, 5) if !access.read => {
            let mut kernel = KERNEL.lock();
            if let Some(shell) = kernel.hardware.shell_mut(id.partition) {
                let kick = shell.vgic.send_sgi(usize::from(id.index), value);
                kernel.hardware.kick(id.partition, kick);
            }
            kernel.hardware.flush(id);
            if guest.attention() & Attention::SCHEDULE != 0 {
                kernel.hardware.switch_after_grace();
            }
            Access::Written
        }
        (3, 0, 12, 11, 6 | 7) if !access.read => Access::Written,
        // ICC_SRE_EL1: system registers are the only way to the CPU interface.
        (3, 0, 12, 12, 5) => {
            if access.read {
                Access::Read(7)
            } else {
                Access::Written
            }
        }
        // ACTLR_EL1 (TACR): nothing in it is architectural.
        (3, 0, 1, 0, 1) => ignored(),
        // CNTPCT_EL0, and the physical timer.
        (3, 3, 14, 0, 1) if access.read => Access::Read(guest.context().count()),
        (3, 3, 14, 2, 0) => physical_timer(guest, access, PhysicalTimer::Value, value),
        (3, 3, 14, 2, 1) => physical_timer(guest, access, PhysicalTimer::Control, value),
        (3, 3, 14, 2, 2) => physical_timer(guest, access, PhysicalTimer::Compare, value),
        // MDSCR_EL1 is switched, so that a guest kernel can single-step its programs.
        (2, 0, 0, 2, 2) => {
            if access.read {
                Access::Read(MDSCR_EL1.get())
            } else {
                // Written here, it is one of those that are not saved each time.
                opens(guest);
                // TDCC [12], KDE [13], MDE [15] and SS [0]; without breakpoints MDE and KDE have no effect.
                MDSCR_EL1.set(value & (1 | 1 << 12 | 1 << 13 | 1 << 15));
                Access::Written
            }
        }
        // OSLSR_EL1: the OS lock is implemented and not locked.
        (2, 0, 1, 1, 4) if access.read => Access::Read(1 << 3),
        // OSLAR_EL1, OSDLR_EL1, OSDTRRX, OSDTRTX, OSECCR, MDCCINT, DBGPRCR, DBGCLAIM, DBGAUTHSTATUS.
        (2, 0, 1, 0 | 3 | 4, 4) | (2, 0, 0, 0 | 3 | 6, 2) | (2, 0, 0, 2, 0) => ignored(),
        (2, 0, 7, 8 | 9 | 14, 6) => ignored(),
        // The two breakpoints and watchpoints that ID_AA64DFR0_EL1 cannot deny: they hold nothing.
        (2, 0, 0, 0 | 1, 4..=7) => ignored(),
        // MDCCSR_EL0, DBGDTR_EL0, DBGDTRRX/TX_EL0: the debug communications channel is empty.
        (2, 3, 0, 1 | 4 | 5, 0) => ignored(),
        _ => Access::Undefined,
    }
}

fn physical_timer(mut guest: Running, access: &SystemAccess, register: PhysicalTimer, value: u64) -> Access {
    let (id, key) = (guest.id(), guest.key());
    let context = guest.context();
    if access.read {
        return Access::Read(timer::read(context, register));
    }
    timer::write(context, register, value);
    let mut kernel = KERNEL.lock();
    kernel.hardware.physical_timer_written(key, context);
    kernel.hardware.flush(id);
    Access::Written
}
