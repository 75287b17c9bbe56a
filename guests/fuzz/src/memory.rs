//! Accesses to memory of all kinds, at addresses of all kinds.

use core::{arch::asm, ptr};

use handover_guest::{
    abi::layout::{
        ARCHIVE_BASE, GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE, MEMORY_END, PROCESSORS_MAX, UART_BASE,
        UART_SIZE, WINDOW_BASE,
    },
    fault::{self, Fault},
};

use crate::{
    code::{self, Alias},
    stream::Stream,
    window::{GIB, QUIET, QUIET_SIZE},
};

/// A partition's memory ends below: what is behind is nobody's.
const BEHIND_MEMORY: u64 = 0x6000_0000;
/// `RET`.
const RET: u32 = 0xd65f_03c0;

/// Where an access goes, and what must come of it.
struct Place {
    address: u64,
    /// Nothing is there: whatever the access is, it must fault.
    nothing: bool,
    writable: bool,
}

/// Accesses memory.
pub(crate) fn access(stream: &mut Stream) {
    if stream.random.one_in(8) {
        return execute(stream);
    }
    let place = place(stream);
    let kinds: &[Kind] = if place.writable { KINDS } else { &KINDS[..READS] };
    let kind = stream.random.one_of(kinds);
    let value = stream.random.next();
    let address = place.address;
    let result = touch(kind, address, value);
    match result {
        // Maintenance of what is not there may go unnoticed.
        Ok(_) if place.nothing && !matches!(kind, Kind::CleanLine) => {
            stream.fail(format_args!("{kind:?} at {address:#x}, where nothing is, did not fault"))
        }
        Err(fault) if !matches!(fault.class(), Fault::CLASS_DATA_ABORT) => {
            stream.fail(format_args!("{kind:?} at {address:#x}: {fault}"));
        }
        _ => {}
    }
    stream.count(format_args!("{kind:?} at {address:#x}"), result);
}

fn place(stream: &mut Stream) -> Place {
    let nothing = |address| Place { address, nothing: true, writable: true };
    let random = stream.random.next();
    match stream.random.below(16) {
        0 => nothing(random % (GICD_BASE - 64)),
        1 => nothing(UART_BASE + UART_SIZE + random % 0x1000_0000),
        2 => nothing(BEHIND_MEMORY + random % (MEMORY_END - BEHIND_MEMORY - 64)),
        // The SDK maps these read-only.
        3 => nothing(ARCHIVE_BASE + random % (WINDOW_BASE - ARCHIVE_BASE - 64)),
        4 | 5 => nothing(QUIET + random % (QUIET_SIZE - 64)),
        // Beyond what stage 1 maps, not even canonical.
        6 => nothing(1 << 39 | random),
        7..10 => device(GICD_BASE, GICD_SIZE, random),
        10..12 => device(GICR_BASE, u64::from(PROCESSORS_MAX) * GICR_STRIDE, random),
        12 => uart(stream, random),
        // Its own slots: all of them but for where the tags are.
        _ => {
            let slot = stream.slots.small(&mut stream.random);
            Place { address: slot + 64 + random % 3900, nothing: false, writable: true }
        }
    }
}

/// Registers at the start of a frame more often than others.
fn device(base: u64, size: u64, random: u64) -> Place {
    let offset = match random >> 60 {
        0..4 => random % 0x100,
        4..8 => random % size,
        8 => size - 16 + random % 8,
        _ => (random & !7) % size,
    };
    Place { address: base + offset, nothing: false, writable: true }
}

fn uart(stream: &mut Stream, random: u64) -> Place {
    // What is written to the data register is seen on the console.
    let data = stream.random.one_in(64);
    let offset = if data { 0 } else { 4 + random % (UART_SIZE - 4 - 16) };
    Place { address: UART_BASE + offset, nothing: false, writable: data || random >> 63 != 0 && offset >= 4 }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read8,
    Read16,
    Read32,
    Read64,
    ReadSigned,
    ReadPair,
    ReadExclusive,
    ReadIndexed,
    Write8,
    Write16,
    Write32,
    Write64,
    WritePair,
    WriteIndexed,
    Add,
    Swap,
    CleanLine,
    ZeroLine,
}

/// Reads come first.
const READS: usize = 8;
const KINDS: &[Kind] = {
    use Kind::*;
    &[
        Read8,
        Read16,
        Read32,
        Read64,
        ReadSigned,
        ReadPair,
        ReadExclusive,
        ReadIndexed,
        Write8,
        Write16,
        Write32,
        Write64,
        WritePair,
        WriteIndexed,
        Add,
        Swap,
        CleanLine,
        ZeroLine,
    ]
};

macro_rules! load {
    ($address:ident, $($code:literal),+) => {
        fault::catch(|| {
            let value: u64;
            // SAFETY: reads where no reference points; a fault is caught.
            unsafe { asm!(".arch_extension lse", $($code),+, v = out(reg) value, s = out(reg) _, a = inout(reg) $address => _, options(nostack)) };
            value
        })
    };
}

macro_rules! store {
    ($address:ident, $value:ident, $($code:literal),+) => {
        fault::catch(|| {
            // SAFETY: writes to devices, or to the message window, where no reference points; a fault is caught.
            unsafe { asm!(".arch_extension lse", $($code),+, v = in(reg) $value, a = inout(reg) $address => _, options(nostack)) };
            0
        })
    };
}

fn touch(kind: Kind, address: u64, value: u64) -> Result<u64, Fault> {
    match kind {
        Kind::Read8 => load!(address, "ldrb {v:w}, [{a}]", "mov {s}, xzr"),
        Kind::Read16 => load!(address, "ldrh {v:w}, [{a}]", "mov {s}, xzr"),
        Kind::Read32 => load!(address, "ldr {v:w}, [{a}]", "mov {s}, xzr"),
        Kind::Read64 => load!(address, "ldr {v}, [{a}]", "mov {s}, xzr"),
        Kind::ReadSigned => load!(address, "ldrsh {v}, [{a}]", "mov {s}, xzr"),
        Kind::ReadPair => load!(address, "ldp {v}, {s}, [{a}]"),
        Kind::ReadExclusive => load!(address, "ldxr {v:w}, [{a}]", "clrex", "mov {s}, xzr"),
        Kind::ReadIndexed => load!(address, "ldr {v:w}, [{a}], #4", "mov {s}, xzr"),
        Kind::Write8 => store!(address, value, "strb {v:w}, [{a}]"),
        Kind::Write16 => store!(address, value, "strh {v:w}, [{a}]"),
        Kind::Write32 => store!(address, value, "str {v:w}, [{a}]"),
        Kind::Write64 => store!(address, value, "str {v}, [{a}]"),
        Kind::WritePair => store!(address, value, "stp {v}, {v}, [{a}]"),
        Kind::WriteIndexed => store!(address, value, "str {v}, [{a}, #8]!"),
        Kind::Add => store!(address, value, "stadd {v}, [{a}]"),
        Kind::Swap => store!(address, value, "swpal {v}, xzr, [{a}]"),
        Kind::CleanLine => store!(address, value, "dc civac, {a}", "mov xzr, {v}"),
        Kind::ZeroLine => store!(address, value, "dc zva, {a}", "mov xzr, {v}"),
    }
}

/// Branches to where nothing is, to a device, to a region: stage 1 allows it, stage 2 must not.
fn execute(stream: &mut Stream) {
    let random = stream.random.next();
    let address = match stream.random.below(4) {
        0 => code::alias(Alias::Nothing) + random % GIB,
        1 => code::alias(Alias::Devices) + (GICD_BASE + random % (UART_BASE + UART_SIZE - GICD_BASE)),
        _ => {
            let slot = stream.slots.small(&mut stream.random);
            let place = slot + 1024;
            let pointer = ptr::with_exposed_provenance_mut::<u32>(place as usize);
            // SAFETY: writes the message window, where no reference points; a fault is caught.
            let written = fault::catch(|| unsafe {
                pointer.write_volatile(RET);
                asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) place, options(nostack));
                0
            });
            stream.count(format_args!("RET at {place:#x}"), written);
            code::alias(Alias::Window(stream.processor)) + place % GIB
        }
    } & !3;
    let result = code::run(address, random);
    match result {
        Ok(_) => stream.fail(format_args!("an instruction at {address:#x} was executed")),
        Err(fault) if fault.class() != Fault::CLASS_INSTRUCTION_ABORT => {
            stream.fail(format_args!("an instruction at {address:#x}: {fault}"));
        }
        Err(_) => {}
    }
    stream.count(format_args!("branch to {address:#x}"), result);
}
