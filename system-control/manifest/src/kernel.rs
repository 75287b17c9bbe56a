//! Where a partition's kernel comes from, and which of the two formats it has.

use core::fmt;

/// Offset of the magic number in the header of an arm64 Linux Image, in bytes.
const IMAGE_MAGIC_OFFSET: usize = 56;
const IMAGE_MAGIC: [u8; 4] = *b"ARM\x64";
const IMAGE_HEADER: usize = 64;
/// `e_machine` of AArch64.
const EM_AARCH64: u16 = 183;

/// What `kernel = "..."` in a manifest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelSource<'a> {
    /// `guest:NAME`: the bare-metal guest of this name in this workspace.
    Guest(&'a str),
    /// `debian`: the provisioned Debian kernel.
    Debian,
    /// A file, seen from the manifest's folder.
    Path(&'a str),
}

impl<'a> KernelSource<'a> {
    /// Reads the value of the key `kernel`.
    pub fn new(text: &'a str) -> Self {
        match text.strip_prefix("guest:") {
            Some(name) => Self::Guest(name),
            None if text == "debian" => Self::Debian,
            None => Self::Path(text),
        }
    }
}

/// A format that system-control can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// The arm64 Linux boot format, which U-Boot and others start too.
    Image {
        /// Distance of the image from a 2 MiB boundary, in bytes.
        text_offset: u64,
        /// Memory that the kernel needs from its start, in bytes, what follows the file included.
        image_size: u64,
    },
    /// An AArch64 ELF program, little-endian, 64 bits.
    Elf,
}

/// A file that is neither an arm64 Image nor an AArch64 ELF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAKernel {
    /// Compressed, or an EFI program that unpacks a compressed Image.
    Compressed,
    /// An ELF file for another processor, or one that is not a program.
    OtherElf,
    /// Nothing known.
    Unknown,
}

impl fmt::Display for NotAKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self {
            Self::Compressed => "it is compressed: unpack it first",
            Self::OtherElf => "it is an ELF file, but no 64-bit little-endian AArch64 program",
            Self::Unknown => "it has neither the magic number `ARM\\x64` at byte 56 nor `\\x7fELF` at byte 0",
        };
        write!(f, "it is neither an arm64 Linux Image nor an AArch64 ELF program: {found}")
    }
}

impl core::error::Error for NotAKernel {}

impl KernelKind {
    /// How many bytes of a file [`KernelKind::of`] looks at.
    pub const HEAD: usize = IMAGE_HEADER;

    /// Decides by the file's first bytes, [`KernelKind::HEAD`] of them or the whole file where it is shorter.
    pub fn of(file: &[u8]) -> Result<Self, NotAKernel> {
        if file.starts_with(b"\x7fELF") {
            return elf(file).then_some(Self::Elf).ok_or(NotAKernel::OtherElf);
        }
        if file.get(IMAGE_MAGIC_OFFSET..IMAGE_MAGIC_OFFSET + 4) == Some(&IMAGE_MAGIC)
            && let (Some(text_offset), Some(image_size)) = (u64_at(file, 8), u64_at(file, 16))
        {
            return Ok(Self::Image { text_offset, image_size });
        }
        let gzip = file.starts_with(&[0x1f, 0x8b]);
        let zstd = file.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        let efi_unpacker = file.starts_with(b"MZ") && file.get(4..8) == Some(b"zimg");
        Err(if gzip || zstd || efi_unpacker { NotAKernel::Compressed } else { NotAKernel::Unknown })
    }
}

/// ELFCLASS64, ELFDATA2LSB, ET_EXEC or ET_DYN, EM_AARCH64.
fn elf(file: &[u8]) -> bool {
    let half = |at: usize| file.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    file.get(4..6) == Some(&[2, 1]) && matches!(half(16), Some(2 | 3)) && half(18) == Some(EM_AARCH64)
}

fn u64_at(file: &[u8], offset: usize) -> Option<u64> {
    file.get(offset..offset + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    fn elf_head(class: u8, kind: u8, machine: u8) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
        (file[16], file[18]) = (kind, machine);
        file
    }

    #[test]
    fn knows_an_image() {
        let mut file = vec![0; 64];
        file[8..16].copy_from_slice(&0x8_0000u64.to_le_bytes());
        file[16..24].copy_from_slice(&0x200_0000u64.to_le_bytes());
        file[56..60].copy_from_slice(b"ARM\x64");
        let image = KernelKind::Image { text_offset: 0x8_0000, image_size: 0x200_0000 };
        assert_eq!(KernelKind::of(&file), Ok(image));
        assert_eq!(KernelKind::of(&file[..59]), Err(NotAKernel::Unknown));
    }

    #[test]
    fn knows_an_elf_program() {
        assert_eq!(KernelKind::of(&elf_head(2, 2, 183)), Ok(KernelKind::Elf));
        assert_eq!(KernelKind::of(&elf_head(2, 3, 183)), Ok(KernelKind::Elf));
        for other in [elf_head(1, 2, 183), elf_head(2, 1, 183), elf_head(2, 2, 62)] {
            assert_eq!(KernelKind::of(&other), Err(NotAKernel::OtherElf));
        }
        assert_eq!(KernelKind::of(b"\x7fELF"), Err(NotAKernel::OtherElf));
    }

    #[test]
    fn says_what_else_a_file_is() {
        assert_eq!(KernelKind::of(&[0x1f, 0x8b, 8, 0]), Err(NotAKernel::Compressed));
        assert_eq!(KernelKind::of(b"MZ\0\0zimg"), Err(NotAKernel::Compressed));
        assert_eq!(KernelKind::of(b""), Err(NotAKernel::Unknown));
    }

    #[test]
    fn reads_where_a_kernel_comes_from() {
        assert_eq!(KernelSource::new("guest:echo"), KernelSource::Guest("echo"));
        assert_eq!(KernelSource::new("debian"), KernelSource::Debian);
        assert_eq!(KernelSource::new("./Image"), KernelSource::Path("./Image"));
    }
}
