//! ELF programs as other programs of a boot chain want them: flat, or without what only a debugger reads.

use anyhow::{Context, Result, bail};
use elf::{
    ElfBytes,
    abi::{ET_DYN, PF_X, PT_LOAD},
    endian::LittleEndian,
    segment::ProgramHeader,
};

/// No image of ours is larger than this, in bytes: a stray address must not make a huge file.
const FLAT_LIMIT: u64 = 64 << 20;

/// A program's memory from its lowest physical address on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    /// What is in the file; what follows up to `memory_size` is zero.
    pub(crate) bytes: Vec<u8>,
    /// Bytes the program takes in memory, the zeroed ones after its file included.
    pub(crate) memory_size: u64,
}

/// Lays the loaded segments out by physical address.
pub(crate) fn flatten(file: &[u8]) -> Result<Flat> {
    let segments = loaded(file)?;
    let (Some(base), Some(end)) = (
        segments.iter().map(|segment| segment.p_paddr).min(),
        segments.iter().map(|segment| segment.p_paddr.saturating_add(segment.p_memsz)).max(),
    ) else {
        bail!("the ELF program loads nothing: it has no PT_LOAD segment")
    };
    if end - base > FLAT_LIMIT {
        bail!("the ELF program spans {base:#x} to {end:#x}, more than an image may take");
    }
    let mut bytes = Vec::new();
    for segment in &segments {
        let start = usize::try_from(segment.p_paddr - base)?;
        let content = content(file, segment)?;
        if content.is_empty() {
            continue;
        }
        if bytes.len() < start + content.len() {
            bytes.resize(start + content.len(), 0);
        }
        bytes[start..start + content.len()].copy_from_slice(content);
    }
    Ok(Flat { bytes, memory_size: end - base })
}

/// Cuts off everything after the last loaded segment, debug information above all, and the section table that points there.
pub(crate) fn strip(file: &[u8]) -> Result<Vec<u8>> {
    let mut end = 0;
    for segment in &loaded(file)? {
        content(file, segment)?;
        end = end.max(usize::try_from(segment.p_offset + segment.p_filesz)?);
    }
    let header = parse(file)?.ehdr;
    let table_end = header.e_phoff + u64::from(header.e_phnum) * u64::from(header.e_phentsize);
    let mut stripped = file[..end.max(usize::try_from(table_end)?)].to_vec();
    // Elf64_Ehdr: e_shoff at 40, e_shnum at 60, e_shstrndx at 62.
    stripped[40..48].fill(0);
    stripped[60..64].fill(0);
    Ok(stripped)
}

/// The words of all that may be executed, with their virtual addresses.
pub(crate) fn instructions(file: &[u8]) -> Result<Vec<(u64, u32)>> {
    let mut all = Vec::new();
    for segment in loaded(file)?.iter().filter(|segment| segment.p_flags & PF_X != 0) {
        let words = content(file, segment)?.chunks_exact(4).map(|word| match *word {
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => 0,
        });
        all.extend((segment.p_vaddr..).step_by(4).zip(words));
    }
    Ok(all)
}

/// Whether the program may be put anywhere, its addresses being relative to that.
pub(crate) fn is_position_independent(file: &[u8]) -> Result<bool> {
    Ok(parse(file)?.ehdr.e_type == ET_DYN)
}

/// The address of the first symbol with such a name.
pub(crate) fn find_symbol(file: &[u8], is_it: impl Fn(&str) -> bool) -> Result<Option<u64>> {
    let elf = parse(file)?;
    let table = elf.symbol_table().context("the ELF program's symbols cannot be read")?;
    let Some((symbols, names)) = table else { return Ok(None) };
    let mut all = symbols.iter();
    let found = all.find(|symbol| names.get(symbol.st_name as usize).is_ok_and(&is_it));
    Ok(found.map(|symbol| symbol.st_value))
}

fn parse(file: &[u8]) -> Result<ElfBytes<'_, LittleEndian>> {
    let elf = ElfBytes::minimal_parse(file).context("not an ELF program for a little-endian machine")?;
    if elf.ehdr.class != elf::file::Class::ELF64 {
        bail!("not a 64-bit ELF program");
    }
    Ok(elf)
}

/// The segments that take memory, empty ones left out.
fn loaded(file: &[u8]) -> Result<Vec<ProgramHeader>> {
    let elf = parse(file)?;
    let segments = elf.segments().context("the ELF program has no program headers")?;
    Ok(segments.iter().filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz != 0).collect())
}

fn content<'a>(file: &'a [u8], segment: &ProgramHeader) -> Result<&'a [u8]> {
    let start = usize::try_from(segment.p_offset)?;
    let end = start.checked_add(usize::try_from(segment.p_filesz)?);
    end.and_then(|end| file.get(start..end)).context("the ELF program is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF program with these segments (physical address, content, bytes of memory), and where there is `junk`, a section table and the junk after them.
    fn program(segments: &[(u64, &[u8], u64)], junk: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        let half = |file: &mut Vec<u8>, at: usize, value: u16| {
            file[at..at + 2].copy_from_slice(&value.to_le_bytes())
        };
        let word = |file: &mut Vec<u8>, at: usize, value: u64| {
            file[at..at + 8].copy_from_slice(&value.to_le_bytes())
        };
        for (at, value) in [(16, 2), (18, 183), (20, 1), (52, 64), (54, 56), (56, segments.len() as u16)] {
            half(&mut file, at, value);
        }
        word(&mut file, 32, 64);
        for (index, (address, content, memory)) in segments.iter().enumerate() {
            let (header, offset) = (64 + 56 * index, file.len() as u64);
            half(&mut file, header, 1);
            for (at, value) in [(8, offset), (24, *address), (32, content.len() as u64), (40, *memory)] {
                word(&mut file, header + at, value);
            }
            file.extend_from_slice(content);
        }
        if !junk.is_empty() {
            let table = file.len() as u64;
            word(&mut file, 40, table);
            for (at, value) in [(58, 64), (60, 1)] {
                half(&mut file, at, value);
            }
            file.extend_from_slice(&[0; 64]);
        }
        file.extend_from_slice(junk);
        file
    }

    #[test]
    fn lays_segments_out_by_address() {
        let file = program(&[(0x4000_0008, b"later", 64), (0x4000_0000, b"first", 5)], b"debug");
        let flat = flatten(&file).unwrap();
        assert_eq!(flat.bytes, b"first\0\0\0later");
        assert_eq!(flat.memory_size, 8 + 64);
    }

    #[test]
    fn drops_what_is_only_zeros_at_the_end() {
        let file = program(&[(0x1000, b"code", 4), (0x2000, b"", 0x1000)], b"");
        assert_eq!(flatten(&file).unwrap(), Flat { bytes: b"code".to_vec(), memory_size: 0x2000 });
    }

    #[test]
    fn refuses_what_cannot_be_laid_out() {
        assert!(flatten(b"MZ").is_err());
        assert!(flatten(&program(&[], b"")).unwrap_err().to_string().contains("loads nothing"));
        let far = program(&[(0, b"a", 1), (1 << 40, b"b", 1)], b"");
        assert!(flatten(&far).unwrap_err().to_string().contains("spans 0x0 to 0x10000000001"));
        let whole = program(&[(0, b"abcdef", 6)], b"");
        assert!(flatten(&whole[..whole.len() - 1]).unwrap_err().to_string().contains("cut short"));
        assert!(strip(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn strips_to_a_program_that_loads_the_same() {
        let file = program(&[(0x1000, b"code", 4), (0x2000, b"data", 8)], &[7; 1000]);
        let stripped = strip(&file).unwrap();
        assert_eq!(stripped.len(), file.len() - 1064);
        assert_eq!(flatten(&stripped).unwrap(), flatten(&file).unwrap());
        assert_eq!(parse(&stripped).unwrap().ehdr.e_shoff, 0);
    }
}
