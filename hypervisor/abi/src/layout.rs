//! A partition's intermediate physical addresses. The low part follows the address map of QEMU's `virt` machine, which
//! guests know; a generated device tree tells it to them.

/// Bits of an intermediate physical address.
pub const IPA_BITS: u32 = 39;

/// The virtual GIC distributor: 64 KiB.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Bytes of the distributor's frame.
pub const GICD_SIZE: u64 = 0x1_0000;
/// The virtual GIC redistributors: two 64 KiB frames for each logical processor, without gaps.
pub const GICR_BASE: u64 = 0x080a_0000;
/// Bytes of one processor's redistributor frames.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// The console: a PL011 (Arm DDI 0183).
pub const UART_BASE: u64 = 0x0900_0000;
/// Bytes of the console's frame.
pub const UART_SIZE: u64 = 0x1000;
/// The console's interrupt (an SPI; level).
pub const UART_INTID: u32 = 33;
/// The event interrupt: pending while events are (an SPI; edge).
pub const EVENT_INTID: u32 = 34;
/// The first of the interrupts that a partition may choose for port sets and event ports (SPIs, edge).
pub const CHOSEN_INTID_FIRST: u32 = 192;
/// The last of them.
pub const CHOSEN_INTID_LAST: u32 = 255;
/// The virtual timer's interrupt (a PPI).
pub const VIRTUAL_TIMER_INTID: u32 = 27;
/// The physical timer's interrupt (a PPI).
pub const PHYSICAL_TIMER_INTID: u32 = 30;

/// Registers of devices that a partition holds are mapped from here on.
pub const DEVICE_BASE: u64 = 0x0a00_0000;
/// They end here at the latest (exclusive).
pub const DEVICE_END: u64 = 0x0b00_0000;
/// The first of the INTIDs that interrupts of such devices have in the partition (SPIs).
pub const DEVICE_INTID: u32 = 64;
/// How many of these there are.
pub const DEVICE_INTIDS: u32 = 32;

/// The page of stolen times (Arm DEN0057): read-only, there once the guest has asked for it.
pub const STOLEN_TIME_BASE: u64 = 0x0b00_0000;
/// Bytes of each logical processor's structure in it, without gaps.
pub const STOLEN_TIME_STRIDE: u64 = 64;

/// Logical processors a partition may have.
pub const PROCESSORS_MAX: u32 = 8;

/// Memory starts here.
pub const MEMORY_BASE: u64 = 0x4000_0000;
/// Memory ends here at the latest (exclusive).
pub const MEMORY_END: u64 = ARCHIVE_BASE;
/// Granularity of a partition's memory.
pub const MEMORY_GRANULE: u64 = 0x20_0000;
/// Most bytes of one `PartitionAddMemory`.
pub const ADD_MEMORY_MAX: u64 = 0x4000_0000;
/// Most bytes of one `MemoryAdd` or `MemoryRemove`.
pub const MEMORY_CALL_MAX: u64 = 0x200_0000;
/// Most bytes of one `PartitionWrite`.
pub const WRITE_MAX: u64 = 0x1_0000;

/// Where system-control, and nobody else, finds the boot archive's files.
pub const ARCHIVE_BASE: u64 = 0x30_0000_0000;

/// The message window: regions are mapped here and nowhere else.
pub const WINDOW_BASE: u64 = 0x40_0000_0000;
/// Bytes of the message window.
pub const WINDOW_SIZE: u64 = 0x40_0000_0000;
/// A region of up to 2 MiB takes one slot of this size and alignment; a larger one takes a slot of 1 GiB.
pub const WINDOW_SLOT: u64 = 0x20_0000;

/// The smallest region.
pub const REGION_MIN: u64 = 0x1000;
/// The largest region.
pub const REGION_MAX: u64 = 0x4000_0000;

const _: () = assert!(WINDOW_BASE + WINDOW_SIZE == 1 << IPA_BITS);
const _: () = assert!(UART_BASE + UART_SIZE <= DEVICE_BASE && DEVICE_END <= STOLEN_TIME_BASE);
const _: () = assert!(GICR_BASE + PROCESSORS_MAX as u64 * GICR_STRIDE <= UART_BASE);
