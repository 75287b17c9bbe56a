//! Devices that a guest sees and the control OS plays: interrupt controller and console.

use handover_abi::Counter;
use handover_abi::layout::{
    GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE, PROCESSORS_MAX, UART_BASE, UART_SIZE,
};

use crate::arch::exception::DataAccess;
use crate::kernel::Kernel;
use crate::vcpu::{HardwareListRegisters, Running};

const GICR_SIZE: u64 = PROCESSORS_MAX as u64 * GICR_STRIDE;

/// Whether a device is there, for any partition.
pub fn is_device(ipa: u64) -> bool {
    ipa.wrapping_sub(GICD_BASE) < GICD_SIZE
        || ipa.wrapping_sub(GICR_BASE) < GICR_SIZE
        || ipa.wrapping_sub(UART_BASE) < UART_SIZE
}

/// Plays the device at `ipa`, which [`is_device`] says is there.
pub fn access(kernel: &mut Kernel, mut guest: Running, ipa: u64, access: &DataAccess) {
    let id = guest.id();
    let counters = guest.counters();
    let context = guest.context();
    let hardware = &mut kernel.hardware;
    let count = hardware.list_registers;
    let processor = usize::from(id.index);
    let value = access.value(context);
    if ipa.wrapping_sub(UART_BASE) < UART_SIZE {
        counters.count(Counter::ConsoleAccesses);
        let offset = ipa - UART_BASE;
        if access.write {
            hardware.uart_write(id.partition, offset, value);
        } else {
            let value = hardware.uart_read(id.partition, offset);
            access.complete(context, value);
        }
        return;
    }
    counters.count(Counter::DistributorAccesses);
    let Some(shell) = hardware.shell_mut(id.partition) else { return };
    let registers = &mut HardwareListRegisters { count };
    let mut resample = 0;
    let distributor = ipa.wrapping_sub(GICD_BASE) < GICD_SIZE;
    let kick = match (distributor, access.write) {
        (true, true) => {
            let kick = shell.vgic.distributor_write(ipa - GICD_BASE, access.size, value);
            resample = shell.vgic.take_resample();
            kick
        }
        (false, true) => shell.vgic.redistributor_write(ipa - GICR_BASE, access.size, value),
        (true, false) => {
            let (value, kick) =
                shell.vgic.distributor_read(processor, ipa - GICD_BASE, access.size, registers);
            access.complete(context, value);
            kick
        }
        (false, false) => {
            let (value, kick) =
                shell.vgic.redistributor_read(processor, ipa - GICR_BASE, access.size, registers);
            access.complete(context, value);
            kick
        }
    };
    if resample != 0 {
        hardware.deactivate_devices(id.partition, resample);
    }
    hardware.kick(id.partition, kick);
}
