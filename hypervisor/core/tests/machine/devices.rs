//! Balancing the books of devices: each has one holder at most, whose alone its registers and its interrupts are.

use handover_abi::{Account, PartitionId, layout};
use handover_core::{Device, Interrupt, Ipa, PAGE, PartitionIndex, Phase, System};

use super::Model;

/// All devices.
pub fn all(system: &System) -> impl Iterator<Item = &Device> {
    (0..).map_while(|number| system.device(number).ok())
}

/// Bytes of the registers that a partition has.
pub fn space(system: &System, id: PartitionId) -> u64 {
    let held = |device: &&Device| device.holder().is_some_and(|(holder, _)| holder == id);
    all(system).filter(held).map(Device::size).sum()
}

/// What one partition's tree maps that is no memory (`others`: pages, and where) is files or registers of devices that it holds, and all of
/// those are there.
pub fn balance(system: &System, machine: &Model, ix: PartitionIndex, others: &[(u64, u64)]) {
    let p = system.partition(ix).unwrap();
    let mut expected = Vec::new();
    let mut held = 0;
    for device in all(system) {
        let connected = |one: &Interrupt| machine.connected.get(&one.intid);
        let leaving = device.interrupts().iter().any(|one| machine.disconnecting.contains(&one.intid));
        let Some((id, at)) = device.holder() else {
            assert!(!leaving && device.interrupts().iter().all(|one| connected(one).is_none()));
            continue;
        };
        if id != p.id() {
            continue;
        }
        held += 1;
        if leaving {
            continue;
        }
        let targets: Vec<_> = device.interrupts().iter().map(|one| *connected(one).unwrap()).collect();
        assert!(targets.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1));
        assert!(targets.iter().all(|(partition, _)| *partition == ix));
        let pages = (0..device.size()).step_by(PAGE as usize);
        expected.extend(pages.map(|offset| (device.base() + offset, at.get() + offset)));
    }
    assert_eq!(p.accounts().used(Account::Devices), held);
    let mut mapped: Vec<_> = others.iter().copied().filter(|(_, at)| *at < layout::MEMORY_BASE).collect();
    mapped.sort_unstable();
    expected.sort_unstable();
    // What an ended partition's tree leads to, it does not reach.
    if p.phase() != Phase::Ending || !mapped.is_empty() {
        assert_eq!(mapped, expected);
    }
    for (pa, at) in mapped {
        assert_eq!(system.translate(machine, ix, Ipa::new(at)), None, "{pa:#x} is taken for memory");
    }
}

/// Whether nobody has one.
pub fn are_free(system: &System, machine: &Model) -> bool {
    all(system).all(|device| device.holder().is_none())
        && machine.connected.is_empty()
        && machine.disconnecting.is_empty()
}
