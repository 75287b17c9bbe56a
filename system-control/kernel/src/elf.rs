//! How a program's file is to be mapped: static AArch64 ELF programs, with fixed addresses or position-independent.

use alloc::vec::Vec;
use core::ops::Range;

use elf::{
    abi::{EM_AARCH64, ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_PHDR},
    endian::LittleEndian,
    file::{Class, FileHeader},
    parse::{ParseAt, ParsingTable},
    segment::ProgramHeader,
};

use crate::{
    Errno,
    areas::Protection,
    layout::{MAPPING_TOP, PAGE, PIE_BASE, USER_BASE, page_ceiling, page_floor},
};

/// The most program headers.
const HEADERS_MAX: u16 = 64;
/// Bytes at a file's start in which its headers have to be.
pub const HEAD: usize = 4096;

/// A part of the file to be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where, in whole pages: the file's bytes.
    pub file: Range<u64>,
    /// The file's offset that lies at `file.start`.
    pub offset: u64,
    /// Behind the file's bytes: zeroes, in whole pages.
    pub zeroes: Range<u64>,
    /// Zeroes in the last page of the file's bytes.
    pub tail: Range<u64>,
    /// What may be done there.
    pub protection: Protection,
}

/// How to load a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first instruction.
    pub entry: u64,
    /// What to map, in order, without overlaps.
    pub segments: Vec<Segment>,
    /// Where the program headers will be.
    pub headers: u64,
    /// How many.
    pub header_count: u64,
    /// Bytes of each.
    pub header_size: u64,
    /// Where the heap can start: the first page behind everything.
    pub end: u64,
}

/// Reads the first [`HEAD`] bytes of a file, or the whole of a shorter one.
///
/// # Errors
///
/// [`Errno::NOEXEC`] for what is no static program for this processor.
pub fn plan(head: &[u8], file_size: u64) -> Result<Plan, Errno> {
    let ident = elf::file::parse_ident::<LittleEndian>(head).map_err(|_| Errno::NOEXEC)?;
    let tail = head.get(elf::abi::EI_NIDENT..).ok_or(Errno::NOEXEC)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| Errno::NOEXEC)?;
    let size = header.e_phentsize as usize;
    if header.class != Class::ELF64
        || header.e_machine != EM_AARCH64
        || header.e_phnum == 0
        || header.e_phnum > HEADERS_MAX
        || size != ProgramHeader::size_for(Class::ELF64)
    {
        return Err(Errno::NOEXEC);
    }
    let bias = match header.e_type {
        ET_EXEC => 0,
        ET_DYN => PIE_BASE,
        _ => return Err(Errno::NOEXEC),
    };
    let start = usize::try_from(header.e_phoff).map_err(|_| Errno::NOEXEC)?;
    let end = start.checked_add(size * usize::from(header.e_phnum)).ok_or(Errno::NOEXEC)?;
    let table = head.get(start..end).ok_or(Errno::NOEXEC)?;
    let table = ParsingTable::<LittleEndian, ProgramHeader>::new(LittleEndian, Class::ELF64, table);
    let mut plan = Plan {
        entry: header.e_entry.checked_add(bias).ok_or(Errno::NOEXEC)?,
        segments: Vec::new(),
        headers: 0,
        header_count: u64::from(header.e_phnum),
        header_size: size as u64,
        end: USER_BASE,
    };
    for entry in table {
        match entry.p_type {
            PT_INTERP => return Err(Errno::NOEXEC),
            PT_PHDR => plan.headers = entry.p_vaddr.checked_add(bias).ok_or(Errno::NOEXEC)?,
            PT_LOAD if entry.p_memsz != 0 => {
                let covers =
                    entry.p_offset <= header.e_phoff && header.e_phoff - entry.p_offset < entry.p_filesz;
                if plan.headers == 0 && covers {
                    plan.headers =
                        (entry.p_vaddr.wrapping_add(bias)).wrapping_add(header.e_phoff - entry.p_offset);
                }
                let segment = segment(&entry, bias, file_size)?;
                if segment.file.start < plan.end {
                    return Err(Errno::NOEXEC);
                }
                plan.end = segment.zeroes.end;
                plan.segments.push(segment);
            }
            _ => {}
        }
    }
    let inside = |segment: &Segment| segment.file.contains(&plan.entry);
    if plan.segments.iter().any(inside) { Ok(plan) } else { Err(Errno::NOEXEC) }
}

fn segment(entry: &ProgramHeader, bias: u64, file_size: u64) -> Result<Segment, Errno> {
    let in_file = entry.p_offset.checked_add(entry.p_filesz).is_some_and(|end| end <= file_size);
    if !in_file || entry.p_filesz > entry.p_memsz || entry.p_vaddr % PAGE != entry.p_offset % PAGE {
        return Err(Errno::NOEXEC);
    }
    let start = entry.p_vaddr.checked_add(bias).ok_or(Errno::NOEXEC)?;
    let end = start.checked_add(entry.p_memsz).filter(|&end| end <= MAPPING_TOP).ok_or(Errno::NOEXEC)?;
    if start < USER_BASE {
        return Err(Errno::NOEXEC);
    }
    let bytes_end = start + entry.p_filesz;
    let pages = |address| page_ceiling(address).ok_or(Errno::NOEXEC);
    // A segment without bytes in the file has no page of it either.
    let file_end = if entry.p_filesz == 0 { page_floor(start) } else { pages(bytes_end)? };
    let mut bits = Protection::empty();
    for (flag, protection) in
        [(PF_R, Protection::READ), (PF_W, Protection::WRITE), (PF_X, Protection::EXECUTE)]
    {
        bits.set(protection, entry.p_flags & flag != 0);
    }
    if bits.contains(Protection::WRITE | Protection::EXECUTE) {
        return Err(Errno::NOEXEC);
    }
    let tail =
        if bits.contains(Protection::WRITE) && entry.p_filesz != 0 { bytes_end..file_end } else { 0..0 };
    Ok(Segment {
        file: page_floor(start)..file_end,
        offset: page_floor(entry.p_offset),
        zeroes: file_end..pages(end)?.max(file_end),
        tail,
        protection: bits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const READ: u32 = PF_R;

    fn program(kind: u16, entry: u64, segments: &[(u32, u32, u64, u64, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
        file[20] = 1;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for &(kind, flags, offset, address, in_file, in_memory) in segments {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for value in [offset, address, address, in_file, in_memory, PAGE] {
                file.extend(value.to_le_bytes());
            }
        }
        file
    }

    #[test]
    fn text_data_and_zeroes() {
        let file = program(
            ET_EXEC,
            0x40_0100,
            &[
                (PT_LOAD, READ | PF_X, 0, 0x40_0000, 0x1234, 0x1234),
                (PT_LOAD, READ | PF_W, 0x1250, 0x41_2250, 0x100, 0x5000),
            ],
        );
        let plan = plan(&file, 0x2000).unwrap();
        assert_eq!((plan.entry, plan.headers, plan.header_count), (0x40_0100, 0x40_0040, 2));
        assert_eq!(plan.segments[0].file, 0x40_0000..0x40_2000);
        assert_eq!(plan.segments[0].zeroes, 0x40_2000..0x40_2000);
        let data = &plan.segments[1];
        assert_eq!((data.file.clone(), data.offset), (0x41_2000..0x41_3000, 0x1000));
        assert_eq!((data.tail.clone(), data.zeroes.clone()), (0x41_2350..0x41_3000, 0x41_3000..0x41_8000));
        assert_eq!(plan.end, 0x41_8000);
    }

    #[test]
    fn position_independent_programs_get_a_base() {
        let file = program(ET_DYN, 0x100, &[(PT_LOAD, READ | PF_X, 0, 0, 0x200, 0x200)]);
        let plan = plan(&file, 0x1000).unwrap();
        assert_eq!(plan.entry, PIE_BASE + 0x100);
        assert_eq!(plan.headers, PIE_BASE + 64);
    }

    #[test]
    fn what_is_refused() {
        let good = (PT_LOAD, READ | PF_X, 0, 0x40_0000, 0x1000, 0x1000);
        let refused = |kind, entry, segments: &[_]| plan(&program(kind, entry, segments), 0x2000);
        assert!(refused(ET_EXEC, 0x40_0000, &[good]).is_ok());
        assert_eq!(refused(1, 0x40_0000, &[good]), Err(Errno::NOEXEC), "a relocatable file");
        assert_eq!(refused(ET_EXEC, 0x50_0000, &[good]), Err(Errno::NOEXEC), "its entry is elsewhere");
        assert_eq!(refused(ET_EXEC, 0x40_0000, &[good, good]), Err(Errno::NOEXEC), "overlapping");
        assert_eq!(refused(ET_EXEC, 0x40_0000, &[]), Err(Errno::NOEXEC));
        assert_eq!(refused(ET_EXEC, 0x40_0000, &[good, (PT_INTERP, READ, 0, 0, 0, 0)]), Err(Errno::NOEXEC));
        for bad in [
            (PT_LOAD, READ | PF_X | PF_W, 0, 0x40_0000, 0x1000, 0x1000),
            (PT_LOAD, READ | PF_X, 0, 0x40_0000, 0x3000, 0x3000),
            (PT_LOAD, READ | PF_X, 0, 0x40_0000, 0x1000, 0x500),
            (PT_LOAD, READ | PF_X, 0, 0x40_0010, 0x1000, 0x1000),
            (PT_LOAD, READ | PF_X, u64::MAX, 0x40_0fff, 0x1000, 0x1000),
            (PT_LOAD, READ | PF_X, 0, 0x40_0000, 0x1000, u64::MAX),
            (PT_LOAD, READ | PF_X, 0, 0, 0x1000, 0x1000),
        ] {
            assert_eq!(refused(ET_EXEC, 0x40_0000, &[bad]), Err(Errno::NOEXEC), "{bad:?}");
        }
    }

    /// Whatever bytes a file has, reading it ends, and what comes of it lies in a program's part of the address space.
    #[test]
    fn any_bytes() {
        let good = program(
            ET_DYN,
            0x100,
            &[(PT_LOAD, READ, 0, 0, 0x200, 0x400), (PT_LOAD, READ | PF_W, 0x1000, 0x3000, 8, 0x2000)],
        );
        let mut random = 1u64;
        for _ in 0..50_000 {
            let mut file = good.clone();
            for _ in 0..3 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (random >> 33) as usize % file.len();
                file[place] = (random >> 56) as u8;
            }
            file.truncate(file.len() - (random >> 20) as usize % 8);
            if let Ok(plan) = plan(&file, 0x2000) {
                let mut end = USER_BASE;
                for segment in plan.segments {
                    assert!(segment.file.start >= end && segment.file.end <= segment.zeroes.end);
                    assert!(segment.file.end - segment.file.start <= 0x3000);
                    end = segment.zeroes.end;
                }
                assert!(end <= MAPPING_TOP);
            }
        }
    }
}
