//! One register, one rule at a time. Random sequences are in `tests/vgic_model.rs`.

use super::list_register::{ACTIVE, EOI, GROUP1, HW, PENDING};
use super::*;

const TIMER: u32 = 27;
const UART: u32 = 33;
const EVENT: u32 = 34;
const LINKED: u32 = 1 << TIMER;
const SGI_BASE: u64 = 0x1_0000;
const STRIDE: u64 = 0x2_0000;

/// Four list registers, counting the accesses.
struct Counted {
    image: ListRegisterImage,
    reads: core::cell::Cell<usize>,
    writes: usize,
}

impl ListRegisterAccess for Counted {
    fn count(&self) -> usize {
        self.image.count()
    }
    fn read(&self, number: usize) -> u64 {
        self.reads.set(self.reads.get() + 1);
        self.image.read(number)
    }
    fn write(&mut self, number: usize, value: u64) {
        self.writes += 1;
        self.image.write(number, value);
    }
    fn empty_status(&self) -> u32 {
        self.image.empty_status()
    }
}

fn image() -> ListRegisterImage {
    ListRegisterImage::new(4)
}

/// Two processors, the group on, everything of bank 1 and of both private banks enabled at priority 0xa0.
fn ready() -> Vgic {
    let mut vgic = Vgic::new(2, LINKED);
    let _ = vgic.distributor_write(0, 4, 0x12);
    let _ = vgic.distributor_write(0x104, 4, 0xffff_ffff);
    for processor in 0..2 {
        let _ = vgic.redistributor_write(processor * STRIDE + 0x14, 4, 0);
        let _ = vgic.redistributor_write(processor * STRIDE + SGI_BASE + 0x100, 4, 0xffff_ffff);
        for offset in 0..32 {
            let _ = vgic.redistributor_write(processor * STRIDE + SGI_BASE + 0x400 + offset, 1, 0xa0);
        }
    }
    for offset in 32..64 {
        let _ = vgic.distributor_write(0x400 + offset, 1, 0xa0);
    }
    // SPIs 32 to 47: 34 and 35 by edge.
    let _ = vgic.distributor_write(0xc08, 4, 0b1010_0000);
    vgic
}

fn read(vgic: &mut Vgic, offset: u64, size: u8) -> u64 {
    vgic.distributor_read(0, offset, size, &mut image()).0
}

fn read_private(vgic: &mut Vgic, processor: usize, offset: u64, size: u8) -> u64 {
    vgic.redistributor_read(processor, processor as u64 * STRIDE + offset, size, &mut image()).0
}

fn lr(intid: u32, state: u64) -> u64 {
    u64::from(intid) | 0xa0 << 48 | GROUP1 | state
}

#[test]
fn distributor_identifies_itself() {
    let mut vgic = Vgic::new(8, 0);
    assert_eq!(read(&mut vgic, 0, 4), 0x50);
    assert_eq!(read(&mut vgic, 4, 4), 9 << 19 | 7);
    assert_eq!(read(&mut vgic, 8, 4), 0x4800_0000);
    assert_eq!(read(&mut vgic, 0xc, 4), 0, "GICD_TYPER2");
    assert_eq!(read(&mut vgic, 0xffe8, 4), 0x30, "GICD_PIDR2");
    assert_eq!(read(&mut vgic, 0xfffc, 4), 0xb1);
}

#[test]
fn control_keeps_group_1_alone() {
    let mut vgic = Vgic::new(1, 0);
    let _ = vgic.distributor_write(0, 4, 0xffff_ffff);
    assert_eq!(read(&mut vgic, 0, 4), 0x52);
    let _ = vgic.distributor_write(0, 4, 0);
    assert_eq!(read(&mut vgic, 0, 4), 0x50);
}

#[test]
fn enable_pending_and_active_set_and_clear() {
    for offset in [0x100, 0x200, 0x300] {
        let mut vgic = Vgic::new(1, 0);
        let _ = vgic.distributor_write(offset + 0x1c, 4, 0x8000_00f1);
        assert_eq!(read(&mut vgic, offset + 0x1c, 4), 0x8000_00f1);
        let _ = vgic.distributor_write(offset + 0x9c, 4, 0x71);
        assert_eq!(read(&mut vgic, offset + 0x9c, 4), 0x8000_0080);
        assert_eq!(read(&mut vgic, offset + 0x18, 4), 0, "the neighbouring bank");

        let _ = vgic.redistributor_write(SGI_BASE + offset, 4, 0x0801_0003);
        assert_eq!(read_private(&mut vgic, 0, SGI_BASE + offset, 4), 0x0801_0003);
        let _ = vgic.redistributor_write(SGI_BASE + offset + 0x80, 4, 0x0800_0001);
        assert_eq!(read_private(&mut vgic, 0, SGI_BASE + offset + 0x80, 4), 0x0001_0002);
    }
}

#[test]
fn priorities_have_five_bits_and_take_bytes_and_words() {
    let mut vgic = Vgic::new(1, 0);
    let _ = vgic.distributor_write(0x400 + 33, 1, 0xff);
    assert_eq!(read(&mut vgic, 0x400 + 32, 4), 0xf800);
    let _ = vgic.distributor_write(0x4fc, 4, 0x1234_5678);
    assert_eq!(read(&mut vgic, 0x4fc, 4), 0x1030_5078);
    assert_eq!(read(&mut vgic, 0x4ff, 1), 0x10);
    let _ = vgic.redistributor_write(SGI_BASE + 0x41b, 1, 0x87);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0x418, 4), 0x8000_0000);
}

#[test]
fn configuration_of_shared_interrupts_alone_changes() {
    let mut vgic = Vgic::new(1, 0);
    let _ = vgic.distributor_write(0xc0c, 4, 0xffff_ffff);
    assert_eq!(read(&mut vgic, 0xc0c, 4), 0xaaaa_aaaa);
    assert_eq!(read(&mut vgic, 0xc08, 4), 0, "INTIDs 32 to 47");
    let _ = vgic.distributor_write(0xc08, 4, 0x0000_0020);
    assert_eq!(read(&mut vgic, 0xc08, 4), 0x20);
    assert_eq!(read(&mut vgic, 0xc0c, 4), 0xaaaa_aaaa);
    let _ = vgic.redistributor_write(SGI_BASE + 0xc00, 4, 0);
    let _ = vgic.redistributor_write(SGI_BASE + 0xc04, 4, 0xffff_ffff);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0xc00, 4), 0xaaaa_aaaa);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0xc04, 4), 0);
}

#[test]
fn groups_are_fixed() {
    let mut vgic = Vgic::new(1, 0);
    let _ = vgic.distributor_write(0x84, 4, 0);
    assert_eq!(read(&mut vgic, 0x84, 4), 0xffff_ffff);
    assert_eq!(read(&mut vgic, 0x80, 4), 0, "private groups are in the redistributor");
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0x80, 4), 0xffff_ffff);
    assert_eq!(read(&mut vgic, 0xd04, 4), 0, "GICD_IGRPMODR");
    assert_eq!(read(&mut vgic, 0xe04, 4), 0, "GICD_NSACR");
}

#[test]
fn routes_take_halves_and_keep_what_exists() {
    let mut vgic = Vgic::new(4, 0);
    let offset = 0x6000 + 8 * u64::from(EVENT);
    let _ = vgic.distributor_write(offset, 8, 3);
    assert_eq!(read(&mut vgic, offset, 8), 3);
    let _ = vgic.distributor_write(offset, 4, 2);
    let _ = vgic.distributor_write(offset + 4, 4, 7);
    assert_eq!(read(&mut vgic, offset, 8), 2, "no Aff3");
    assert_eq!(read(&mut vgic, offset + 4, 4), 0);
    let _ = vgic.distributor_write(offset, 8, 1 << 31);
    assert_eq!(read(&mut vgic, offset, 4), 1 << 31);
    let _ = vgic.distributor_write(offset, 8, 4);
    assert_eq!(read(&mut vgic, offset, 8), 0xff, "no such processor");
    let _ = vgic.distributor_write(offset + 8, 8, 1 << 8);
    assert_eq!(read(&mut vgic, offset + 8, 8), 0xff, "no such cluster");
    let _ = vgic.distributor_write(0x6000 + 8 * 31, 8, 3);
    assert_eq!(read(&mut vgic, 0x6000 + 8 * 31, 8), 0, "private interrupts have no route");
}

#[test]
fn redistributors_identify_themselves() {
    let mut vgic = Vgic::new(3, 0);
    assert_eq!(read_private(&mut vgic, 0, 8, 8), 0);
    assert_eq!(read_private(&mut vgic, 1, 8, 8), 1 << 32 | 1 << 8);
    assert_eq!(read_private(&mut vgic, 2, 8, 8), 2 << 32 | 2 << 8 | 1 << 4);
    assert_eq!(read_private(&mut vgic, 2, 8, 4), 2 << 8 | 1 << 4);
    assert_eq!(read_private(&mut vgic, 2, 12, 4), 2);
    assert_eq!(read_private(&mut vgic, 2, 0xffe8, 4), 0x30);
    assert_eq!(read_private(&mut vgic, 0, 0, 4), 0, "GICR_CTLR");
    assert_eq!(read_private(&mut vgic, 0, 0x70, 8), 0, "GICR_PROPBASER");
    assert_eq!(read_private(&mut vgic, 3, 8, 8), 0, "beyond the last processor");
}

#[test]
fn waker_hand_shake() {
    let mut vgic = Vgic::new(1, 0);
    assert_eq!(read_private(&mut vgic, 0, 0x14, 4), 6);
    let _ = vgic.redistributor_write(0x14, 4, 0);
    assert_eq!(read_private(&mut vgic, 0, 0x14, 4), 0);
    let _ = vgic.redistributor_write(0x14, 4, 2);
    assert_eq!(read_private(&mut vgic, 0, 0x14, 4), 6);
}

#[test]
fn reserved_misaligned_and_wrong_sizes_read_as_zero_and_ignore_writes() {
    let mut vgic = ready();
    for offset in 0..0x1_0000 {
        for size in [0, 1, 2, 3, 4, 8, 16, 255] {
            let word = size == 4 && offset % 4 == 0;
            let priority = size == 1 && (0x420..0x500).contains(&offset);
            let route = size == 8 && offset % 8 == 0 && (0x6100..0x6800).contains(&offset);
            if !word && !priority && !route {
                let _ = vgic.distributor_write(offset, size, u64::MAX);
                assert_eq!(read(&mut vgic, offset, size), 0, "{offset:#x}, {size} bytes");
            }
        }
    }
    for offset in [0x500, 0x800, 0xc40, 0xf00, 0xf10, 0x104 - 4, 0x120, 0x6800] {
        let _ = vgic.distributor_write(offset, 4, u64::MAX);
        assert_eq!(read(&mut vgic, offset, 4), 0, "{offset:#x}");
    }
    assert_eq!(read(&mut vgic, u64::MAX, 4), 0);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0x104, 4), 0);
}

#[test]
fn an_event_costs_one_list_register_write_and_no_read() {
    let mut vgic = ready();
    let mut registers = Counted { image: image(), reads: 0.into(), writes: 0 };
    for round in 1..=3 {
        assert_eq!(vgic.raise(0, EVENT).mask(), 1);
        assert!(vgic.dirty(0) && !vgic.dirty(1));
        assert_eq!(vgic.flush(0, &mut registers), Entry::default());
        assert!(!vgic.dirty(0));
        assert_eq!(registers.image.read(0), lr(EVENT, PENDING), "no EOI bit on an edge");
        assert_eq!((registers.reads.get(), registers.writes), (0, round));
        // The guest acknowledges and ends it.
        registers.image.write(0, lr(EVENT, 0));
    }
}

#[test]
fn a_link_comes_between_two_edges() {
    const DEVICE: u32 = handover_abi::layout::DEVICE_INTID;
    let mut vgic = ready();
    let mut registers = image();
    let number = u64::from(DEVICE % 32);
    let _ = vgic.distributor_write(0x400 + u64::from(DEVICE), 1, 0xa0);
    let _ = vgic.distributor_write(0x100 + u64::from(DEVICE / 32) * 4, 4, 1 << number);
    let _ = vgic.distributor_write(0xc00 + u64::from(DEVICE / 16) * 4, 4, 2 << (number * 2));
    for _ in 0..2 {
        let _ = vgic.raise(0, DEVICE);
        let _ = vgic.flush(0, &mut registers);
        assert_eq!(registers.read(0), lr(DEVICE, PENDING));
        registers.write(0, lr(DEVICE, 0));
    }
    vgic.link(DEVICE, 77, true);
    let _ = vgic.raise(0, DEVICE);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(DEVICE, PENDING | HW) | 77 << 32);
}

#[test]
fn raised_again_while_loaded() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(vgic.raise(0, EVENT).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING), "collapsed");
    registers.write(0, lr(EVENT, ACTIVE));
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING | ACTIVE));
    assert_eq!(registers.empty_status(), 0b1110);
}

#[test]
fn nobody_is_kicked_for_what_is_disabled() {
    let mut vgic = ready();
    let _ = vgic.distributor_write(0x184, 4, 1 << 2);
    assert!(vgic.raise(0, EVENT).is_empty());
    assert_eq!(read(&mut vgic, 0x204, 4), 1 << 2);
    assert_eq!(vgic.distributor_write(0x104, 4, 1 << 2).mask(), 1);
    let mut vgic = ready();
    let _ = vgic.distributor_write(0, 4, 0);
    assert!(vgic.raise(0, EVENT).is_empty());
    assert_eq!(vgic.distributor_write(0, 4, 2).mask(), 1);
}

#[test]
fn a_kick_names_a_processor_once() {
    let mut vgic = ready();
    assert_eq!(vgic.raise(0, EVENT).mask(), 1);
    assert!(vgic.raise(0, EVENT).is_empty());
    assert!(vgic.raise(0, EVENT + 1).is_empty());
    let _ = vgic.flush(0, &mut image());
    assert_eq!(vgic.raise(0, EVENT).mask(), 1);
}

#[test]
fn disabling_takes_a_pending_interrupt_out_and_enabling_puts_it_back() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(vgic.distributor_write(0x184, 4, 1 << 2).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!((registers.read(0), vgic.occupied(0)), (0, 0));
    assert_eq!(read(&mut vgic, 0x204, 4), 1 << 2, "still pending");
    let _ = vgic.distributor_write(0x104, 4, 1 << 2);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING));
}

#[test]
fn clearing_pending_takes_it_out_for_good() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(vgic.distributor_write(0x284, 4, 1 << 2).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!((registers.read(0), vgic.occupied(0)), (0, 0));
    assert_eq!(read(&mut vgic, 0x204, 4), 0);
}

#[test]
fn a_level_is_sampled_again_at_its_end() {
    let mut vgic = ready();
    let mut registers = image();
    assert_eq!(vgic.set_level(0, UART, true).mask(), 1);
    assert!(vgic.set_level(0, UART, true).is_empty());
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(UART, PENDING | EOI));
    // Handled, but the line is still high: the maintenance interrupt brings it back.
    registers.write(0, lr(UART, EOI));
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(UART, PENDING | EOI));
    registers.write(0, lr(UART, ACTIVE | EOI));
    assert_eq!(vgic.set_level(0, UART, false).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(UART, ACTIVE | EOI));
    assert!(vgic.set_level(0, UART, true).is_empty(), "the end of the interrupt will tell");
    let _ = vgic.set_level(0, UART, false);
    registers.write(0, lr(UART, EOI));
    let _ = vgic.flush(0, &mut registers);
    assert_eq!((registers.read(0), vgic.occupied(0)), (0, 0), "nothing left to maintain");
}

#[test]
fn a_line_that_falls_takes_its_interrupt_back() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.set_level(0, UART, true);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(vgic.set_level(0, UART, false).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!((registers.read(0), vgic.occupied(0)), (0, 0));
}

#[test]
fn a_rising_line_is_an_edge_where_so_configured() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.set_level(0, EVENT, true);
    assert!(vgic.set_level(0, EVENT, false).is_empty());
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING));
}

#[test]
fn the_timer_is_linked_to_the_physical_interrupt() {
    let mut vgic = ready();
    let mut registers = image();
    let pending = lr(TIMER, PENDING | HW) | u64::from(TIMER) << 32;
    assert_eq!(vgic.set_level(1, TIMER, true).mask(), 2);
    let _ = vgic.flush(1, &mut registers);
    assert_eq!(registers.read(0), pending);
    assert_eq!(vgic.in_flight(1, &registers), LINKED);
    // Disabled before it was taken: the physical interrupt stays active until the guest enables it again.
    let _ = vgic.redistributor_write(STRIDE + SGI_BASE + 0x180, 4, u64::from(LINKED));
    let _ = vgic.redistributor_write(STRIDE + SGI_BASE + 0x280, 4, u64::from(LINKED));
    let _ = vgic.flush(1, &mut registers);
    assert_eq!((registers.read(0), vgic.in_flight(1, &registers)), (0, LINKED));
    let _ = vgic.redistributor_write(STRIDE + SGI_BASE + 0x100, 4, u64::from(LINKED));
    let _ = vgic.flush(1, &mut registers);
    assert_eq!(registers.read(0), pending);
    // Acknowledged and ended; the physical interrupt comes again.
    registers.write(0, pending & !PENDING);
    assert_eq!(vgic.in_flight(1, &registers), 0);
    assert_eq!(vgic.set_level(1, TIMER, true).mask(), 2);
    let _ = vgic.flush(1, &mut registers);
    assert_eq!(registers.read(0), pending);
    // Active: deactivated by register, which the physical interrupt must follow.
    registers.write(0, pending & !PENDING | ACTIVE);
    let _ = vgic.redistributor_write(STRIDE + SGI_BASE + 0x380, 4, u64::from(LINKED));
    assert_eq!(vgic.flush(1, &mut registers).deactivate, LINKED);
    assert_eq!((registers.read(0), vgic.in_flight(1, &registers)), (0, 0));
}

#[test]
fn sgis_reach_the_named_processors() {
    let mut vgic = Vgic::new(4, 0);
    let _ = vgic.distributor_write(0, 4, 2);
    for processor in 0..4 {
        let _ = vgic.redistributor_write(processor * STRIDE + SGI_BASE + 0x100, 4, 0xffff);
    }
    assert_eq!(vgic.send_sgi(0, 5 << 24 | 0b1_0110).mask(), 0b0110);
    assert_eq!(read_private(&mut vgic, 2, SGI_BASE + 0x200, 4), 1 << 5);
    assert_eq!(read_private(&mut vgic, 3, SGI_BASE + 0x200, 4), 0);
    assert!(vgic.send_sgi(0, 1 << 16 | 1 << 3).is_empty(), "another cluster");
    assert!(vgic.send_sgi(0, 1 << 44 | 1 << 3).is_empty(), "affinities from 16");
    assert_eq!(vgic.send_sgi(1, 1 << 40 | 1).mask(), 0b1001, "all but the sender; 2 knows already");
    assert_eq!(read_private(&mut vgic, 1, SGI_BASE + 0x200, 4), 1 << 5);
    assert_eq!(read_private(&mut vgic, 2, SGI_BASE + 0x200, 4), 1 << 5 | 1);
}

#[test]
fn a_new_route_moves_what_is_pending_and_leaves_what_is_active() {
    let mut vgic = ready();
    let (mut first, mut second) = (image(), image());
    let route = 0x6000 + 8 * u64::from(EVENT);
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut first);
    assert_eq!(vgic.distributor_write(route, 8, 1).mask(), 1, "who holds it must let go first");
    assert_eq!(vgic.flush(0, &mut first).kick.mask(), 2);
    assert_eq!(first.read(0), 0);
    let _ = vgic.flush(1, &mut second);
    assert_eq!(second.read(0), lr(EVENT, PENDING));

    second.write(0, lr(EVENT, ACTIVE));
    let _ = vgic.distributor_write(route, 8, 0);
    assert_eq!(vgic.raise(0, EVENT), Kick::NONE, "the route has marked processor 1 already");
    assert!(vgic.flush(1, &mut second).kick.is_empty());
    assert_eq!(second.read(0), lr(EVENT, ACTIVE | EOI), "its end must be heard of");
    second.write(0, lr(EVENT, EOI));
    assert_eq!(vgic.flush(1, &mut second).kick.mask(), 1);
    let _ = vgic.flush(0, &mut first);
    assert_eq!(first.read(0), lr(EVENT, PENDING));
}

#[test]
fn any_means_the_first_that_is_awake() {
    let mut vgic = Vgic::new(3, 0);
    let _ = vgic.distributor_write(0, 4, 2);
    let _ = vgic.distributor_write(0x104, 4, 4);
    let _ = vgic.distributor_write(0x6000 + 8 * u64::from(EVENT), 8, 1 << 31);
    let _ = vgic.redistributor_write(2 * STRIDE + 0x14, 4, 0);
    assert_eq!(vgic.raise(0, EVENT).mask(), 0b100);
    assert_eq!(vgic.redistributor_write(STRIDE + 0x14, 4, 0).mask(), 0b010);
    let _ = vgic.flush(2, &mut image());
    assert_eq!(vgic.occupied(2), 0, "has gone to 1 instead");
}

#[test]
fn the_most_urgent_get_the_list_registers() {
    let mut vgic = ready();
    let mut registers = ListRegisterImage::new(2);
    let _ = vgic.distributor_write(0xc08, 4, 0xaaaa_aaaa);
    for (intid, priority) in [(40, 0x80), (41, 0x60), (42, 0x40), (43, 0x20)] {
        let _ = vgic.distributor_write(0x400 + intid, 1, priority);
    }
    let held = |registers: &ListRegisterImage| {
        let mut held = [registers.read(0) as u32, registers.read(1) as u32];
        held.sort_unstable();
        held
    };
    let _ = vgic.raise(0, 40);
    let _ = vgic.raise(0, 41);
    assert_eq!(vgic.flush(0, &mut registers).maintenance, 0);
    let _ = vgic.raise(0, 42);
    let _ = vgic.raise(0, 43);
    assert_eq!(vgic.flush(0, &mut registers).maintenance, 1 << 3, "NPIE");
    assert_eq!(held(&registers), [42, 43]);
    // Both acknowledged, one ended.
    registers.write(0, registers.read(0) & !PENDING);
    registers.write(1, registers.read(1) & !PENDING | ACTIVE);
    let entry = vgic.flush(0, &mut registers);
    assert_eq!((entry.maintenance, registers.read(0) as u32), (1 << 3, 41));
    // Both active: the next end is to be told.
    registers.write(0, registers.read(0) & !PENDING | ACTIVE);
    assert_eq!(vgic.flush(0, &mut registers).maintenance, 0);
    assert!(registers.read(0) & EOI != 0 && registers.read(1) & EOI != 0);
    registers.write(1, registers.read(1) & !ACTIVE);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(1) as u32, 40);
}

#[test]
fn a_new_priority_reaches_the_list_register() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(vgic.distributor_write(0x400 + u64::from(EVENT), 1, 0x10).mask(), 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0) >> 48 & 0xff, 0x10);
}

#[test]
fn active_states_are_written_through_to_the_list_register() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.distributor_write(0x304, 4, 1 << 2);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, ACTIVE), "so that the guest can end it");
    let _ = vgic.distributor_write(0x384, 4, 1 << 2);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!((registers.read(0), vgic.occupied(0)), (0, 0));
}

#[test]
fn an_order_to_be_active_meets_a_new_edge() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    registers.write(0, lr(EVENT, 0));
    let _ = vgic.distributor_write(0x304, 4, 1 << 2);
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING | ACTIVE));
}

#[test]
fn room_that_a_read_discovers_is_used() {
    let mut vgic = ready();
    let mut registers = ListRegisterImage::new(1);
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    registers.write(0, lr(EVENT, ACTIVE));
    let _ = vgic.raise(0, EVENT + 1);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, ACTIVE | EOI), "the other one waits for its end");
    registers.write(0, lr(EVENT, EOI));
    let (_, kick) = vgic.distributor_read(0, 0x304, 4, &mut registers);
    assert_eq!((registers.read(0), kick.mask()), (0, 1), "no maintenance interrupt will come now");
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT + 1, PENDING));
}

#[test]
fn a_poll_of_another_processors_state_converges() {
    let mut vgic = ready();
    let (mut mine, mut other) = (image(), image());
    let _ = vgic.distributor_write(0x6000 + 8 * u64::from(EVENT), 8, 1);
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(1, &mut other);
    other.write(0, lr(EVENT, ACTIVE));
    assert_eq!(vgic.distributor_read(0, 0x304, 4, &mut mine), (0, Kick(2)));
    let _ = vgic.flush(1, &mut other);
    assert_eq!(vgic.distributor_read(0, 0x304, 4, &mut mine), (4, Kick(2)));
    other.write(0, lr(EVENT, 0));
    let _ = vgic.flush(1, &mut other);
    assert_eq!(vgic.distributor_read(0, 0x304, 4, &mut mine), (0, Kick::NONE));
}

#[test]
fn wfi_ends_for_what_the_guest_would_take() {
    let mut vgic = ready();
    let mut registers = image();
    let vmcr = |mask: u64| mask << 24 | 2;
    assert!(!vgic.signals(0, &registers, vmcr(0xff)));
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.flush(0, &mut registers);
    assert!(vgic.signals(0, &registers, vmcr(0xff)));
    assert!(!vgic.signals(0, &registers, vmcr(0xa0)), "masked by priority");
    assert!(!vgic.signals(0, &registers, 0xff << 24), "group off");
    registers.write(0, lr(EVENT, ACTIVE));
    assert!(!vgic.signals(0, &registers, vmcr(0xff)));
}

#[test]
fn a_reset_processor_keeps_shared_interrupts_pending() {
    let mut vgic = ready();
    let mut registers = image();
    let _ = vgic.raise(0, EVENT);
    let _ = vgic.raise(0, EVENT + 1);
    let _ = vgic.send_sgi(0, 1);
    let _ = vgic.flush(0, &mut registers);
    let active = (0..4).find(|&number| registers.read(number) as u32 == EVENT + 1).unwrap();
    registers.write(active, lr(EVENT + 1, ACTIVE));
    assert_eq!(vgic.reset_processor(0, &mut registers).mask(), 1);
    assert_eq!(registers, image());
    assert_eq!(read(&mut vgic, 0x204, 4), 1 << 2);
    assert_eq!(read(&mut vgic, 0x304, 4), 0);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0x200, 4), 0);
    assert_eq!(read_private(&mut vgic, 0, SGI_BASE + 0x100, 4), 0);
    assert_eq!(read_private(&mut vgic, 0, 0x14, 4), 6);
    let _ = vgic.flush(0, &mut registers);
    assert_eq!(registers.read(0), lr(EVENT, PENDING));
}
