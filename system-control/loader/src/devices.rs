//! The machine's devices that a manifest gives to a partition: which they are, and where the guest finds them.

use alloc::{format, string::String, vec::Vec};

use handover_abi::{
    PartitionId,
    device::REGISTERS_MAX,
    layout::{DEVICE_BASE, DEVICE_END, DEVICE_INTID},
};
use handover_manifest::{MAX_DEVICES, Partition};

use crate::{
    archive::Failure,
    control::{Control, Device},
};

const _: () = assert!(DEVICE_BASE + MAX_DEVICES as u64 * REGISTERS_MAX <= DEVICE_END);

/// Gives a partition its devices: each in its own place, in the manifest's order.
pub fn give(control: &mut impl Control, partition: &Partition, id: PartitionId) -> Result<(), Failure> {
    let name = &partition.name;
    let mut intid = DEVICE_INTID;
    let addresses = (DEVICE_BASE..).step_by(REGISTERS_MAX as usize);
    for (wanted, address) in partition.devices.iter().zip(addresses) {
        let all = all(control);
        let Some((number, device)) = search(&all, wanted) else {
            let there = list(&all);
            return Err(Failure(format!(
                "{name} is to have the device `{wanted}`, but the machine has {there}"
            )));
        };
        control.assign(id, number, address, intid).map_err(|(error, reason)| {
            let why = reason.map_or_else(|| format!("{error}"), |reason| format!("{reason}"));
            Failure(format!("{name} cannot be given {} ({}): {why}", device.name, device.compatible))
        })?;
        intid = intid.saturating_add(device.interrupts);
    }
    Ok(())
}

/// The devices that a partition has.
pub fn held_by(control: &mut impl Control, id: PartitionId) -> Vec<Device> {
    let held = |(_, device): (u64, Device)| (device.holder == Some(id)).then_some(device);
    all(control).into_iter().filter_map(held).collect()
}

/// All devices, with their numbers.
fn all(control: &mut impl Control) -> Vec<(u64, Device)> {
    (0..u64::from(u16::MAX)).map_while(|number| Some((number, control.device(number).ok()?))).collect()
}

/// The device that a manifest names: by its node's name, by an address that is among its registers, or by what it is compatible with, then the
/// first that nobody has.
fn search(all: &[(u64, Device)], wanted: &str) -> Option<(u64, Device)> {
    let at = wanted.split_once('@').and_then(|(_, at)| u64::from_str_radix(at, 16).ok());
    let inside = |device: &Device| at.is_some_and(|at| device.base <= at && at - device.base < device.size);
    let named = |device: &Device| device.name.is(wanted) || inside(device);
    let model = |device: &Device| device.compatible.is(wanted);
    let mut of_this_model = all.iter().filter(|(_, device)| model(device));
    let free = of_this_model.clone().find(|(_, device)| device.holder.is_none());
    // One that is not free is refused with the reason.
    all.iter().find(|(_, device)| named(device)).or(free).or_else(|| of_this_model.next()).copied()
}

/// What there is, for people.
fn list(all: &[(u64, Device)]) -> String {
    let names: Vec<String> =
        all.iter().map(|(_, device)| format!("{} ({})", device.name, device.compatible)).collect();
    names.join(", ")
}
