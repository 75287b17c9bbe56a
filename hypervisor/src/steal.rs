//! Stolen time (Arm DEN0057), as guests read it: for each logical processor a structure of 64 bytes in the partition's page, which is written each time
//! that it begins to run.

use core::sync::atomic::{AtomicU64, Ordering};

use handover_abi::layout::{STOLEN_TIME_BASE, STOLEN_TIME_STRIDE};
use handover_core::schedule::Records;
use handover_core::{PartitionIndex, VcpuId};

use crate::bus::Restraint;
use crate::kernel::{Hardware, Kernel};
use crate::vcpu::VcpuKey;

/// The nanoseconds, behind revision and attributes, both 0.
const NANOSECONDS: u64 = 8;

/// From now on a logical processor's stolen time is told. → the address of its structure; `None` if there is no memory for it.
pub fn begin(kernel: &mut Kernel, id: VcpuId) -> Option<u64> {
    let Kernel { system, hardware } = kernel;
    let page = system.stolen_time_page(hardware, id.partition).ok()?;
    let shell = hardware.shell_mut(id.partition)?;
    let key = shell.vcpus.get(usize::from(id.index)).copied().flatten()?;
    let offset = u64::from(id.index) * STOLEN_TIME_STRIDE;
    // SAFETY: a key names a placed frame; the field is touched under the lock alone, which this is.
    unsafe { (*key.as_ptr()).stolen_time = page.get() + offset };
    hardware.set_restraint(id.partition, 0, Restraint::TELLS);
    hardware.tell_stolen_time(key);
    Some(STOLEN_TIME_BASE + offset)
}

impl Hardware {
    /// Writes a logical processor's stolen time where its guest reads it, if it has asked where.
    pub fn tell_stolen_time(&mut self, key: VcpuKey) {
        // SAFETY: as in `begin`.
        let at = unsafe { (*key.as_ptr()).stolen_time };
        if at == 0 {
            return;
        }
        let nanoseconds = self.schedule.nanoseconds(self.records.get(key).waited());
        // SAFETY: the page is the partition's until it is reaped, before which `forget_stolen_time` is called; EL2 has all memory mapped at its physical
        // address, and this field of 8 bytes is aligned. The guest only reads it.
        unsafe { AtomicU64::from_ptr((at + NANOSECONDS) as *mut u64) }.store(nanoseconds, Ordering::Relaxed);
    }

    /// The page is about to go: none of the partition's logical processors runs any more.
    pub fn forget_stolen_time(&mut self, partition: PartitionIndex) {
        self.set_restraint(partition, Restraint::TELLS, 0);
        let Some(shell) = self.shell(partition) else { return };
        for key in shell.vcpus.into_iter().flatten() {
            // SAFETY: as in `begin`.
            unsafe { (*key.as_ptr()).stolen_time = 0 };
        }
    }
}
