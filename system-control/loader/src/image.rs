//! Where a guest's kernel, initramfs and device tree go in its memory.

use alloc::vec::Vec;
use core::{fmt, ops::Range};
use elf::{ElfBytes, abi::PT_LOAD, endian::LittleEndian};
use handover_abi::layout::{MEMORY_BASE, MEMORY_GRANULE};
use handover_manifest::{KernelKind, MemorySize, NotAKernel};

/// The arm64 boot protocol places an Image, an initramfs and a device tree on such boundaries or inside them (Documentation/arch/arm64/booting.rst).
const ALIGN: u64 = 2 << 20;
/// The most a device tree may have, by the same protocol.
pub const DEVICE_TREE_MAX: u64 = 2 << 20;

/// Bytes of the kernel's file, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest address.
    pub address: u64,
    /// Which bytes of the file.
    pub bytes: Range<usize>,
}

/// A guest's memory before it starts. All of it lies inside the memory, and nothing overlaps anything else but segments of
/// one ELF file, of which later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kernel's parts, in file order.
    pub segments: Vec<Segment>,
    /// Where processor 0 starts.
    pub entry: u64,
    /// Where the initramfs goes.
    pub initramfs: Option<u64>,
    /// Where the device tree goes; [`DEVICE_TREE_MAX`] bytes are free there.
    pub device_tree: u64,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Neither format.
    NotAKernel(NotAKernel),
    /// One of the formats, and wrong.
    Damaged(&'static str),
    /// An ELF program that is linked for other addresses than the partition has.
    Outside {
        /// What the segment takes.
        segment: Range<u64>,
        /// What the partition has.
        memory: Range<u64>,
    },
    /// It all needs more memory than the partition has.
    TooLarge {
        /// Bytes that are needed, at least.
        needed: u64,
        /// Bytes there are.
        memory: u64,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::NotAKernel(found) => found.fmt(f),
            PlanError::Damaged(what) => write!(f, "the kernel is damaged: {what}; build or fetch it again"),
            PlanError::Outside { segment, memory } => write!(
                f,
                "the kernel is an ELF program for {:#x}..{:#x}, but the partition's memory is {:#x}..{:#x}: \
                 link it for these addresses, or give the partition more `memory`",
                segment.start, segment.end, memory.start, memory.end
            ),
            PlanError::TooLarge { needed, memory } => write!(
                f,
                "kernel, initramfs and device tree need {}, but the partition has {}: give it more `memory`",
                MemorySize(*needed),
                MemorySize(*memory)
            ),
        }
    }
}

impl core::error::Error for PlanError {}

/// Plans the memory of a partition: a kernel's file, its initramfs's size in bytes, and the bytes of memory from
/// [`MEMORY_BASE`] on.
///
/// The device tree takes the first 2 MiB and an Image follows it; an ELF program that wants the first 2 MiB itself
/// gets the device tree behind everything else.
pub fn plan(kernel: &[u8], initramfs: Option<u64>, memory: u64) -> Result<Plan, PlanError> {
    let too_large = |end: Option<u64>| {
        let needed = end.map_or(u64::MAX, |end| end - MEMORY_BASE);
        PlanError::TooLarge {
            needed: needed.checked_next_multiple_of(MEMORY_GRANULE).unwrap_or(needed),
            memory,
        }
    };
    let inside = |end: Option<u64>| match end {
        Some(end) if end - MEMORY_BASE <= memory => Ok(end),
        end => Err(too_large(end)),
    };
    let kernel = match KernelKind::of(kernel).map_err(PlanError::NotAKernel)? {
        KernelKind::Image { text_offset, image_size } => image(kernel, text_offset, image_size)?,
        KernelKind::Elf => program(kernel, memory)?,
    };
    let mut end = inside(kernel.end)?;

    let mut place = |size: u64| {
        let start = end.checked_next_multiple_of(ALIGN);
        end = inside(start.and_then(|start| start.checked_add(size)))?;
        Ok(end - size)
    };
    let initramfs = initramfs.map(&mut place).transpose()?;
    let device_tree =
        if kernel.start >= MEMORY_BASE + DEVICE_TREE_MAX { MEMORY_BASE } else { place(DEVICE_TREE_MAX)? };
    Ok(Plan { segments: kernel.segments, entry: kernel.entry, initramfs, device_tree })
}

struct Kernel {
    segments: Vec<Segment>,
    entry: u64,
    start: u64,
    /// `None`: beyond what 64 bits can count.
    end: Option<u64>,
}

fn image(file: &[u8], text_offset: u64, image_size: u64) -> Result<Kernel, PlanError> {
    if image_size == 0 {
        return Err(PlanError::Damaged("its header has no image size, as before Linux 3.17"));
    }
    if text_offset >= ALIGN {
        return Err(PlanError::Damaged("its header's text offset is 2 MiB or more"));
    }
    let start = MEMORY_BASE + DEVICE_TREE_MAX + text_offset;
    let end = start.checked_add(image_size.max(file.len() as u64));
    Ok(Kernel {
        segments: [Segment { address: start, bytes: 0..file.len() }].into(),
        entry: start,
        start,
        end,
    })
}

fn program(file: &[u8], memory: u64) -> Result<Kernel, PlanError> {
    let damaged = PlanError::Damaged;
    let elf =
        ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| damaged("its ELF header is wrong"))?;
    let headers = elf.segments().ok_or(damaged("an ELF file without program headers"))?;
    let memory = MEMORY_BASE..MEMORY_BASE.saturating_add(memory);
    let mut segments = Vec::new();
    let mut entry = None;
    let (mut start, mut end) = (u64::MAX, 0);
    for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0) {
        let beyond = || damaged("a segment's size is beyond 64 bits");
        let segment = header.p_paddr..header.p_paddr.checked_add(header.p_memsz).ok_or_else(beyond)?;
        if segment.start < memory.start || segment.end > memory.end {
            return Err(PlanError::Outside { segment, memory });
        }
        if header.p_filesz > header.p_memsz {
            return Err(damaged("a segment has more bytes in the file than in memory"));
        }
        let from = header.p_offset;
        let to = from.checked_add(header.p_filesz).filter(|&to| to <= file.len() as u64);
        let to = to.ok_or(damaged("a segment is not inside the file"))?;
        if from < to {
            segments.push(Segment { address: segment.start, bytes: from as usize..to as usize });
        }
        // The MMU is off at the start, so that a virtual entry point means the physical address it is loaded at.
        let inside = elf.ehdr.e_entry.checked_sub(header.p_vaddr).filter(|&inside| inside < header.p_memsz);
        entry = entry.or(inside.map(|inside| segment.start + inside));
        (start, end) = (start.min(segment.start), end.max(segment.end));
    }
    let entry = entry.ok_or(damaged("its entry point is in none of its loaded segments"))?;
    Ok(Kernel { segments, entry, start, end: Some(end) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{string::ToString, vec};

    const MIB: u64 = 1 << 20;

    fn linux(text_offset: u64, image_size: u64, length: usize) -> Vec<u8> {
        let mut file = vec![0; length];
        file[8..16].copy_from_slice(&text_offset.to_le_bytes());
        file[16..24].copy_from_slice(&image_size.to_le_bytes());
        file[56..60].copy_from_slice(b"ARM\x64");
        file
    }

    /// An ELF program; of each segment: virtual and physical address, bytes in the file (taken from byte 0x200 on) and in memory.
    fn program(entry: u64, segments: &[(u64, u64, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 0x1000];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &2u16.to_le_bytes());
        put(18, &183u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &(segments.len() as u16).to_le_bytes());
        for (index, &(virt, phys, in_file, in_memory)) in segments.iter().enumerate() {
            let at = 64 + 56 * index;
            put(at, &PT_LOAD.to_le_bytes());
            for (field, value) in [(8, 0x200), (16, virt), (24, phys), (32, in_file), (40, in_memory)] {
                put(at + field, &value.to_le_bytes());
            }
        }
        file
    }

    #[test]
    fn an_image_goes_behind_the_device_tree() {
        let file = linux(0x8_0000, 5 * MIB, 4096);
        let plan = plan(&file, Some(3 * MIB), 64 * MIB).unwrap();
        let start = MEMORY_BASE + 2 * MIB + 0x8_0000;
        assert_eq!(plan.segments, [Segment { address: start, bytes: 0..4096 }]);
        assert_eq!(plan.entry, start);
        assert_eq!(plan.device_tree, MEMORY_BASE);
        assert_eq!(plan.initramfs, Some(MEMORY_BASE + 8 * MIB));
    }

    #[test]
    fn an_image_must_fit() {
        let file = linux(0, 5 * MIB, 4096);
        assert!(plan(&file, None, 8 * MIB).is_ok());
        assert_eq!(plan(&file, None, 6 * MIB), Err(PlanError::TooLarge { needed: 8 * MIB, memory: 6 * MIB }));
        assert!(plan(&file, Some(2 * MIB), 10 * MIB).is_ok());
        let error = plan(&file, Some(2 * MIB + 1), 10 * MIB).unwrap_err();
        assert_eq!(error, PlanError::TooLarge { needed: 12 * MIB, memory: 10 * MIB });
        assert!(error.to_string().contains("need 12 MiB, but the partition has 10 MiB"), "{error}");
    }

    #[test]
    fn hostile_image_headers() {
        for (text_offset, image_size) in
            [(0, 0), (2 * MIB, MIB), (u64::MAX, MIB), (0, u64::MAX), (0, 1 << 63)]
        {
            assert!(
                plan(&linux(text_offset, image_size, 64), Some(1), 1 << 30).is_err(),
                "{text_offset:#x} {image_size:#x}"
            );
        }
        assert!(plan(&linux(0, MIB, 64), Some(u64::MAX), 1 << 30).is_err());
        // A file longer than its header says still does not run into the initramfs.
        let long = plan(&linux(0, 64, 3 << 20), Some(1), 1 << 30).unwrap();
        assert_eq!(long.initramfs, Some(MEMORY_BASE + 6 * MIB));
    }

    #[test]
    fn a_program_goes_where_it_is_linked() {
        let high = MEMORY_BASE + 2 * MIB;
        let file = program(high + 4, &[(high, high, 0x100, 0x100), (high + MIB, high + MIB, 0, 3 * MIB)]);
        let plan = plan(&file, Some(1), 16 * MIB).unwrap();
        assert_eq!(plan.segments, [Segment { address: high, bytes: 0x200..0x300 }]);
        assert_eq!(plan.entry, high + 4);
        assert_eq!(plan.device_tree, MEMORY_BASE);
        assert_eq!(plan.initramfs, Some(MEMORY_BASE + 6 * MIB));
    }

    #[test]
    fn a_program_at_the_start_of_memory_has_the_device_tree_behind_it() {
        let file = program(MEMORY_BASE, &[(MEMORY_BASE, MEMORY_BASE, 0x100, 2 * MIB + 1)]);
        assert_eq!(plan(&file, None, 16 * MIB).unwrap().device_tree, MEMORY_BASE + 4 * MIB);
        assert_eq!(plan(&file, None, 4 * MIB), Err(PlanError::TooLarge { needed: 6 * MIB, memory: 4 * MIB }));
    }

    #[test]
    fn a_virtual_entry_point_is_translated() {
        let high = 0xffff_8000_0000_0000;
        let file = program(high + 8, &[(high, MEMORY_BASE + 2 * MIB, 0x100, 0x100)]);
        assert_eq!(plan(&file, None, 16 * MIB).unwrap().entry, MEMORY_BASE + 2 * MIB + 8);
    }

    #[test]
    fn wrong_programs() {
        let base = MEMORY_BASE;
        let outside = plan(&program(0, &[(0, 0, 1, 1)]), None, 16 * MIB).unwrap_err();
        assert!(
            outside
                .to_string()
                .contains("for 0x0..0x1, but the partition's memory is 0x40000000..0x41000000")
        );
        for (entry, segment) in [
            (base, (base, base + 16 * MIB, 1, 1)),
            (base, (base, u64::MAX, 1, 1)),
            (base, (base, base, 2, 1)),
            (base, (base, base, 0xe01, 0x1000)),
            (base, (base, base, u64::MAX, u64::MAX)),
            (base + 1, (base, base, 1, 1)),
            (base - 1, (base, base, 1, 1)),
        ] {
            assert!(plan(&program(entry, &[segment]), None, 16 * MIB).is_err(), "{entry:#x} {segment:x?}");
        }
        assert!(plan(&program(base, &[]), None, 16 * MIB).is_err());
        assert!(matches!(plan(b"#!/bin/sh", None, 16 * MIB), Err(PlanError::NotAKernel(_))));
    }

    /// Whatever one byte is changed to, planning ends, and the plan stays inside the memory and the file.
    #[test]
    fn any_single_byte_may_be_wrong() {
        let high = MEMORY_BASE + 2 * MIB;
        let memory = 16 * MIB;
        for file in [
            program(high, &[(high, high, 0x100, MIB), (high + MIB, high + MIB, 0x10, MIB)]),
            linux(0, MIB, 256),
        ] {
            for offset in 0..176 {
                for value in [0, 1, 2, 0x40, 0x7f, 0x80, 0xff] {
                    let mut file = file.clone();
                    file[offset] = value;
                    let Ok(plan) = plan(&file, Some(MIB), memory) else { continue };
                    let inside =
                        |start: u64, size: u64| start >= MEMORY_BASE && start + size <= MEMORY_BASE + memory;
                    for segment in plan.segments {
                        assert!(file.get(segment.bytes.clone()).is_some());
                        assert!(inside(segment.address, segment.bytes.len() as u64));
                    }
                    assert!(inside(plan.entry, 1) && inside(plan.device_tree, DEVICE_TREE_MAX));
                    assert!(plan.initramfs.is_some_and(|start| inside(start, MIB)));
                }
            }
        }
    }
}
