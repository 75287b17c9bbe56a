//! Devices that come and go at any time: each has one holder at most, whose alone its registers and its interrupts are.

use std::collections::BTreeMap;

use handover_core::{Device, Interrupt};

use super::*;

/// Who holds what, and whose the interrupts are.
pub type State = (Vec<Option<(PartitionId, Ipa)>>, BTreeMap<u16, (PartitionIndex, u32)>);

/// Base, pages, interrupts, compatible.
const DEVICES: &[(u64, u64, &[u16], &str)] = &[
    (0x901_0000, 1, &[34], "arm,pl031"),
    (0x903_0000, 1, &[39], "arm,pl061"),
    (0x904_0000, 3, &[40, 41], "arm,pl061"),
    (0x905_0000, 16, &[], "arm,pl061"),
    (0xa00_0000, 1, &[48, 49, 50], "virtio,mmio"),
];

impl Chaos {
    pub fn add_devices(&mut self) {
        for (base, pages, intids, compatible) in DEVICES {
            let interrupts = intids.iter().map(|&intid| Interrupt { intid, edge: intid % 2 == 0 });
            let device = Device::new("chaos", *base, pages * PAGE, interrupts, [*compatible].into_iter());
            assert!(self.system.add_device(device));
        }
    }

    fn all_devices(&self) -> impl Iterator<Item = &Device> {
        (0..DEVICES.len() as u64).map(|number| self.system.device(number).unwrap())
    }

    pub fn device_state(&self) -> State {
        (self.all_devices().map(Device::holder).collect(), self.machine.connected.clone())
    }

    /// System-control gives or takes one.
    pub fn device_call(&mut self) {
        let number = self.random.next() % (DEVICES.len() as u64 + 1);
        let before = self.state();
        if self.random.chance(3) {
            let result = self.system.device_revoke(&mut self.machine, number);
            // Whoever does not go on leaves it half taken back.
            self.judge("device_revoke", result, &before);
            return;
        }
        let all = self.indexes();
        let ix = self.random.pick(&all).unwrap();
        let at = match self.random.below(8) {
            0 => self
                .random
                .pick(&[0, layout::DEVICE_END, layout::DEVICE_BASE - PAGE, u64::MAX - 4095])
                .unwrap(),
            1 => layout::DEVICE_BASE + self.random.next() % 20 * PAGE,
            _ => {
                layout::DEVICE_BASE + self.random.next() % 4 * (64 << 10) + self.random.next() % 2 * (2 * MIB)
            }
        };
        let intid = u64::from(layout::DEVICE_INTID) - 1 + self.random.next() % 6;
        let result = self.system.device_assign(&mut self.machine, ix, number, Ipa::new(at), intid);
        self.judge("device_assign", result, &before);
    }

    pub fn finish_revocations(&mut self) {
        for number in 0..DEVICES.len() as u64 {
            let device = self.system.device(number).unwrap();
            let leaving =
                device.interrupts().iter().any(|one| self.machine.disconnecting.contains(&one.intid));
            while leaving && self.system.device_revoke(&mut self.machine, number) == Ok(Progress::Again) {}
        }
    }

    pub fn check_devices_free(&self) {
        assert!(self.all_devices().all(|device| device.holder().is_none()));
        assert!(self.machine.connected.is_empty() && self.machine.disconnecting.is_empty());
    }
}
