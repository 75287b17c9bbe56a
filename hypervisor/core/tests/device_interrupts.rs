//! A device's interrupt, linked to a physical one, through the virtual GIC: lines that rise and fall, a guest that does what it likes, processors that
//! are flushed late and reset, and a link that goes and comes back as another.
//!
//! What must hold: a list register names the physical interrupt that is linked, or the one that is being unlinked; it is never pending and active at
//! once; the physical interrupt is taken once for each time it was deactivated; one that is active is on its way to the guest, so that none is
//! stuck; after an unlink nothing names the old one.

use handover_abi::layout::DEVICE_INTID;
use handover_core::vgic::{Entry, Kick, ListRegisterAccess, ListRegisterImage, Vgic};

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const HW: u64 = 1 << 61;
const PROCESSORS: usize = 2;
const WORD: u64 = DEVICE_INTID as u64 / 32 * 4;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// An SPI of the machine's.
#[derive(Default)]
struct Physical {
    edge: bool,
    line: bool,
    /// An edge that was not taken yet.
    latch: bool,
    active: bool,
}

struct Model {
    vgic: Box<Vgic>,
    registers: [ListRegisterImage; PROCESSORS],
    kicked: u32,
    physical: [Physical; 4],
    /// Which physical interrupt the device's is.
    link: Option<usize>,
    unlinking: Option<usize>,
    random: Random,
    delivered: u32,
    resampled: u32,
}

impl Model {
    fn new(seed: u64, list_registers: usize) -> Model {
        let mut model = Model {
            vgic: Box::new(Vgic::new(PROCESSORS as u32, 0)),
            registers: [const { ListRegisterImage::new(0) }; PROCESSORS]
                .map(|_| ListRegisterImage::new(list_registers)),
            kicked: 0,
            physical: Default::default(),
            link: None,
            unlinking: None,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            delivered: 0,
            resampled: 0,
        };
        model.physical[3].edge = true;
        model.distributor(0, 2);
        for processor in 0..PROCESSORS as u64 {
            let kick = model.vgic.redistributor_write(processor * 0x2_0000 + 0x14, 4, 0);
            model.kick(kick);
        }
        model.distributor(0x100 + WORD, 1);
        model
    }

    fn kick(&mut self, kick: Kick) {
        self.kicked |= kick.mask();
    }

    fn distributor(&mut self, offset: u64, value: u64) {
        let kick = self.vgic.distributor_write(offset, 4, value);
        self.kick(kick);
        let mask = self.vgic.take_resample();
        self.resampled += mask.count_ones();
        self.deactivate(mask);
    }

    fn deactivate(&mut self, mask: u32) {
        let physical: Vec<_> = self.vgic.physical_of(mask).collect();
        for physical in physical {
            self.physical[usize::from(physical)].active = false;
        }
    }

    fn carry_out(&mut self, entry: Entry) {
        self.kick(entry.kick);
        assert_eq!(entry.deactivate, 0);
        self.deactivate(entry.deactivate_devices);
    }

    fn flush(&mut self, processor: usize) {
        self.kicked &= !(1 << processor);
        let entry = self.vgic.flush(processor, &mut self.registers[processor]);
        self.carry_out(entry);
    }

    /// The machine's interrupt controller and the control OS behind it.
    fn take(&mut self) {
        let Some(link) = self.link else { return };
        let physical = &mut self.physical[link];
        if !physical.active && (physical.latch || physical.line && !physical.edge) {
            physical.active = true;
            physical.latch = false;
            let kick = self.vgic.set_level(0, DEVICE_INTID, true);
            self.kick(kick);
        }
    }

    fn link(&mut self) {
        let number = self.random.below(4) as usize;
        self.vgic.link(DEVICE_INTID, number as u16, self.physical[number].edge);
        self.link = Some(number);
    }

    /// What the control OS does to take a device back, cut off in the midst of it.
    fn unlink(&mut self) {
        if let Some(number) = self.link.take() {
            let kick = self.vgic.unlink(DEVICE_INTID);
            self.kick(kick);
            self.unlinking = Some(number);
        }
        if let Some(number) = self.unlinking
            && self.vgic.unlinking_on(DEVICE_INTID).is_none()
        {
            let named = |value: u64| value & HW != 0 && value & (PENDING | ACTIVE) != 0;
            assert!(!self.values().any(|(_, _, value)| named(value)), "a list register still has it");
            let edge = self.physical[number].edge;
            self.physical[number] = Physical { edge, ..Physical::default() };
            self.unlinking = None;
        }
    }

    fn values(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let all = self.registers.iter().enumerate();
        all.flat_map(|(processor, registers)| {
            (0..registers.count()).map(move |n| (processor, n, registers.read(n)))
        })
    }

    /// A guest acknowledges or deactivates one, as its hardware does it.
    fn guest(&mut self) {
        let processor = self.random.below(PROCESSORS as u64) as usize;
        let count = self.registers[processor].count() as u64;
        let number = self.random.below(count) as usize;
        let value = self.registers[processor].read(number);
        if value & PENDING != 0 {
            self.delivered += 1;
            self.registers[processor].write(number, value & !PENDING | ACTIVE);
        } else if value & ACTIVE != 0 {
            self.registers[processor].write(number, value & !ACTIVE);
            if value & HW != 0 {
                self.physical[(value >> 32 & 0x3ff) as usize].active = false;
            }
        }
    }

    fn reset(&mut self, processor: usize) {
        let active = self.vgic.active_devices(processor, &self.registers[processor]);
        let kick = self.vgic.reset_processor(processor, &mut self.registers[processor]);
        self.deactivate(active);
        self.kick(kick);
        let kick = self.vgic.redistributor_write(processor as u64 * 0x2_0000 + 0x14, 4, 0);
        self.kick(kick);
    }

    fn step(&mut self) {
        let target = self.random.below(PROCESSORS as u64);
        match self.random.below(34) {
            0..4 => {
                let line = self.random.below(2) != 0;
                if let Some(link) = self.link {
                    let physical = &mut self.physical[link];
                    physical.latch |= physical.edge && line && !physical.line;
                    physical.line = line;
                }
            }
            4..12 => self.guest(),
            12..20 => self.flush(target as usize),
            20 => self.unlink(),
            21 if self.link.is_none() && self.unlinking.is_none() => self.link(),
            22 => self.distributor(0x100 + WORD, 1),
            23 => self.distributor(0x180 + WORD, 1),
            24 => self.distributor(0x200 + WORD, 1),
            25 => self.distributor(0x280 + WORD, 1),
            26 => self.distributor(0x300 + WORD, 1),
            27 => self.distributor(0x380 + WORD, 1),
            28 => self.distributor(0xc00 + 2 * WORD, target * 2),
            29 => self.distributor(0x6000 + 8 * u64::from(DEVICE_INTID), target),
            30 if self.random.below(4) == 0 => self.reset(target as usize),
            31 => {
                // Others compete for the list registers.
                let kick = self.vgic.raise(0, 40);
                self.kick(kick);
                self.distributor(0x104, 1 << 8);
            }
            _ => {}
        }
        self.take();
        self.check();
    }

    fn check(&self) {
        for (processor, number, value) in
            self.values().filter(|(_, _, value)| value & (PENDING | ACTIVE) != 0)
        {
            if value & HW == 0 {
                continue;
            }
            let what = format!("LR{number} of {processor}: {value:#x}");
            assert_eq!(value as u32, DEVICE_INTID, "{what}");
            assert!(value & PENDING == 0 || value & ACTIVE == 0, "{what}");
            let physical = (value >> 32 & 0x3ff) as usize;
            assert!(self.link.or(self.unlinking) == Some(physical), "{what} is linked to somebody else's");
        }
    }

    /// Everything comes to rest with the interrupt enabled: each physical interrupt that is active is in the guest's hands.
    fn rest(&mut self) {
        self.distributor(0x6000 + 8 * u64::from(DEVICE_INTID), 0);
        self.distributor(0x100 + WORD, 1);
        for _ in 0..100 {
            self.take();
            for processor in 0..PROCESSORS {
                self.flush(processor);
                for number in 0..self.registers[processor].count() {
                    // It deals with all that it has, and its device falls silent.
                    let value = self.registers[processor].read(number);
                    self.registers[processor].write(number, value & !(PENDING | ACTIVE));
                    if value & (PENDING | ACTIVE) != 0 && value & HW != 0 {
                        let physical = &mut self.physical[(value >> 32 & 0x3ff) as usize];
                        physical.active = false;
                        physical.line = false;
                    }
                }
                let kick = self.vgic.sync(processor, &mut self.registers[processor]);
                self.kick(kick);
            }
        }
        while self.unlinking.is_some() {
            self.unlink();
        }
        for (number, physical) in self.physical.iter().enumerate() {
            let asks = physical.latch || physical.line && !physical.edge;
            assert!(!physical.active && (!asks || self.link != Some(number)), "interrupt {number} is stuck");
        }
    }
}

#[test]
fn a_physical_interrupt_is_never_lost_and_never_anothers() {
    let (seeds, steps) = if cfg!(miri) { (2, 200) } else { (200, 3_000) };
    let (mut delivered, mut resampled) = (0, 0);
    for seed in 0..seeds {
        let mut model = Model::new(seed, [1, 2, 4][seed as usize % 3]);
        model.link();
        for step in 0..steps {
            model.step();
            if step % 500 == 0 {
                model.rest();
            }
        }
        model.rest();
        (delivered, resampled) = (delivered + model.delivered, resampled + model.resampled);
    }
    assert!(
        cfg!(miri) || delivered > 1000 && resampled > 100,
        "{delivered} delivered, {resampled} resampled"
    );
}
