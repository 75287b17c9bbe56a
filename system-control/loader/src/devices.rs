//! The machine's devices that a manifest gives to a partition: which they are, and where the guest finds them.

use alloc::{format, string::String, vec::Vec};

use handover_abi::{
    Error, PartitionId,
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
    for (index, wanted) in partition.devices.iter().enumerate() {
        let all = all(control);
        let places = places(&all, partition, id);
        let Some(&(number, device)) = places.get(index) else {
            let there = list(&all);
            return Err(Failure(format!(
                "{name} is to have the device `{wanted}`, but the machine has {there}"
            )));
        };
        control.assign(id, number, device.address, device.intid).map_err(|(error, reason)| {
            let why = reason.map_or_else(|| format!("{error}"), |reason| format!("{reason}"));
            Failure(format!("{name} cannot be given {} ({}): {why}", device.name, device.compatible))
        })?;
    }
    Ok(())
}

/// Gives a partition the next of the devices that it may ask for.
///
/// # Errors
///
/// [`Error::BadHandle`]: there is none. Otherwise those of `DeviceAssign`.
pub fn give_next(control: &mut impl Control, partition: &Partition, id: PartitionId) -> Result<(), Error> {
    let next = on_request(control, partition, id).into_iter().next();
    let (number, device) = next.ok_or(Error::BadHandle)?;
    control.assign(id, number, device.address, device.intid).map_err(|(error, _)| error)
}

/// The devices that a partition may ask for and has not, with their numbers, where it would have them.
pub fn on_request(control: &mut impl Control, partition: &Partition, id: PartitionId) -> Vec<(u64, Device)> {
    let all = all(control);
    let has = |device: &Device| {
        let held = |other: &Device| other.holder == Some(id) && other.address == device.address;
        all.iter().any(|(_, other)| held(other))
    };
    let places = places(&all, partition, id).into_iter().skip(partition.devices.len());
    places.filter(|(_, device)| !has(device)).collect()
}

/// Where a partition has the devices that it is given, and those that it may ask for, as far as the machine has them.
fn places(all: &[(u64, Device)], partition: &Partition, id: PartitionId) -> Vec<(u64, Device)> {
    let mut all = all.to_vec();
    let mut intid = DEVICE_INTID;
    let mut places = Vec::new();
    let addresses = (DEVICE_BASE..).step_by(REGISTERS_MAX as usize);
    for (wanted, address) in partition.devices.iter().chain(&partition.devices_on_request).zip(addresses) {
        let there = |device: &Device| device.holder == Some(id) && device.address == address;
        let held = all.iter().position(|(_, device)| there(device));
        let Some(index) = held.or_else(|| search(&all, wanted)) else { break };
        let (number, device) = &mut all[index];
        (device.holder, device.address, device.intid) = (Some(id), address, intid);
        intid = intid.saturating_add(device.interrupts);
        places.push((*number, *device));
    }
    places
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
fn search(all: &[(u64, Device)], wanted: &str) -> Option<usize> {
    let at = wanted.split_once('@').and_then(|(_, at)| u64::from_str_radix(at, 16).ok());
    let inside = |device: &Device| at.is_some_and(|at| device.base <= at && at - device.base < device.size);
    let named = |device: &Device| device.name.is(wanted) || inside(device);
    let model = |device: &Device| device.compatible.is(wanted);
    let find = |fits: &dyn Fn(&Device) -> bool| all.iter().position(|(_, device)| fits(device));
    let free = |device: &Device| model(device) && device.holder.is_none();
    // One that is not free is refused with the reason.
    find(&named).or_else(|| find(&free)).or_else(|| find(&model))
}

/// What there is, for people.
fn list(all: &[(u64, Device)]) -> String {
    let names: Vec<String> =
        all.iter().map(|(_, device)| format!("{} ({})", device.name, device.compatible)).collect();
    names.join(", ")
}
